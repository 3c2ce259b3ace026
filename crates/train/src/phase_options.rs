//! `[[train.phase]]`: its keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::MixOptions;

/// A phase of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseOptions {
    /// Name of the phase in logs, such as "broad" or "cooldown".
    #[schemars(length(min = 1))]
    pub name: String,
    /// Length as a fraction of the run's steps. Either all phases have `share`, or all have `steps` or
    /// `tokens`.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Length in optimizer steps.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Length in training tokens, rounded up to whole steps.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Sequence length in tokens; must divide train.sequence_length, which is the default. The number of
    /// tokens per step is the same in all phases.
    #[schemars(range(min = 2, max = 1_048_576))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_length: Option<usize>,
    /// Data mix of this phase: the shares of the entries of data.paths. Default: data.mix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixOptions>,
    /// Learning-rate schedule within the phase. Set it for all phases, or for none: then train.schedule spans
    /// the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<PhaseSchedule>,
    /// Initial learning rate. Default: the final learning rate of the previous phase; for the first phase,
    /// train.learning_rate after the run's warm-up.
    #[schemars(range(min = 1e-12, max = 10.0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Final learning rate. Default: train.learning_rate times train.minimum_learning_rate_ratio.
    #[schemars(range(min = 0.0, max = 10.0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_learning_rate: Option<f64>,
    /// Number of linear warm-up steps, from the final learning rate of the previous phase to `learning_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
}

/// Learning-rate schedule within a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseSchedule {
    /// Constant at the initial learning rate.
    Constant,
    /// Linear to the final learning rate.
    Linear,
    /// Half a cosine to the final learning rate.
    Cosine,
    /// 1 − √progress: fast, then slow (Hägele et al. 2024).
    Sqrt,
}

impl PhaseOptions {
    /// The phase's length in steps, unless it is a share of the run's.
    pub(crate) fn own_steps(&self, step_tokens: u64) -> Option<u64> {
        self.steps.or(self.tokens.map(|tokens| tokens.div_ceil(step_tokens)))
    }
}
