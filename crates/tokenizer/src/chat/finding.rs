//! What can be wrong with a chat record, and where in it.

use std::fmt;

use serde_json::Value;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The record can be trained on; the data's author should know.
    Warning,
    /// The record cannot be trained on as it stands.
    Error,
}

impl Severity {
    /// `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One problem of one record. The caller adds the file and the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field, such as `messages[2].tool_calls[0].function.arguments`; empty for the record itself.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Finding {
    pub(crate) fn error(path: impl Into<String>, problem: Problem) -> Finding {
        Finding { severity: Severity::Error, path: path.into(), problem }
    }

    pub(crate) fn warning(path: impl Into<String>, problem: Problem) -> Finding {
        Finding { severity: Severity::Warning, path: path.into(), problem }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return self.problem.fmt(f);
        }
        write!(f, "`{}`: {}", self.path, self.problem)
    }
}

/// What is wrong with a field of a record, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// None of the known formats has these keys.
    #[error(
        "no known format has these fields ({keys}): expected `messages`, `conversations`, `prompt` and \
         `completion`, `instruction` and `output`, `chosen` and `rejected`, or `text`"
    )]
    UnknownFormat {
        /// The record's keys.
        keys: String,
    },
    /// KTO's data, which has one answer and a label for it.
    #[error(
        "a `label` for single answers (KTO) is not supported: use pairs of `chosen` and `rejected`, or keep \
         the good answers only and remove `label`"
    )]
    Label,
    /// A field has another type.
    #[error("must be {expected}, not {found}")]
    Type {
        /// The expected type.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A required field is missing.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A list without entries.
    #[error("is empty")]
    Empty,
    /// A string field that should contain JSON does not parse.
    #[error("is not valid JSON: {message}")]
    Json {
        /// What the parser says.
        message: String,
    },
    /// A role that no template knows.
    #[error("unknown role `{role}`: expected {expected}")]
    UnknownRole {
        /// The role.
        role: String,
        /// The known ones.
        expected: &'static str,
    },
    /// A part of a message that is not text.
    #[error("a part of type `{kind}` is not supported: only text is")]
    UnsupportedPart {
        /// Its type.
        kind: String,
    },
    /// A turn follows one that it cannot follow.
    #[error("a `{role}` turn cannot follow {after}")]
    Order {
        /// The role.
        role: String,
        /// What is before it.
        after: String,
    },
    /// A system turn after the beginning, which several templates refuse.
    #[error("a system turn after the beginning: Llama 2, Mistral and Gemma templates refuse it")]
    LateSystem,
    /// Nothing that the model would write.
    #[error("there is no assistant turn: nothing would be trained")]
    NoAssistant,
    /// The last turn is not the model's.
    #[error("the conversation ends with a `{role}` turn, which is never trained")]
    Unanswered {
        /// The last turn's role.
        role: String,
    },
    /// A turn without text and without tool calls.
    #[error("the `{role}` turn is empty")]
    EmptyTurn {
        /// The role.
        role: String,
    },
    /// A tool result that answers nothing.
    #[error("a tool result without a tool call before it")]
    ResultWithoutCall,
    /// More results than calls.
    #[error("more tool results than the {calls} tool calls before them")]
    TooManyResults {
        /// Number of calls.
        calls: usize,
    },
    /// A tool result names a call that was not made.
    #[error("tool_call_id `{id}` matches no open tool call (open: {open})")]
    UnknownCallId {
        /// The id.
        id: String,
        /// The ids without a result.
        open: String,
    },
    /// Two calls have the same id.
    #[error("the id `{id}` occurs twice")]
    DuplicateCallId {
        /// The id.
        id: String,
    },
    /// A tool call whose result is missing, before another turn.
    #[error("{open} tool calls have no result before the next turn")]
    CallWithoutResult {
        /// Number of calls without a result.
        open: usize,
    },
    /// The called tool is not in `tools`.
    #[error("calls `{name}`, which `tools` does not declare (declared: {declared})")]
    UndeclaredTool {
        /// The called tool.
        name: String,
        /// The declared ones.
        declared: String,
    },
    /// Tools are called, and none is declared.
    #[error("calls `{name}`, and the record declares no `tools`: the model learns it without a description")]
    NoTools {
        /// The called tool.
        name: String,
    },
    /// Two tools have the same name.
    #[error("the tool `{name}` is declared twice")]
    DuplicateTool {
        /// The name.
        name: String,
    },
    /// An argument does not fit the declared JSON Schema.
    #[error("does not fit the schema of `{tool}`: {message}")]
    Schema {
        /// The tool.
        tool: String,
        /// The mismatch.
        message: String,
    },
    /// A pair whose answers are the same.
    #[error("`chosen` and `rejected` are the same")]
    SameAnswers,
}

/// A field of another type.
pub(crate) fn mistyped(expected: &'static str, value: &Value) -> Problem {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Problem::Type { expected, found }
}
