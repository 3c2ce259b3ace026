//! Arguments of tool calls and declarations of tools, each as an object or as a JSON string.

use serde_json::{Map, Value, json};

use super::finding::{Finding, Problem, mistyped};

/// Checks `{"name": …, "arguments": …}` and makes the arguments an object.
pub(crate) fn call_function(function: &mut Value, path: &str, findings: &mut Vec<Finding>) {
    let Some(object) = function.as_object_mut() else {
        findings.push(Finding::error(path, mistyped("an object", function)));
        return;
    };
    match object.get("name") {
        Some(Value::String(name)) if !name.is_empty() => {}
        Some(Value::String(_)) => findings.push(Finding::error(format!("{path}.name"), Problem::Empty)),
        Some(other) => findings.push(Finding::error(format!("{path}.name"), mistyped("a string", other))),
        None => findings.push(Finding::error(path, Problem::Missing { key: "name" })),
    }
    let path = format!("{path}.arguments");
    let arguments = object.entry("arguments").or_insert_with(|| Value::Object(Map::new()));
    match arguments {
        Value::Object(_) => {}
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(value @ Value::Object(_)) => *arguments = value,
            Ok(other) => findings.push(Finding::error(path, mistyped("a JSON object", &other))),
            Err(error) => {
                findings.push(Finding::error(path, Problem::Json { message: error.to_string() }));
            }
        },
        // OpenAI writes "{}", others null, for a tool without parameters.
        Value::Null => *arguments = Value::Object(Map::new()),
        other => findings.push(Finding::error(path, mistyped("an object", other))),
    }
}

/// The name of a declared tool.
pub(crate) fn tool_name(tool: &Value) -> Option<&str> {
    tool["function"]["name"].as_str().or_else(|| tool["name"].as_str())
}

/// Declared tools: a list or a JSON string of one, each `{"type": "function", "function": {…}}` or the
/// function alone, which is wrapped.
pub(crate) fn tools(value: Option<&Value>, path: &str, findings: &mut Vec<Finding>) -> Vec<Value> {
    let parsed;
    let list = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::String(text)) if text.trim().is_empty() => return Vec::new(),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                parsed = value;
                &parsed
            }
            Err(error) => {
                findings.push(Finding::error(path, Problem::Json { message: error.to_string() }));
                return Vec::new();
            }
        },
        Some(value) => value,
    };
    let Some(list) = list.as_array() else {
        if !list.is_null() {
            findings.push(Finding::error(path, mistyped("a list of tools", list)));
        }
        return Vec::new();
    };
    let mut tools: Vec<Value> = Vec::new();
    for (i, tool) in list.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let tool = match tool {
            Value::Object(object) if object.contains_key("function") => tool.clone(),
            Value::Object(object) if object.contains_key("name") => {
                json!({"type": "function", "function": tool})
            }
            Value::Object(_) => {
                findings.push(Finding::error(path, Problem::Missing { key: "function" }));
                continue;
            }
            other => {
                findings.push(Finding::error(path, mistyped("an object", other)));
                continue;
            }
        };
        match tool_name(&tool) {
            None => findings.push(Finding::error(path, Problem::Missing { key: "function.name" })),
            Some(name) if tools.iter().any(|other| tool_name(other) == Some(name)) => {
                findings.push(Finding::error(path, Problem::DuplicateTool { name: name.to_owned() }));
            }
            Some(_) => tools.push(tool),
        }
    }
    tools
}
