//! `train.json` and `validation.json`: headers of a split's shards.

use serde::{Deserialize, Serialize};

use crate::Split;

/// Version of the header's format.
pub const FORMAT: u32 = 2;

/// The mark of a token that is predicted in training; others have 0.
pub const TRAINED: u8 = 1;
/// The mark of a token with which the second of a pair of examples begins.
pub const BEGINS_SECOND: u8 = 2;

/// The header of one split's shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Bytes per id: 2 or 4.
    pub bytes_per_token: usize,
    /// Vocabulary size.
    pub vocab_size: usize,
    /// BLAKE3 of the tokenizer.json they were made with.
    pub tokenizer_hash: String,
    /// `null` where documents do not begin with BOS.
    pub bos_id: Option<u32>,
    /// `null` where documents do not end with EOS.
    pub eos_id: Option<u32>,
    pub pad_id: u32,
    /// Documents are examples: each has a mask and is served whole.
    pub examples: bool,
    /// Documents of all shards.
    pub documents: u64,
    /// Tokens of all shards, BOS and EOS included.
    pub tokens: u64,
    /// Tokens that are predicted in training.
    pub trained_tokens: u64,
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    pub documents: u64,
    pub tokens: u64,
    pub trained_tokens: u64,
}

pub fn header_file(split: Split) -> String {
    format!("{}.json", split.name())
}

pub fn ids_file(split: Split, shard: usize) -> String {
    format!("{}-{shard:05}.bin", split.name())
}

pub fn mask_file(split: Split, shard: usize) -> String {
    format!("{}-{shard:05}.mask", split.name())
}

pub fn ends_file(split: Split, shard: usize) -> String {
    format!("{}-{shard:05}.idx", split.name())
}
