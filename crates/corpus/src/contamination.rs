//! Decontamination: documents that contain text of evaluation sets are found by word n-grams and dropped.
//!
//! A document is dropped if it shares n consecutive words with an item. An item of fewer words, but at least
//! eight, must be found as a whole; shorter items would match by chance and are only counted (Brown et al.
//! 2020, appendix C, uses the same limits). Words are runs of letters and digits in lower case; other
//! characters are ignored. N-grams are compared by 64-bit hashes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::zstandard::Zstandard;
use crate::{Error, Result};

/// The recipe's `[data.decontaminate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecontaminateOptions {
    /// Files of evaluation sets, relative to the project folder: .jsonl with one item per line, or .txt with
    /// one item per paragraph; also as .gz or .zst.
    #[schemars(length(min = 1))]
    pub against: Vec<String>,
    /// Fields of a .jsonl item to search for. Empty: every text in it, and its question with the correct
    /// choice.
    pub fields: Vec<String>,
    /// Number of consecutive words that a document must not share with an item.
    #[schemars(range(min = 4, max = 64))]
    pub ngram_words: usize,
    /// Skip items with fewer words; items with fewer than `ngram_words` words must be found as a whole.
    #[schemars(range(min = 4, max = 64))]
    pub minimum_words: usize,
}

impl Default for DecontaminateOptions {
    fn default() -> DecontaminateOptions {
        DecontaminateOptions { against: Vec::new(), fields: Vec::new(), ngram_words: 13, minimum_words: 8 }
    }
}

/// The counts of one evaluation set in the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationSet {
    /// Number of items in the set.
    pub items: u64,
    /// Items with too few words to search for.
    pub too_short: u64,
    /// Items that were found, at least: of items that share an n-gram, only the first counts.
    pub found: u64,
}

/// A match between a document and an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Name of the document.
    pub document: String,
    /// The file of the set, and the line or paragraph of the item.
    pub item: String,
    /// The words shared.
    pub words: String,
}

/// The n-grams of all items.
pub struct EvaluationItems {
    /// By length in words: hashes of n-grams, and the first item of each.
    grams: Vec<(usize, HashMap<u64, u32>)>,
    /// One bit per value of an n-gram's low bits: most words of a document need no table lookup.
    maybe: Vec<u64>,
    /// File and line.
    places: Vec<(u32, u32)>,
    files: Vec<String>,
    sets: Vec<EvaluationSet>,
}

const MAYBE_BITS: usize = 1 << 22;
/// Maximum items reported per document.
const TOLD_ITEMS: usize = 10;
/// Words of a document held at a time, 16 bytes each; more than the longest n-gram.
const WORDS_AT_ONCE: usize = 1 << 20;
/// An odd multiplier: n-grams are numbers in this base modulo 2⁶⁴.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Labels that prompts put before the text of an item.
const LABELS: [&str; 6] = ["question:", "answer:", "passage:", "choices:", "context:", "q:"];

/// The words of a text: the range of each, and hashes of all prefixes.
#[derive(Default)]
struct Words {
    places: Vec<(u32, u32)>,
    prefix: Vec<u64>,
}

impl EvaluationItems {
    /// Reads the evaluation sets of the options.
    ///
    /// # Errors
    /// A missing file, or one without items.
    pub fn read(options: &DecontaminateOptions, project: &Path) -> Result<EvaluationItems> {
        let mut items = EvaluationItems {
            grams: Vec::new(),
            maybe: vec![0; MAYBE_BITS / 64],
            places: Vec::new(),
            files: options.against.clone(),
            sets: Vec::new(),
        };
        for (file, name) in (0..).zip(&options.against) {
            items.sets.push(EvaluationSet::default());
            items.read_file(file, name, options, project)?;
        }
        Ok(items)
    }

    fn read_file(
        &mut self,
        file: u32,
        name: &str,
        options: &DecontaminateOptions,
        project: &Path,
    ) -> Result<()> {
        let fail = |message: String| Error::Options {
            key: "decontaminate.against",
            message: format!("`{name}` {message}"),
        };
        let unreadable = |error: std::io::Error| match error.kind() {
            // A failed allocation says nothing about the file.
            std::io::ErrorKind::OutOfMemory => {
                Error::from(store::Error::io("unpack", &project.join(name))(error))
            }
            _ => fail(format!("cannot be read: {error}")),
        };
        let opened = BufReader::new(std::fs::File::open(project.join(name)).map_err(unreadable)?);
        let (stem, bytes): (&str, Box<dyn Read>) = match name.rsplit_once('.') {
            Some((stem, "zst")) => (stem, Box::new(Zstandard::over(opened).map_err(unreadable)?)),
            Some((stem, "gz")) => (stem, Box::new(flate2::read::MultiGzDecoder::new(opened))),
            _ => (name, Box::new(opened)),
        };
        let mut lines = BufReader::new(bytes);
        let (mut line, mut number, mut paragraph) = (String::new(), 0, String::new());
        let is_json = stem.ends_with(".jsonl") || stem.ends_with(".ndjson");
        loop {
            line.clear();
            number += 1;
            let is_end = lines.read_line(&mut line).map_err(unreadable)? == 0;
            if is_json && !line.trim().is_empty() {
                let value: Value = serde_json::from_str(&line)
                    .map_err(|error| fail(format!("line {number} is not JSON: {error}")))?;
                self.add(file, number, &passages(&value, &options.fields), options);
            } else if !is_json && line.trim().is_empty() && !paragraph.is_empty() {
                self.add(file, number, &[std::mem::take(&mut paragraph)], options);
            } else if !is_json {
                paragraph.push_str(&line);
            }
            if is_end {
                break;
            }
        }
        if self.sets[file as usize].items == 0 {
            return Err(fail("has no items: use .jsonl with one item per line, or text".to_owned()));
        }
        Ok(())
    }

    fn add(&mut self, file: u32, line: u32, passages: &[String], options: &DecontaminateOptions) {
        let item = self.places.len() as u32;
        self.places.push((file, line));
        let mut any = false;
        for passage in passages {
            let Words { places, prefix } = words(passage, usize::MAX);
            if places.len() < options.minimum_words {
                continue;
            }
            any = true;
            let n = places.len().min(options.ngram_words);
            let at = match self.grams.iter().position(|(length, _)| *length == n) {
                Some(at) => at,
                None => {
                    self.grams.push((n, HashMap::new()));
                    self.grams.len() - 1
                }
            };
            let power = power(n);
            for start in 0..=places.len() - n {
                let hash = gram(&prefix, start, n, power);
                self.maybe[hash as usize % MAYBE_BITS / 64] |= 1 << (hash % 64);
                self.grams[at].1.entry(hash).or_insert(item);
            }
        }
        let set = &mut self.sets[file as usize];
        set.items += 1;
        set.too_short += u64::from(!any);
    }

    /// The items that a text shares n-grams with, and the first words shared with each.
    pub fn find<'t>(&self, text: &'t str) -> Vec<(u32, &'t str)> {
        self.find_in_parts(text, WORDS_AT_ONCE)
    }

    fn find_in_parts<'t>(&self, text: &'t str, words_at_once: usize) -> Vec<(u32, &'t str)> {
        let longest = self.grams.iter().map(|(n, _)| *n).max().unwrap_or(1);
        let (mut found, mut rest) = (Vec::new(), text);
        loop {
            let words = words(rest, words_at_once);
            if self.find_among(rest, &words, &mut found) {
                return found;
            }
            if words.places.len() < words_at_once {
                break;
            }
            // N-grams that start among the last words may continue after them.
            rest = &rest[words.places[words_at_once - longest + 1].0 as usize..];
        }
        found.sort_unstable_by_key(|&(item, _)| item);
        found
    }

    /// Adds the matches; returns whether the limit of reported items is reached.
    fn find_among<'t>(&self, text: &'t str, words: &Words, found: &mut Vec<(u32, &'t str)>) -> bool {
        let Words { places, prefix } = words;
        for (n, grams) in &self.grams {
            let power = power(*n);
            for start in 0..(places.len() + 1).saturating_sub(*n) {
                let hash = gram(prefix, start, *n, power);
                if self.maybe[hash as usize % MAYBE_BITS / 64] >> (hash % 64) & 1 == 0 {
                    continue;
                }
                let Some(&item) = grams.get(&hash) else { continue };
                if !found.iter().any(|&(known, _)| known == item) {
                    let (from, to) = (places[start].0, places[start + n - 1].1);
                    found.push((item, &text[from as usize..to as usize]));
                    if found.len() == TOLD_ITEMS {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// The name of an item.
    pub fn name(&self, item: u32) -> String {
        let (file, line) = self.places[item as usize];
        format!("{}:{line}", self.files[file as usize])
    }

    /// The sets by name, with the number of items of each among `found`.
    pub fn report(&self, found: &HashSet<u32>) -> BTreeMap<String, EvaluationSet> {
        let mut sets = self.sets.clone();
        for &item in found {
            sets[self.places[item as usize].0 as usize].found += 1;
        }
        self.files.iter().cloned().zip(sets).collect()
    }
}

/// The texts of an item to search for.
fn passages(value: &Value, fields: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    if !fields.is_empty() {
        fields.iter().filter_map(|field| value.get(field)).for_each(|value| strings(value, &mut out));
        return out;
    }
    // A choice alone is not searched for: "the level of carbon dioxide in the blood" occurs in any textbook.
    let told = value.as_object().map(|object| object.iter().filter(|(key, _)| key.as_str() != "choices"));
    match told {
        Some(fields) => fields.for_each(|(_, value)| strings(value, &mut out)),
        None => strings(value, &mut out),
    }
    let gold = value.get("gold").and_then(Value::as_u64);
    if let (Some(query), Some(choice)) = (
        value.get("query").and_then(Value::as_str),
        gold.and_then(|gold| value.get("choices")?.get(gold as usize)?.as_str()),
    ) {
        out.push(format!("{} {choice}", without_labels(query)));
    }
    if let (Some(context), Some(end)) = (
        gold.and_then(|gold| value.get("context_options")?.get(gold as usize)?.as_str()),
        value.get("continuation").and_then(Value::as_str),
    ) {
        out.push(format!("{context} {end}"));
    }
    out
}

fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(without_labels(text)),
        Value::Array(values) => values.iter().for_each(|value| strings(value, out)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

/// Lines without leading labels such as "Question:".
fn without_labels(text: &str) -> String {
    let line = |line: &str| {
        let trimmed = line.trim_start();
        let label = LABELS
            .iter()
            .find(|label| trimmed.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label)));
        trimmed[label.map_or(0, |label| label.len())..].to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The first `most` words. A document has at most a gigabyte, so positions have 32 bits.
fn words(text: &str, most: usize) -> Words {
    let mut words = Words { places: Vec::new(), prefix: vec![0] };
    let mut sum = 0u64;
    let mut close = |start: usize, end: usize, hash: u64| {
        let mixed = (hash ^ hash >> 31).wrapping_mul(0xd6e8_feb8_6659_fd93);
        sum = sum.wrapping_mul(BASE).wrapping_add(mixed ^ mixed >> 32);
        words.places.push((start as u32, end as u32));
        words.prefix.push(sum);
        words.places.len() == most
    };
    let mut open: Option<(usize, u64)> = None;
    for (at, c) in text.char_indices() {
        if c.is_alphanumeric() {
            let (_, hash) = open.get_or_insert((at, 0xcbf2_9ce4_8422_2325));
            let mut add = |c: char| *hash = (*hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3);
            if c.is_ascii() { add(c.to_ascii_lowercase()) } else { c.to_lowercase().for_each(add) }
        } else if let Some((start, hash)) = open.take()
            && close(start, at, hash)
        {
            return words;
        }
    }
    if let Some((start, hash)) = open {
        close(start, text.len(), hash);
    }
    words
}

fn power(n: usize) -> u64 {
    (0..n).fold(1, |power: u64, _| power.wrapping_mul(BASE))
}

fn gram(prefix: &[u64], start: usize, n: usize, power: u64) -> u64 {
    let hash = prefix[start + n].wrapping_sub(prefix[start].wrapping_mul(power)) ^ (n as u64) << 56;
    let hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(lines: &str) -> EvaluationItems {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("set.jsonl"), lines).expect("a file");
        let options =
            DecontaminateOptions { against: vec!["set.jsonl".into()], ..DecontaminateOptions::default() };
        EvaluationItems::read(&options, folder.path()).expect("items")
    }

    #[test]
    fn shared_words_are_found_whatever_their_case_and_marks() {
        let items = items(
            r#"{"query": "Question: Which statement best explains why photosynthesis is the foundation of most food webs on this planet?", "choices": ["a", "b"], "gold": 0}
{"query": "Predators eat", "choices": ["lions", "bunnies"], "gold": 1}
{"query": "There is most likely going to be fog around:", "choices": ["a marsh"], "gold": 0}
"#,
        );
        let shared = "WHY: it explains, \"why photosynthesis is the -- foundation of most FOOD webs on this \
                      planet\"; ";
        assert_eq!(
            items.find(shared).iter().map(|found| items.name(found.0)).collect::<Vec<_>>(),
            ["set.jsonl:1"]
        );
        assert_eq!(
            items.find("There is most likely going to be fog around here")[0],
            (2, "There is most likely going to be fog around")
        );
        assert!(
            items
                .find("predators eat bunnies, and photosynthesis is the foundation of most food webs")
                .is_empty()
        );
        let report = items.report(&HashSet::from([0, 2]));
        assert_eq!(report["set.jsonl"], EvaluationSet { items: 3, too_short: 1, found: 2 });
    }

    #[test]
    fn what_lies_across_parts_of_a_long_document_is_found() {
        let item = "one two three four five six seven eight nine ten eleven twelve thirteen";
        let items = items(&format!("{{\"query\": \"{item}\"}}\n{{\"query\": \"a b c d e f g h\"}}"));
        for before in 0..90 {
            let text = format!("{}{item} {} a b c d e f g h.", "x ".repeat(before), "y ".repeat(before));
            let found = items.find_in_parts(&text, 20);
            assert_eq!(found, [(0, item), (1, "a b c d e f g h")], "{before}");
            assert_eq!(found, items.find(&text));
        }
    }

    #[test]
    fn a_choice_alone_is_no_item() {
        let items = items(
            r#"{"query": "Question: What does an increase of the breathing rate bring down?", "choices": ["the level of carbon dioxide in the blood", "b"], "gold": 1}"#,
        );
        assert!(items.find("It measures the level of carbon dioxide in the blood of a patient.").is_empty());
    }

    #[test]
    fn a_set_that_cannot_be_read_is_named() {
        let options =
            DecontaminateOptions { against: vec!["gone.jsonl".into()], ..DecontaminateOptions::default() };
        let message =
            EvaluationItems::read(&options, Path::new("/nowhere")).err().expect("an error").to_string();
        assert!(message.contains("data.decontaminate.against: `gone.jsonl` cannot be read"), "{message}");
    }
}
