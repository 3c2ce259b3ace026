//! Inputs and outputs of the training loop.

use std::path::PathBuf;

use compute::Device;
use model::{Preference, TrainingModel};
use runs::run::RunDir;
use serde_json::Value;
use store::fs::Fs;
use store::lock::RunLock;
use tokens::TokenDataset;

use crate::checkpoint::{Best, EpochSummary, Which};
use crate::{Base, Patience, StopFlag, TrainOptions};

/// Where to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At step 0.
    #[default]
    Fresh,
    /// From a checkpoint of this run, or at step 0 if it has none yet.
    Resume(Which),
}

/// A training job. It requires the folder's lock, so that nobody trains without holding it.
pub struct Job<'a> {
    /// File system.
    pub fs: &'a dyn Fs,
    /// The run's folder.
    pub run: &'a RunDir,
    /// Proof that no other process writes there.
    pub lock: &'a RunLock,
    /// Training options; `micro_batch_size` must be that of the model's layout, see
    /// [`crate::micro_batch_size`].
    pub options: &'a TrainOptions,
    /// Where to start.
    pub start: Start,
    /// The weights that step 0 starts from; `None`: weights drawn from the seed.
    pub base: Option<&'a dyn Base>,
    /// How pairs of answers are learned; `None`: the data are no pairs.
    pub preference: Option<Preference>,
    /// [`TrainOptions::hash`] of other options that this run has trained with. A checkpoint with options that
    /// are neither these nor `options` is refused.
    pub trained_with: &'a [String],
    /// The training tokens.
    pub training: &'a TokenDataset,
    /// Training tokens of each phase with its own mix, in the order of `train.phase`; may be shorter.
    pub phases: &'a [Option<TokenDataset>],
    /// The validation tokens.
    pub validation: Option<&'a TokenDataset>,
    /// Raised to stop after saving.
    pub stop: &'a StopFlag,
    /// How long to wait if the disk is full.
    pub patience: Patience,
    /// Copied into `training_metrics.json`: device, threads, versions. See [`crate::environment`].
    pub environment: Value,
}

/// Generates text with the model in training. The caller has the tokenizer and a decoding model to copy
/// weights into.
pub trait Sampler<D: Device> {
    /// Returns one continuation per prompt, without the prompt. An error becomes a warning; training
    /// continues.
    fn sample(
        &mut self,
        model: &mut TrainingModel<D>,
        prompts: &[String],
    ) -> std::result::Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>>;

    /// Answers conversations of the validation data, after each validation: prompts, shortened, and answers.
    /// None by default. As [`Sampler::sample`] it must not change what training computes.
    fn answer(
        &mut self,
        _model: &mut TrainingModel<D>,
    ) -> std::result::Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Vec::new())
    }
}

/// How a job ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Completed,
    /// Stopped on request, after saving a checkpoint.
    Stopped,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Total steps done.
    pub step: u64,
    /// Steps of the run.
    pub total_steps: u64,
    /// Steps done by this session.
    pub steps_this_session: u64,
    /// Loss of the last step.
    pub train_loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// The best validation.
    pub best: Option<Best>,
    /// Epochs done.
    pub history: Vec<EpochSummary>,
    /// Total trained tokens.
    pub tokens_seen: u64,
    /// Time over all sessions.
    pub elapsed_s: f64,
    /// Trained tokens per second over the optimizer steps of this session, without validation and saving.
    pub tokens_per_s: f64,
    /// The newest checkpoint.
    pub last_checkpoint: Option<PathBuf>,
    /// The checkpoint with the lowest validation loss, if any.
    pub best_checkpoint: Option<PathBuf>,
    /// The content of `training_metrics.json` in the run's folder.
    pub training_metrics: Value,
}
