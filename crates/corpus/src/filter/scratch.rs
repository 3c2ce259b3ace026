/// Working memory of the filters, reused between documents.
use super::ngrams::{Counts, Repeated, WordHashes};
use crate::words::{self, Token};

/// Words, hashes and counts of a text, each made once.
#[derive(Default)]
pub struct Scratch {
    pub(super) words: Vec<Token>,
    pub(super) line_words: Vec<Token>,
    pub(super) lower: Vec<u8>,
    pub(super) hashes: WordHashes,
    pub(super) repeated: Repeated,
    pub(super) counts: Counts,
    pub(super) characters: usize,
    pub(super) is_split: bool,
}

impl Scratch {
    /// Starts another text.
    pub(crate) fn begin(&mut self, text: &str) {
        self.characters = characters(text);
        self.is_split = false;
    }

    /// Splits the text into words, once.
    pub(super) fn split(&mut self, text: &str) {
        if !self.is_split {
            self.words.clear();
            words::split(text, &mut self.words);
            self.is_split = true;
        }
    }
}

/// Characters of a text.
pub fn characters(text: &str) -> usize {
    text.chars().count()
}
