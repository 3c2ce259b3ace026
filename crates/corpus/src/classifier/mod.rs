//! Quality classifier: hashed words and word pairs with one weight each, and a score from 0 to 5.
//!
//! The features are those of fastText's supervised mode without the embedding: with two classes the product
//! of its two matrices is one weight per feature anyway. So training is a logistic regression, deterministic,
//! and a classifier is one small file. Not here: anything that needs a language model.
//!
//! Reading order: this file, then `train`.

pub mod train;

use std::io::Read;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::atomic;
use store::fs::Fs;

use crate::{Error, Fault, Result};

/// Highest score.
pub const HIGHEST_SCORE: f64 = 5.0;
const FORMAT: &str = "text2llm-classifier-1";
/// Maximum number of weights, as a power of two.
const MOST_BITS: u32 = 26;
/// Words of a document that are scored.
const LOOKED_AT_WORDS: usize = 4096;

/// The recipe's `[data.classifier]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierOptions {
    /// Classifier file written by `data classifier train`, relative to the project folder.
    #[schemars(length(min = 1))]
    pub model: String,
    /// Drop documents with a lower score; 0 keeps all and only records the score. Default: 3, or 0 with
    /// `as_weight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 5.0))]
    pub minimum_score: Option<f64>,
    /// Use the score as a weight: keep a fraction s / 5 of documents with score s, selected by their hashes.
    pub as_weight: bool,
}

impl ClassifierOptions {
    /// FineWeb-Edu keeps documents with a score of 3 or more.
    const USUAL_MINIMUM_SCORE: f64 = 3.0;

    /// Documents with a lower score are dropped.
    pub fn minimum_score(&self) -> f64 {
        let usual = if self.as_weight { 0.0 } else { Self::USUAL_MINIMUM_SCORE };
        self.minimum_score.unwrap_or(usual)
    }
}

/// The header of a classifier file, one line before the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    format: String,
    bits: u32,
    bias: f32,
    /// BLAKE3 of the compressed weights.
    weights_hash: String,
}

/// A trained classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    bits: u32,
    bias: f32,
    weights: Vec<f32>,
}

impl Classifier {
    /// Reads a classifier file.
    ///
    /// # Errors
    /// A file that is missing, damaged, or not a classifier.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Classifier> {
        let corrupt = |message: String| Error::corrupt(path, Fault::Classifier(message));
        let io = store::Error::io("read", path);
        let mut bytes = Vec::new();
        // Compressed weights are at most slightly larger than the weights.
        let most = (4u64 << MOST_BITS) + (1 << 20);
        fs.open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(io)?;
        let end = bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| corrupt("is not a classifier".to_owned()))?;
        let header: Header = serde_json::from_slice(&bytes[..end])
            .map_err(|error| corrupt(format!("is not a classifier ({error})")))?;
        if header.format != FORMAT || !(8..=MOST_BITS).contains(&header.bits) || !header.bias.is_finite() {
            return Err(corrupt(format!("is a classifier of an unsupported format ({})", header.format)));
        }
        let packed = &bytes[end + 1..];
        if store::manifest::hash_bytes(packed) != header.weights_hash {
            return Err(corrupt("is damaged".to_owned()));
        }
        let mut raw = Vec::new();
        let expected = 4u64 << header.bits;
        zstd::Decoder::with_buffer(packed)
            .and_then(|decoder| decoder.take(expected + 1).read_to_end(&mut raw))
            .map_err(|error| corrupt(format!("is damaged ({error})")))?;
        if raw.len() as u64 != expected {
            return Err(corrupt("has weights missing".to_owned()));
        }
        let weights = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Classifier { bits: header.bits, bias: header.bias, weights })
    }

    /// Writes the classifier to a file.
    ///
    /// # Errors
    /// I/O errors.
    pub fn save(&self, fs: &dyn Fs, path: &Path) -> Result<()> {
        let raw: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let packed = zstd::encode_all(&raw[..], 9).map_err(store::Error::io("write", path))?;
        let header = Header {
            format: FORMAT.to_owned(),
            bits: self.bits,
            bias: self.bias,
            weights_hash: store::manifest::hash_bytes(&packed),
        };
        let mut bytes = serde_json::to_vec(&header)
            .map_err(|error| Error::corrupt(path, Fault::Classifier(error.to_string())))?;
        bytes.push(b'\n');
        bytes.extend(packed);
        Ok(atomic::write(fs, path, &bytes)?)
    }

    #[cfg(test)]
    pub(crate) fn of_weights(weights: Vec<f32>) -> Classifier {
        Classifier { bits: weights.len().ilog2(), bias: 0.0, weights }
    }

    /// A text's score from 0 to 5. `features` is working memory.
    pub fn score(&self, text: &str, features: &mut Vec<u32>) -> f64 {
        fill(text, self.bits, features);
        HIGHEST_SCORE * logistic(self.sum(features))
    }

    /// The sum of the features' weights, divided by the root of their number: a long text is not surer for
    /// its length alone.
    fn sum(&self, features: &[u32]) -> f64 {
        let sum: f64 = features.iter().map(|&feature| f64::from(self.weights[feature as usize])).sum();
        f64::from(self.bias) + sum / (features.len().max(1) as f64).sqrt()
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The hashes of a text's words and pairs of words, in lower case.
fn fill(text: &str, bits: u32, features: &mut Vec<u32>) {
    const FIRST: u64 = 0xcbf2_9ce4_8422_2325;
    features.clear();
    let place = |hash: u64| ((hash ^ hash >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as u32;
    let (mut before, mut words) = (FIRST, 0);
    let (mut hash, mut open) = (FIRST, false);
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() {
            open = true;
            let mut add = |c: char| hash = (hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3);
            if c.is_ascii() { add(c.to_ascii_lowercase()) } else { c.to_lowercase().for_each(add) }
        } else if open {
            features.push(place(hash));
            features.push(place(before.rotate_left(21).wrapping_mul(31) ^ hash));
            (before, hash, open) = (hash, FIRST, false);
            words += 1;
            if words == LOOKED_AT_WORDS {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use store::fs::RealFs;

    use super::*;

    #[test]
    fn a_model_is_read_as_it_was_written_and_refused_when_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("quality.model");
        let model =
            Classifier { bits: 10, bias: -0.5, weights: (0..1024).map(|i| i as f32 / 512.0 - 1.0).collect() };
        model.save(&RealFs, &path).expect("saved");
        assert_eq!(Classifier::open(&RealFs, &path).expect("opened"), model);
        let bytes = std::fs::read(&path).expect("bytes");
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            assert!(Classifier::open(&RealFs, &path).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn features_are_words_and_pairs_whatever_their_case() {
        let of = |text: &str| {
            let mut features = Vec::new();
            fill(text, 18, &mut features);
            features
        };
        assert_eq!(of("The cat; sat"), of("the CAT sat!"));
        assert_eq!(of("the cat sat").len(), 6);
        assert_ne!(of("the cat")[3], of("a cat")[3], "the pair differs");
        assert_eq!(of("the cat")[2], of("a cat")[2], "the word does not");
        assert!(of(" .,; ").is_empty());
    }
}
