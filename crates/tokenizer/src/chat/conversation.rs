//! A conversation as templates see it, and the normalisation of messages in OpenAI's form.
//!
//! Normalised: `tool_calls[].function.arguments` is an object (a JSON string is parsed), a list of text parts
//! is one string, tools are `{"type": "function", "function": {…}}`. Every other key is kept as it is.

use serde_json::{Map, Value, json};

use super::arguments::call_function;
use super::finding::{Finding, Problem, mistyped};

/// A message: `role`, `content`, `tool_calls`, `tool_call_id`, `name`, `reasoning_content`, and whatever else
/// a template reads. The keys keep their order.
pub type Message = Map<String, Value>;

/// Messages with the tools that they may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The messages, in order.
    pub messages: Vec<Message>,
    /// Declared tools, each a JSON object with a JSON Schema of its parameters. Empty: none.
    pub tools: Vec<Value>,
    /// Further variables for the template, such as `enable_thinking` (TRL's `chat_template_kwargs`).
    pub variables: Map<String, Value>,
}

pub(crate) const ROLES: &str = "system, developer, user, assistant or tool";

impl Conversation {
    /// A conversation of messages alone.
    pub fn new(messages: Vec<Message>) -> Conversation {
        Conversation { messages, ..Conversation::default() }
    }
}

/// A message of a role and a text.
pub(crate) fn message(role: &str, content: impl Into<String>) -> Message {
    let mut message = Message::new();
    message.insert("role".into(), role.into());
    message.insert("content".into(), Value::String(content.into()));
    message
}

/// The role of a message.
pub fn role(message: &Message) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// The text of a message; empty for one without.
pub fn text(message: &Message) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// The tool calls of a message.
pub(crate) fn tool_calls(message: &Message) -> &[Value] {
    message.get("tool_calls").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Normalises a list of messages in OpenAI's form.
pub(crate) fn messages(value: &Value, path: &str, findings: &mut Vec<Finding>) -> Vec<Message> {
    let Some(list) = value.as_array() else {
        findings.push(Finding::error(path, mistyped("a list of messages", value)));
        return Vec::new();
    };
    if list.is_empty() {
        findings.push(Finding::error(path, Problem::Empty));
    }
    let normalise = |(i, value)| normalise(value, &format!("{path}[{i}]"), findings);
    list.iter().enumerate().filter_map(normalise).collect()
}

/// Normalises one message; `None` if it is not one.
fn normalise(value: &Value, path: &str, findings: &mut Vec<Finding>) -> Option<Message> {
    let Some(object) = value.as_object() else {
        findings.push(Finding::error(path, mistyped("an object", value)));
        return None;
    };
    let mut message = object.clone();
    match message.get("role") {
        None | Some(Value::Null) => {
            findings.push(Finding::error(path, Problem::Missing { key: "role" }));
            return None;
        }
        Some(Value::String(role)) => {
            if !matches!(role.as_str(), "system" | "developer" | "user" | "assistant" | "tool") {
                let problem = Problem::UnknownRole { role: role.clone(), expected: ROLES };
                findings.push(Finding::error(format!("{path}.role"), problem));
                return None;
            }
        }
        Some(other) => {
            findings.push(Finding::error(format!("{path}.role"), mistyped("a string", other)));
            return None;
        }
    }
    if let Some(content) = message.get_mut("content") {
        normalise_content(content, &format!("{path}.content"), findings);
    }
    for key in ["reasoning_content", "reasoning", "thinking", "name", "tool_call_id"] {
        if let Some(value) = message.get(key).filter(|value| !value.is_string() && !value.is_null()) {
            findings.push(Finding::error(format!("{path}.{key}"), mistyped("a string", value)));
        }
    }
    match message.get_mut("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(calls)) => {
            for (i, call) in calls.iter_mut().enumerate() {
                normalise_call(call, &format!("{path}.tool_calls[{i}]"), findings);
            }
        }
        Some(other) => {
            findings.push(Finding::error(format!("{path}.tool_calls"), mistyped("a list", other)));
        }
    }
    // An empty list renders a begun and unfinished call in some templates.
    if tool_calls(&message).is_empty() {
        message.shift_remove("tool_calls");
    }
    Some(message)
}

/// Text, or parts of text joined into one.
fn normalise_content(content: &mut Value, path: &str, findings: &mut Vec<Finding>) {
    match content {
        Value::String(_) | Value::Null => {}
        Value::Array(parts) => {
            let mut whole = String::new();
            for (i, part) in parts.iter().enumerate() {
                let kind = part["type"].as_str().unwrap_or("text");
                match (kind, part.as_str().or_else(|| part["text"].as_str())) {
                    ("text", Some(text)) => whole.push_str(text),
                    ("text", None) => {
                        findings
                            .push(Finding::error(format!("{path}[{i}]"), Problem::Missing { key: "text" }));
                    }
                    (kind, _) => {
                        let problem = Problem::UnsupportedPart { kind: kind.to_owned() };
                        findings.push(Finding::error(format!("{path}[{i}]"), problem));
                    }
                }
            }
            *content = Value::String(whole);
        }
        other => {
            let problem = mistyped("a string or a list of text parts", other);
            findings.push(Finding::error(path, problem));
        }
    }
}

/// A tool call in OpenAI's form, with its arguments as an object.
fn normalise_call(call: &mut Value, path: &str, findings: &mut Vec<Finding>) {
    if !call.is_object() {
        findings.push(Finding::error(path, mistyped("an object", call)));
        return;
    }
    if call.get("function").is_none() && call.get("name").is_some() {
        // {"name": …, "arguments": …} without the wrapper.
        let function = call.take();
        *call = json!({"type": "function", "function": function});
    }
    match call.get_mut("function") {
        None => findings.push(Finding::error(path, Problem::Missing { key: "function" })),
        Some(function) => call_function(function, &format!("{path}.function"), findings),
    }
    if let Some(id) = call.get("id").filter(|id| !id.is_string() && !id.is_null()) {
        findings.push(Finding::error(format!("{path}.id"), mistyped("a string", id)));
    }
}
