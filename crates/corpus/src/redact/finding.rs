//! A value that was found, and what may stand beside one.

use super::options::Class;

/// Bytes before a value in which a word that names it is looked for.
const WORD_BYTES: usize = 40;

/// A place in a text that holds a value of some class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub class: Class,
    /// More exactly: which maker's key, which country's number.
    pub kind: &'static str,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Whether one of `words` (lower case) stands within the 40 bytes before a place.
pub fn is_told(text: &str, at: usize, words: &[&str]) -> bool {
    let start = text.ceil_char_boundary(at.saturating_sub(WORD_BYTES));
    if start >= at {
        return false;
    }
    let before = text[start..at].to_lowercase();
    words.iter().any(|word| {
        before.match_indices(word).any(|(found, _)| {
            let neighbor = before[..found].chars().next_back();
            let next = before[found + word.len()..].chars().next();
            !neighbor.is_some_and(char::is_alphanumeric) && !next.is_some_and(char::is_alphabetic)
        })
    })
}

/// Whether a value may begin at a place: no letter, digit or underscore goes before.
pub fn begins(text: &str, at: usize) -> bool {
    !text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a value may end at a place.
pub fn ends(text: &str, at: usize) -> bool {
    !text[at..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}
