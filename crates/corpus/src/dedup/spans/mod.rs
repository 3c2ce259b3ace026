//! Repeated spans of bytes, in any document, wherever they start: quoted passages, terms of use, templates
//! (ExactSubstr of Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better").
//!
//! A window of [`SpanOptions::minimum_bytes`] of a document is repeated if the same bytes occurred before, in
//! an earlier document or in this one. All repeated windows are removed, so the first of equal spans is kept.
//! The result is that of a suffix array over the documents, up to collisions of 122-bit hashes, but neither
//! the documents nor the array are held in memory:
//!
//! 1. First pass over all documents: the anchors of their windows ([`winnowing`]) are sorted. A window whose
//!    anchor occurs once occurs once.
//! 2. Second pass, over documents with an anchor that occurs again: the hashes of the windows with such
//!    anchors are sorted. The first of equal ones is kept, the others are repeated.
//! 3. Third pass over all documents: each loses what its repeated windows cover, in whole words
//!    ([`borders`]).
//!
//! A document that would keep too little is dropped, unless [`SpanOptions::minimum_bytes`] of it occur there
//! for the first time: those are removed wherever they occur again.
//!
//! Sorting uses the memory it is granted and continues in files. They take 16 bytes per anchor, of which
//! there is one per fifty bytes of text, and 40 bytes per byte of passages that occur more than once, first
//! occurrences included. Among 10¹¹ such windows of 200 bytes, the probability of a wrong match is at most
//! 10⁻¹⁰.
//!
//! Non-goal: texts crafted so that their hashes collide; they can cause passages of other documents to be
//! taken for repeats.

mod borders;
mod rolling;
mod winnowing;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::fs::Fs;

use super::repeated::{Removals, Repeated, hash};
use super::sort::{Sorted, Sorter};
use crate::{Error, Result};
use rolling::Rolling;
use winnowing::Winnower;

/// Two numbers below 2⁶¹ − 1, drawn at random once.
const BASES: [u64; 2] = [0x1a73_5c0e_64b9_8f25, 0x05e8_d1f6_2b47_903b];

/// The recipe's `[data.duplicate_spans]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpanOptions {
    /// Minimum length of a span in bytes; shorter repeats are kept. The default is about the 50 tokens of the
    /// paper and of RefinedWeb, in English.
    #[schemars(range(min = 16, max = 65536))]
    pub minimum_bytes: usize,
    /// Drop documents of which less than this fraction of the text remains.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum_fraction_left: f64,
    /// Memory limit for sorting, in MB; data beyond it are sorted on disk.
    #[schemars(range(min = 1, max = 65536))]
    pub memory_mb: usize,
}

impl Default for SpanOptions {
    fn default() -> SpanOptions {
        SpanOptions { minimum_bytes: 200, minimum_fraction_left: 0.2, memory_mb: 512 }
    }
}

impl SpanOptions {
    /// The options that the result depends on.
    pub fn without_memory(&self) -> SpanOptions {
        SpanOptions { memory_mb: SpanOptions::default().memory_mb, ..self.clone() }
    }

    /// The first invalid value, with its correction; `None` if there is none.
    pub fn problem(&self) -> Option<String> {
        if !(16..=65536).contains(&self.minimum_bytes) {
            return Some(format!("minimum_bytes = {} must be from 16 to 65,536", self.minimum_bytes));
        }
        if !(1..=65536).contains(&self.memory_mb) {
            return Some(format!("memory_mb = {} must be from 1 to 65,536", self.memory_mb));
        }
        let least = self.minimum_fraction_left;
        (!(0.0..=1.0).contains(&least))
            .then(|| format!("minimum_fraction_left = {least} must be from 0 to 1"))
    }
}

/// A document's number and a byte position in it, ordered as the text is read.
fn place(document: u64, at: usize) -> u64 {
    document << 32 | at as u64
}

/// The part of a text that is compared: positions have 32 bits.
fn within_reach(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(u32::MAX as usize)]
}

/// Takes all documents in order, then finds what is repeated in them.
pub struct DuplicateSpans<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    options: SpanOptions,
    winnower: Winnower,
    /// Hash and position of each anchor.
    anchors: Sorter<'a, [u64; 2]>,
    documents: u64,
}

impl<'a> DuplicateSpans<'a> {
    /// `folder` is for files of data that exceed the memory limit.
    pub fn new(fs: &'a dyn Fs, folder: &Path, options: &SpanOptions) -> DuplicateSpans<'a> {
        DuplicateSpans {
            fs,
            folder: folder.to_owned(),
            options: options.clone(),
            winnower: Winnower::new(options.minimum_bytes),
            anchors: Sorter::new(fs, folder, "anchors", memory_bytes(options)),
            documents: 0,
        }
    }

    /// Adds the text of the next document.
    pub fn push(&mut self, text: &str) -> Result<()> {
        let document = self.documents;
        if document > u64::from(u32::MAX) {
            return Err(Error::TooManyDocuments { most: u64::from(u32::MAX) + 1 });
        }
        self.documents += 1;
        let anchors = &mut self.anchors;
        self.winnower.each(within_reach(text), |found| anchors.push([found.hash, place(document, found.at)]))
    }

    /// Number of documents added.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Finds repeated spans. `text_after(n)` returns the next text after skipping `n` others.
    pub fn find(mut self, mut text_after: impl FnMut(u64) -> Result<String>) -> Result<SpanCutter<'a>> {
        let (fs, folder, memory_bytes) = (self.fs, &self.folder, memory_bytes(&self.options));
        let mut candidates = Sorter::new(fs, folder, "candidates", memory_bytes);
        let mut before: Option<([u64; 2], bool)> = None;
        for anchor in self.anchors.finish()? {
            let [hash, place] = anchor?;
            let is_again = match before {
                Some(([other, first], is_told)) if other == hash => {
                    if !is_told {
                        candidates.push([first])?;
                    }
                    candidates.push([place])?;
                    true
                }
                _ => false,
            };
            before = Some(([hash, place], is_again));
        }

        let mut candidates = Places::begin(candidates.finish()?)?;
        let mut windows = Sorter::new(fs, folder, "windows", memory_bytes);
        let hashes = BASES.map(|base| Rolling::new(base, self.options.minimum_bytes));
        let mut passed = 0;
        while let Some(document) = candidates.document() {
            let text = text_after(document - passed)?;
            passed = document + 1;
            let mut window_hash = WindowHash::new(within_reach(&text), self.options.minimum_bytes, &hashes);
            let mut candidate = candidates.next_of(document)?;
            self.winnower.each(within_reach(&text), |found| {
                if candidate != Some(found.at) {
                    return Ok(());
                }
                candidate = candidates.next_of(document)?;
                found.windows.into_iter().try_for_each(|window| {
                    let [a, b] = window_hash.at(window);
                    windows.push([a, b, place(document, window)])
                })
            })?;
        }

        // At most three sorters' memory is in use at a time.
        drop(candidates);
        let mut repeated = Sorter::new(fs, folder, "repeated", memory_bytes);
        let mut firsts = Sorter::new(fs, folder, "firsts", memory_bytes);
        let mut before: Option<([u64; 2], u64, bool)> = None;
        for window in windows.finish()? {
            let [a, b, place] = window?;
            match &mut before {
                Some((hashes, first, is_told)) if *hashes == [a, b] => {
                    if !std::mem::replace(is_told, true) {
                        firsts.push([*first])?;
                    }
                    repeated.push([place])?;
                }
                _ => before = Some(([a, b], place, false)),
            }
        }
        Ok(SpanCutter {
            repeated: Places::begin(repeated.finish()?)?,
            firsts: Places::begin(firsts.finish()?)?,
            options: self.options,
            document: 0,
            removals: Removals::default(),
        })
    }
}

/// One of three sorters: one is read while others are filled.
fn memory_bytes(options: &SpanOptions) -> usize {
    (options.memory_mb << 20) / 3
}

/// Positions in order, consumed as documents are read.
struct Places<'a> {
    sorted: Sorted<'a, [u64; 1]>,
    next: Option<u64>,
}

impl<'a> Places<'a> {
    fn begin(sorted: Sorted<'a, [u64; 1]>) -> Result<Places<'a>> {
        let mut places = Places { sorted, next: None };
        places.advance()?;
        Ok(places)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = self.sorted.next().transpose()?.map(|[place]| place);
        Ok(())
    }

    /// The document of the next position.
    fn document(&self) -> Option<u64> {
        self.next.map(|place| place >> 32)
    }

    /// The ranges covered by windows of `window` bytes at the next document's positions.
    fn covered(&mut self, document: u64, bytes: usize) -> Result<Vec<Range<usize>>> {
        let mut covered: Vec<Range<usize>> = Vec::new();
        while let Some(at) = self.next_of(document)? {
            match covered.last_mut() {
                Some(last) if at <= last.end => last.end = at + bytes,
                _ => covered.push(at..at + bytes),
            }
        }
        Ok(covered)
    }

    /// The next position, if it is in this document.
    fn next_of(&mut self, document: u64) -> Result<Option<usize>> {
        let Some(place) = self.next.filter(|place| place >> 32 == document) else { return Ok(None) };
        self.advance()?;
        Ok(Some((place & u64::from(u32::MAX)) as usize))
    }
}

/// The number of bytes of some ranges that others do not cover. Both are sorted and disjoint.
fn outside(ranges: &[Range<usize>], others: &[Range<usize>]) -> usize {
    let shared = |range: &Range<usize>| -> usize {
        let from = others.partition_point(|other| other.end <= range.start);
        let overlapping = others[from..].iter().take_while(|other| other.start < range.end);
        overlapping.map(|other| other.end.min(range.end) - other.start.max(range.start)).sum()
    };
    ranges.iter().map(|range| range.len() - shared(range)).sum()
}

/// The hashes of a text's windows, requested in order.
struct WindowHash<'t> {
    text: &'t [u8],
    bytes: usize,
    rolling: &'t [Rolling; 2],
    /// The start of the last window, and its hashes.
    last: Option<(usize, [u64; 2])>,
}

impl<'t> WindowHash<'t> {
    fn new(text: &'t [u8], bytes: usize, rolling: &'t [Rolling; 2]) -> WindowHash<'t> {
        WindowHash { text, bytes, rolling, last: None }
    }

    fn at(&mut self, window: usize) -> [u64; 2] {
        let [a, b] = self.rolling;
        let hashes = match self.last {
            Some((last, hashes)) if window - last < self.bytes => {
                (last..window).fold(hashes, |[of_a, of_b], at| {
                    let (leaving, entering) = (self.text[at], self.text[at + self.bytes]);
                    [a.next(of_a, leaving, entering), b.next(of_b, leaving, entering)]
                })
            }
            _ => {
                let window = &self.text[window..window + self.bytes];
                [a.of(window), b.of(window)]
            }
        };
        self.last = Some((window, hashes));
        hashes
    }
}

/// Takes all documents again, in the same order, and removes repeated spans.
pub struct SpanCutter<'a> {
    repeated: Places<'a>,
    /// First occurrences of repeated windows.
    firsts: Places<'a>,
    options: SpanOptions,
    document: u64,
    removals: Removals,
}

impl SpanCutter<'_> {
    /// The text without repeated spans; `None` if too little remains.
    pub fn clean<'t>(&mut self, text: &'t str) -> Result<Option<Cow<'t, str>>> {
        let bytes = self.options.minimum_bytes;
        let repeated = self.repeated.covered(self.document, bytes)?;
        let firsts = self.firsts.covered(self.document, bytes)?;
        let is_first = outside(&firsts, &repeated) >= bytes;
        self.document += 1;
        let (mut left, mut from) = (String::new(), 0);
        for cut in repeated.into_iter().filter_map(|range| borders::cut(text, range)) {
            left.push_str(&text[from..cut.start]);
            from = cut.end;
            let span = text[cut].trim();
            self.removals.see(hash(span), span);
        }
        if from == 0 {
            return Ok(Some(text.into()));
        }
        left.push_str(&text[from..]);
        self.removals.see_document(text.len() - left.len());
        let fraction = left.len() as f64 / text.len() as f64;
        let stays = (is_first || fraction >= self.options.minimum_fraction_left) && !left.trim().is_empty();
        Ok(stays.then_some(left.into()))
    }

    /// Totals of removed spans.
    pub fn report(self) -> Repeated {
        self.removals.report()
    }
}

#[cfg(test)]
mod tests;
