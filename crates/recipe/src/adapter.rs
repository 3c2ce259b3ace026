//! The recipe's `[adapter]`: low-rank adapters to train instead of the weights.

use std::collections::BTreeSet;

use model::{AdapterConfig, DType, Module, WeightTypes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[adapter]`: train low-rank adapters (LoRA) on a frozen model, which `train.init` names. Without this
/// section all weights are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterOptions {
    /// Train adapters; false trains all weights, as without this section.
    pub enabled: bool,
    /// Rank of the adapters.
    #[schemars(range(min = 1, max = 4096))]
    pub rank: usize,
    /// Scale: an adapter's output is multiplied by alpha / rank.
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub alpha: f64,
    /// Dropout probability of an adapter's input while training.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub dropout: f64,
    /// Multiply by alpha / √rank instead (rsLoRA): keeps the scale at high ranks.
    pub rank_stabilized: bool,
    /// Train the norm of each row of the adapted weights too (DoRA): closer to full fine-tuning at low ranks,
    /// for a third more time.
    pub dora: bool,
    /// Linear layers that have an adapter, in every block.
    #[schemars(length(min = 1))]
    pub target_modules: BTreeSet<Module>,
    /// How the frozen weights are kept in memory.
    pub base: BaseFormat,
}

/// The type of frozen weights in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaseFormat {
    /// The type of matrix products: bf16 where train.precision is bf16, otherwise f32.
    #[default]
    Auto,
    /// 16 bits a weight.
    Bf16,
    /// 8 bits a weight (GGUF's Q8_0).
    Q8_0,
    /// 4.5 bits a weight (GGUF's Q4_0).
    Q4_0,
    /// 4.25 bits a weight: 16 quantiles of a normal distribution (NormalFloat, as QLoRA has it).
    Nf4,
}

impl Default for AdapterOptions {
    fn default() -> AdapterOptions {
        let AdapterConfig { rank, alpha, rank_stabilized, dora, target_modules, .. } =
            AdapterConfig::default();
        AdapterOptions {
            enabled: true,
            rank,
            alpha,
            dropout: 0.05,
            rank_stabilized,
            dora,
            target_modules,
            base: BaseFormat::Auto,
        }
    }
}

impl AdapterOptions {
    /// The adapters' shape, and how they are trained.
    pub fn config(&self) -> AdapterConfig {
        AdapterConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout as f32,
            rank_stabilized: self.rank_stabilized,
            dora: self.dora,
            target_modules: self.target_modules.clone(),
        }
    }

    /// Types in which frozen matrices are kept; `None`: that of products. Embedding and output layer take 16
    /// bits at least.
    pub fn frozen(&self) -> Option<WeightTypes> {
        let hidden = match self.base {
            BaseFormat::Auto => return None,
            BaseFormat::Bf16 => DType::Bf16,
            BaseFormat::Q8_0 => DType::Q8_0,
            BaseFormat::Q4_0 => DType::Q4_0,
            BaseFormat::Nf4 => DType::Nf4,
        };
        Some(WeightTypes::Layers { hidden, ends: DType::Bf16 })
    }
}
