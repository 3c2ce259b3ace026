//! What a model answered: its text and its tool calls.
//!
//! Read are the forms that chat templates render: `<tool_call>{…}</tool_call>` (ChatML, Qwen, Hermes),
//! `[TOOL_CALLS][{…}, …]` and `[TOOL_CALLS]name[ARGS]{…}` (Mistral), and an answer that is one JSON object
//! with `name` and `parameters`, behind `<|python_tag|>` or alone (Llama 3).

use serde_json::{Map, Value};

use super::check;
use super::finding::{Finding, Severity};
use super::schema::same;

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

impl ToolCall {
    /// Reads `{"name": …, "arguments": {…}}`, or Llama's `parameters`; arguments may be a JSON string.
    fn read(value: &Value) -> Result<ToolCall, String> {
        let function = value.get("function").unwrap_or(value);
        let name = function["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or("a tool call without a `name`")?.to_owned();
        let arguments = match function.get("arguments").or_else(|| function.get("parameters")) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(Value::String(text)) => {
                serde_json::from_str(text).map_err(|error| format!("arguments of `{name}`: {error}"))?
            }
            Some(_) => return Err(format!("arguments of `{name}` are no object")),
        };
        Ok(ToolCall { name, arguments })
    }

    /// The same function with the same arguments, in any order; 3 and 3.0 are the same number.
    pub fn is_same(&self, other: &ToolCall) -> bool {
        self.name == other.name && equal_objects(&self.arguments, &other.arguments)
    }
}

/// Whether two turns make the same calls, in any order.
pub fn same_calls(left: &[ToolCall], right: &[ToolCall]) -> bool {
    let mut rest: Vec<&ToolCall> = right.iter().collect();
    let mut found = |call: &ToolCall| {
        let at = rest.iter().position(|other| call.is_same(other));
        at.map(|at| rest.swap_remove(at)).is_some()
    };
    left.len() == right.len() && left.iter().all(&mut found)
}

fn equal_objects(left: &Map<String, Value>, right: &Map<String, Value>) -> bool {
    left.len() == right.len()
        && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| equal(value, other)))
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => equal_objects(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        _ => same(left, right),
    }
}

/// An answer, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What it says beside its tool calls.
    pub text: String,
    /// Its tool calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// Why a tool call that was begun cannot be read.
    pub broken: Option<String>,
}

impl Answer {
    /// Takes apart what a model generated, special tokens included.
    pub fn parse(generated: &str) -> Answer {
        let (text, found) = split(generated);
        let mut answer = Answer { text: text.trim().to_owned(), ..Answer::default() };
        for call in found.unwrap_or_else(|message| vec![Err(message)]) {
            match call {
                Ok(call) => answer.tool_calls.push(call),
                Err(message) => answer.broken = Some(answer.broken.unwrap_or(message)),
            }
        }
        answer
    }

    /// The tool calls of a message in the data.
    ///
    /// # Errors
    /// A call without a name, or whose arguments are no object.
    pub fn calls_of(message: &super::Message) -> Result<Vec<ToolCall>, String> {
        super::conversation::tool_calls(message).iter().map(ToolCall::read).collect()
    }

    /// Why its calls are not valid: not JSON, a tool that was not declared, arguments that do not fit the
    /// tool's schema. Empty: they are valid.
    pub fn problems(&self, tools: &[Value]) -> Vec<String> {
        let mut findings: Vec<Finding> = Vec::new();
        for call in &self.tool_calls {
            let value = serde_json::json!({"function": {"name": call.name, "arguments": call.arguments}});
            check::declared(&value, tools, "tool_call", &mut findings);
        }
        let found = findings.iter().filter(|finding| finding.severity == Severity::Error);
        self.broken.iter().cloned().chain(found.map(Finding::to_string)).collect()
    }
}

type Calls = Vec<Result<ToolCall, String>>;

/// The text and the calls of an answer.
fn split(generated: &str) -> (String, Result<Calls, String>) {
    if generated.contains("<tool_call>") {
        return tagged(generated);
    }
    if let Some((text, calls)) = generated.split_once("[TOOL_CALLS]") {
        return (text.to_owned(), mistral(calls.trim()));
    }
    let trimmed = generated.trim();
    let marked = trimmed.strip_prefix("<|python_tag|>");
    let object = marked.unwrap_or(trimmed).trim();
    let is_call = |value: &Value| value["name"].is_string() && value.get("parameters").is_some();
    match serde_json::from_str::<Value>(object) {
        Ok(value) if is_call(&value) => (String::new(), Ok(vec![ToolCall::read(&value)])),
        Err(error) if marked.is_some() => {
            (String::new(), Err(format!("a tool call that is not JSON: {error}")))
        }
        _ => (generated.to_owned(), Ok(Vec::new())),
    }
}

fn tagged(generated: &str) -> (String, Result<Calls, String>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    let mut rest = generated;
    while let Some((before, after)) = rest.split_once("<tool_call>") {
        text.push_str(before);
        let Some((call, after)) = after.split_once("</tool_call>") else {
            calls.push(Err("a tool call that does not end".to_owned()));
            return (text, Ok(calls));
        };
        calls.push(json(call).and_then(|value| ToolCall::read(&value)));
        rest = after;
    }
    text.push_str(rest);
    (text, Ok(calls))
}

fn mistral(calls: &str) -> Result<Calls, String> {
    if calls.starts_with('[') {
        let list: Vec<Value> =
            serde_json::from_str(calls).map_err(|error| format!("tool calls that are not JSON: {error}"))?;
        return Ok(list.iter().map(ToolCall::read).collect());
    }
    let named = |call: &str| {
        let (name, arguments) = call.split_once("[ARGS]").ok_or("a tool call without its arguments")?;
        let name = name.split("[CALL_ID]").next().unwrap_or(name);
        ToolCall::read(&serde_json::json!({"name": name.trim(), "arguments": json(arguments)?}))
    };
    Ok(calls.split("[TOOL_CALLS]").map(named).collect())
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text.trim()).map_err(|error| format!("a tool call that is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall::read(&json!({"name": name, "arguments": arguments})).expect("a call")
    }

    #[test]
    fn calls_are_read_in_every_form() {
        let oslo = call("weather", json!({"place": "Oslo"}));
        for (generated, text) in [
            ("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Oslo\"}}\n</tool_call>", ""),
            (
                "Let me look.\n<tool_call>{\"name\":\"weather\",\"arguments\":\"{\\\"place\\\":\\\"Oslo\\\"}\"}</tool_call>",
                "Let me look.",
            ),
            (
                "[TOOL_CALLS] [{\"name\": \"weather\", \"arguments\": {\"place\": \"Oslo\"}, \"id\": \"123456789\"}]",
                "",
            ),
            ("[TOOL_CALLS]weather[ARGS]{\"place\": \"Oslo\"}", ""),
            ("{\"name\": \"weather\", \"parameters\": {\"place\": \"Oslo\"}}", ""),
            ("<|python_tag|>{\"name\": \"weather\", \"parameters\": {\"place\": \"Oslo\"}}", ""),
        ] {
            let answer = Answer::parse(generated);
            assert_eq!(answer.tool_calls, std::slice::from_ref(&oslo), "{generated}");
            assert_eq!((answer.text.as_str(), answer.broken), (text, None), "{generated}");
        }
        let two = "<tool_call>{\"name\": \"a\"}</tool_call>\n<tool_call>{\"name\": \"b\"}</tool_call>";
        assert_eq!(Answer::parse(two).tool_calls, [call("a", json!({})), call("b", json!({}))]);
    }

    #[test]
    fn text_is_no_call_and_a_broken_call_is_no_text() {
        for text in ["It rains.", "{\"name\": \"Oslo\"}", "[1, 2]", ""] {
            let answer = Answer::parse(text);
            assert_eq!((answer.text.as_str(), answer.tool_calls.len(), answer.broken), (text, 0, None));
        }
        for broken in [
            "<tool_call>{\"name\": \"weather\"",
            "<tool_call>{\"name\": }</tool_call>",
            "<tool_call>{\"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"a\", \"arguments\": [1]}</tool_call>",
            "[TOOL_CALLS] [{",
            "[TOOL_CALLS]weather",
            "<|python_tag|>print(1)",
        ] {
            let answer = Answer::parse(broken);
            assert!(answer.broken.is_some() && answer.tool_calls.is_empty(), "{broken}");
            assert!(!answer.problems(&[]).is_empty(), "{broken}");
        }
    }

    #[test]
    fn calls_are_the_same_whatever_their_order_and_numbers_form() {
        let oslo = call("forecast", json!({"place": "Oslo", "days": 3, "more": [1, {"x": 2.0}]}));
        let same = call("forecast", json!({"days": 3.0, "more": [1.0, {"x": 2}], "place": "Oslo"}));
        let rome = call("forecast", json!({"place": "Rome", "days": 3}));
        assert!(same_calls(&[oslo.clone(), rome.clone()], &[rome.clone(), same]));
        for other in [
            vec![],
            vec![rome.clone()],
            vec![oslo.clone(), oslo.clone()],
            vec![oslo.clone(), rome.clone(), rome.clone()],
        ] {
            assert!(!same_calls(&[oslo.clone(), rome.clone()], &other));
        }
    }

    #[test]
    fn calls_are_checked_against_the_declared_tools() {
        let tools = [json!({"type": "function", "function": {"name": "weather", "parameters":
            {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}})];
        let problems = |name: &str, arguments: Value| {
            Answer { tool_calls: vec![call(name, arguments)], ..Answer::default() }.problems(&tools)
        };
        assert!(problems("weather", json!({"place": "Oslo"})).is_empty());
        assert!(problems("weather", json!({}))[0].contains("place"));
        assert!(problems("time", json!({"place": "Oslo"}))[0].contains("time"));
    }
}
