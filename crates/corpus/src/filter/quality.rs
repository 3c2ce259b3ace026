//! Gopher's and FineWeb's quality filters: lengths, symbols, stop words, and the ends of lines.

use super::Scratch;
use super::options::{FineWeb, GopherQuality};
use super::repetition::{characters, duplicates, is_python_space};
use crate::words::classes;

/// Gopher's: why a text is dropped.
pub fn gopher(text: &str, options: &GopherQuality, scratch: &mut Scratch) -> Option<&'static str> {
    scratch.split(text);
    let (mut words, mut word_characters, mut alphabetic) = (0u64, 0u64, 0u64);
    let mut stop_words_seen = 0u64;
    for token in &scratch.words {
        let word = &text[token.start as usize..token.end as usize];
        let (mut length, mut has_letter, mut only_symbols) = (0u64, false, true);
        for c in word.chars() {
            length += 1;
            has_letter |= c.is_alphabetic();
            only_symbols &= classes::is_symbol(c);
        }
        alphabetic += u64::from(has_letter);
        if !only_symbols {
            words += 1;
            word_characters += length;
        }
        if let Some(index) = options.stop_words.iter().position(|stop| stop == word) {
            stop_words_seen |= 1 << index.min(63);
        }
    }
    let all_words = scratch.words.len() as f64;
    if options.minimum_words != 0 && words < options.minimum_words {
        return Some("too_few_words");
    }
    if options.maximum_words != 0 && words > options.maximum_words {
        return Some("too_many_words");
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
    let ellipses = (text.matches("...").count() + text.matches('…').count()) as f64;
    if most != 0.0 && ellipses / all_words > most {
        return Some("too_many_ellipses");
    }
    let (mut lines, mut bullets, mut trailing) = (0f64, 0f64, 0f64);
    for line in python_lines(text) {
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
    (u64::from(stop_words_seen.count_ones()) < options.minimum_stop_words).then_some("too_few_stop_words")
}

/// FineWeb's: why a text is dropped.
pub fn fineweb(text: &str, options: &FineWeb, scratch: &mut Scratch) -> Option<&'static str> {
    let lines = || text.split('\n').filter(|line| !line.trim_matches(is_python_space).is_empty());
    let (mut count, mut ended, mut short) = (0f64, 0f64, 0f64);
    for line in lines() {
        count += 1.0;
        ended += f64::from(u8::from(line.ends_with(classes::is_terminal)));
        let is_short = line.len() as u64 <= options.short_line_length
            || characters(line) as u64 <= options.short_line_length;
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
    let length = characters(text) - line_feeds;
    if repeated / length as f64 > options.maximum_duplicate_line_character_fraction {
        return Some("repeated_lines");
    }
    scratch.split(text);
    (line_feeds as f64 / scratch.words.len() as f64 > options.maximum_line_breaks_per_word).then_some("list")
}

/// Lines as Python's `str.splitlines` cuts them.
pub fn python_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // A byte scan: the few ends that are not ASCII begin with 0xc2 or 0xe2.
        let bytes = rest.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let end = match bytes[at] {
                b'\r' if bytes.get(at + 1) == Some(&b'\n') => 2,
                b'\n'..=b'\r' | 0x1c..=0x1e => 1,
                0xc2 if bytes[at + 1] == 0x85 => 2,
                0xe2 if bytes[at + 1] == 0x80 && matches!(bytes[at + 2], 0xa8 | 0xa9) => 3,
                _ => 0,
            };
            if end > 0 {
                let line = &rest[..at];
                rest = &rest[at + end..];
                return Some(line);
            }
            at += 1;
        }
        let line = rest;
        rest = "";
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_python_s() {
        let lines: Vec<_> = python_lines("a\r\nb\rc\u{2028}d\u{85}\n\u{c}e").collect();
        assert_eq!(lines, ["a", "b", "c", "d", "", "", "e"]);
        assert_eq!(python_lines("").count(), 0);
    }
}
