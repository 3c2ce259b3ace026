//! Words and sentences as spaCy's blank English pipeline splits them, which is what datatrove's filters
//! count.
//!
//! Prefixes, suffixes, infixes, exceptions and addresses follow spaCy 3.8's rules, written as code instead of
//! regular expressions; what is left out (exceptions that span what affixes split) is measured by the golden
//! decisions of the filters. Other languages are split by the same rules.

mod affixes;
mod chunks;
pub mod classes;
mod exceptions;
mod token;

use chunks::Chunk;
pub use chunks::{DIGIT, LETTER, WIDE, chunks};
use exceptions::EXCEPTIONS;
pub use token::Token;

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

/// A run without white space is split in pieces of so many bytes, where words are not held.
const PIECE_BYTES: usize = 64 << 10;

/// Hands over pieces, with where each begins and its words, as long as `take` wants more. At the border of
/// two pieces there may be a word more.
pub fn by_pieces(text: &str, mut take: impl FnMut(usize, &str, &[Token]) -> bool) {
    let mut words = Vec::new();
    for Chunk { mut start, end, .. } in chunks(text) {
        while start < end {
            let piece_end = text.floor_char_boundary(end.min(start + PIECE_BYTES));
            let piece = &text[start..piece_end];
            words.clear();
            split(piece, &mut words);
            if !take(start, piece, &words) {
                return;
            }
            start = piece_end;
        }
    }
}

/// Whether a text has more than `most` words, give or take two for every 64 KB without white space. The words
/// are counted without being held: a run of marks has as many words as bytes.
pub fn are_more_than(text: &str, most: usize) -> bool {
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
    let mut count = 0;
    by_pieces(text, |_, _, words| {
        count += words.len();
        count <= most
    });
    count > most
}

/// A text in parts of at most `most` words each, behind a line where one ends in the second half of a part.
/// The last part may have half as many more: a few words would be another text.
pub fn parts(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let (mut cuts, mut count) = (vec![0], 0);
    // Where the piece before ended, and where the last line did, with the words up to there.
    let (mut end, mut line) = (0, (0, 0));
    by_pieces(text, |start, piece, words| {
        if let Some(at) = memchr::memrchr(b'\n', &text.as_bytes()[end..start]) {
            line = (end + at + 1, count);
        }
        if count > 0 && count + words.len() > most {
            let (cut, before) = if line.1 > most / 2 { line } else { (start, count) };
            cuts.push(cut);
            count -= before;
            line = (cut, 0);
        }
        count += words.len();
        end = start + piece.len();
        true
    });
    if cuts.len() > 1 && count < most / 2 {
        cuts.pop();
    }
    let ends = cuts[1..].iter().copied().chain([text.len()]).collect::<Vec<_>>();
    cuts.into_iter().zip(ends).map(|(from, to)| &text[from..to])
}

/// How many sentences spaCy's sentencizer finds in `text[start..]` with these `tokens`: at least one, and no
/// more than `at_most` are looked for.
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
    fn parts_end_behind_lines_and_have_as_many_words_as_they_may() {
        let check = |text: &str, wanted: &[&str]| {
            assert_eq!(parts(text, 6).collect::<Vec<_>>(), wanted, "{text:?}");
        };
        check("", &[""]);
        check("a b c d e f", &["a b c d e f"]);
        check("a b c d e f g h", &["a b c d e f g h"]);
        check("a b c d e f g h i", &["a b c d e f ", "g h i"]);
        check("a b c d\ne f g h i", &["a b c d\n", "e f g h i"]);
        check("a\nb c d e f g h i\n", &["a\nb c d e f ", "g h i\n"]);
        check("\n\na b c d\n\n\ne f g h\ni j k", &["\n\na b c d\n\n\n", "e f g h\n", "i j k"]);
        check("!!!!!!!!!!!!!!!!", &["!!!!!!!!!!!!!!!!"]);
        for text in ["!".repeat(300_000), "漢字 \n".repeat(9000), "a.b, ".repeat(50_000)] {
            assert_eq!(parts(&text, 70_000).collect::<String>(), text);
            assert!(parts(&text, 70_000).all(|part| words(part).len() <= 105_000));
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
