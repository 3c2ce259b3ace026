//! Perplexity filter: drops documents by their perplexity under a small model that the user trained (Wenzek
//! et al. 2020, CCNet).
//!
//! Perplexities under different models are not comparable: choose limits from the histogram in the report;
//! they apply to that model only.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use compute::Batch;
use compute::cpu::Cpu;
use model::{Evaluation, Evaluator, ModelConfig, Precision, Stored, folder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::fs::Fs;
use tokenizer::Tokenizer;

use crate::{Error, Result};

/// The recipe's `[data.perplexity]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PerplexityOptions {
    /// Model folder exported by `run`, relative to the project folder. Each thread loads its own f32
    /// copy of the weights, so use a small model.
    pub model: String,
    /// Drop documents with a higher perplexity: noise, lists, other languages. Default: no limit; the report
    /// shows the distribution.
    #[schemars(range(min = 1.0))]
    pub maximum: Option<f64>,
    /// Drop documents with a lower perplexity: boilerplate and repetition. Default: no limit.
    #[schemars(range(min = 1.0))]
    pub minimum: Option<f64>,
    /// Number of tokens evaluated at the beginning of a document; at most the context of the model.
    #[schemars(range(min = 16, max = 65536))]
    pub tokens: usize,
}

impl Default for PerplexityOptions {
    fn default() -> PerplexityOptions {
        PerplexityOptions { model: String::new(), maximum: None, minimum: None, tokens: 512 }
    }
}

impl PerplexityOptions {
    /// The first invalid value, with its correction; `None` if there is none.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.model.is_empty() {
            return Some("needs a `model`: a folder exported by `run`".to_owned());
        }
        let bounds = [self.minimum, self.maximum];
        if bounds.iter().flatten().any(|bound| !bound.is_finite() || *bound < 1.0) {
            return Some("perplexities must be 1 or more".to_owned());
        }
        if self.minimum.zip(self.maximum).is_some_and(|(minimum, maximum)| minimum >= maximum) {
            return Some("minimum must be below maximum".to_owned());
        }
        (!(16..=65536).contains(&self.tokens))
            .then(|| format!("tokens = {} must be from 16 to 65536", self.tokens))
    }

    /// Files of the model folder that the result depends on.
    ///
    /// # Errors
    /// A folder without a model.
    pub(crate) fn files(&self, fs: &dyn Fs, project: &Path) -> Result<Vec<(String, PathBuf)>> {
        let model = project.join(&self.model);
        let stored = Stored::open(fs, &model).map_err(|error| self.unusable(&error))?;
        let beside = [folder::CONFIG_FILE, tokenizer::TOKENIZER_FILE].map(|name| model.join(name));
        let named = |path: PathBuf| {
            let name = path.strip_prefix(&model).unwrap_or(&path).display().to_string();
            (format!("perplexity:{}/{name}", self.model), path)
        };
        Ok(stored.files().into_iter().chain(beside).map(named).collect())
    }

    fn unusable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Options { key: "perplexity.model", message: format!("`{}`: {error}", self.model) }
    }
}

/// Computes perplexities under a model. Threads share it; each call uses a free copy of the model.
pub struct Perplexity {
    tokenizer: Tokenizer,
    /// Maximum number of tokens to predict.
    length: usize,
    first: Mutex<Evaluator<Cpu>>,
    free: Mutex<Vec<Evaluator<Cpu>>>,
    options: PerplexityOptions,
}

/// Upper limit of the mean bytes per token of a text.
const BYTES_PER_TOKEN: usize = 32;

impl Perplexity {
    /// Loads the model.
    ///
    /// # Errors
    /// A folder without a model, or with a tokenizer that does not match it.
    pub fn open(fs: &dyn Fs, project: &Path, options: &PerplexityOptions) -> Result<Perplexity> {
        let unusable = |error: &dyn std::fmt::Display| options.unusable(error);
        let path = project.join(&options.model);
        let mut stored = Stored::open(fs, &path).map_err(|error| unusable(&error))?;
        let config = stored.config().clone();
        let tokenizer = Tokenizer::open(fs, &path)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(unusable(&format!(
                "its tokenizer has {} tokens and the model {}: they do not match",
                tokenizer.vocab_size(),
                config.vocab_size
            )));
        }
        let length = options.tokens.min(config.max_position_embeddings);
        let mut first = laid_out(&config, length).map_err(|error| unusable(&error))?;
        stored.load(first.weights_mut()).map_err(|error| unusable(&error))?;
        let (first, free) = (Mutex::new(first), Mutex::new(Vec::new()));
        Ok(Perplexity { tokenizer, length, first, free, options: options.clone() })
    }

    /// The perplexity of the beginning of a text, after what the tokenizer puts before texts; `None` if
    /// there is nothing to predict.
    ///
    /// # Errors
    /// Not enough memory for another copy of the model; a text that the tokenizer fails on.
    pub fn of(&self, text: &str) -> Result<Option<f64>> {
        let beginning = &text[..text.floor_char_boundary(self.length * BYTES_PER_TOKEN)];
        let prefix = self.tokenizer.prefix_ids();
        let mut ids = [prefix, &self.tokenizer.encode(beginning)?].concat();
        ids.truncate(self.length + 1);
        // Without BOS, the first token of the text is not predicted.
        let given = prefix.len().max(1);
        if ids.len() <= given {
            return Ok(None);
        }
        let mut batch = Batch::new(1, ids.len() - 1);
        batch.tokens.copy_from_slice(&ids[..ids.len() - 1]);
        batch.targets.copy_from_slice(&ids[1..]);
        batch.weights[given - 1..].fill(1.0);
        let count = (ids.len() - given) as f64;
        let mut model = self.copy()?;
        let loss = model.evaluate(&batch) / count;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(model);
        Ok(Some(loss.exp()))
    }

    /// The reason to drop a text of this perplexity; `None` to keep it.
    pub fn filter(&self, perplexity: f64) -> Option<&'static str> {
        // NaN counts as too high.
        if self.options.maximum.is_some_and(|maximum| perplexity.is_nan() || perplexity > maximum) {
            return Some("maximum");
        }
        self.options.minimum.is_some_and(|minimum| perplexity < minimum).then_some("minimum")
    }

    fn copy(&self) -> Result<Evaluator<Cpu>> {
        if let Some(model) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(model);
        }
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let copied = laid_out(first.config(), self.length).and_then(|mut copy| {
            copy.weights_mut().copy_from(first.weights_mut())?;
            Ok(copy)
        });
        copied.map_err(Error::Perplexity)
    }
}

fn laid_out(config: &ModelConfig, length: usize) -> model::Result<Evaluator<Cpu>> {
    // f32, so that the same documents are kept on machines with and without bfloat16, up to rounding.
    Evaluator::new(Cpu::new(1), config.clone(), Evaluation::new(1, length, Precision::F32))
}

#[cfg(test)]
mod tests {
    use model::folder::TokenIds;
    use runs::report::NoReport;
    use store::fs::RealFs;
    use tokenizer::{Kind, Normalizer, TokenizerOptions};

    use super::*;

    /// A model that has learned nothing finds every token equally likely, or nearly.
    #[test]
    fn an_untrained_model_s_perplexity_is_its_vocabulary() {
        let project = tempfile::tempdir().unwrap();
        let path = project.path().join("filter");
        std::fs::create_dir(&path).unwrap();
        let options = TokenizerOptions { kind: Kind::Byte, ..TokenizerOptions::default() };
        let tokenizer = tokenizer::train([""; 0], &options, &Normalizer::text(), &mut NoReport).unwrap();
        let config = ModelConfig {
            vocab_size: tokenizer.vocab_size(),
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 2,
            head_dim: 16,
            max_position_embeddings: 64,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            attention_bias: false,
            qk_norm: false,
            sliding_window: None,
            full_attention_layers: Vec::new(),
            unrotated_layers: Vec::new(),
            dropout: 0.0,
            initializer_range: 0.02,
        };
        let mut model = laid_out(&config, 8).unwrap();
        model.weights_mut().initialize(1);
        let ids = TokenIds { bos: tokenizer.bos_id(), eos: None, pad: None };
        folder::save(&RealFs, &path, model.weights_mut(), ids).unwrap();
        tokenizer.save(&RealFs, &path, None).unwrap();

        let options = PerplexityOptions {
            model: "filter".into(),
            maximum: Some(400.0),
            ..PerplexityOptions::default()
        };
        assert_eq!(options.problem(), None);
        let filter = Perplexity::open(&RealFs, project.path(), &options).unwrap();
        let vocabulary = tokenizer.vocab_size() as f64;
        for text in ["A short text.", &"A text that is longer than what the model sees at once. ".repeat(20)]
        {
            let found = filter.of(text).unwrap().unwrap();
            assert!((found / vocabulary - 1.0).abs() < 0.2, "{found}, not {vocabulary}");
            assert_eq!(filter.of(text).unwrap(), Some(found), "a model that was used is as good as new");
            assert_eq!(filter.filter(found), None);
        }
        assert_eq!(filter.of("").unwrap(), None);
        assert_eq!((filter.filter(401.0), filter.filter(f64::NAN)), (Some("maximum"), Some("maximum")));
        let error = Perplexity::open(&RealFs, &project.path().join("nowhere"), &options).err().unwrap();
        assert!(error.to_string().starts_with("data.perplexity.model"), "{error}");
    }
}
