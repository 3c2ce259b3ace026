//! The recipe's `[validate]` and `[export]`: limits that a finished model must meet, and what to write.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[validate]`: samples to generate, and limits that the model must meet. A value without a limit is
/// measured but not enforced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateOptions {
    /// Prompts of samples. Empty: the first words of a validation document of each language.
    pub prompts: Vec<String>,
    /// Number of tokens per sample.
    #[schemars(range(min = 1, max = 4096))]
    pub sample_tokens: usize,
    /// Sampling temperature; 0 means greedy decoding.
    #[schemars(range(min = 0.0, max = 5.0))]
    pub temperature: f64,
    /// Sample from the smallest set of most likely tokens with this total probability.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub top_p: f64,
    /// Number of timed generations for the p95 latency.
    #[schemars(range(min = 1, max = 1000))]
    pub latency_runs: usize,
    /// Number of tokens per timed generation.
    #[schemars(range(min = 1, max = 4096))]
    pub latency_tokens: usize,
    /// Maximum validation loss, in nats per token.
    #[schemars(range(min = 0.0, max = 20.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_validation_loss: Option<f64>,
    /// Maximum difference between validation and training loss, in nats per token.
    #[schemars(range(min = 0.0, max = 20.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_loss_gap: Option<f64>,
    /// Maximum fraction of repeated 4-grams in the samples (0: no repetition; 1: one phrase repeated
    /// throughout).
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_repetition: Option<f64>,
    /// Maximum peak RSS while generating, in MB (10^6 bytes).
    #[schemars(range(min = 1.0, max = 1e7))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_rss_mb: Option<f64>,
    /// Maximum 95th percentile of the time to generate `latency_tokens` tokens, in milliseconds.
    #[schemars(range(min = 0.001, max = 1e7))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_p95_ms: Option<f64>,
}

impl Default for ValidateOptions {
    fn default() -> ValidateOptions {
        ValidateOptions {
            prompts: Vec::new(),
            sample_tokens: 64,
            temperature: 0.8,
            top_p: 0.95,
            latency_runs: 20,
            latency_tokens: 32,
            maximum_validation_loss: None,
            maximum_loss_gap: None,
            maximum_repetition: None,
            maximum_rss_mb: None,
            maximum_p95_ms: None,
        }
    }
}

/// The checkpoint of a run that is validated and exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointChoice {
    /// The checkpoint with the lowest validation loss.
    #[default]
    Best,
    /// The last checkpoint.
    Latest,
}

/// `[export]`: the folder `model/` that other programs load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportOptions {
    /// Write `model/` at the end of a run.
    pub enabled: bool,
    /// Checkpoint to validate and export.
    pub checkpoint: CheckpointChoice,
    /// License in the model card (an SPDX identifier or Hugging Face's name). Empty: none.
    pub license: String,
    /// Languages in the model card (ISO 639-1). Empty: those detected in the corpus.
    pub languages: Vec<String>,
}

impl Default for ExportOptions {
    fn default() -> ExportOptions {
        ExportOptions {
            enabled: true,
            checkpoint: CheckpointChoice::Best,
            license: String::new(),
            languages: Vec::new(),
        }
    }
}
