//! Pre-tokenizers: how llama.cpp and Hugging Face split text before encoding, and their form in
//! tokenizer.json.
//!
//! llama.cpp loads a vocabulary only under a name it knows, and gives the same ids only if the vocabulary was
//! trained with the regex of that name. The regexes are the specification; the splitting code is
//! hand-written, since the regex engine backtracks for the lookahead and took half of the encoding time.
//! Tests compare the two.
//!
//! Time is linear in any text: each byte is examined a bounded number of times. No piece is longer than
//! [`LONGEST_PIECE_BYTES`].

use serde_json::{Value, json};

use crate::PreTokenizer;
use crate::classes::{self, Class};

/// In tokenizer.json it is mostly selected by name.
pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
pub const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub const LLAMA_BPE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Maximum length of a piece in bytes of UTF-8. A longer run (a genome, base64, a file of spaces) is split
/// before each character that would exceed it, in training and in encoding.
///
/// Ids are identical to Hugging Face's for every piece up to this length. In a longer one no token crosses a
/// split, so a few ids around each split differ; the decoded text is the same.
///
/// The library needs about 110 bytes of memory per byte of a piece, and its queue of merges exceeds the
/// caches as the piece grows: 16 MB of random `ACGT` took 43 s and 870 MB as one piece, 9.4 s in pieces of 64
/// KB, 6.1 s and 41 MB in pieces of 4 KB, 5.5 s in pieces of 1 KB. Words and lines of symbols are shorter
/// than 4 KB; so are Chinese and Japanese with a punctuation mark or a line break every 1,365 characters.
pub const LONGEST_PIECE_BYTES: usize = 4096;

/// Splits text into pieces.
#[derive(Clone, Copy, Debug)]
pub struct Splitter(PreTokenizer);

impl Splitter {
    pub const fn new(pre_tokenizer: PreTokenizer) -> Splitter {
        Splitter(pre_tokenizer)
    }

    /// Calls `found` with each piece, in order; concatenated they are the text. None is empty or longer than
    /// [`LONGEST_PIECE_BYTES`].
    pub fn split<'t>(&self, text: &'t str, mut found: impl FnMut(&'t str)) {
        self.split_whole(text, |piece| {
            let mut rest = piece;
            while rest.len() > LONGEST_PIECE_BYTES {
                let (part, after) = rest.split_at(rest.floor_char_boundary(LONGEST_PIECE_BYTES));
                found(part);
                rest = after;
            }
            found(rest);
        });
    }

    /// The pieces as the regexes define them, however long.
    pub fn split_whole<'t>(&self, text: &'t str, mut found: impl FnMut(&'t str)) {
        let digits_in_a_piece = match self.0 {
            PreTokenizer::Gpt2 => return cut(text, gpt2, &mut found),
            PreTokenizer::Smollm => return self.split_at_digits(text, &mut found),
            PreTokenizer::Qwen2 => 1,
            PreTokenizer::LlamaBpe => 3,
        };
        cut(text, |rest| modern(rest, digits_in_a_piece), &mut found);
    }

    /// Each digit is a piece, and the text between digits is split on its own.
    fn split_at_digits<'t>(&self, text: &'t str, found: &mut impl FnMut(&'t str)) {
        let mut start = 0;
        for (at, digit) in text.char_indices().filter(|(_, character)| character.is_numeric()) {
            cut(&text[start..at], gpt2, found);
            start = at + digit.len_utf8();
            found(&text[at..start]);
        }
        cut(&text[start..], gpt2, found);
    }
}

/// Emits pieces; `length` returns the length of the next one in the remaining text.
fn cut<'t>(text: &'t str, length: impl Fn(&str) -> usize, found: &mut impl FnMut(&'t str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(length(rest));
        found(piece);
        rest = after;
    }
}

/// Length in bytes of the run of a class at the start of `text`.
fn run(text: &str, class: Class) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (is, length) = classes::first(byte, &text[at..]);
        if is != class {
            break;
        }
        at += length;
    }
    at
}

fn first(text: &str) -> Option<(Class, usize)> {
    text.as_bytes().first().map(|&byte| classes::first(byte, text))
}

/// Length of the first piece, by [`GPT2`].
fn gpt2(text: &str) -> usize {
    if let Some(length) = contraction(text, |letter, wanted| letter == wanted) {
        return length;
    }
    let space = usize::from(text.starts_with(' '));
    match first(&text[space..]) {
        Some((Class::Space | Class::Newline, _)) | None => white_space(text),
        Some((class, _)) => space + run(&text[space..], class),
    }
}

/// Length of the first piece, by [`QWEN2`] and [`LLAMA_BPE`].
fn modern(text: &str, most_digits: usize) -> usize {
    // "s" is the only letter of contractions with another case variant.
    let folded =
        |letter: char, wanted: char| letter.eq_ignore_ascii_case(&wanted) || (wanted == 's' && letter == 'ſ');
    if let Some(length) = contraction(text, folded) {
        return length;
    }
    let Some((class, length)) = first(text) else { return 0 };
    let after = &text[length..];
    match class {
        Class::Letter => return run(text, class),
        Class::Number => {
            let mut end = length;
            for _ in 1..most_digits {
                match first(&text[end..]) {
                    Some((Class::Number, length)) => end += length,
                    _ => break,
                }
            }
            return end;
        }
        // Any character except a line break may precede letters.
        Class::Other | Class::Space => {
            let letters = run(after, Class::Letter);
            if letters > 0 {
                return length + letters;
            }
        }
        Class::Newline => {}
    }
    let space = usize::from(text.starts_with(' '));
    let others = run(&text[space..], Class::Other);
    if others > 0 {
        let line_ends =
            text[space + others..].bytes().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        return space + others + line_ends;
    }
    let blank = blanks(text);
    match text[..blank].rfind(['\r', '\n']) {
        Some(at) => at + 1,
        None => white_space(text),
    }
}

/// Contractions that are pieces: 's 't 're 've 'm 'll 'd.
fn contraction(text: &str, same: impl Fn(char, char) -> bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let mut letters = rest.chars();
    let (one, two) = (letters.next()?, letters.next());
    let is = |letter: char, wanted: char| same(letter, wanted);
    if ['s', 't', 'm', 'd'].iter().any(|&wanted| is(one, wanted)) {
        return Some(1 + one.len_utf8());
    }
    let pair = |first, second| is(one, first) && two.is_some_and(|two| is(two, second));
    (pair('r', 'e') || pair('v', 'e') || pair('l', 'l')).then_some(3)
}

/// Length of white space at the start, line breaks included.
fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// White space is a piece except for its last character, which belongs to the next piece; a single one is a
/// piece.
fn white_space(text: &str) -> usize {
    let blank = blanks(text);
    if blank == text.len() {
        return blank;
    }
    let last = text[..blank].chars().next_back().map_or(0, char::len_utf8);
    if blank > last { blank - last } else { blank }
}

/// The `pre_tokenizer` of tokenizer.json.
pub fn to_json(pre_tokenizer: PreTokenizer) -> Value {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let split = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            byte_level(false),
        ]})
    };
    match pre_tokenizer {
        PreTokenizer::Gpt2 => byte_level(true),
        PreTokenizer::Smollm => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level(true),
        ]}),
        PreTokenizer::Qwen2 => split(QWEN2),
        PreTokenizer::LlamaBpe => split(LLAMA_BPE),
    }
}

/// The pre-tokenizer of a tokenizer.json, if it is a supported one.
pub fn from_json(value: &Value) -> Option<PreTokenizer> {
    PreTokenizer::ALL.into_iter().find(|&known| to_json(known) == *value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    fn check(name: PreTokenizer, text: &str, expected: &[&str]) {
        let mut pieces = Vec::new();
        Splitter::new(name).split(text, |piece| pieces.push(piece));
        assert_eq!(pieces, expected, "{}", name.name());
    }

    #[test]
    fn each_regex_cuts_as_its_model_does() {
        let text = "It's 1234 days,\n\nl'ÉTÉ DON'T";
        check(
            PreTokenizer::Gpt2,
            text,
            &["It", "'s", " 1234", " days", ",", "\n", "\n", "l", "'", "ÉTÉ", " DON", "'", "T"],
        );
        check(
            PreTokenizer::Smollm,
            text,
            &[
                "It", "'s", " ", "1", "2", "3", "4", " days", ",", "\n", "\n", "l", "'", "ÉTÉ", " DON", "'",
                "T",
            ],
        );
        check(
            PreTokenizer::Qwen2,
            text,
            &["It", "'s", " ", "1", "2", "3", "4", " days", ",\n\n", "l", "'ÉTÉ", " DON", "'T"],
        );
        check(
            PreTokenizer::LlamaBpe,
            text,
            &["It", "'s", " ", "123", "4", " days", ",\n\n", "l", "'ÉTÉ", " DON", "'T"],
        );
    }

    #[test]
    fn pieces_are_those_of_the_library() {
        let text = "a  b\t\n 12½ x²  \r\n\r\n«été», it's…  end   ";
        for name in PreTokenizer::ALL {
            let mut ours = Vec::new();
            Splitter::new(name).split(text, |piece| ours.push(crate::byte_level::spell(piece.as_bytes())));
            let library: tokenizers::PreTokenizerWrapper = serde_json::from_value(to_json(name)).unwrap();
            let mut theirs = PreTokenizedString::from(text);
            library.pre_tokenize(&mut theirs).unwrap();
            let theirs = theirs.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
            assert_eq!(
                ours,
                theirs.iter().map(|split| split.0.to_owned()).collect::<Vec<_>>(),
                "{}",
                name.name()
            );
            assert_eq!(from_json(&to_json(name)), Some(name));
        }
    }

    /// The pieces by the regexes themselves.
    fn by_regex(name: PreTokenizer, text: &str) -> Vec<String> {
        let regex = match name {
            PreTokenizer::Gpt2 | PreTokenizer::Smollm => GPT2,
            PreTokenizer::Qwen2 => QWEN2,
            PreTokenizer::LlamaBpe => LLAMA_BPE,
        };
        let regex = SysRegex::new(regex).unwrap();
        let mut pieces = Vec::new();
        let sections: Vec<&str> = match name {
            PreTokenizer::Smollm => text.split_inclusive(char::is_numeric).collect(),
            _ => vec![text],
        };
        for section in sections {
            let digit =
                section.chars().next_back().filter(|c| name == PreTokenizer::Smollm && c.is_numeric());
            let (section, digit) = section.split_at(section.len() - digit.map_or(0, char::len_utf8));
            pieces.extend(regex.find_iter(section).map(|(start, end)| section[start..end].to_owned()));
            pieces.extend((!digit.is_empty()).then(|| digit.to_owned()));
        }
        pieces
    }

    fn agree(text: &str, names: &[PreTokenizer]) {
        for &name in names {
            let mut ours = Vec::new();
            Splitter::new(name).split(text, |piece| ours.push(piece.to_owned()));
            assert_eq!(ours, by_regex(name, text), "{} of {text:?}", name.name());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_are_the_regexes(text in "[ \
                                           \\t\\r\\n\u{a0}\u{2028}\u{85}'’a-eA-Dlmrstv\u{17f}éß0-3½²٣一́‍🙂.,!()_-]{0,40}") {
            agree(&text, &PreTokenizer::ALL);
        }

        #[test]
        fn pieces_of_anything_are_the_regexes(text in ".{0,60}") {
            agree(&text, &PreTokenizer::ALL);
        }
    }

    /// Each character by itself, before and after what the regexes look at.
    #[test]
    fn every_character_is_of_its_class() {
        let mut text = String::new();
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| !c.is_ascii()) {
            text.extend(
                ["a", " ", "'", "1"].iter().flat_map(|beside| [beside.chars().next(), Some(c)]).flatten(),
            );
            if text.len() > 1 << 16 {
                agree(&text, &[PreTokenizer::Gpt2, PreTokenizer::Qwen2]);
                text.clear();
            }
        }
        agree(&text, &PreTokenizer::ALL);
    }
}
