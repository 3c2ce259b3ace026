//! The recipe's `[validate]` and `[export]`: what a finished model must meet, and what is written of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[validate]`: samples to write, and limits that a model must meet; a limit left out is measured but not
/// enforced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidateOptions {
    /// Prompts to sample from. Empty: the opening words of a validation document of each language.
    pub prompts: Vec<String>,
    /// Tokens of each sample.
    #[schemars(range(min = 1, max = 4096))]
    pub sample_tokens: usize,
    /// Sampling temperature; 0 takes the likeliest token every time.
    #[schemars(range(min = 0.0, max = 5.0))]
    pub temperature: f64,
    /// Keep only the likeliest tokens whose probabilities reach this sum.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub top_p: f64,
    /// Times that generation is timed for the p95 latency.
    #[schemars(range(min = 1, max = 1000))]
    pub latency_runs: usize,
    /// Tokens of one timed generation.
    #[schemars(range(min = 1, max = 4096))]
    pub latency_tokens: usize,
    /// Highest validation loss, in nats a token.
    #[schemars(range(min = 0.0, max = 20.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_validation_loss: Option<f64>,
    /// Highest validation loss minus training loss, in nats a token.
    #[schemars(range(min = 0.0, max = 20.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_loss_gap: Option<f64>,
    /// Highest share of repeated 4-grams in the samples (0 = none repeats, 1 = one phrase for ever).
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_repetition: Option<f64>,
    /// Highest resident memory of a process that generates, in MB (10^6 bytes).
    #[schemars(range(min = 1.0, max = 1e7))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_rss_mb: Option<f64>,
    /// Highest 95th percentile of the time to generate `latency_tokens`, in milliseconds.
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

/// Which checkpoint of a run is validated and exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointChoice {
    /// The one with the lowest validation loss.
    #[default]
    Best,
    /// The last one.
    Latest,
}

/// `[export]`: the folder `model/` that other programs load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportOptions {
    /// Write `model/` at the end of a run.
    pub enabled: bool,
    /// Which checkpoint to validate and export.
    pub checkpoint: CheckpointChoice,
    /// Licence named in the model card (an SPDX identifier or Hugging Face's name); empty: none is named.
    pub license: String,
    /// Languages named in the model card (ISO 639-1). Empty: those found in the corpus.
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
