//! The recipe's `[tokenizer]`: what to train, with defaults and checks.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The largest vocabulary: ids fit 16 bits.
pub const MAX_VOCAB_SIZE: usize = 65_536;
/// The smallest vocabulary: every byte that occurs in UTF-8, and the special tokens.
pub const MIN_VOCAB_SIZE: usize = 256;

/// Kind of tokenizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Byte-level byte-pair encoding, as in most language models.
    #[default]
    Bpe,
    /// Unigram language model over the same byte alphabet (Kudo 2018). For experiments: GGUF does not support
    /// it.
    Unigram,
    /// One token per character of the text. `vocab_size` is an upper limit.
    Char,
    /// One token per byte. `vocab_size` is ignored.
    Byte,
}

/// Pre-tokenizer: how text is split into pieces before tokens are formed. Names are llama.cpp's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PreTokenizer {
    /// GPT-2: words with their leading space, numbers, punctuation, white space.
    #[serde(rename = "gpt-2")]
    Gpt2,
    /// As GPT-2, but each digit separately.
    #[serde(rename = "smollm")]
    Smollm,
    /// Qwen 2: line breaks separately, each digit separately.
    #[default]
    #[serde(rename = "qwen2")]
    Qwen2,
    /// Llama 3: as Qwen 2, but digits in groups of up to three.
    #[serde(rename = "llama-bpe")]
    LlamaBpe,
}

impl PreTokenizer {
    /// All values, for listings and tests.
    pub const ALL: [PreTokenizer; 4] =
        [PreTokenizer::Gpt2, PreTokenizer::Smollm, PreTokenizer::Qwen2, PreTokenizer::LlamaBpe];

    /// The name in recipes and in GGUF's `tokenizer.ggml.pre`.
    pub fn name(self) -> &'static str {
        match self {
            PreTokenizer::Gpt2 => "gpt-2",
            PreTokenizer::Smollm => "smollm",
            PreTokenizer::Qwen2 => "qwen2",
            PreTokenizer::LlamaBpe => "llama-bpe",
        }
    }
}

/// Strings of the four special tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpecialTokens {
    /// Beginning of a document.
    pub bos: String,
    /// End of a document; ends generation.
    pub eos: String,
    /// Padding; never trained.
    pub pad: String,
    /// Unknown character (only used by `char`).
    pub unk: String,
}

impl Default for SpecialTokens {
    fn default() -> SpecialTokens {
        SpecialTokens { bos: "<BOS>".into(), eos: "<EOS>".into(), pad: "<PAD>".into(), unk: "<UNK>".into() }
    }
}

/// The recipe's `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerOptions {
    /// Kind of tokenizer.
    pub kind: Kind,
    /// Vocabulary size, special tokens included: 256 to 65,536.
    #[schemars(range(min = 256, max = 65536))]
    pub vocab_size: usize,
    /// Pre-tokenizer: how text is split into pieces before tokens are formed.
    pub pre_tokenizer: PreTokenizer,
    /// Minimum number of occurrences for a pair of tokens to be merged.
    #[schemars(range(min = 1))]
    pub min_frequency: u64,
    /// Special token strings.
    pub special_tokens: SpecialTokens,
    /// Control tokens reserved for chat, so that fine-tuning needs no new embedding rows.
    pub chat_tokens: Vec<String>,
}

impl Default for TokenizerOptions {
    fn default() -> TokenizerOptions {
        TokenizerOptions {
            kind: Kind::Bpe,
            vocab_size: 4096,
            pre_tokenizer: PreTokenizer::Qwen2,
            min_frequency: 2,
            special_tokens: SpecialTokens::default(),
            chat_tokens: ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
                .map(String::from)
                .to_vec(),
        }
    }
}

impl TokenizerOptions {
    /// The special tokens in the order of their ids, from 0.
    pub fn special_spellings(&self) -> Vec<&str> {
        let special = &self.special_tokens;
        let four = [&special.pad, &special.bos, &special.eos, &special.unk];
        four.into_iter().chain(&self.chat_tokens).map(String::as_str).collect()
    }

    /// Checks ranges and token texts.
    ///
    /// # Errors
    /// The first invalid option, with its correction.
    pub fn validate(&self) -> Result<()> {
        if !(MIN_VOCAB_SIZE..=MAX_VOCAB_SIZE).contains(&self.vocab_size) {
            let message = format!("{} must be from {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}", self.vocab_size);
            return Err(Error::options("vocab_size", message));
        }
        if self.min_frequency == 0 {
            return Err(Error::options("min_frequency", "must be at least 1"));
        }
        let mut seen = BTreeSet::new();
        for (place, spelling) in self.special_spellings().into_iter().enumerate() {
            let key = if place < 4 { "special_tokens" } else { "chat_tokens" };
            // A single character could be a token of the text, and the library strips white space around
            // names in some places.
            if spelling.chars().count() < 2 || spelling.chars().any(|c| c.is_whitespace() || c.is_control()) {
                let message = format!(
                    "`{}` must have at least two characters and no white space",
                    spelling.escape_debug()
                );
                return Err(Error::options(key, message));
            }
            if !seen.insert(spelling) {
                return Err(Error::options(
                    key,
                    format!("`{spelling}` occurs twice: each token must be different"),
                ));
            }
        }
        let least = crate::byte_level::UTF8_BYTES + seen.len();
        if matches!(self.kind, Kind::Bpe | Kind::Unigram) && self.vocab_size < least {
            let message = format!(
                "{} is too small for all bytes and {} special tokens: use {least} or more, or fewer \
                 chat_tokens",
                self.vocab_size,
                seen.len()
            );
            return Err(Error::options("vocab_size", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(change: impl FnOnce(&mut TokenizerOptions), wanted: &str) {
        let mut options = TokenizerOptions::default();
        change(&mut options);
        let message = options.validate().unwrap_err().to_string();
        assert!(message.contains(wanted), "{message}");
    }

    #[test]
    fn bad_options_are_named() {
        TokenizerOptions::default().validate().unwrap();
        TokenizerOptions { vocab_size: 256, ..Default::default() }.validate().unwrap();
        fails(|o| o.vocab_size = 255, "tokenizer.vocab_size: 255 must be from 256 to 65536");
        fails(|o| o.vocab_size = 65_537, "65537");
        fails(|o| o.min_frequency = 0, "tokenizer.min_frequency");
        fails(|o| o.special_tokens.eos = "<BOS>".into(), "`<BOS>` occurs twice");
        fails(|o| o.special_tokens.pad = "p".into(), "`p` must have at least two characters");
        fails(|o| o.chat_tokens[0] = "a b".into(), "tokenizer.chat_tokens: `a b`");
        fails(
            |o| {
                o.vocab_size = 256;
                o.chat_tokens = (0..20).map(|i| format!("<|{i}|>")).collect();
            },
            "use 267 or more",
        );
    }

    #[test]
    fn recipe_names_are_those_of_llama_cpp() {
        for name in PreTokenizer::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
        let error = serde_json::from_str::<TokenizerOptions>(r#"{"vocabsize": 300}"#).unwrap_err();
        assert!(error.to_string().contains("vocab_size"), "{error}");
    }
}
