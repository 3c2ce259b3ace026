//! Preference pairs, with the prompt given or contained in both answers, as TRL reads them.

use serde_json::{Map, Value};

use super::arguments::tools;
use super::conversation::{Message, message, messages};
use super::finding::{Finding, Problem, mistyped};
use super::record::{Content, Record};

/// `chosen` and `rejected`, with or without `prompt`.
///
/// TRL's rules: a prompt of the same form as the answers is taken as it is; otherwise (there is none, or it
/// is a string beside lists of messages) the prompt is what both answers begin with.
pub(crate) fn read(record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Option<Record> {
    let tools = tools(record.get("tools"), "tools", findings);
    let chosen = content(&record["chosen"], "chosen", findings)?;
    let rejected = content(&record["rejected"], "rejected", findings)?;
    let given = match record.get("prompt") {
        None | Some(Value::Null) => None,
        Some(value) => Some(content(value, "prompt", findings)?),
    };
    let (prompt, chosen, rejected) = match (chosen, rejected) {
        (Content::Messages(chosen), Content::Messages(rejected)) => match given {
            Some(Content::Messages(prompt)) => messages_pair(prompt, chosen, rejected),
            _ => {
                let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
                let prompt = chosen[..shared].to_vec();
                messages_pair(prompt, chosen[shared..].to_vec(), rejected[shared..].to_vec())
            }
        },
        (Content::Text(chosen), Content::Text(rejected)) => match given {
            Some(Content::Text(prompt)) => text_pair(prompt, &chosen, &rejected),
            Some(Content::Messages(prompt)) => {
                let answer = |text: String| vec![message("assistant", text)];
                messages_pair(prompt, answer(chosen), answer(rejected))
            }
            None => {
                let shared = shared_prefix(&chosen, &rejected);
                text_pair(chosen[..shared].to_owned(), &chosen[shared..], &rejected[shared..])
            }
        },
        (Content::Messages(_), Content::Text(_)) | (Content::Text(_), Content::Messages(_)) => {
            let problem = mistyped("of the same form as `chosen`", &record["rejected"]);
            findings.push(Finding::error("rejected", problem));
            return None;
        }
    };
    if chosen == rejected {
        findings.push(Finding::error("rejected", Problem::SameAnswers));
    }
    for (key, side) in [("chosen", &chosen), ("rejected", &rejected)] {
        if side.is_empty() {
            findings.push(Finding::error(key, Problem::Empty));
        }
    }
    Some(Record::Preference { prompt, chosen, rejected, tools })
}

fn messages_pair(
    prompt: Vec<Message>,
    chosen: Vec<Message>,
    rejected: Vec<Message>,
) -> (Content, Content, Content) {
    (Content::Messages(prompt), Content::Messages(chosen), Content::Messages(rejected))
}

fn text_pair(prompt: String, chosen: &str, rejected: &str) -> (Content, Content, Content) {
    (Content::Text(prompt), Content::Text(chosen.to_owned()), Content::Text(rejected.to_owned()))
}

/// Length in bytes of the common prefix, without a last space: the space belongs to the answers' first word.
fn shared_prefix(a: &str, b: &str) -> usize {
    let shared: usize = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    match a[..shared].strip_suffix(' ') {
        Some(shorter) => shorter.len(),
        None => shared,
    }
}

/// A string, or a list of messages.
pub(crate) fn content(value: &Value, path: &str, findings: &mut Vec<Finding>) -> Option<Content> {
    match value {
        Value::String(text) => Some(Content::Text(text.clone())),
        Value::Array(_) => Some(Content::Messages(messages(value, path, findings))),
        other => {
            findings.push(Finding::error(path, mistyped("a string or a list of messages", other)));
            None
        }
    }
}
