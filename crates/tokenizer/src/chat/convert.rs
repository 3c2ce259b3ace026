//! ShareGPT and Alpaca records as conversations.

use serde_json::{Map, Value, json};

use super::arguments::{call_function, tools};
use super::conversation::{Conversation, Message, message, messages};
use super::finding::{Finding, Problem, mistyped};

const SPEAKERS: &str = "human, user, gpt, assistant, system, function_call, observation or tool";

/// `conversations`: turns of `from` and `value` (ShareGPT), or messages of `role` and `content`.
pub(crate) fn sharegpt(record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Conversation {
    let turns = &record["conversations"];
    let is_openai = turns
        .as_array()
        .and_then(|turns| turns.first())
        .is_some_and(|turn| turn.get("from").is_none() && turn.get("role").is_some());
    let mut conversation =
        Conversation { tools: tools(record.get("tools"), "tools", findings), ..Conversation::default() };
    if is_openai {
        conversation.messages = messages(turns, "conversations", findings);
    } else if let Some(turns) = turns.as_array() {
        if turns.is_empty() {
            findings.push(Finding::error("conversations", Problem::Empty));
        }
        let mut calls = 0;
        for (i, turn) in turns.iter().enumerate() {
            let path = format!("conversations[{i}]");
            conversation.messages.extend(turn_message(turn, &path, &mut calls, findings));
        }
        name_results(&mut conversation.messages);
    } else {
        findings.push(Finding::error("conversations", mistyped("a list of turns", turns)));
    }
    let begins_with_system =
        conversation.messages.first().is_some_and(|message| message.get("role") == Some(&json!("system")));
    if let Some(system) = optional_text(record, "system", findings)
        && !begins_with_system
    {
        conversation.messages.insert(0, message("system", system));
    }
    conversation
}

/// A turn of `from` and `value`. `calls` counts the tool calls so far: ShareGPT has no ids, and Mistral's
/// templates ask for ids of nine letters and digits.
fn turn_message(turn: &Value, path: &str, calls: &mut usize, findings: &mut Vec<Finding>) -> Option<Message> {
    let mut text = |key: &'static str| match turn.get(key) {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => {
            findings.push(Finding::error(format!("{path}.{key}"), mistyped("a string", other)));
            None
        }
        None => {
            findings.push(Finding::error(path, Problem::Missing { key }));
            None
        }
    };
    let (from, value) = (text("from")?, text("value")?);
    Some(match from {
        "human" | "user" => message("user", value),
        "gpt" | "assistant" | "chatgpt" | "model" | "bot" => message("assistant", value),
        "system" => message("system", value),
        "observation" | "tool" | "function" | "function_response" => message("tool", value),
        "function_call" => {
            let made = function_calls(value, &format!("{path}.value"), findings)?;
            let with_ids = made.into_iter().map(|function| {
                *calls += 1;
                let id = format!("call{:05}", *calls % 100_000);
                json!({"id": id, "type": "function", "function": function})
            });
            let mut message = message("assistant", "");
            message.insert("tool_calls".into(), with_ids.collect());
            message
        }
        other => {
            let problem = Problem::UnknownRole { role: other.to_owned(), expected: SPEAKERS };
            findings.push(Finding::error(format!("{path}.from"), problem));
            return None;
        }
    })
}

/// The calls in a `function_call` turn: one object with `name` and `arguments`, or a list of them.
fn function_calls(value: &str, path: &str, findings: &mut Vec<Finding>) -> Option<Vec<Value>> {
    let calls = match serde_json::from_str::<Value>(value) {
        Ok(Value::Array(calls)) if !calls.is_empty() => calls,
        Ok(call @ Value::Object(_)) => vec![call],
        Ok(other) => {
            findings.push(Finding::error(path, mistyped("a tool call or a list of them", &other)));
            return None;
        }
        Err(error) => {
            findings.push(Finding::error(path, Problem::Json { message: error.to_string() }));
            return None;
        }
    };
    let normalised = calls.into_iter().map(|mut call| {
        call_function(&mut call, path, findings);
        call
    });
    Some(normalised.collect())
}

/// Gives each tool result the id of its call, in order.
fn name_results(messages: &mut [Message]) {
    let mut open: std::collections::VecDeque<Value> = std::collections::VecDeque::new();
    for message in messages {
        match message.get("tool_calls") {
            Some(Value::Array(calls)) => open = calls.iter().map(|call| call["id"].clone()).collect(),
            _ if message.get("role") == Some(&json!("tool")) => {
                if let Some(id) = open.pop_front() {
                    message.insert("tool_call_id".into(), id);
                }
            }
            _ => {}
        }
    }
}

/// `instruction`, `input` and `output`, with optional `system` and `history` (pairs of earlier turns).
pub(crate) fn alpaca(record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Conversation {
    let mut messages = Vec::new();
    if let Some(system) = optional_text(record, "system", findings) {
        messages.push(message("system", system));
    }
    match record.get("history") {
        None | Some(Value::Null) => {}
        Some(Value::Array(pairs)) => {
            for (i, pair) in pairs.iter().enumerate() {
                match (pair[0].as_str(), pair[1].as_str()) {
                    (Some(user), Some(answer)) => {
                        messages.extend([message("user", user), message("assistant", answer)]);
                    }
                    _ => {
                        let problem = mistyped("a pair of strings", pair);
                        findings.push(Finding::error(format!("history[{i}]"), problem));
                    }
                }
            }
        }
        Some(other) => findings.push(Finding::error("history", mistyped("a list of pairs", other))),
    }
    let mut required = |key: &'static str| match &record[key] {
        Value::String(text) => text.clone(),
        other => {
            findings.push(Finding::error(key, mistyped("a string", other)));
            String::new()
        }
    };
    let (instruction, output) = (required("instruction"), required("output"));
    let question = match optional_text(record, "input", findings) {
        Some(input) if instruction.is_empty() => input,
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction,
    };
    for (key, role, text) in [("instruction", "user", &question), ("output", "assistant", &output)] {
        if text.trim().is_empty() {
            findings.push(Finding::error(key, Problem::EmptyTurn { role: role.to_owned() }));
        }
    }
    messages.extend([message("user", question), message("assistant", output)]);
    Conversation::new(messages)
}

/// A string that may be missing, null or empty.
fn optional_text(record: &Map<String, Value>, key: &str, findings: &mut Vec<Finding>) -> Option<String> {
    match record.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
        Some(other) => {
            findings.push(Finding::error(key, mistyped("a string", other)));
            None
        }
    }
}
