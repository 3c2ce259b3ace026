//! Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685): beside a frozen matrix W (out, in) lie A
//! (rank, in) and B (out, rank), and the layer computes W·x + s·B·A·dropout(x). With DoRA (Liu et al. 2024,
//! arXiv:2402.09353) each output is multiplied by m / ‖row of W + s·B·A‖ as well, with m trained.

use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A linear layer of a block, by Hugging Face's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The feed-forward's gate.
    GateProj,
    /// The feed-forward's input.
    UpProj,
    /// The feed-forward's output.
    DownProj,
}

impl Module {
    /// All of them.
    pub const ALL: [Module; 7] = [
        Module::QProj,
        Module::KProj,
        Module::VProj,
        Module::OProj,
        Module::GateProj,
        Module::UpProj,
        Module::DownProj,
    ];

    /// Hugging Face's name.
    pub fn name(self) -> &'static str {
        match self {
            Module::QProj => "q_proj",
            Module::KProj => "k_proj",
            Module::VProj => "v_proj",
            Module::OProj => "o_proj",
            Module::GateProj => "gate_proj",
            Module::UpProj => "up_proj",
            Module::DownProj => "down_proj",
        }
    }

    /// The modules that a name in an adapter's file stands for: itself, or those that some families fuse.
    pub(crate) fn named(name: &str) -> Vec<Module> {
        match name {
            "qkv_proj" => vec![Module::QProj, Module::KProj, Module::VProj],
            "gate_up_proj" => vec![Module::GateProj, Module::UpProj],
            _ => Module::ALL.into_iter().filter(|module| module.name() == name).collect(),
        }
    }

    /// The module whose weight has this name.
    pub(crate) fn of_weight(name: &str) -> Option<Module> {
        let name = name.strip_suffix(".weight")?.rsplit('.').next()?;
        Module::ALL.into_iter().find(|module| module.name() == name)
    }
}

/// The shape of a model's adapters, and how they are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// r: rows of A and columns of B.
    pub rank: usize,
    /// α: outputs are multiplied by α/r.
    pub alpha: f64,
    /// Probability of dropping an element of A's input while training.
    pub dropout: f32,
    /// Multiply by α/√r instead (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
    pub rank_stabilized: bool,
    /// Train the norm of each row of W + s·B·A as well (DoRA).
    pub dora: bool,
    /// The linear layers that have an adapter, in every block.
    pub target_modules: BTreeSet<Module>,
}

impl Default for AdapterConfig {
    /// Rank 16, α 32, dropout 0.05, every linear layer of the blocks.
    fn default() -> AdapterConfig {
        AdapterConfig {
            rank: 16,
            alpha: 32.0,
            dropout: 0.05,
            rank_stabilized: false,
            dora: false,
            target_modules: Module::ALL.into(),
        }
    }
}

impl AdapterConfig {
    /// What the product of B and A is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }) as f32
    }

    /// Whether a weight has an adapter.
    pub(crate) fn adapts(&self, weight: &str) -> bool {
        Module::of_weight(weight).is_some_and(|module| self.target_modules.contains(&module))
    }

    /// Whether each group of projections that some families fuse (queries, keys and values; gate and up) has
    /// adapters on all of it, or on none.
    pub fn covers_whole_groups(&self) -> bool {
        ["qkv_proj", "gate_up_proj"].into_iter().all(|fused| {
            let mut modules = Module::named(fused).into_iter().map(|m| self.target_modules.contains(&m));
            let first = modules.next();
            modules.all(|adapted| Some(adapted) == first)
        })
    }

    /// Checks that it can be built.
    ///
    /// # Errors
    /// [`Error::Adapter`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, message: String| Err(Error::Adapter { key, message });
        if !(1..=4096).contains(&self.rank) {
            return refuse("rank", format!("{} is outside 1..=4096", self.rank));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return refuse("alpha", format!("{} is not a positive number", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", format!("{} is outside 0..1", self.dropout));
        }
        if self.target_modules.is_empty() {
            return refuse("target_modules", "no module is named".to_owned());
        }
        Ok(())
    }
}

/// The name of an adapter's matrix, from that of the weight it belongs to.
pub(crate) fn parameter_name(weight: &str, matrix: char) -> String {
    format!("{}.lora_{matrix}.weight", weight.trim_end_matches(".weight"))
}

/// The name of the trained norms of a weight's rows, with DoRA.
pub(crate) fn magnitude_name(weight: &str) -> String {
    format!("{}.lora_magnitude_vector", weight.trim_end_matches(".weight"))
}

/// Whether a parameter is an adapter's.
pub(crate) fn is_adapter(name: &str) -> bool {
    name.contains(".lora_")
}
