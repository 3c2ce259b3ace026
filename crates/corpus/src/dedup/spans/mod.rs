//! Spans of bytes that came before, in any document, wherever they begin: quoted passages, terms of use,
//! templates (ExactSubstr of Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better").
//!
//! A window of [`SpanOptions::minimum_bytes`] of a document is repeated if the same bytes came before, in an
//! earlier document or in this one. All repeated windows together are cut, so the first of equal spans stays.
//! What is found is what a suffix array over the documents would find, up to collisions of 122-bit hashes,
//! without holding the documents, let alone the array, in memory:
//!
//! 1. All documents go by: the anchors of their windows ([`winnowing`]) are sorted. Windows whose anchor
//!    comes once come once.
//! 2. Documents with an anchor that comes again go by: the hashes of the windows with such anchors are
//!    sorted. The first of equal ones is the one that stays, the others are repeated.
//! 3. All documents go by: each loses what its repeated windows cover, in whole words ([`borders`]).
//!
//! A document that would keep too little is dropped, unless [`SpanOptions::minimum_bytes`] of it are the
//! first of their kind: they are cut wherever they come again.
//!
//! Sorting takes the memory it is granted and goes on in files. They hold 16 bytes an anchor, of which there
//! is one in fifty bytes of text, and 40 bytes for each byte of passages that come more than once, the first
//! of each included. Of 10¹¹ such windows of 200 bytes a wrong pair is found with a probability of 10⁻¹⁰ at
//! most.
//!
//! Non-goal: texts made so that their hashes collide; they can have a passage of other documents taken for
//! theirs.

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

/// Two numbers below 2⁶¹ − 1, drawn once.
const BASES: [u64; 2] = [0x1a73_5c0e_64b9_8f25, 0x05e8_d1f6_2b47_903b];

/// The recipe's `[data.duplicate_spans]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpanOptions {
    /// Shorter spans may repeat. The default is about the 50 tokens of the paper and of RefinedWeb, in
    /// English.
    #[schemars(range(min = 16, max = 65536))]
    pub minimum_bytes: usize,
    /// A document that keeps less of its text than this is dropped.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum_fraction_left: f64,
    /// Memory for sorting, in MB; what does not fit is sorted on disk.
    #[schemars(range(min = 1, max = 65536))]
    pub memory_mb: usize,
}

impl Default for SpanOptions {
    fn default() -> SpanOptions {
        SpanOptions { minimum_bytes: 200, minimum_fraction_left: 0.2, memory_mb: 512 }
    }
}

impl SpanOptions {
    /// What the outcome depends on.
    pub fn without_memory(&self) -> SpanOptions {
        SpanOptions { memory_mb: SpanOptions::default().memory_mb, ..self.clone() }
    }

    /// What is wrong with them.
    pub fn problem(&self) -> Option<String> {
        if !(16..=65536).contains(&self.minimum_bytes) {
            return Some(format!("minimum_bytes = {} is not between 16 and 65,536", self.minimum_bytes));
        }
        if !(1..=65536).contains(&self.memory_mb) {
            return Some(format!("memory_mb = {} is not between 1 and 65,536", self.memory_mb));
        }
        let least = self.minimum_fraction_left;
        (!(0.0..=1.0).contains(&least))
            .then(|| format!("minimum_fraction_left = {least} is not between 0 and 1"))
    }
}

/// A document's number and a place in it, in the order in which text came.
fn place(document: u64, at: usize) -> u64 {
    document << 32 | at as u64
}

/// What of a text is looked at: places have 32 bits.
fn within_reach(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(u32::MAX as usize)]
}

/// Takes all documents in their order, then tells what of them is repeated.
pub struct DuplicateSpans<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    options: SpanOptions,
    winnower: Winnower,
    /// Hash and place.
    anchors: Sorter<'a, [u64; 2]>,
    documents: u64,
}

impl<'a> DuplicateSpans<'a> {
    /// Sorts in files in `folder` what is too much for memory.
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

    /// Takes the next document's text.
    pub fn push(&mut self, text: &str) -> Result<()> {
        let document = self.documents;
        if document > u64::from(u32::MAX) {
            return Err(Error::TooManyDocuments { most: u64::from(u32::MAX) + 1 });
        }
        self.documents += 1;
        let anchors = &mut self.anchors;
        self.winnower.each(within_reach(text), |found| anchors.push([found.hash, place(document, found.at)]))
    }

    /// How many documents it has taken.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Finds what is repeated. `text_after` gives the text that comes after so many others, which are passed
    /// over.
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

        // No more than three sorters' memory is held at a time.
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

/// One of three sorters: one is emptied while others are filled.
fn memory_bytes(options: &SpanOptions) -> usize {
    (options.memory_mb << 20) / 3
}

/// Places in their order, as documents go by.
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

    /// The document that the next place is in.
    fn document(&self) -> Option<u64> {
        self.next.map(|place| place >> 32)
    }

    /// What windows of so many bytes at the next document's places cover.
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

    /// The next place, if it is in this document.
    fn next_of(&mut self, document: u64) -> Result<Option<usize>> {
        let Some(place) = self.next.filter(|place| place >> 32 == document) else { return Ok(None) };
        self.advance()?;
        Ok(Some((place & u64::from(u32::MAX)) as usize))
    }
}

/// How many bytes of some ranges are in none of others. Both are in order and apart.
fn outside(ranges: &[Range<usize>], others: &[Range<usize>]) -> usize {
    let shared = |range: &Range<usize>| -> usize {
        let from = others.partition_point(|other| other.end <= range.start);
        let overlapping = others[from..].iter().take_while(|other| other.start < range.end);
        overlapping.map(|other| other.end.min(range.end) - other.start.max(range.start)).sum()
    };
    ranges.iter().map(|range| range.len() - shared(range)).sum()
}

/// The hashes of a text's windows, asked for in their order.
struct WindowHash<'t> {
    text: &'t [u8],
    bytes: usize,
    rolling: &'t [Rolling; 2],
    /// Where the last one began, and its hashes.
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

/// Takes all documents again, in the same order, and cuts what is repeated.
pub struct SpanCutter<'a> {
    repeated: Places<'a>,
    /// The windows that repeated ones repeat.
    firsts: Places<'a>,
    options: SpanOptions,
    document: u64,
    removals: Removals,
}

impl SpanCutter<'_> {
    /// The text without repeated spans; `None`: too little is left.
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

    /// What was removed in all.
    pub fn report(self) -> Repeated {
        self.removals.report()
    }
}

#[cfg(test)]
mod tests;
