//! `trainer.json`: everything except tensors that determines the next step.
//!
//! Random state is not included: every stream is derived from the seed and counters. Times are not included
//! either (they are in `metrics.jsonl`), so that the same training gives the same file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokens::LoaderCursor;

use crate::TrainOptions;
use crate::spike::SpikeWindow;

/// The state of a run after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Version of the file format.
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// Optimizer updates done: steps minus those skipped because a value was not finite. AdamW's bias
    /// correction counts these.
    pub updates: u64,
    /// Steps of the whole run, according to the options below.
    pub total_steps: u64,
    /// Whether validation, end of epoch and samples of `step` are still to be done, because the run was
    /// stopped before them.
    pub duties_due: bool,
    /// Position of the loader: the next sequence.
    pub cursor: LoaderCursor,
    /// The data of the cursor: those of the phase with this index, or `None` for the run's own data.
    pub stream: Option<usize>,
    /// Positions of the loaders of other data, by the index of the first phase that uses them; "all" for the
    /// run's own data.
    pub left: BTreeMap<String, LeftStream>,
    /// Trained tokens so far.
    pub tokens_seen: u64,
    /// The current epoch.
    pub epoch: EpochLoss,
    /// Epochs done.
    pub history: Vec<EpochSummary>,
    /// Loss of the last finite step.
    pub train_loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// The lowest validation loss.
    pub best: Option<Best>,
    /// Validations since then without improvement.
    pub validations_since_best: u64,
    /// Whether early stopping has ended the run.
    pub stopped_early: bool,
    /// The step at which early stopping started the final decay; the run ends with it.
    pub decaying_after: Option<u64>,
    /// Consecutive steps, up to this one, with a loss or gradient that was not finite.
    pub non_finite_in_a_row: u64,
    /// Total number of such steps.
    pub non_finite_steps: u64,
    /// The last two anchors: checkpoints to roll back to, which exist in every run of this recipe, stopped or
    /// not.
    pub anchors: Vec<u64>,
    /// Recent losses, for spike detection.
    pub spikes: SpikeWindow,
    /// Rollbacks so far.
    pub rollbacks: Rollbacks,
    /// The options, with automatic choices resolved.
    pub options: TrainOptions,
    /// The model's shape.
    pub model: Value,
    /// BLAKE3 of the token shards' manifest.
    pub data_hash: String,
    /// BLAKE3 of the tokenizer.
    pub tokenizer_hash: String,
}

/// Position of a loader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftStream {
    /// The next sequence.
    pub cursor: LoaderCursor,
    /// Its current epoch.
    pub epoch: EpochLoss,
}

/// Counts of rollbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollbacks {
    /// Total.
    pub count: u64,
    /// Consecutive ones, without enough good steps between them.
    pub tries: u64,
    /// The step at which the last one started.
    pub last_trouble: u64,
}

/// Sums over the current epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochLoss {
    /// Number of the epoch, from 0.
    pub epoch: u64,
    /// Sum of weighted losses.
    pub loss_sum: f64,
    /// Sum of weights.
    pub weight_sum: f64,
    /// Trained tokens.
    pub tokens: u64,
}

/// A finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSummary {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// The step that ended it.
    pub step: u64,
    /// Mean training loss over its tokens, each with the weights of its step.
    pub train_loss: f64,
    /// Validation loss after the epoch.
    pub validation_loss: Option<f64>,
    /// Trained tokens.
    pub tokens: u64,
}

/// The best validation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
}

impl TrainerState {
    /// The format version that this program writes and reads.
    pub const FORMAT: u32 = 3;
}
