//! Chat templates: where they come from, and running them with limits.
//!
//! Templates run as in transformers' `_compile_jinja_template`: blocks take their line break with them, and
//! there are `break` and `continue`, `raise_exception`, `strftime_now`, `tojson` as `json.dumps`, and
//! Python's string and dictionary methods. There is no access to files, to other templates or to the process.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind, State, Value as Jinja};
use serde_json::{Map, Value};
use store::fs::Fs;

use super::error::ChatError;
use super::strftime::Clock;
use super::{bounds, builtin, methods, python, source};
use crate::file::CONFIG_FILE;
use crate::{Error, Result};

/// File name of a chat template beside a tokenizer.
pub const TEMPLATE_FILE: &str = "chat_template.jinja";
const ADDITIONAL_FOLDER: &str = "additional_chat_templates";
/// Steps of one rendering; one also pays for 64 bytes made. A conversation of 1,000 turns takes about
/// 100,000. They last less than a second and make at most 256 MB.
const FUEL: u64 = 4_000_000;
/// Nested macros, loops and conditions.
const DEEPEST: usize = 300;
/// Longest text, and longest template, in bytes.
const MOST_OUTPUT_BYTES: usize = 64 << 20;
const MOST_SOURCE_BYTES: usize = 1 << 20;

/// A chat template, or a set of them.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    origin: String,
    default: Arc<Compiled>,
    /// Used instead of `default` where tools are passed.
    tool_use: Option<Arc<Compiled>>,
}

#[derive(Clone, Debug)]
struct Compiled {
    source: String,
    environment: Environment<'static>,
}

/// What a template is given.
pub(crate) struct Input<'a> {
    pub messages: &'a [Jinja],
    /// `None` if there are none.
    pub tools: Option<&'a Jinja>,
    pub add_generation_prompt: bool,
    /// Special tokens, and the user's variables.
    pub variables: &'a BTreeMap<String, Jinja>,
}

impl ChatTemplate {
    /// Compiles a template from its source. `origin` names it in errors, such as `model.gguf`.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn from_source(source: &str, origin: &str) -> Result<ChatTemplate> {
        let default = Arc::new(Compiled::new(source, origin)?);
        Ok(ChatTemplate { origin: origin.to_owned(), default, tool_use: None })
    }

    /// A built-in template by its name in [`super::BUILTINS`].
    ///
    /// # Errors
    /// An unknown name.
    pub fn builtin(name: &str) -> Result<ChatTemplate> {
        let found = builtin::BUILTINS.iter().find(|(builtin, _)| *builtin == name);
        let (_, source) = found.ok_or_else(|| ChatError::UnknownBuiltin {
            name: name.to_owned(),
            known: builtin::BUILTINS.map(|(name, _)| name).join(", "),
        })?;
        ChatTemplate::from_source(source, &format!("the built-in `{name}`"))
    }

    /// The template of a model's folder, as transformers takes it: `chat_template.jinja` and
    /// `additional_chat_templates/*.jinja`; if there are none, `chat_template` in tokenizer_config.json, a
    /// string or a list of `{name, template}`. A template named `tool_use` is taken where tools are passed.
    /// `None` if the folder has no template.
    ///
    /// # Errors
    /// A damaged file, a syntax error, or several templates of which none is named `default`.
    pub fn read(fs: &dyn Fs, folder: &Path) -> Result<Option<ChatTemplate>> {
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        let mut origin = folder.join(TEMPLATE_FILE);
        if fs.exists(&origin) {
            named.insert("default".into(), read_text(fs, &origin)?);
        }
        let additional = folder.join(ADDITIONAL_FOLDER);
        if fs.exists(&additional) {
            let names = fs.names(&additional).map_err(store::Error::io("list", &additional))?;
            for (name, _) in names {
                let path = additional.join(&name);
                if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".jinja")) {
                    named.insert(name.to_owned(), read_text(fs, &path)?);
                }
            }
        }
        if named.is_empty() {
            origin = folder.join(CONFIG_FILE);
            if fs.exists(&origin) {
                named = from_config(&read_text(fs, &origin)?, &origin)?;
            }
        }
        let origin = format!("`{}`", origin.display());
        ChatTemplate::from_named(&named, &origin)
    }

    fn from_named(named: &BTreeMap<String, String>, origin: &str) -> Result<Option<ChatTemplate>> {
        if named.is_empty() {
            return Ok(None);
        }
        let tool_use = named.get("tool_use").map(|source| Compiled::new(source, origin)).transpose()?;
        let Some(default) = named.get("default") else {
            let names: Vec<&str> = named.keys().map(String::as_str).collect();
            return Err(ChatError::NoDefault { origin: origin.to_owned(), names: names.join(", ") }.into());
        };
        let default = Arc::new(Compiled::new(default, origin)?);
        let tool_use = tool_use.map(Arc::new);
        Ok(Some(ChatTemplate { origin: origin.to_owned(), default, tool_use }))
    }

    /// The template with another date for `strftime_now`. [`Clock::default`] is fixed.
    pub fn with_clock(mut self, clock: Clock) -> ChatTemplate {
        for compiled in [Some(&mut self.default), self.tool_use.as_mut()].into_iter().flatten() {
            set_clock(&mut Arc::make_mut(compiled).environment, clock);
        }
        self
    }

    /// The source, as it was given; that of the template for tools, if there is one and `with_tools`.
    pub fn source(&self, with_tools: bool) -> &str {
        &self.select(with_tools).source
    }

    /// The same for programs that do not know `{% generation %}`, such as llama.cpp.
    pub fn portable_source(&self, with_tools: bool) -> String {
        source::without_generation_marks(self.source(with_tools))
    }

    /// Where it comes from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    fn select(&self, with_tools: bool) -> &Arc<Compiled> {
        self.tool_use.as_ref().filter(|_| with_tools).unwrap_or(&self.default)
    }

    /// Renders a conversation.
    pub(crate) fn render(&self, input: &Input) -> std::result::Result<String, ChatError> {
        let mut variables = input.variables.clone();
        variables.entry("documents".into()).or_insert_with(|| Jinja::from(()));
        variables.insert("messages".into(), input.messages.iter().cloned().collect());
        variables.insert("tools".into(), input.tools.cloned().unwrap_or_else(|| Jinja::from(())));
        variables.insert("add_generation_prompt".into(), input.add_generation_prompt.into());
        let compiled = Arc::clone(self.select(input.tools.is_some()));
        let (sender, receiver) = mpsc::sync_channel(1);
        let run = move || {
            let result = compiled.render(Jinja::from(variables));
            // Nobody listens after the time limit.
            let _ = sender.send(result);
        };
        let thread = std::thread::Builder::new().name("chat-template".into()).stack_size(STACK_BYTES);
        let limit = |limit: String| ChatError::Limit { origin: self.origin.clone(), limit };
        thread.spawn(run).map_err(|error| ChatError::Refused {
            origin: self.origin.clone(),
            message: format!("no thread could be started: {error}"),
        })?;
        match receiver.recv_timeout(LONGEST) {
            Ok(result) => result.map_err(|error| render_error(&error, &self.origin)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(limit(format!("{} seconds", LONGEST.as_secs()))),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(ChatError::Refused {
                origin: self.origin.clone(),
                message: "the template engine failed".into(),
            }),
        }
    }
}

const NAME: &str = "chat";
/// Values within values can still be compared or joined in more steps than are counted. A rendering takes
/// milliseconds; one that takes this long is given up, and its thread left to itself.
const LONGEST: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 8 << 20;

impl Compiled {
    fn new(source: &str, origin: &str) -> Result<Compiled> {
        let syntax = |message: String| ChatError::Syntax { origin: origin.to_owned(), message };
        if source.len() > MOST_SOURCE_BYTES {
            return Err(
                syntax(format!("it has {} bytes, more than {MOST_SOURCE_BYTES}", source.len())).into()
            );
        }
        let prepared = source::prepare(source)
            .map_err(|name| syntax(format!("attributes with two underscores are refused: `{name}`")))?;
        let mut environment = Environment::new();
        let config = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(config.map_err(|error| syntax(error.to_string()))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEEPEST);
        environment.set_formatter(|out, state, value| python::write_str(out, state, value));
        environment.set_unknown_method_callback(methods::call);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function(source::BOUNDED, bounded);
        environment.add_function(source::BOUNDED_ITEM, bounded_item);
        environment.add_filter("tojson", tojson);
        environment.add_filter("string", string);
        environment.add_filter("trim", methods::trim);
        environment.add_test("iterable", methods::is_iterable);
        environment.add_test("sequence", methods::is_sequence);
        // Jinja has none of them, and they double lists in few steps.
        environment.remove_filter("chain");
        environment.remove_filter("zip");
        // Jinja has none, and it would print the program's variables.
        environment.add_global("debug", Jinja::UNDEFINED);
        set_clock(&mut environment, Clock::default());
        environment.add_template_owned(NAME, prepared).map_err(|error| syntax(described(&error)))?;
        Ok(Compiled { source: source.to_owned(), environment })
    }

    fn render(&self, variables: Jinja) -> std::result::Result<String, minijinja::Error> {
        let mut output = Limited(Vec::new());
        self.environment.get_template(NAME)?.render_captured_to(variables, &mut output)?;
        // The output is pieces of text, each whole.
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }
}

fn set_clock(environment: &mut Environment<'static>, clock: Clock) {
    environment.add_function("strftime_now", move |format: &str| clock.format(format));
}

fn raise_exception(message: &Jinja) -> std::result::Result<Jinja, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

fn tojson(
    state: &State,
    value: &Jinja,
    indent: Option<Jinja>,
    kwargs: Kwargs,
) -> std::result::Result<Jinja, minijinja::Error> {
    python::tojson(state, value, indent, kwargs)
}

fn bounded(state: &State, value: &Jinja) -> std::result::Result<Jinja, minijinja::Error> {
    bounds::bounded(state, value, 0)
}

fn bounded_item(state: &State, value: &Jinja) -> std::result::Result<Jinja, minijinja::Error> {
    bounds::bounded(state, value, 1)
}

fn string(state: &State, value: &Jinja) -> std::result::Result<String, minijinja::Error> {
    let mut text = String::new();
    python::write_str(&mut text, state, value)?;
    Ok(text)
}

/// A value of the data for a template; objects keep their order.
pub(crate) fn to_jinja(value: &Value) -> Jinja {
    Jinja::from(Serde(value))
}

/// A buffer that refuses to grow without end.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_OUTPUT_BYTES {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn described(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

fn render_error(error: &minijinja::Error, origin: &str) -> ChatError {
    let limit = |limit: String| ChatError::Limit { origin: origin.to_owned(), limit };
    // Errors of macros have the reason as their source.
    let mut reason: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = reason {
        if let Some(inner) = inner.downcast_ref::<minijinja::Error>() {
            match inner.kind() {
                ErrorKind::OutOfFuel => return limit(format!("{FUEL} steps")),
                ErrorKind::WriteFailure => return limit(format!("{MOST_OUTPUT_BYTES} bytes of text")),
                _ if inner.detail() == Some("recursion limit exceeded") => {
                    return limit(format!("{DEEPEST} nested calls"));
                }
                _ => {}
            }
        }
        reason = inner.source();
    }
    ChatError::Refused { origin: origin.to_owned(), message: described(error) }
}

fn read_text(fs: &dyn Fs, path: &Path) -> Result<String> {
    let bytes = fs.read(path).map_err(store::Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|_| damaged(path, "it is not UTF-8"))
}

fn damaged(path: &Path, message: impl Into<String>) -> Error {
    ChatError::File { path: path.display().to_string(), message: message.into() }.into()
}

/// `chat_template` of tokenizer_config.json.
fn from_config(text: &str, path: &Path) -> Result<BTreeMap<String, String>> {
    let config: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| damaged(path, error.to_string()))?;
    let pair =
        |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()));
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(source)) => Ok([("default".to_owned(), source.clone())].into()),
        Some(Value::Array(list)) => {
            let pairs: Option<BTreeMap<String, String>> = list.iter().map(pair).collect();
            pairs.ok_or_else(|| damaged(path, "`chat_template` is not a list of `name` and `template`"))
        }
        Some(_) => Err(damaged(path, "`chat_template` is neither a string nor a list")),
    }
}
