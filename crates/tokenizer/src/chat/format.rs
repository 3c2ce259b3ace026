//! The format of a record, told by its fields.

use serde_json::{Map, Value};

use super::arguments::tools;
use super::check::check;
use super::conversation::{Conversation, messages};
use super::error::ChatError;
use super::finding::{Finding, Problem, Severity, mistyped};
use super::record::{Content, Record, joined};
use super::{convert, preference};

/// A format of chat data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// `messages` (and `tools`), OpenAI's and TRL's form.
    OpenAi,
    /// `conversations`, ShareGPT's form.
    ShareGpt,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `instruction`, `input` and `output`.
    Alpaca,
    /// `chosen` and `rejected`.
    Preference,
    /// `text`.
    Text,
}

impl Format {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::OpenAi => "OpenAI chat (`messages`)",
            Format::ShareGpt => "ShareGPT (`conversations`)",
            Format::PromptCompletion => "prompt and completion",
            Format::Alpaca => "Alpaca (`instruction` and `output`)",
            Format::Preference => "preference pairs (`chosen` and `rejected`)",
            Format::Text => "plain text (`text`)",
        }
    }

    /// The format of a record.
    ///
    /// # Errors
    /// Unknown fields, or KTO's `label`.
    pub fn detect(record: &Map<String, Value>) -> Result<Format, ChatError> {
        detect(record).map_err(|problem| ChatError::Record(Finding::error("", problem)))
    }
}

fn detect(record: &Map<String, Value>) -> Result<Format, Problem> {
    let has = |key: &str| record.get(key).is_some_and(|value| !value.is_null());
    // Most specific first: UltraFeedback has `messages` beside its pairs.
    if has("chosen") && has("rejected") {
        return Ok(Format::Preference);
    }
    if has("label") && (has("completion") || has("messages")) {
        return Err(Problem::Label);
    }
    let formats = [
        (has("messages"), Format::OpenAi),
        (has("conversations"), Format::ShareGpt),
        (has("prompt") && has("completion"), Format::PromptCompletion),
        (has("instruction") && has("output"), Format::Alpaca),
        (has("text"), Format::Text),
    ];
    let found = formats.into_iter().find_map(|(is, format)| is.then_some(format));
    found.ok_or_else(|| {
        let keys: Vec<&str> = record.keys().take(12).map(String::as_str).collect();
        Problem::UnknownFormat { keys: keys.join(", ") }
    })
}

impl Record {
    /// Reads a record of any format.
    ///
    /// # Errors
    /// The first finding that is an error. [`inspect`] lists all.
    pub fn read(value: &Value) -> Result<Record, ChatError> {
        let inspection = inspect(value);
        let error = inspection.findings.into_iter().find(|finding| finding.severity == Severity::Error);
        match (error, inspection.record) {
            (None, Some(record)) => Ok(record),
            (Some(finding), _) => Err(ChatError::Record(finding)),
            (None, None) => Err(ChatError::Record(Finding::error("", Problem::Empty))),
        }
    }
}

impl Conversation {
    /// Reads a conversation whose last message is to be answered.
    ///
    /// # Errors
    /// The first finding that is an error, but for an answer that is missing; a record of another form.
    pub fn to_answer(value: &Value) -> Result<Conversation, ChatError> {
        let inspection = inspect(value);
        let error = inspection
            .findings
            .into_iter()
            .find(|finding| finding.severity == Severity::Error && finding.problem != Problem::NoAssistant);
        match (error, inspection.record) {
            (None, Some(Record::Conversation(conversation))) => Ok(conversation),
            (Some(finding), _) => Err(ChatError::Record(finding)),
            (None, _) => Err(ChatError::Record(Finding::error("", mistyped("messages", value)))),
        }
    }
}

/// What was found in a record.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The format, if it is known.
    pub format: Option<Format>,
    /// The record as far as it could be read.
    pub record: Option<Record>,
    /// Every finding, in the order of the record.
    pub findings: Vec<Finding>,
}

/// Reads and checks a record of any format, and lists everything that is wrong with it.
pub fn inspect(value: &Value) -> Inspection {
    let mut findings = Vec::new();
    let nothing = |finding| Inspection { format: None, record: None, findings: vec![finding] };
    let Some(record) = value.as_object() else {
        return nothing(Finding::error("", mistyped("a JSON object", value)));
    };
    let format = match detect(record) {
        Ok(format) => format,
        Err(problem) => return nothing(Finding::error("", problem)),
    };
    let record = read(format, record, &mut findings);
    Inspection { format: Some(format), record, findings }
}

fn read(format: Format, record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Option<Record> {
    Some(match format {
        Format::Text => match &record["text"] {
            Value::String(text) => {
                if text.trim().is_empty() {
                    findings.push(Finding::error("text", Problem::Empty));
                }
                Record::Text(text.clone())
            }
            other => {
                findings.push(Finding::error("text", mistyped("a string", other)));
                return None;
            }
        },
        Format::OpenAi | Format::ShareGpt | Format::Alpaca => {
            let (path, mut conversation) = match format {
                Format::OpenAi => ("messages", openai(record, findings)),
                Format::ShareGpt => ("conversations", convert::sharegpt(record, findings)),
                _ => ("", convert::alpaca(record, findings)),
            };
            conversation.variables = variables(record, findings);
            // Alpaca's turns are in order by construction, and have no place in the record.
            if format != Format::Alpaca {
                check_if_whole(&conversation, path, findings);
            }
            Record::Conversation(conversation)
        }
        Format::PromptCompletion => completion(record, findings)?,
        Format::Preference => {
            let record = preference::read(record, findings)?;
            if let Record::Preference { prompt, chosen, rejected, tools } = &record {
                check_answer(prompt, chosen, tools, "chosen", findings);
                check_answer(prompt, rejected, tools, "rejected", findings);
            }
            record
        }
    })
}

fn openai(record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Conversation {
    Conversation {
        tools: tools(record.get("tools"), "tools", findings),
        messages: messages(&record["messages"], "messages", findings),
        ..Conversation::default()
    }
}

fn completion(record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Option<Record> {
    let tools = tools(record.get("tools"), "tools", findings);
    let prompt = preference::content(&record["prompt"], "prompt", findings);
    let completion = preference::content(&record["completion"], "completion", findings);
    let (prompt, completion) = (prompt?, completion?);
    if let Content::Text(text) = &completion
        && text.trim().is_empty()
    {
        findings.push(Finding::error("completion", Problem::Empty));
    }
    check_answer(&prompt, &completion, &tools, "completion", findings);
    Some(Record::Completion { prompt, completion, tools })
}

/// Template variables of the record (TRL's `chat_template_kwargs`).
fn variables(record: &Map<String, Value>, findings: &mut Vec<Finding>) -> Map<String, Value> {
    match record.get("chat_template_kwargs") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables.clone(),
        Some(other) => {
            findings.push(Finding::error("chat_template_kwargs", mistyped("an object", other)));
            Map::new()
        }
    }
}

/// Checks a prompt with an answer, if either has messages.
fn check_answer(
    prompt: &Content,
    answer: &Content,
    tools: &[Value],
    path: &str,
    findings: &mut Vec<Finding>,
) {
    if matches!((prompt, answer), (Content::Text(_), Content::Text(_))) {
        return;
    }
    let (messages, from) = joined(prompt, answer);
    let mut found = Vec::new();
    let conversation = Conversation { messages, tools: tools.to_vec(), ..Conversation::default() };
    check_if_whole(&conversation, "messages", &mut found);
    if !findings.iter().any(|finding| finding.severity == Severity::Error) {
        for mut finding in found {
            finding.path = answer_path(&finding.path, from, path);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
}

/// `messages[i]…` as a place in the prompt or in the answer.
fn answer_path(path: &str, from: usize, answer: &str) -> String {
    let Some((index, rest)) = path.strip_prefix("messages[").and_then(|rest| rest.split_once(']')) else {
        return answer.to_owned();
    };
    match index.parse::<usize>() {
        Ok(index) if index < from => format!("prompt[{index}]{rest}"),
        Ok(index) => format!("{answer}[{}]{rest}", index - from),
        Err(_) => path.to_owned(),
    }
}

/// Checks a conversation of which no message was lost in reading: otherwise indices and order mislead.
fn check_if_whole(conversation: &Conversation, path: &str, findings: &mut Vec<Finding>) {
    if !findings.iter().any(|finding| finding.severity == Severity::Error) {
        check(conversation, path, findings);
    }
}
