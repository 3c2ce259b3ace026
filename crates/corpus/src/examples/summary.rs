//! What became of the examples.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Counts of one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExampleCounts {
    /// Examples kept.
    pub examples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens that are trained.
    pub trained_tokens: u64,
    /// Examples longer than a sequence, which were cut off.
    pub truncated: u64,
    /// Tokens cut off.
    pub truncated_tokens: u64,
    /// Examples dropped because nothing trained was left of them after the cut.
    pub dropped: u64,
    /// Tokens of the median, the 95th percentile and the longest example, before the cut.
    pub lengths: [u64; 3],
    /// Sequences that the examples are packed into.
    pub sequences: u64,
}

/// The content of `report.json` beside shards of examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExamplesSummary {
    /// Training examples.
    pub train: ExampleCounts,
    /// Validation examples.
    pub validation: ExampleCounts,
    /// Records by format.
    pub formats: BTreeMap<String, u64>,
    /// Records that were skipped because they cannot be used.
    pub invalid: u64,
    /// Exact repetitions of an earlier record, which are kept.
    pub duplicates: u64,
    /// Tokens that end a trained turn: generation must stop at them.
    pub end_ids: BTreeSet<u32>,
    /// Where the chat template comes from.
    pub template: Option<String>,
    /// The first training example, as it is trained.
    pub first: Vec<Shown>,
    /// Whether the folder already existed, with these inputs and options.
    #[serde(skip)]
    pub reused: bool,
}

/// A stretch of a rendered example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its text.
    pub text: String,
    /// Whether its tokens are trained.
    pub trained: bool,
}
