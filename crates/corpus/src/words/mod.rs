//! Words and sentences as spaCy's blank English pipeline splits them, which is what datatrove's filters count.
//!
//! Prefixes, suffixes, infixes, exceptions and addresses follow spaCy 3.8's rules, written as code instead of regular
//! expressions; what is left out (exceptions that span what affixes split) is measured by the golden decisions of the
//! filters. Other languages are split by the same rules.

mod affixes;
mod chunks;
pub mod classes;
mod exceptions;

use chunks::Chunk;
pub use chunks::{DIGIT, LETTER, WIDE, chunks};
use exceptions::EXCEPTIONS;

/// A word's place in a text, and of which classes its bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Its first byte.
    pub start: u32,
    /// The byte behind it.
    pub end: u32,
    /// Classes of bytes: [`LETTER`], [`DIGIT`], [`WIDE`].
    pub classes: u8,
}

/// Appends the words of `text` to `out`, punctuation included, white space left out.
pub fn split(text: &str, out: &mut Vec<Token>) {
    let exceptions = &*EXCEPTIONS;
    for chunk in chunks(text) {
        affixes::split(text, &chunk, exceptions, out);
    }
}

/// Hands over the same words one by one. `scratch` holds those of one run between white space at a time.
pub fn each(text: &str, scratch: &mut Vec<Token>, mut take: impl FnMut(&Token)) {
    let exceptions = &*EXCEPTIONS;
    for chunk in chunks(text) {
        scratch.clear();
        affixes::split(text, &chunk, exceptions, scratch);
        scratch.iter().for_each(&mut take);
    }
}

/// Whether a text has more than `most` words, give or take two for every 64 KB without white space. The words
/// are counted without being held: a run of marks has as many words as bytes.
pub fn are_more_than(text: &str, most: usize) -> bool {
    const COUNTED_BYTES: usize = 64 << 10;
    // An upper bound that costs little: a mark adds itself and the word behind it, white space up to three
    // words.
    let most_possible: usize = text
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => 0,
            b' ' | b'\n' => 3,
            _ => 2,
        })
        .sum();
    if most_possible < most {
        return false;
    }
    let (mut count, mut words) = (0, Vec::new());
    for Chunk { mut start, end, .. } in chunks(text) {
        while start < end {
            let part_end = text.floor_char_boundary(end.min(start + COUNTED_BYTES));
            words.clear();
            split(&text[start..part_end], &mut words);
            count += words.len();
            if count > most {
                return true;
            }
            start = part_end;
        }
    }
    false
}

/// How many sentences spaCy's sentencizer finds in `text[start..]` with these `tokens`: at least one, and no more than `at_most`
/// are looked for.
pub fn sentences(text: &str, start: usize, tokens: &[Token], at_most: u64) -> u64 {
    let (mut sentences, mut ended, mut end) = (1, false, start);
    for token in tokens {
        // White space beyond single spaces is a token of its own, and opens a sentence where one has ended.
        let gap = &text[end..token.start as usize];
        let is_token = if end == start { !gap.is_empty() } else { !matches!(gap, " " | "") };
        if is_token && ended {
            sentences += 1;
            ended = false;
        }
        end = token.end as usize;
        let token = &text[token.start as usize..end];
        let mut characters = token.chars();
        let is_end =
            matches!((characters.next(), characters.next()), (Some(c), None) if classes::ends_sentence(c));
        if is_end {
            ended = true;
        } else if ended && !token.chars().all(|c| classes::PUNCTUATION.contains(c)) {
            sentences += 1;
            ended = false;
        }
        if sentences >= at_most {
            break;
        }
    }
    sentences
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
    fn words_are_counted_without_being_held() {
        for text in ["!".repeat(300_000), "a.b, ".repeat(50_000), "漢 字".repeat(9), String::new()] {
            let count = words(&text).len();
            assert!(!are_more_than(&text, count), "{count}");
            assert_eq!(are_more_than(&text, count.saturating_sub(1)), count > 0, "{count}");
        }
    }

    #[test]
    fn sentences_are_the_sentencizer_s() {
        let check = |text: &str, wanted: u64| {
            let mut tokens = Vec::new();
            split(text, &mut tokens);
            assert_eq!(sentences(text, 0, &tokens, u64::MAX), wanted, "{text}");
            assert_eq!(sentences(text, 0, &tokens, 2), wanted.min(2), "{text}");
        };
        check("One. Two! Three?", 3);
        check("One...", 1);
        check("He said (so). Then", 2);
        check("no end", 1);
        check("A. ) B", 1);
        check("Ab. ) B. C", 2);
    }
}
