//! The recipe's `[model.rope_scaling]`, under the names of Hugging Face's configurations.

use formats::hf::RopeScaling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scaling of rotary positions beyond the context of the original training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rope_type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScalingOptions {
    /// Positions are divided by `factor`.
    Linear {
        /// Factor by which the context grows.
        #[schemars(range(min = 1.0, max = 1e4))]
        factor: f64,
    },
    /// NTK-aware: the base grows with the sequence once it exceeds `max_position_embeddings`.
    Dynamic {
        /// Factor by which the context grows.
        #[schemars(range(min = 1.0, max = 1e4))]
        factor: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        /// Factor by which the context grows.
        #[schemars(range(min = 1.0, max = 1e4))]
        factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// Llama 3.1's rule.
    Llama3 {
        /// Factor by which the context grows.
        #[schemars(range(min = 1.0, max = 1e4))]
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided by `factor`.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl From<RopeScalingOptions> for RopeScaling {
    fn from(options: RopeScalingOptions) -> RopeScaling {
        match options {
            RopeScalingOptions::Linear { factor } => RopeScaling::Linear { factor },
            RopeScalingOptions::Dynamic { factor } => RopeScaling::Dynamic { factor },
            RopeScalingOptions::Yarn { factor, original_max_position_embeddings } => RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor: None,
                beta_fast: None,
                beta_slow: None,
            },
            RopeScalingOptions::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            },
        }
    }
}
