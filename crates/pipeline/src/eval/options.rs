//! What is evaluated, and what one turn of it shows.

use serde::Serialize;

use crate::generate::Extent;

/// Options of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalOptions {
    /// Files of conversations.
    pub data: Vec<String>,
    /// Conversations to ask, spread evenly over the data; 0: all.
    pub limit: usize,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Longest prompt with its answer, in tokens.
    pub max_tokens: usize,
    /// Field of the records by whose values scores are grouped.
    pub group_by: Option<String>,
    /// Field of the records that labels the voice of answers, and files of conversations to train the
    /// classifier on.
    pub voice: Option<(String, Vec<String>)>,
}

/// Answers that are generated together.
const SEQUENCES: usize = 8;

/// A turn that was generated again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// File and line of its conversation.
    pub place: String,
    /// Index of its message.
    pub message: usize,
    /// The record's value of the field that scores are grouped by.
    pub group: Option<String>,
    /// The data's tool calls, as name and arguments.
    pub expected: Vec<String>,
    /// What the model generated.
    pub generated: String,
    /// Whether it begins a tool call.
    pub calls: bool,
    /// Whether the calls are the data's.
    pub right: bool,
    /// Why its calls are not valid; none: they are.
    pub problems: Vec<String>,
    /// Whether the answer was cut off.
    pub truncated: bool,
}

impl EvalOptions {
    /// The capacity that a generator needs.
    pub fn extent(&self) -> Extent<'static> {
        Extent::chat(self.max_tokens, self.max_new_tokens).with_sequences(SEQUENCES)
    }
}
