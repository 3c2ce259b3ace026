//! The pre-tokenizers: regexes as llama.cpp and Hugging Face define them, and their spelling in tokenizer.json.
//!
//! A self-trained vocabulary loads in llama.cpp only under one of the names it knows, and gives the same ids there only
//! if it was trained with the regex behind that name. The engine is the one the library encodes with.

use std::ops::Range;

use serde_json::{Value, json};
use tokenizers::utils::SysRegex;

use crate::{Error, PreTokenizer, Result};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA_BPE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Cuts text into pieces.
#[derive(Debug)]
pub struct Splitter {
    regex: SysRegex,
    /// Cut at every digit first (smollm).
    digits: bool,
}

impl Splitter {
    pub fn new(pre_tokenizer: PreTokenizer) -> Result<Splitter> {
        let regex = match pre_tokenizer {
            PreTokenizer::Gpt2 | PreTokenizer::Smollm => GPT2,
            PreTokenizer::Qwen2 => QWEN2,
            PreTokenizer::LlamaBpe => LLAMA_BPE,
        };
        let regex = SysRegex::new(regex).map_err(Error::library("read a pre-tokenizer's regex"))?;
        Ok(Splitter { regex, digits: pre_tokenizer == PreTokenizer::Smollm })
    }

    /// Calls `found` with each piece, in order; together they are the text.
    pub fn split<'t>(&self, text: &'t str, mut found: impl FnMut(&'t str)) {
        if !self.digits {
            return self.split_section(text, 0..text.len(), &mut found);
        }
        let mut start = 0;
        for (at, digit) in text.char_indices().filter(|(_, character)| character.is_numeric()) {
            self.split_section(text, start..at, &mut found);
            start = at + digit.len_utf8();
            found(&text[at..start]);
        }
        self.split_section(text, start..text.len(), &mut found);
    }

    fn split_section<'t>(&self, text: &'t str, section: Range<usize>, found: &mut impl FnMut(&'t str)) {
        let section = &text[section];
        let mut end = 0;
        for (start, stop) in self.regex.find_iter(section) {
            // The regexes cover all text; what one might leave out is a piece all the same, as in the library.
            if end < start {
                found(&section[end..start]);
            }
            found(&section[start..stop]);
            end = stop;
        }
        if end < section.len() {
            found(&section[end..]);
        }
    }
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

/// Which pre-tokenizer a tokenizer.json has, when it is one of ours.
pub fn from_json(value: &Value) -> Option<PreTokenizer> {
    PreTokenizer::ALL.into_iter().find(|&known| to_json(known) == *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    fn check(name: PreTokenizer, text: &str, expected: &[&str]) {
        let mut pieces = Vec::new();
        Splitter::new(name).unwrap().split(text, |piece| pieces.push(piece));
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
            Splitter::new(name)
                .unwrap()
                .split(text, |piece| ours.push(crate::byte_level::spell(piece.as_bytes())));
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
}
