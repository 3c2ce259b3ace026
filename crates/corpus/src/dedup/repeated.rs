//! Counts repeated lines and spans that were removed, for the report.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Counts of removals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    /// Lines, paragraphs or spans removed.
    pub removed: u64,
    /// Bytes removed.
    pub bytes: u64,
    /// Documents affected.
    pub documents: u64,
    /// The most frequent: how often each was removed.
    pub examples: Vec<(u64, String)>,
}

/// Texts that are remembered, for examples.
const REMEMBERED: usize = 10_000;
const EXAMPLES: usize = 20;
/// Bytes of an example.
const SHOWN_BYTES: usize = 200;

/// Counts while documents go by.
#[derive(Default)]
pub struct Removals {
    counts: HashMap<u64, (u64, String)>,
    report: Repeated,
}

impl Removals {
    /// Counts a text that is removed.
    pub fn see(&mut self, hash: u64, text: &str) {
        self.report.removed += 1;
        if let Some((count, _)) = self.counts.get_mut(&hash) {
            *count += 1;
        } else if self.counts.len() < REMEMBERED {
            self.counts.insert(hash, (1, text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned()));
        }
    }

    /// Counts a document that lost `bytes`.
    pub fn see_document(&mut self, bytes: usize) {
        self.report.documents += 1;
        self.report.bytes += bytes as u64;
    }

    /// Totals of removed parts.
    pub fn report(self) -> Repeated {
        let mut examples: Vec<(u64, String)> = self.counts.into_values().collect();
        examples.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        examples.truncate(EXAMPLES);
        Repeated { examples, ..self.report }
    }
}

/// The hash that identifies a text.
pub fn hash(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}
