//! Counting the pieces of the training text, in memory that does not grow with the text.
//!
//! Text is taken in blocks of fixed size; a block's documents are counted in parallel and the counts added, which gives
//! the same sums whatever the number of threads. When there are too many different pieces, the rarest are forgotten at
//! the end of a block, so that too is a function of the text alone.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::split::Splitter;
use crate::threads;

const BLOCK_BYTES: usize = 8 << 20;
const MAX_WORDS: usize = 4_000_000;

type Counts = HashMap<Box<str>, u64>;

/// Pieces of text and how often they occur.
pub struct WordCounter {
    splitter: Splitter,
    block: Vec<String>,
    block_bytes: usize,
    counts: Counts,
    max_words: usize,
}

impl WordCounter {
    pub fn new(splitter: Splitter) -> WordCounter {
        WordCounter {
            splitter,
            block: Vec::new(),
            block_bytes: 0,
            counts: Counts::new(),
            max_words: MAX_WORDS,
        }
    }

    pub fn add(&mut self, text: &str) {
        self.block_bytes += text.len();
        self.block.push(text.to_owned());
        if self.block_bytes >= BLOCK_BYTES {
            self.count_block();
        }
    }

    /// All pieces with their counts, in the order of their bytes.
    pub fn finish(mut self) -> Vec<(Box<str>, u64)> {
        self.count_block();
        let mut words: Vec<_> = self.counts.into_iter().collect();
        threads::with(|| words.par_sort_unstable());
        words
    }

    fn count_block(&mut self) {
        let splitter = &self.splitter;
        let count = |mut counts: HashMap<_, u64>, text| {
            splitter.split(text, |word| *counts.entry(word).or_default() += 1);
            counts
        };
        let block = &self.block;
        let partial: Vec<HashMap<&str, u64>> =
            threads::with(|| block.par_iter().map(String::as_str).fold(HashMap::new, count).collect());
        for (word, times) in partial.into_iter().flatten() {
            match self.counts.get_mut(word) {
                Some(count) => *count += times,
                None => {
                    self.counts.insert(word.into(), times);
                }
            }
        }
        self.block.clear();
        self.block_bytes = 0;

        let mut least = 1;
        while self.counts.len() > self.max_words {
            self.counts.retain(|_, &mut count| count > least);
            least += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PreTokenizer;

    #[test]
    fn counts_are_sums_and_the_rarest_go_first() {
        let mut words = WordCounter::new(Splitter::new(PreTokenizer::Gpt2));
        words.max_words = 2;
        words.add("a b a");
        words.add(" a b c");
        let words = words.finish();
        assert_eq!(words, [(" a".into(), 2), (" b".into(), 2)]);
    }
}
