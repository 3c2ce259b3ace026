//! `[[train.phase]]`: its keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::MixOptions;

/// One part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseOptions {
    /// What it is called in logs, such as "broad" or "cooldown".
    #[schemars(length(min = 1))]
    pub name: String,
    /// Part of the run's steps. All phases have this, or all have `steps` or `tokens`.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Optimizer steps.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Tokens to train on, rounded up to whole steps.
    #[schemars(range(min = 1))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Tokens a sequence; divides train.sequence_length, which it is by default. A step covers as many tokens
    /// as in other phases.
    #[schemars(range(min = 2, max = 1_048_576))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_length: Option<usize>,
    /// What of each entry of data.paths is learned from in this phase; without it, what data.mix makes for
    /// the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixOptions>,
    /// How the learning rate moves within the phase. Where one phase has this, all have; without,
    /// train.schedule runs over the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<PhaseSchedule>,
    /// Where it begins; by default where the phase before ended, and in the first one at train.learning_rate
    /// after the run's warm-up.
    #[schemars(range(min = 1e-12, max = 10.0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Where it ends; by default train.learning_rate times train.minimum_learning_rate_ratio.
    #[schemars(range(min = 0.0, max = 10.0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_learning_rate: Option<f64>,
    /// Steps that go in a straight line from where the phase before ended to `learning_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
}

/// The course of the learning rate within a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseSchedule {
    /// Stays where it begins.
    Constant,
    /// A straight line to where it ends.
    Linear,
    /// Half a cosine to where it ends.
    Cosine,
    /// 1 − √progress: fast, then slow (Hägele et al. 2024).
    Sqrt,
}

impl PhaseOptions {
    /// Its steps, where it does not have a share of the run's.
    pub(crate) fn own_steps(&self, step_tokens: u64) -> Option<u64> {
        self.steps.or(self.tokens.map(|tokens| tokens.div_ceil(step_tokens)))
    }
}
