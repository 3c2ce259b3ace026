//! Counts the pieces of the training text, in bounded memory.
//!
//! Text is read in blocks of fixed size; the documents of a block are counted in parallel and added, which
//! gives the same counts whatever the number of threads. If there are too many distinct pieces, the rarest
//! are dropped at the end of a block, so that too is a function of the text alone.

use std::cmp::Reverse;
use std::collections::HashMap;

use rayon::prelude::*;

use crate::split::Splitter;
use crate::threads;

const BLOCK_BYTES: usize = 8 << 20;
/// Pieces of this length are not words: DNA, base64 or one repeated character.
const LONG_BYTES: usize = 256;
/// Limits on the counted pieces.
const LARGEST: Extent = Extent { words: 4_000_000, bytes: 256 << 20, long_bytes: 256 << 20 };

type Counts = HashMap<Box<str>, u64>;

/// The size of a set of distinct pieces.
#[derive(Clone, Copy, Default)]
struct Extent {
    words: usize,
    bytes: usize,
    /// Bytes of pieces of [`LONG_BYTES`] or more.
    long_bytes: usize,
}

impl Extent {
    fn add(&mut self, word: &str) {
        self.words += 1;
        self.bytes += word.len();
        self.long_bytes += if word.len() >= LONG_BYTES { word.len() } else { 0 };
    }

    fn is_within(self, most: Extent) -> bool {
        self.words <= most.words && self.bytes <= most.bytes && self.long_bytes <= most.long_bytes
    }
}

/// Limits on the distinct pieces that a trainer gets, since it needs many times their bytes.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Bytes of all pieces.
    pub bytes: usize,
    /// Bytes of pieces of 256 bytes or more: a base amount, plus one per this many bytes of text.
    pub long_bytes: (usize, usize),
}

/// Pieces and their counts.
pub struct WordCounter {
    splitter: Splitter,
    block: Vec<String>,
    block_bytes: usize,
    counts: Counts,
    /// Size of `counts`.
    extent: Extent,
    largest: Extent,
    text_bytes: usize,
    left_out: LeftOut,
}

/// The pieces of a text, in the order of their bytes, with their counts.
pub struct Words {
    pub counts: Vec<(Box<str>, u64)>,
    pub left_out: LeftOut,
}

/// Pieces that were left out.
#[derive(Clone, Copy, Default)]
pub struct LeftOut {
    /// Distinct pieces; one that is dropped, occurs again and is dropped again counts twice.
    pub words: u64,
    /// Their occurrences in the text.
    pub occurrences: u64,
}

impl WordCounter {
    pub fn new(splitter: Splitter) -> WordCounter {
        WordCounter {
            splitter,
            block: Vec::new(),
            block_bytes: 0,
            counts: Counts::new(),
            extent: Extent::default(),
            largest: LARGEST,
            text_bytes: 0,
            left_out: LeftOut::default(),
        }
    }

    pub fn add(&mut self, text: &str) {
        self.text_bytes += text.len();
        if text.len() >= BLOCK_BYTES {
            self.count_block();
            self.count(&[text]);
            return;
        }
        self.block_bytes += text.len();
        self.block.push(text.to_owned());
        if self.block_bytes >= BLOCK_BYTES {
            self.count_block();
        }
    }

    /// The pieces within `bounds`.
    pub fn finish(mut self, bounds: Bounds) -> Words {
        self.count_block();
        let (beside, share) = bounds.long_bytes;
        let bytes = bounds.bytes.min(self.largest.bytes);
        self.shrink(Extent { bytes, long_bytes: self.text_bytes / share + beside, ..self.largest });
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        threads::with(|| counts.par_sort_unstable());
        Words { counts, left_out: self.left_out }
    }

    fn count_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.block_bytes = 0;
        self.count(&block);
    }

    fn count<S: AsRef<str> + Sync>(&mut self, block: &[S]) {
        let splitter = &self.splitter;
        let count = |mut counts: HashMap<_, u64>, text| {
            splitter.split(text, |word| *counts.entry(word).or_default() += 1);
            counts
        };
        let partial: Vec<HashMap<&str, u64>> =
            threads::with(|| block.par_iter().map(AsRef::as_ref).fold(HashMap::new, count).collect());
        for (word, times) in partial.into_iter().flatten() {
            match self.counts.get_mut(word) {
                Some(count) => *count += times,
                None => {
                    self.extent.add(word);
                    self.counts.insert(word.into(), times);
                }
            }
        }
        if !self.extent.is_within(self.largest) {
            // Leaves space, so that this is not done after every block.
            let less = |most: usize| most - most / 4;
            let Extent { words, bytes, long_bytes } = self.largest;
            self.shrink(Extent { words: less(words), bytes: less(bytes), long_bytes: less(long_bytes) });
        }
    }

    /// Drops the rarest pieces until the rest is within `most`; of equally rare ones those with the highest
    /// hash, which gives an even sample of the text.
    fn shrink(&mut self, most: Extent) {
        if self.extent.is_within(most) {
            return;
        }
        let hash = |word: &str| {
            let bytes = *blake3::hash(word.as_bytes()).as_bytes();
            u64::from_le_bytes(std::array::from_fn(|at| bytes[at]))
        };
        let mut order: Vec<(Reverse<u64>, u64, Box<str>)> = std::mem::take(&mut self.counts)
            .into_iter()
            .map(|(word, count)| (Reverse(count), hash(&word), word))
            .collect();
        threads::with(|| order.par_sort_unstable());
        self.extent = Extent::default();
        for (Reverse(count), _, word) in order {
            let mut with_it = self.extent;
            with_it.add(&word);
            if with_it.is_within(most) {
                self.extent = with_it;
                self.counts.insert(word, count);
            } else {
                self.left_out.words += 1;
                self.left_out.occurrences += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PreTokenizer;

    const ALL: Bounds = Bounds { bytes: usize::MAX, long_bytes: (usize::MAX / 2, usize::MAX) };

    fn counter(words: usize) -> WordCounter {
        let largest = Extent { words, ..LARGEST };
        WordCounter { largest, ..WordCounter::new(Splitter::new(PreTokenizer::Gpt2)) }
    }

    #[test]
    fn counts_are_sums_and_the_rarest_go_first() {
        let mut words = counter(2);
        words.add("a b a");
        words.add(" a b c");
        let words = words.finish(ALL);
        assert_eq!(words.counts, [(" a".into(), 2), (" b".into(), 2)]);
        // "a" and " c"
        assert_eq!((words.left_out.words, words.left_out.occurrences), (2, 2));
    }

    #[test]
    fn of_equally_rare_pieces_a_spread_stays() {
        let text: String = (0..2000).map(|number| format!(" {number:04}")).collect();
        let mut words = counter(10_000);
        words.add(&text);
        let words = words.finish(Bounds { bytes: 3000, ..ALL });
        assert_eq!(words.counts.len(), 600);
        assert_eq!(words.left_out.words, 1400);
        let early = words.counts.iter().filter(|(word, _)| &**word < " 1000").count();
        assert!((200..=400).contains(&early), "{early} of 600 lie in the first half");
    }

    #[test]
    fn long_pieces_have_a_bound_of_their_own() {
        let long: Vec<String> = ["a", "b", "c"].map(|letter| letter.repeat(LONG_BYTES)).into();
        let mut words = counter(10_000);
        words.add(&format!("{} x y {} {}", long[0], long[1], long[2]));
        let words = words.finish(Bounds { long_bytes: (2 * LONG_BYTES, usize::MAX), ..ALL });
        let kept = |bytes| words.counts.iter().filter(|(word, _)| word.len() >= bytes).count();
        assert_eq!((kept(0), kept(LONG_BYTES), words.left_out.words), (3, 1, 2));
    }

    #[test]
    fn a_text_as_long_as_a_block_is_counted_without_a_copy() {
        let mut words = counter(100);
        words.add("a b");
        words.add(&" b".repeat(BLOCK_BYTES / 2));
        assert!(words.block.is_empty());
        let words = words.finish(ALL);
        assert_eq!(words.counts, [(" b".into(), 1 + BLOCK_BYTES as u64 / 2), ("a".into(), 1)]);
    }
}
