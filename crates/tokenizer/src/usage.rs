//! Statistics of a vocabulary on a text: bytes per token, overall and per language, and unused ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Tokenizer;

/// Sums over tokenized documents.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Whether each id has occurred.
    seen: Vec<bool>,
    special: Vec<bool>,
    languages: BTreeMap<String, LanguageUsage>,
}

/// The sums of one language.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LanguageUsage {
    /// Number of documents.
    pub documents: u64,
    /// Bytes of UTF-8.
    pub bytes: u64,
    /// Tokens, without special tokens.
    pub tokens: u64,
    /// `bytes / tokens`; higher is better compression.
    pub bytes_per_token: f64,
}

/// The totals of [`Usage`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// All languages.
    pub total: LanguageUsage,
    /// Each language by its code; `und` if unknown.
    pub languages: BTreeMap<String, LanguageUsage>,
    /// Ids that never occur, without special tokens.
    pub unused_ids: Vec<u32>,
}

impl Usage {
    /// Empty statistics.
    pub fn new(tokenizer: &Tokenizer) -> Usage {
        let size = tokenizer.vocab_size() as u32;
        Usage {
            seen: vec![false; tokenizer.vocab_size()],
            special: (0..size).map(|id| tokenizer.is_special(id)).collect(),
            languages: BTreeMap::new(),
        }
    }

    /// Counts one document: its ids without BOS and EOS, and its text.
    pub fn add(&mut self, ids: &[u32], text: &str, language: Option<&str>) {
        for &id in ids {
            if let Some(seen) = self.seen.get_mut(id as usize) {
                *seen = true;
            }
        }
        let usage = self.languages.entry(language.unwrap_or("und").to_owned()).or_default();
        usage.documents += 1;
        usage.bytes += text.len() as u64;
        usage.tokens += ids.len() as u64;
    }

    /// The sums and their ratios.
    pub fn report(&self) -> UsageReport {
        let mut languages = self.languages.clone();
        let mut total = LanguageUsage::default();
        for usage in languages.values_mut() {
            total.documents += usage.documents;
            total.bytes += usage.bytes;
            total.tokens += usage.tokens;
            usage.bytes_per_token = ratio(usage);
        }
        total.bytes_per_token = ratio(&total);
        let unused = (0..).zip(self.seen.iter().zip(&self.special));
        let unused_ids =
            unused.filter(|(_, (seen, special))| !**seen && !**special).map(|(id, _)| id).collect();
        UsageReport { vocab_size: self.seen.len(), total, languages, unused_ids }
    }
}

fn ratio(usage: &LanguageUsage) -> f64 {
    if usage.tokens == 0 { 0.0 } else { usage.bytes as f64 / usage.tokens as f64 }
}
