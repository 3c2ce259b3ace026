//! `trainer.json`: everything beside the tensors that decides the next step.
//!
//! Random numbers need no place here: every stream is derived from the seed and counters. Times are kept out
//! (they are in `metrics.jsonl`), so that the same training gives the same file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokens::LoaderCursor;

use crate::TrainOptions;
use crate::spike::SpikeWindow;

/// Where a run stands after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Version of this structure.
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// Optimizer updates done: steps less those skipped because something was not finite. AdamW's bias
    /// correction counts these.
    pub updates: u64,
    /// Steps of the whole run, by the options below.
    pub total_steps: u64,
    /// Validation, epoch end and samples of `step` are still to be done: the run was stopped in the middle of
    /// them.
    pub duties_due: bool,
    /// The next sequence.
    pub cursor: LoaderCursor,
    /// Whose data the cursor is of: of the phase of this index, or of all that have no mix of their own.
    pub stream: Option<usize>,
    /// Where loaders were left that serve other phases' mixes, by the index of the first such phase; "all"
    /// for the run's own data.
    pub left: BTreeMap<String, LeftStream>,
    /// Trained tokens so far.
    pub tokens_seen: u64,
    /// The epoch under way.
    pub epoch: EpochLoss,
    /// Epochs done.
    pub history: Vec<EpochSummary>,
    /// Loss of the last finite step.
    pub train_loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// The lowest validation loss.
    pub best: Option<Best>,
    /// Validations since then, none of them better.
    pub validations_since_best: u64,
    /// There were so many of them that the run has ended.
    pub stopped_early: bool,
    /// The step after which they made the final decay begin, earlier than planned: the run ends with it.
    pub decaying_after: Option<u64>,
    /// Steps in a row, up to this one, whose loss or gradient was not finite.
    pub non_finite_in_a_row: u64,
    /// All such steps.
    pub non_finite_steps: u64,
    /// The last two checkpoints to roll back to: those that every course of this run has, stopped or not.
    pub anchors: Vec<u64>,
    /// Recent losses, by which a spike is noticed.
    pub spikes: SpikeWindow,
    /// What was rolled back so far.
    pub rollbacks: Rollbacks,
    /// The options, with what the program chose written out.
    pub options: TrainOptions,
    /// The model's shape.
    pub model: Value,
    /// BLAKE3 of the token shards' manifest.
    pub data_hash: String,
    /// BLAKE3 of the tokenizer.
    pub tokenizer_hash: String,
}

/// Where a loader was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftStream {
    /// Its next sequence.
    pub cursor: LoaderCursor,
    /// Its epoch under way.
    pub epoch: EpochLoss,
}

/// Rollbacks of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollbacks {
    /// All.
    pub count: u64,
    /// In a row, without a stretch of sound steps between them.
    pub tries: u64,
    /// The step that the last one began at.
    pub last_trouble: u64,
}

/// Sums over the epoch under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochLoss {
    /// From 0, as the loader counts.
    pub epoch: u64,
    /// Of the weighted losses.
    pub loss_sum: f64,
    /// Of the weights.
    pub weight_sum: f64,
    /// Trained tokens.
    pub tokens: u64,
}

/// An epoch that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSummary {
    /// From 1.
    pub epoch: u64,
    /// The step that ended it.
    pub step: u64,
    /// Mean over its trained tokens, each under the weights of its step.
    pub train_loss: f64,
    /// After it.
    pub validation_loss: Option<f64>,
    /// Trained tokens.
    pub tokens: u64,
}

/// The best validation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After which step.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
}

impl TrainerState {
    /// The version that this program writes and reads.
    pub const FORMAT: u32 = 3;
}
