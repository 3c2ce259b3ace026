//! Overrides of recipe keys: `--set section.key=value`, a command's own flags, and
//! `TEXT2LLM_<SECTION>_<KEY>`.

use toml::Value;

use crate::diagnostic::{Diagnostic, Origin, Place};
use crate::schema;

/// The prefix of environment variables that set recipe keys.
pub const ENVIRONMENT_PREFIX: &str = "TEXT2LLM_";

/// An override of one key.
#[derive(Clone, Debug)]
pub struct Override {
    /// Dotted path of the key.
    pub path: String,
    /// Its value, with its type.
    pub value: Value,
    /// Its origin.
    pub origin: Origin,
}

impl Override {
    /// Parses an argument of `--set`: `section.key=value`, with the value in TOML notation; a bare word is a
    /// string.
    pub fn set(argument: &str) -> Result<Override, Diagnostic> {
        let given = format!("--set {argument}");
        let Some((path, text)) = argument.split_once('=') else {
            return Err(Diagnostic {
                message: format!("`--set {argument}` has no `=`"),
                place: Some(Place::Outside(given)),
                help: Some("write section.key=value, for example --set train.epochs=3".to_owned()),
            });
        };
        let path = path.trim().to_owned();
        Ok(Override { value: typed(&path, text.trim()), path, origin: Origin::Flag(given) })
    }

    /// An override from a command's own flag, such as `--epochs 3`.
    pub fn flag(flag: &str, path: &str, value: impl Into<Value>) -> Override {
        let value = value.into();
        let shown = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        Override { path: path.to_owned(), value, origin: Origin::Flag(format!("{flag} {shown}")) }
    }

    /// A command's own flag that asks for a section: with what the recipe says of it, else with its defaults.
    pub fn section(flag: &str, path: &str) -> Override {
        let value = Value::Table(toml::Table::new());
        Override { path: path.to_owned(), value, origin: Origin::Flag(flag.to_owned()) }
    }

    /// An override from a command's own flag, parsed like `--set`.
    pub fn typed_flag(flag: &str, path: &str, text: &str) -> Override {
        let given = format!("{flag} {text}");
        Override { path: path.to_owned(), value: typed(path, text.trim()), origin: Origin::Flag(given) }
    }

    /// Overrides from the environment: each `TEXT2LLM_<SECTION>_<KEY>` whose section exists. Other variables
    /// with the prefix belong to the command line and are ignored. Sorted by name, so the order does not
    /// matter.
    pub fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
        let mut layers = Vec::new();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let rest = rest.to_ascii_lowercase();
            let Some(section) = schema::sections()
                .into_iter()
                .find(|section| rest.strip_prefix(section.as_str()).is_some_and(|r| r.starts_with('_')))
            else {
                continue;
            };
            let path = format!("{section}.{}", &rest[section.len() + 1..]);
            let origin = Origin::Environment(format!("{name}={text}"));
            layers.push(Override { value: typed(&path, text.trim()), path, origin });
        }
        layers.sort_by(|a, b| a.path.cmp(&b.path));
        layers
    }

    /// The override as given by the user.
    pub(crate) fn given(&self) -> String {
        match &self.origin {
            Origin::Flag(given) => given.clone(),
            Origin::Environment(given) => format!("environment: {given}"),
            Origin::File { .. } => self.path.clone(),
        }
    }
}

/// The value of `text` at `path`. A key of type string takes it as typed, so `--set name=10` needs no quotes;
/// so does anything that is not a TOML value.
fn typed(path: &str, text: &str) -> Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(Value::String(inner)) => Value::String(inner),
        Some(value) if !schema::takes_text(path) => value,
        _ => Value::String(text.to_owned()),
    }
}
