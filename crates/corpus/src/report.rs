//! What the data stage did, as numbers: returned, written beside the documents, and told to the user.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Document;

/// How many entries of a list are kept; the counts are of all.
pub const LISTED: usize = 100;

/// `report.json` of the documents folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorpusSummary {
    /// Files read.
    pub files: u64,
    /// Files passed over in folders for their extension.
    pub ignored_files: u64,
    /// Files and lines that could not be used.
    pub quarantined: u64,
    /// The first hundred of them, with the reason.
    pub quarantine: Vec<Quarantined>,
    /// Documents found in the files.
    pub documents_read: u64,
    /// Dropped: shorter than `minimum_characters`, or nothing but white space.
    pub too_short: u64,
    /// Dropped: the text of an earlier document.
    pub duplicates: u64,
    /// Invalid UTF-8 sequences replaced by U+FFFD.
    pub repaired_sequences: u64,
    /// Documents changed by Unicode NFC or by unifying line ends.
    pub normalized_documents: u64,
    /// Cuts made because a document was longer than `maximum_document_bytes`.
    pub cuts: u64,
    /// What is left, to learn from.
    pub train: SplitCounts,
    /// What is left, to measure with.
    pub validation: SplitCounts,
    /// Whether the stage was already done and its folder still good.
    #[serde(skip)]
    pub reused: bool,
}

/// A file or line that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which.
    pub source: String,
    /// Why.
    pub reason: String,
}

/// The documents of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCounts {
    /// How many.
    pub documents: u64,
    /// Bytes of UTF-8.
    pub bytes: u64,
    /// Characters.
    pub characters: u64,
    /// Bytes by language (ISO 639-1); `und` where it is not known.
    pub languages: BTreeMap<String, u64>,
}

impl SplitCounts {
    pub(crate) fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += document.text.len() as u64;
        self.characters += document.text.chars().count() as u64;
        *self.languages.entry(language_key(document)).or_default() += document.text.len() as u64;
    }

    pub(crate) fn remove(&mut self, document: &Document) {
        self.documents -= 1;
        self.bytes -= document.text.len() as u64;
        self.characters -= document.text.chars().count() as u64;
        let key = language_key(document);
        if let Some(bytes) = self.languages.get_mut(&key) {
            *bytes -= document.text.len() as u64;
            if *bytes == 0 {
                self.languages.remove(&key);
            }
        }
    }
}

fn language_key(document: &Document) -> String {
    document.language.clone().unwrap_or_else(|| "und".to_owned())
}

impl CorpusSummary {
    /// Documents kept, of both splits.
    pub fn documents(&self) -> u64 {
        self.train.documents + self.validation.documents
    }

    /// Bytes kept, of both splits.
    pub fn bytes(&self) -> u64 {
        self.train.bytes + self.validation.bytes
    }

    /// Languages by bytes, most first, of both splits.
    pub fn languages(&self) -> Vec<(String, u64)> {
        let mut sums = self.train.languages.clone();
        for (language, bytes) in &self.validation.languages {
            *sums.entry(language.clone()).or_default() += bytes;
        }
        let mut sorted: Vec<_> = sums.into_iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sorted
    }

    pub(crate) fn quarantine(&mut self, source: &str, reason: &str) {
        self.quarantined += 1;
        if self.quarantine.len() < LISTED {
            self.quarantine.push(Quarantined { source: source.to_owned(), reason: reason.to_owned() });
        }
    }
}
