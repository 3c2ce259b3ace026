//! The assistant turns of conversations, each to be generated again.

use std::path::Path;

use corpus::examples::{Records, is_spread};
use serde_json::Value;
use store::fs::RealFs;
use tokenizer::chat::{Answer, Conversation, Record, ToolCall, role, text};

use super::options::EvalOptions;
use crate::{Error, Result};

/// An assistant turn and what is before it.
pub(super) struct Question {
    /// File and line.
    pub place: String,
    /// The messages before it.
    pub conversation: Conversation,
    /// The data's calls.
    pub expected: Vec<ToolCall>,
    /// The data's text.
    pub text: String,
    pub group: Option<String>,
    pub label: Option<String>,
}

/// The turns of the conversations that are asked.
///
/// # Errors
/// Files or records that cannot be read; no conversation with an assistant's turn.
pub(super) fn read(options: &EvalOptions, base_dir: &Path) -> Result<Vec<Question>> {
    let records = Records::find(&RealFs, &options.data, base_dir)?;
    let count = if options.limit == 0 { 0 } else { records.count(&RealFs)? };
    let (mut number, mut questions) = (0, Vec::new());
    let mut failed = None;
    records.each(&RealFs, &mut |place, record| {
        let is_asked = is_spread(number, options.limit as u64, count);
        number += 1;
        if is_asked && failed.is_none() {
            let read = record.and_then(|value| turns(&value, &place.to_string(), options));
            match read {
                Ok(turns) => questions.extend(turns),
                Err(message) => failed = Some(format!("{place}: {message}")),
            }
        }
        Ok(())
    })?;
    if let Some(message) = failed {
        return Err(Error::Data { message });
    }
    if questions.is_empty() {
        return Err(Error::Data {
            message: "no conversation in the data has an assistant's turn".to_owned(),
        });
    }
    Ok(questions)
}

fn turns(value: &Value, place: &str, options: &EvalOptions) -> std::result::Result<Vec<Question>, String> {
    let field = |key: &Option<String>| {
        let found = key.as_ref().map(|key| &value[key.as_str()]).filter(|found| !found.is_null());
        found.map(named)
    };
    let group = field(&options.group_by);
    let label = field(&options.voice.as_ref().map(|(key, _)| key.clone()));
    let Record::Conversation(conversation) = Record::read(value).map_err(|error| error.to_string())? else {
        return Err("is not a conversation with turns".to_owned());
    };
    let mut questions = Vec::new();
    for (index, message) in conversation.messages.iter().enumerate() {
        if index == 0 || role(message) != "assistant" {
            continue;
        }
        let before = Conversation {
            messages: conversation.messages[..index].to_vec(),
            tools: conversation.tools.clone(),
            variables: conversation.variables.clone(),
        };
        questions.push(Question {
            place: place.to_owned(),
            conversation: before,
            expected: Answer::calls_of(message)?,
            text: text(message),
            group: group.clone(),
            label: label.clone(),
        });
    }
    Ok(questions)
}

/// A field's value as a name.
pub(super) fn named(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
