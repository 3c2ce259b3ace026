//! `train.json` and `validation.json`: how to read a split's shards.

use serde::{Deserialize, Serialize};

use crate::Split;

/// Of the header's structure.
pub const FORMAT: u32 = 1;

/// One split's shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Bytes an id: 2 or 4.
    pub bytes_per_token: usize,
    /// Ids are below this.
    pub vocab_size: usize,
    /// BLAKE3 of the tokenizer.json that made them.
    pub tokenizer_hash: String,
    pub bos_id: u32,
    pub eos_id: u32,
    pub pad_id: u32,
    /// Of all shards.
    pub documents: u64,
    /// Of all shards, BOS and EOS included.
    pub tokens: u64,
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    pub documents: u64,
    pub tokens: u64,
}

pub fn header_file(split: Split) -> String {
    format!("{}.json", split.name())
}

pub fn ids_file(split: Split, shard: usize) -> String {
    format!("{}-{shard:05}.bin", split.name())
}

pub fn ends_file(split: Split, shard: usize) -> String {
    format!("{}-{shard:05}.idx", split.name())
}
