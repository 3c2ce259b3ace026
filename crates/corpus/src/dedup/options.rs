//! The recipe's `[data.near_duplicates]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `[data.near_duplicates]`. The defaults are FineWeb's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DuplicateOptions {
    /// Number of bands; documents that agree in one of them are near-duplicates.
    #[schemars(range(min = 1, max = 256))]
    pub bands: usize,
    /// Hash functions per band. Texts of similarity s are found with probability 1 − (1 − s^rows)^bands.
    #[schemars(range(min = 1, max = 64))]
    pub rows: usize,
    /// Words per shingle.
    #[schemars(range(min = 1, max = 64))]
    pub shingle_words: usize,
    /// Random seed of the hash functions.
    pub seed: u32,
    /// Memory limit for sorting, in MB; data beyond it are sorted on disk.
    #[schemars(range(min = 1, max = 65536))]
    pub memory_mb: usize,
}

impl Default for DuplicateOptions {
    fn default() -> DuplicateOptions {
        DuplicateOptions { bands: 14, rows: 8, shingle_words: 5, seed: 1, memory_mb: 512 }
    }
}

impl DuplicateOptions {
    /// The options that the result depends on.
    pub fn without_memory(&self) -> DuplicateOptions {
        DuplicateOptions { memory_mb: DuplicateOptions::default().memory_mb, ..self.clone() }
    }
}
