//! A recipe as written: values with their origins. File first, then environment, then flags; later ones win.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::diagnostic::{Aim, Diagnostic, Origin, Place};
use crate::overrides::Override;

/// Keys that exclude each other.
const ALTERNATIVES: [[&[&str]; 2]; 3] = [
    [&["train.epochs"], &["train.steps"]],
    [&["model.depth"], &["model.size", "model.hidden_size", "model.num_hidden_layers"]],
    [
        &["model.depth", "model.size"],
        &[
            "model.hidden_size",
            "model.num_hidden_layers",
            "model.num_attention_heads",
            "model.num_key_value_heads",
            "model.head_dim",
            "model.intermediate_size",
        ],
    ],
];

/// Values and origins of all layers, merged.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    pub(crate) values: Table,
    origins: BTreeMap<String, Origin>,
}

impl<'a> Document<'a> {
    /// Parses the TOML `text` of the recipe called `file`.
    pub(crate) fn parse(file: &'a str, text: &'a str) -> Result<Document<'a>, Diagnostic> {
        let syntax_error = |error: toml::de::Error| Diagnostic {
            message: format!("the recipe is not valid TOML: {}", error.message().replace('\n', ", ")),
            place: Some(Place::of(file, text, &error.span().unwrap_or(0..0))),
            help: None,
        };
        let located = DeTable::parse(text).map_err(syntax_error)?;
        let values: Table = toml::from_str(text).map_err(syntax_error)?;
        let mut origins = BTreeMap::new();
        record_origins(located.get_ref(), "", &mut origins);
        Ok(Document { file, text, values, origins })
    }

    /// Removes keys of the file that an override replaces: `--epochs` replaces the file's `steps`. Two
    /// contradictory overrides are kept, to be refused.
    fn give_way(&mut self, path: &str) {
        for [one, other] in ALTERNATIVES {
            let replaced = match (one.contains(&path), other.contains(&path)) {
                (true, false) => other,
                (false, true) => one,
                _ => continue,
            };
            for path in replaced {
                if !matches!(self.origins.get(*path), Some(Origin::File { .. })) {
                    continue;
                }
                if let Some((section, key)) = path.split_once('.')
                    && let Some(Value::Table(table)) = self.values.get_mut(section)
                {
                    table.remove(key);
                    self.origins.remove(*path);
                }
            }
        }
    }

    /// Applies the override `layer`.
    pub(crate) fn apply(&mut self, layer: &Override) -> Result<(), Diagnostic> {
        self.give_way(&layer.path);
        let refuse = |message: String| Diagnostic {
            message,
            place: Some(Place::Outside(layer.given())),
            help: Some("write section.key=value, for example --set train.epochs=3".to_owned()),
        };
        let mut parts = layer.path.split('.').peekable();
        let mut table = &mut self.values;
        let mut walked = String::new();
        while let Some(part) = parts.next() {
            if part.is_empty() {
                return Err(refuse(format!("`{}` is not a key of the recipe", layer.path)));
            }
            if !walked.is_empty() {
                walked.push('.');
            }
            walked.push_str(part);
            if parts.peek().is_none() {
                let is_section = layer.value.as_table().is_some_and(Table::is_empty);
                if is_section && table.get(part).is_some_and(Value::is_table) {
                    return Ok(());
                }
                table.insert(part.to_owned(), layer.value.clone());
                // Origins below the replaced value would point at text that no longer counts.
                let below = format!("{walked}.");
                self.origins.retain(|path, _| !path.starts_with(&below));
                self.origins.insert(walked, layer.origin.clone());
                return Ok(());
            }
            self.origins.entry(walked.clone()).or_insert_with(|| layer.origin.clone());
            table = match table.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(inner) => inner,
                _ => return Err(refuse(format!("`{walked}` is a single value, not a section"))),
            };
        }
        Ok(())
    }

    /// A diagnostic about the key at `path`, pointing at the innermost key that was written.
    pub(crate) fn diagnostic(
        &self,
        path: &str,
        aim: Aim,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let mut at = path;
        let place = loop {
            if let Some(origin) = self.origins.get(at) {
                // Only the key itself has a value to underline; for a section it is the header.
                let aim = if at == path { aim } else { Aim::Key };
                break Some(self.place(origin, aim));
            }
            match at.rfind(['.', '[']) {
                Some(cut) => at = &at[..cut],
                None => break None,
            }
        };
        Diagnostic { message, place, help }
    }

    /// Whether the key at `path` was set anywhere.
    pub(crate) fn is_written(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    fn place(&self, origin: &Origin, aim: Aim) -> Place {
        match origin {
            Origin::File { key, value } => {
                Place::of(self.file, self.text, if aim == Aim::Key { key } else { value })
            }
            Origin::Flag(given) => Place::Outside(given.clone()),
            Origin::Environment(given) => Place::Outside(format!("environment: {given}")),
        }
    }
}

fn record_origins(table: &DeTable<'_>, prefix: &str, origins: &mut BTreeMap<String, Origin>) {
    for (key, value) in table {
        let path =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        origins.insert(path.clone(), Origin::File { key: key.span(), value: value.span() });
        record_inside(value.get_ref(), &path, origins);
    }
}

fn record_inside(value: &DeValue<'_>, path: &str, origins: &mut BTreeMap<String, Origin>) {
    match value {
        DeValue::Table(inner) => record_origins(inner, path, origins),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                origins.insert(path.clone(), Origin::File { key: item.span(), value: item.span() });
                record_inside(item.get_ref(), &path, origins);
            }
        }
        _ => {}
    }
}
