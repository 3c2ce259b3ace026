//! Gopher's repetition filter: shares of repeated lines, paragraphs and n-grams.

use super::ngrams::{Counts, Gram};
use super::options::GopherRepetition;
use super::scratch::{Scratch, characters};

/// Why a text is dropped; `None`: it passes.
pub fn filter(text: &str, options: &GopherRepetition, scratch: &mut Scratch) -> Option<&'static str> {
    if text.is_empty() {
        return Some("empty");
    }
    let characters = scratch.characters as f64;
    let above = |value: f64, limit: f64| limit != 0.0 && value > limit;

    let stripped = text.trim_matches(is_python_space);
    let (count, repeated, repeated_characters) = duplicates(paragraphs(stripped), &mut scratch.counts);
    if above(repeated / count, options.duplicate_paragraph_fraction) {
        return Some("duplicate_paragraph_fraction");
    }
    if above(repeated_characters / characters, options.duplicate_paragraph_character_fraction) {
        return Some("duplicate_paragraph_character_fraction");
    }
    let (count, repeated, repeated_characters) = duplicates(lines(text), &mut scratch.counts);
    if above(repeated / count, options.duplicate_line_fraction) {
        return Some("duplicate_line_fraction");
    }
    if above(repeated_characters / characters, options.duplicate_line_character_fraction) {
        return Some("duplicate_line_character_fraction");
    }

    scratch.split(text);
    let Scratch { words, hashes, repeated, counts, .. } = scratch;
    hashes.fill(text, words);
    const TOP: [&str; 3] = ["top_2_gram", "top_3_gram", "top_4_gram"];
    let mut any_repeated = true;
    repeated.begin(hashes);
    for ((n, reason), limit) in (2..).zip(TOP).zip(options.top_ngram_character_fractions) {
        if hashes.len() < n {
            continue;
        }
        // Where no n-gram repeats, none of n + 1 words does.
        let (top, count) = if any_repeated { top(repeated.lengthen(hashes, n), counts) } else { (0, 1) };
        any_repeated = count > 1;
        let length = hashes.characters(top, n) + n - 1;
        if above(length as f64 * f64::from(count) / characters, limit) {
            return Some(reason);
        }
    }
    const DUPLICATED: [&str; 6] = [
        "duplicated_5_grams",
        "duplicated_6_grams",
        "duplicated_7_grams",
        "duplicated_8_grams",
        "duplicated_9_grams",
        "duplicated_10_grams",
    ];
    for ((n, reason), limit) in (5..).zip(DUPLICATED).zip(options.duplicate_ngram_character_fractions) {
        if !any_repeated || hashes.len() < n {
            break;
        }
        let places = duplicated(repeated.joined(hashes, n), n, counts);
        let repeated: usize = places.map(|at| hashes.characters(at, n)).sum();
        any_repeated = repeated > 0;
        if above(repeated as f64 / characters, limit) {
            return Some(reason);
        }
    }
    None
}

/// What Python's `str.strip` and `str.split` take for white space.
pub fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// What lies between two or more line feeds.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    between_line_feeds(text, 2)
}

/// What lies between one or more line feeds; empty at a text's end that is one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    between_line_feeds(text, 1)
}

fn between_line_feeds(text: &str, at_least: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\n', &whole.as_bytes()[at..]) {
            let start = at + found;
            let run = whole.as_bytes()[start..].iter().take_while(|&&byte| byte == b'\n').count();
            if run >= at_least {
                rest = Some(&whole[start + run..]);
                return Some(&whole[..start]);
            }
            at = start + run;
        }
        rest = None;
        Some(whole)
    })
}

/// How many parts there are, how many repeat an earlier one, and the characters of these.
pub fn duplicates<'t>(parts: impl Iterator<Item = &'t str>, counts: &mut Counts) -> (f64, f64, f64) {
    let hashes: Vec<(u64, &str)> = parts.map(|part| (hash(part), part)).collect();
    counts.clear(hashes.len());
    let (mut repeated, mut repeated_characters) = (0usize, 0usize);
    for &(hash, part) in &hashes {
        if counts.add(hash) > 0 {
            repeated += 1;
            repeated_characters += characters(part);
        }
    }
    (hashes.len() as f64, repeated as f64, repeated_characters as f64)
}

/// A 64-bit hash of a line, eight bytes at a time.
fn hash(part: &str) -> u64 {
    let mut chunks = part.as_bytes().chunks_exact(8);
    let mut hash = (part.len() as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let step = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0xd6e8_feb8_6659_fd93_a5a3_564e_27e8_83b5;
        (product as u64) ^ ((product >> 64) as u64).rotate_left(29)
    };
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = step(hash, u64::from_le_bytes(word));
    }
    let mut word = [0; 8];
    word[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    step(hash, u64::from_le_bytes(word))
}

/// The first of the most frequent n-grams, and how often it stands in the text.
fn top(grams: &[Gram], counts: &mut Counts) -> (usize, u32) {
    counts.clear(grams.len());
    let most = grams.iter().map(|gram| counts.add(gram.hash) + 1).max().unwrap_or(1);
    if most == 1 {
        return (0, 1);
    }
    let first = grams.iter().find(|gram| counts.of(gram.hash) == most);
    (first.map_or(0, |gram| gram.at as usize), most)
}

/// Where n-grams stand that came before, as datatrove walks: it goes on behind each, and what it skips counts
/// as not read.
fn duplicated(grams: &[Gram], n: usize, counts: &mut Counts) -> impl Iterator<Item = usize> {
    counts.clear(grams.len());
    let mut next = 0;
    grams.iter().filter_map(move |gram| {
        let at = gram.at as usize;
        let is_duplicate = at >= next && counts.add(gram.hash) > 0;
        if is_duplicate {
            next = at + n;
        }
        is_duplicate.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_lines_are_python_s() {
        let all = |parts: &mut dyn Iterator<Item = &'static str>| parts.collect::<Vec<_>>();
        assert_eq!(all(&mut paragraphs("a\nb\n\nc\n\n\nd")), ["a\nb", "c", "d"]);
        assert_eq!(all(&mut lines("\na\n\nb\n")), ["", "a", "b", ""]);
        assert_eq!(all(&mut lines("")), [""]);
    }

    #[test]
    fn a_text_that_repeats_itself_is_dropped() {
        let filter = |text: &str| {
            let mut scratch = Scratch::default();
            scratch.begin(text);
            filter(text, &GopherRepetition::default(), &mut scratch)
        };
        let words: Vec<String> = (0..200).map(|i| format!("word{}", i * 7919 % 1000)).collect();
        assert_eq!(filter(&words.join(" ")), None);
        assert_eq!(filter("a line of text\na line of text\nb"), Some("duplicate_line_fraction"));
        assert_eq!(filter(&"again and again ".repeat(20)), Some("top_2_gram"));
        let long = words[..40].join(" ");
        assert_eq!(filter(&format!("{long} x {long}")), Some("duplicated_5_grams"));
    }

    #[test]
    fn the_top_gram_is_the_first_of_the_most_frequent() {
        let (grams, mut counts) = ([7, 7, 9, 9, 9], Counts::default());
        let grams: Vec<Gram> = (0..).zip(grams).map(|(at, hash)| Gram { at, hash }).collect();
        assert_eq!(top(&grams, &mut counts), (2, 3), "not one that comes as often when it is counted twice");
        assert_eq!(top(&grams[..4], &mut counts), (0, 2));
        assert_eq!(top(&[], &mut counts), (0, 1));
    }
}
