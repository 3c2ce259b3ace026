//! Words and sentences as spaCy's blank English pipeline splits them, which is what datatrove's filters count.
//!
//! Prefixes, suffixes, infixes, exceptions and addresses follow spaCy 3.8's rules, written as code instead of regular
//! expressions; what is left out (exceptions that span what affixes split) is measured by the golden decisions of the
//! filters. Other languages are split by the same rules.

mod affixes;
pub mod classes;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

/// Exceptions and the lengths of their parts in bytes.
static EXCEPTIONS: LazyLock<HashMap<&'static str, Vec<u8>>> = LazyLock::new(|| {
    let lines = include_str!("../../assets/words/exceptions.txt").lines();
    lines
        .map(|line| {
            // The parts of an exception are its characters, so the key is the line without tabs; it is rebuilt once.
            let lengths = line.split('\t').map(|part| part.len() as u8).collect();
            let key: &'static str =
                if line.contains('\t') { Box::leak(line.replace('\t', "").into_boxed_str()) } else { line };
            (key, lengths)
        })
        .collect()
});
/// A bit by hash of an exception, so that most words need no look into the table.
static MAYBE: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut bits = vec![0u64; FILTER_BITS / 64];
    for key in EXCEPTIONS.keys() {
        let at = filter_place(key.as_bytes());
        bits[at / 64] |= 1 << (at % 64);
    }
    bits
});
const FILTER_BITS: usize = 1 << 16;
/// Longer than any exception.
const LONGEST_EXCEPTION: usize = 24;

fn filter_place(key: &[u8]) -> usize {
    let first = u64::from(key.first().copied().unwrap_or(0));
    let last = u64::from(key.last().copied().unwrap_or(0));
    let middle = u64::from(key[key.len() / 2]);
    let hash =
        (first | last << 8 | middle << 16 | (key.len() as u64) << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 48) as usize % FILTER_BITS
}

/// The parts of an exception.
fn exception(text: &str) -> Option<&'static [u8]> {
    if text.is_empty() || text.len() > LONGEST_EXCEPTION {
        return None;
    }
    let at = filter_place(text.as_bytes());
    if MAYBE[at / 64] >> (at % 64) & 1 == 0 {
        return None;
    }
    EXCEPTIONS.get(text).map(Vec::as_slice)
}

/// A token's place in a text.
pub type Token = Range<u32>;

/// Appends the words of `text` to `out`, punctuation included, white space left out.
pub fn split(text: &str, out: &mut Vec<Token>) {
    let mut rest = 0;
    for chunk in chunks(text, &mut rest) {
        affixes::split(text, chunk, out);
    }
}

/// How many sentences spaCy's sentencizer finds in `text`; at least one. `scratch` is emptied.
pub fn sentences(text: &str, scratch: &mut Vec<Token>) -> usize {
    let (mut sentences, mut ended, mut end, mut rest) = (1, false, 0, 0);
    for chunk in chunks(text, &mut rest) {
        // White space beyond single spaces is a token of its own, and opens a sentence where one has ended.
        let gap = &text[end..chunk.start];
        let is_token = if end == 0 { !gap.is_empty() } else { !matches!(gap, " " | "") };
        if is_token && ended {
            sentences += 1;
            ended = false;
        }
        scratch.clear();
        end = chunk.end;
        affixes::split(text, chunk, scratch);
        for token in scratch.iter() {
            let token = &text[token.start as usize..token.end as usize];
            let mut characters = token.chars();
            let is_end = matches!((characters.next(), characters.next()), (Some(c), None) if classes::ends_sentence(c));
            if is_end {
                ended = true;
            } else if ended && !token.chars().all(|c| classes::PUNCTUATION.contains(c)) {
                sentences += 1;
                ended = false;
            }
        }
    }
    sentences
}

/// Runs of characters that are not white space.
fn chunks<'t>(text: &'t str, at: &'t mut usize) -> impl Iterator<Item = Range<usize>> + 't {
    std::iter::from_fn(move || {
        let bytes = text.as_bytes();
        while let Some(length) = whitespace_at(text, *at) {
            *at += length;
        }
        let start = *at;
        while *at < bytes.len()
            && (bytes[*at] > b' ' && bytes[*at] < 0x80 || whitespace_at(text, *at).is_none())
        {
            *at += if bytes[*at] < 0x80 { 1 } else { character_length(bytes[*at]) };
        }
        (start < *at).then_some(start..*at)
    })
}

fn character_length(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// The length of the white space character at a place, by Python's `str.isspace`.
fn whitespace_at(text: &str, at: usize) -> Option<usize> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        return matches!(byte, b' ' | b'\t'..=b'\r' | 0x1c..=0x1f).then_some(1);
    }
    let c = text[at..].chars().next()?;
    c.is_whitespace().then(|| c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut out = Vec::new();
        split(text, &mut out);
        out.iter().map(|token| &text[token.start as usize..token.end as usize]).collect()
    }

    #[test]
    fn words_are_spacy_s() {
        // Each checked with spacy.blank("en") 3.8.18.
        let check = |text: &str, wanted: &[&str]| assert_eq!(words(text), wanted, "{text}");
        check("Hello, world!", &["Hello", ",", "world", "!"]);
        check("don't can't we'll", &["do", "n't", "ca", "n't", "we", "'ll"]);
        check("(see e.g. the U.S. data)", &["(", "see", "e.g.", "the", "U.S.", "data", ")"]);
        check(
            "state-of-the-art 10km 5% $3.50",
            &["state", "-", "of", "-", "the", "-", "art", "10", "km", "5", "%", "$", "3.50"],
        );
        check("https://x.org/a?b=c, and foo.bar.", &["https://x.org/a?b=c", ",", "and", "foo.bar", "."]);
        check(
            "end...of line.Next a,b 1-2 x=y",
            &["end", "...", "of", "line", ".", "Next", "a", ",", "b", "1", "-", "2", "x", "=", "y"],
        );
        check("John's “quoted” text — ok", &["John", "'s", "“", "quoted", "”", "text", "—", "ok"]);
        check("", &[]);
        check(" \n\t ", &[]);
    }

    #[test]
    fn sentences_are_the_sentencizer_s() {
        let check = |text: &str, wanted| assert_eq!(sentences(text, &mut Vec::new()), wanted, "{text}");
        check("One. Two! Three?", 3);
        check("One...", 1);
        check("He said (so). Then", 2);
        check("no end", 1);
        check("A. ) B", 1);
        check("Ab. ) B. C", 2);
    }
}
