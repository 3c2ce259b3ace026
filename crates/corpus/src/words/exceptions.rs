//! spaCy's exceptions for English: runs of characters that are tokens in ways of their own, such as "don't"
//! and "e.g.".

use std::sync::LazyLock;

/// The exceptions, to be looked for.
pub static EXCEPTIONS: LazyLock<Exceptions> =
    LazyLock::new(|| Exceptions::new(include_str!("../../assets/words/exceptions.txt")));

const SLOTS: usize = 1 << 12;
const FILTER_WORDS: usize = 1 << 10;

/// A table from exceptions to the lengths of their parts in bytes.
pub struct Exceptions {
    /// A bit by hash of an exception, so that most words need no look into the table.
    maybe: Box<[u64; FILTER_WORDS]>,
    slots: Vec<Option<Exception>>,
}

struct Exception {
    text: String,
    parts: Vec<u8>,
}

impl Exceptions {
    /// From lines of parts with tabs between.
    fn new(lines: &str) -> Exceptions {
        let mut maybe = Box::new([0; FILTER_WORDS]);
        let mut slots: Vec<Option<Exception>> = std::iter::repeat_with(|| None).take(SLOTS).collect();
        for line in lines.lines() {
            let text = line.replace('\t', "");
            let hash = hash(text.as_bytes());
            let bit = (hash >> 48) as usize;
            maybe[bit / 64] |= 1u64 << (bit % 64);
            let mut at = first_slot(hash);
            while slots[at].is_some() {
                at = (at + 1) % SLOTS;
            }
            slots[at] =
                Some(Exception { text, parts: line.split('\t').map(|part| part.len() as u8).collect() });
        }
        Exceptions { maybe, slots }
    }

    /// The lengths of the parts of an exception; `None` for all else.
    pub fn find(&self, text: &str) -> Option<&[u8]> {
        if text.is_empty() {
            return None;
        }
        let hash = hash(text.as_bytes());
        let bit = (hash >> 48) as usize;
        if self.maybe[bit / 64] >> (bit % 64) & 1 == 0 {
            return None;
        }
        let mut at = first_slot(hash);
        while let Some(exception) = &self.slots[at] {
            if exception.text == text {
                return Some(&exception.parts);
            }
            at = (at + 1) % SLOTS;
        }
        None
    }
}

/// Of the length and three bytes alone: it is asked several times a word.
fn hash(key: &[u8]) -> u64 {
    let first = u64::from(key.first().copied().unwrap_or(0));
    let last = u64::from(key.last().copied().unwrap_or(0));
    let middle = u64::from(key.get(key.len() / 2).copied().unwrap_or(0));
    (first | last << 8 | middle << 16 | (key.len() as u64) << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn first_slot(hash: u64) -> usize {
    (hash >> 36) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_is_found() {
        let lines = include_str!("../../assets/words/exceptions.txt");
        assert!(lines.lines().count() > 1300);
        for line in lines.lines() {
            let lengths: Vec<u8> = line.split('\t').map(|part| part.len() as u8).collect();
            assert_eq!(EXCEPTIONS.find(&line.replace('\t', "")), Some(&lengths[..]), "{line}");
        }
        assert_eq!(EXCEPTIONS.find(""), None);
        assert_eq!(EXCEPTIONS.find("ordinary"), None);
    }
}
