//! What a template must not drop: the text and the tool calls of the model's turns, and the declared tools.

use std::ops::Range;

use serde_json::Value;

use super::arguments::tool_name;
use super::conversation::{Message, text, tool_calls};
use super::error::ChatError;
use super::python::{float, write_json_string};

/// Checks that a turn's payload holds the message's text, and every call's name and argument values.
pub(crate) fn check_turn(
    payload: &str,
    message: &Message,
    index: usize,
    origin: &str,
) -> Result<(), ChatError> {
    for (call, value) in tool_calls(message).iter().enumerate() {
        let function = &value["function"];
        let vanishes = |part: String| ChatError::ToolCallVanishes {
            origin: origin.to_owned(),
            message: index,
            call,
            part,
        };
        let name = function["name"].as_str().unwrap_or_default();
        if !payload.contains(name) {
            return Err(vanishes(format!("the name `{name}`")));
        }
        if let Some(path) = missing(&function["arguments"], payload, "arguments") {
            return Err(vanishes(format!("`{path}`")));
        }
    }
    let content = text(message);
    // Reasoning in the content is dropped from earlier turns by design (Qwen3, DeepSeek-R1).
    let answer = content.rsplit("</think>").next().unwrap_or_default().trim();
    if !payload.contains(answer) {
        return Err(ChatError::ContentVanishes { origin: origin.to_owned(), message: index });
    }
    Ok(())
}

/// Whether a text occurs as it is, trimmed, or within a string of JSON.
pub(crate) fn occurs(text: &str, rendered: &str) -> bool {
    let json = |ensure_ascii| {
        let mut quoted = String::new();
        write_json_string(&mut quoted, text, ensure_ascii);
        rendered.contains(&quoted[1..quoted.len() - 1])
    };
    rendered.contains(text.trim()) || json(false) || json(true)
}

/// The path of the first value that does not occur, in any of the forms that templates write.
fn missing(value: &Value, payload: &str, path: &str) -> Option<String> {
    let absent = |forms: &[&str]| (!forms.iter().any(|form| payload.contains(form))).then(|| path.to_owned());
    match value {
        Value::Null => absent(&["null", "None"]),
        Value::Bool(true) => absent(&["true", "True"]),
        Value::Bool(false) => absent(&["false", "False"]),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => absent(&[&float(number)]),
            None => absent(&[&number.to_string()]),
        },
        Value::String(text) => (!occurs(text, payload)).then(|| path.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| missing(item, payload, &format!("{path}[{i}]")))
        }
        Value::Object(entries) => entries.iter().find_map(|(key, item)| {
            let path = format!("{path}.{key}");
            if occurs(key, payload) { missing(item, payload, &path) } else { Some(path) }
        }),
    }
}

/// Checks that every declared tool is named outside of the model's own turns.
pub(crate) fn check_tools(
    rendered: &str,
    payloads: &[Range<usize>],
    tools: &[Value],
    origin: &str,
) -> Result<(), ChatError> {
    for name in tools.iter().filter_map(tool_name).filter(|name| !name.is_empty()) {
        let mut from = 0;
        let named = loop {
            let Some(at) = rendered[from..].find(name).map(|at| from + at) else { break false };
            if !payloads.iter().any(|payload| payload.contains(&at)) {
                break true;
            }
            from = at + name.len();
        };
        if !named {
            return Err(ChatError::ToolsVanish { origin: origin.to_owned(), tool: name.to_owned() });
        }
    }
    Ok(())
}
