//! Normalizers and pre-tokenizers of other programs: those of the library, except that regular expressions
//! are run by `patterns`, which tells failures.

use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;
use tokenizers::normalizer::SplitDelimiterBehavior;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

use crate::patterns::Finder;
use crate::{Error, Result};

/// The `normalizer` of tokenizer.json.
#[derive(Debug)]
pub enum Normalization {
    Sequence(Vec<Normalization>),
    Replace { pattern: Finder, content: String },
    Library(Box<NormalizerWrapper>),
}

/// The `pre_tokenizer` of tokenizer.json.
#[derive(Debug)]
pub enum Splitting {
    Sequence(Vec<Splitting>),
    Split {
        pattern: Finder,
        behavior: SplitDelimiterBehavior,
        inverted: bool,
    },
    /// Splits as GPT-2 does and writes the bytes in its alphabet.
    Gpt2 {
        adds_space: bool,
    },
    Library(Box<PreTokenizerWrapper>),
}

impl Normalization {
    /// Reads it; the tokenizer.json at `path` contains one.
    pub fn read(json: &Value, path: &Path) -> Result<Normalization> {
        let refuse = |problem: String| Error::unsupported(path, "normalizer", problem);
        match json["type"].as_str() {
            Some("Sequence") if json["normalizers"].is_array() => {
                let parts = json["normalizers"].as_array().into_iter().flatten();
                let parts = parts.map(|part| Normalization::read(part, path)).collect::<Result<_>>()?;
                Ok(Normalization::Sequence(parts))
            }
            Some("Replace") if json["pattern"]["Regex"].is_string() => {
                let pattern = Finder::new(json["pattern"]["Regex"].as_str().unwrap_or_default());
                let pattern =
                    pattern.map_err(|problem| refuse(format!("has a Replace whose pattern {problem}")))?;
                let content = json["content"].as_str();
                let content =
                    content.ok_or_else(|| refuse("has a Replace without `content`".into()))?.to_owned();
                Ok(Normalization::Replace { pattern, content })
            }
            _ => NormalizerWrapper::deserialize(json)
                .map(|normalizer| Normalization::Library(Box::new(normalizer)))
                .map_err(|error| refuse(format!("cannot be read: {error}"))),
        }
    }
}

impl Normalizer for Normalization {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        match self {
            Normalization::Sequence(parts) => parts.iter().try_for_each(|part| part.normalize(text)),
            Normalization::Replace { pattern, content } => text.replace(pattern, content),
            Normalization::Library(normalizer) => normalizer.normalize(text),
        }
    }
}

impl Splitting {
    /// Reads it; the tokenizer.json at `path` contains one.
    pub fn read(json: &Value, path: &Path) -> Result<Splitting> {
        let refuse = |problem: String| Error::unsupported(path, "pre_tokenizer", problem);
        let unreadable = |error: serde_json::Error| refuse(format!("cannot be read: {error}"));
        match json["type"].as_str() {
            Some("Sequence") if json["pretokenizers"].is_array() => {
                let parts = json["pretokenizers"].as_array().into_iter().flatten();
                let parts = parts.map(|part| Splitting::read(part, path)).collect::<Result<_>>()?;
                Ok(Splitting::Sequence(parts))
            }
            Some("Split") if json["pattern"]["Regex"].is_string() => {
                let pattern = Finder::new(json["pattern"]["Regex"].as_str().unwrap_or_default())
                    .map_err(|problem| refuse(format!("has a Split whose pattern {problem}")))?;
                let behavior = SplitDelimiterBehavior::deserialize(&json["behavior"]).map_err(unreadable)?;
                let inverted = json["invert"].as_bool();
                let inverted = inverted.ok_or_else(|| refuse("has a Split without `invert`".into()))?;
                Ok(Splitting::Split { pattern, behavior, inverted })
            }
            Some("ByteLevel") => {
                let byte_level = ByteLevel::deserialize(json).map_err(unreadable)?;
                Ok(match byte_level.use_regex {
                    true => Splitting::Gpt2 { adds_space: byte_level.add_prefix_space },
                    false => Splitting::Library(Box::new(byte_level.into())),
                })
            }
            _ => PreTokenizerWrapper::deserialize(json)
                .map(|pre_tokenizer| Splitting::Library(Box::new(pre_tokenizer)))
                .map_err(unreadable),
        }
    }
}

impl PreTokenizer for Splitting {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            Splitting::Sequence(parts) => parts.iter().try_for_each(|part| part.pre_tokenize(text)),
            Splitting::Split { pattern, behavior, inverted: false } => {
                text.split(|_, part| part.split(pattern, *behavior))
            }
            Splitting::Split { pattern, behavior, inverted: true } => {
                text.split(|_, part| part.split(Invert(pattern), *behavior))
            }
            Splitting::Gpt2 { adds_space } => {
                text.split(|_, mut part| {
                    if *adds_space && !part.get().starts_with(' ') {
                        part.prepend(" ");
                    }
                    part.split(&Finder::GPT2, SplitDelimiterBehavior::Isolated)
                })?;
                ByteLevel::new(false, false, false).pre_tokenize(text)
            }
            Splitting::Library(pre_tokenizer) => pre_tokenizer.pre_tokenize(text),
        }
    }
}
