//! Gopher's and FineWeb's quality filters: lengths, symbols, stop words, and the ends of lines.

use std::ops::Range;

use super::options::{FineWeb, GopherQuality};
use super::repetition::{duplicates, is_python_space};
use super::scratch::{Scratch, characters};
use crate::words::{self, DIGIT, LETTER, Token, WIDE, classes};

pub const TOO_MANY_WORDS: &str = "too_many_words";

/// Whether Gopher's would count more words than `most`, which are not held.
pub fn has_more_words(text: &str, most: u64) -> bool {
    let mut count = 0;
    words::by_pieces(text, |_, piece, tokens| {
        let is_word = |token: &&Token| {
            let token_text = &piece[token.start as usize..token.end as usize];
            match token.classes & WIDE {
                0 => token.classes & (LETTER | DIGIT) != 0,
                _ => !token_text.chars().all(classes::is_symbol),
            }
        };
        count += tokens.iter().filter(is_word).count() as u64;
        count <= most
    });
    count > most
}

/// Gopher's: why a text is dropped.
pub fn gopher(text: &str, options: &GopherQuality, scratch: &mut Scratch) -> Option<&'static str> {
    scratch.split(text);
    let (mut words, mut word_characters, mut alphabetic) = (0u64, 0u64, 0u64);
    let mut stop_words = StopWords { all: &options.stop_words, seen: Vec::new() };
    for token in &scratch.words {
        let (mut length, mut has_letter, mut only_symbols) =
            (u64::from(token.end - token.start), false, true);
        if token.classes & WIDE == 0 {
            has_letter = token.classes & LETTER != 0;
            only_symbols = token.classes & (LETTER | DIGIT) == 0;
        } else {
            length = 0;
            for c in text[token.start as usize..token.end as usize].chars() {
                length += 1;
                has_letter |= c.is_alphabetic();
                only_symbols &= classes::is_symbol(c);
            }
        }
        alphabetic += u64::from(has_letter);
        if !only_symbols {
            words += 1;
            word_characters += length;
        }
        // More than enough are not looked for.
        if stop_words.count() < options.minimum_stop_words {
            stop_words.see(&text[token.start as usize..token.end as usize]);
        }
    }
    let all_words = scratch.words.len() as f64;
    if options.minimum_words != 0 && words < options.minimum_words {
        return Some("too_few_words");
    }
    if options.maximum_words != 0 && words > options.maximum_words {
        return Some(TOO_MANY_WORDS);
    }
    let mean = word_characters as f64 / words.max(1) as f64;
    if options.minimum_mean_word_length != 0.0 && mean < options.minimum_mean_word_length {
        return Some("short_words");
    }
    if options.maximum_mean_word_length != 0.0 && mean > options.maximum_mean_word_length {
        return Some("long_words");
    }
    let most = options.maximum_symbols_per_word;
    let hashes = memchr::memchr_iter(b'#', text.as_bytes()).count() as f64;
    if most != 0.0 && hashes / all_words > most {
        return Some("too_many_hash_signs");
    }
    let count = |sign: &str| memchr::memmem::find_iter(text.as_bytes(), sign).count();
    let ellipses = (count("...") + count("…")) as f64;
    if most != 0.0 && ellipses / all_words > most {
        return Some("too_many_ellipses");
    }
    let (mut lines, mut bullets, mut trailing) = (0f64, 0f64, 0f64);
    for line in python_lines(text) {
        let line = &text[line];
        lines += 1.0;
        bullets += f64::from(u8::from(line.trim_start_matches(is_python_space).starts_with(['•', '-'])));
        let end = line.trim_end_matches(is_python_space);
        trailing += f64::from(u8::from(end.ends_with("...") || end.ends_with('…')));
    }
    let above = |value: f64, limit: f64| limit != 0.0 && value > limit;
    if above(bullets / lines, options.maximum_bullet_line_fraction) {
        return Some("too_many_bullets");
    }
    if above(trailing / lines, options.maximum_ellipsis_line_fraction) {
        return Some("too_many_lines_end_in_ellipsis");
    }
    let least = options.minimum_alphabetic_word_fraction;
    if least != 0.0 && alphabetic as f64 / all_words < least {
        return Some("too_few_alphabetic_words");
    }
    (stop_words.count() < options.minimum_stop_words).then_some("too_few_stop_words")
}

/// The different stop words of a text.
struct StopWords<'o> {
    all: &'o [String],
    /// Which of them.
    seen: Vec<usize>,
}

impl StopWords<'_> {
    fn count(&self) -> u64 {
        self.seen.len() as u64
    }

    fn see(&mut self, word: &str) {
        if let Some(index) = self.all.iter().position(|stop| stop == word)
            && !self.seen.contains(&index)
        {
            self.seen.push(index);
        }
    }
}

/// FineWeb's: why a text is dropped. `words`: how many it has, where that is known.
pub fn fineweb(
    text: &str,
    words: Option<usize>,
    options: &FineWeb,
    scratch: &mut Scratch,
) -> Option<&'static str> {
    let lines = || text.split('\n').filter(|line| !line.trim_matches(is_python_space).is_empty());
    let (mut count, mut ended, mut short) = (0f64, 0f64, 0f64);
    for line in lines() {
        count += 1.0;
        ended += f64::from(u8::from(line.ends_with(classes::is_terminal)));
        let most = options.short_line_length;
        let is_short = line.len() as u64 <= most
            || (line.len() as u64 <= most.saturating_mul(4) && characters(line) as u64 <= most);
        short += f64::from(u8::from(is_short));
    }
    if count == 0.0 {
        return Some("empty");
    }
    if ended / count < options.minimum_terminal_punctuation_fraction {
        return Some("too_few_lines_end_in_punctuation");
    }
    if short / count > options.maximum_short_line_fraction {
        return Some("too_many_short_lines");
    }
    let line_feeds = memchr::memchr_iter(b'\n', text.as_bytes()).count();
    let (_, _, repeated) = duplicates(lines(), &mut scratch.counts);
    let length = scratch.characters - line_feeds;
    if repeated / length as f64 > options.maximum_duplicate_line_character_fraction {
        return Some("repeated_lines");
    }
    let words = words.unwrap_or_else(|| {
        scratch.split(text);
        scratch.words.len()
    });
    (line_feeds as f64 / words as f64 > options.maximum_line_breaks_per_word).then_some("list")
}

/// Lines as Python's `str.splitlines` cuts them.
pub fn python_lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == bytes.len() {
            return None;
        }
        let mut at = start;
        while let Some(found) = bytes[at..].iter().position(|&byte| MAYBE_LINE_END[usize::from(byte)]) {
            at += found;
            let length = line_end(&bytes[at..]);
            if length > 0 {
                let line = start..at;
                start = at + length;
                return Some(line);
            }
            at += 1;
        }
        let line = start..bytes.len();
        start = bytes.len();
        Some(line)
    })
}

static MAYBE_LINE_END: [bool; 256] = {
    let mut is_first = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is_first[byte] = matches!(byte as u8, b'\n'..=b'\r' | 0x1c..=0x1e | 0xc2 | 0xe2);
        byte += 1;
    }
    is_first
};

/// The length of the line end that bytes begin with, else 0.
fn line_end(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => 2,
        [b'\n'..=b'\r' | 0x1c..=0x1e, ..] => 1,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_python_s() {
        let text = "a\r\nb\rc\u{2028}d\u{85}\n\u{c}\u{e9}\u{2026}e\n";
        let lines: Vec<_> = python_lines(text).map(|line| &text[line]).collect();
        assert_eq!(lines, ["a", "b", "c", "d", "", "", "\u{e9}\u{2026}e"]);
        assert_eq!(python_lines("").count(), 0);
    }

    #[test]
    fn stop_words_beyond_the_64th_are_told_apart() {
        let stop_words: Vec<String> = (0..70).map(|number| format!("stop{number}")).collect();
        let mut options =
            GopherQuality { minimum_stop_words: 3, minimum_words: 0, stop_words, ..Default::default() };
        options.maximum_mean_word_length = 0.0;
        let filter = |text: &str| {
            let mut scratch = Scratch::default();
            scratch.begin(text);
            gopher(text, &options, &mut scratch)
        };
        assert_eq!(filter("stop64 stop69 stop66"), None);
        assert_eq!(filter("stop64 stop69 stop64"), Some("too_few_stop_words"));
    }
}
