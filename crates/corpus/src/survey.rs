//! Statistics of a folder of prepared documents, and differences between two such folders.
//!
//! A survey keeps four bytes a document, a comparison 24; texts go by.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use store::fs::Fs;
use tokens::Split;

use crate::{Document, Result, documents};

/// Documents of a kind that a comparison shows.
const SHOWN: usize = 10;

/// Statistics of a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Survey {
    /// Number of documents.
    pub documents: u64,
    /// Bytes of UTF-8.
    pub bytes: u64,
    /// Number of characters.
    pub characters: u64,
    /// Runs of anything but white space.
    pub words: u64,
    /// Lines that are not empty.
    pub lines: u64,
    /// Length in characters below which 0, 5, 25, 50, 75, 95 and 100 % of the documents are.
    pub length_percentiles: Vec<(u8, u32)>,
    /// Documents and characters by the power of two that their length reaches.
    pub lengths: BTreeMap<u32, (u64, u64)>,
    /// Documents and bytes by language.
    pub languages: BTreeMap<String, (u64, u64)>,
    /// Documents and bytes by entry of `data.paths`, where they were mixed.
    pub domains: BTreeMap<String, (u64, u64)>,
    /// Documents and bytes by host, of those with an address: the largest.
    pub hosts: Vec<(String, u64, u64)>,
}

/// Surveys one split of a folder that [`crate::prepare`] made.
///
/// # Errors
/// Files that are missing or damaged.
pub fn survey(fs: &dyn Fs, folder: &Path, split: Split) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut lengths = Vec::new();
    let mut hosts: HashMap<String, (u64, u64)> = HashMap::new();
    for document in documents(fs, folder, split)? {
        let document = document?;
        let (bytes, characters) = (document.text.len() as u64, document.text.chars().count() as u64);
        let add = |map: &mut BTreeMap<String, (u64, u64)>, key: &str| {
            let sums = map.entry(key.to_owned()).or_default();
            *sums = (sums.0 + 1, sums.1 + bytes);
        };
        survey.documents += 1;
        survey.bytes += bytes;
        survey.characters += characters;
        survey.words += document.text.split_whitespace().count() as u64;
        survey.lines += document.text.lines().filter(|line| !line.trim().is_empty()).count() as u64;
        add(&mut survey.languages, document.language.as_deref().unwrap_or("und"));
        if let Some(domain) = &document.domain {
            add(&mut survey.domains, domain);
        }
        if let Some(host) = document.url.as_deref().and_then(host) {
            let sums = hosts.entry(host.to_owned()).or_default();
            *sums = (sums.0 + 1, sums.1 + bytes);
        }
        let sums = survey.lengths.entry(characters.max(1).ilog2()).or_default();
        *sums = (sums.0 + 1, sums.1 + characters);
        lengths.push(u32::try_from(characters).unwrap_or(u32::MAX));
    }
    lengths.sort_unstable();
    if let Some(last) = lengths.len().checked_sub(1) {
        let at = |percent: u8| lengths[last * usize::from(percent) / 100];
        survey.length_percentiles =
            [0, 5, 25, 50, 75, 95, 100].map(|percent| (percent, at(percent))).to_vec();
    }
    survey.hosts = hosts.into_iter().map(|(host, (documents, bytes))| (host, documents, bytes)).collect();
    survey.hosts.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
    survey.hosts.truncate(SHOWN);
    Ok(survey)
}

fn host(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['/', '?', '#']).next().filter(|host| !host.is_empty())
}

/// How a folder of documents differs from an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Documents of the same text in both.
    pub same: u64,
    /// Of these, in another split.
    pub moved: u64,
    /// Texts that only the earlier has: documents and bytes.
    pub removed: (u64, u64),
    /// Texts that only the later has.
    pub added: (u64, u64),
    /// Of the removed and added, pairs from the same place: documents whose text changed.
    pub changed: u64,
    /// Some of the documents that changed, were removed, were added: place and how the text begins.
    pub examples: BTreeMap<&'static str, Vec<(String, String)>>,
}

/// Compares two folders by the hashes of their documents' texts.
///
/// # Errors
/// Files that are missing or damaged.
pub fn compare(fs: &dyn Fs, earlier: &Path, later: &Path) -> Result<Difference> {
    let mut known: HashMap<u128, (Split, bool)> = HashMap::new();
    let key = |document: &Document| u128::from_str_radix(&document.hash, 16).unwrap_or_default();
    for split in Split::ALL {
        for document in documents(fs, earlier, split)? {
            known.insert(key(&document?), (split, false));
        }
    }
    let mut difference = Difference::default();
    // Places of added documents: a removed one from the same place has changed.
    let mut added = HashSet::new();
    let mut added_examples = Vec::new();
    for split in Split::ALL {
        for document in documents(fs, later, split)? {
            let document = document?;
            match known.get_mut(&key(&document)) {
                Some((before, seen)) => {
                    difference.same += 1;
                    difference.moved += u64::from(*before != split);
                    *seen = true;
                }
                None => {
                    difference.added.0 += 1;
                    difference.added.1 += document.text.len() as u64;
                    added.insert(place(&document));
                    if added_examples.len() < SHOWN {
                        added_examples.push(example(&document));
                    }
                }
            }
        }
    }
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    for split in Split::ALL {
        for document in documents(fs, earlier, split)? {
            let document = document?;
            if known.get(&key(&document)).is_some_and(|&(_, seen)| seen) {
                continue;
            }
            difference.removed.0 += 1;
            difference.removed.1 += document.text.len() as u64;
            let is_changed = added.contains(&place(&document));
            difference.changed += u64::from(is_changed);
            let examples = if is_changed { &mut changed } else { &mut removed };
            if examples.len() < SHOWN {
                examples.push(example(&document));
            }
        }
    }
    difference.examples =
        BTreeMap::from([("changed", changed), ("removed", removed), ("added", added_examples)]);
    Ok(difference)
}

/// Hash of a document's source.
fn place(document: &Document) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(document.source.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn example(document: &Document) -> (String, String) {
    let text = document.text.trim_start();
    (document.source.clone(), text[..text.floor_char_boundary(100)].replace('\n', " "))
}
