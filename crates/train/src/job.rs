//! What the loop is given and what it gives back.

use std::path::PathBuf;

use compute::Device;
use model::TrainingModel;
use runs::run::RunDir;
use serde_json::Value;
use store::fs::Fs;
use store::lock::RunLock;
use tokens::TokenDataset;

use crate::checkpoint::{Best, EpochSummary, Which};
use crate::{Patience, StopFlag, TrainOptions};

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At step 0 with weights drawn from the seed.
    #[default]
    Fresh,
    /// From a checkpoint of this run; at step 0 where it has none yet.
    Resume(Which),
}

/// One training job. The folder's lock is asked for so that nobody trains without holding it.
pub struct Job<'a> {
    /// The disk.
    pub fs: &'a dyn Fs,
    /// The run's folder.
    pub run: &'a RunDir,
    /// Proof that no one else writes there.
    pub lock: &'a RunLock,
    /// How to train; `micro_batch_size` must be what the model was made for, see [`crate::micro_batch_size`].
    pub options: &'a TrainOptions,
    /// Where to begin.
    pub start: Start,
    /// [`TrainOptions::hash`] of other options that this run is known to have trained with. A checkpoint of
    /// options that are neither these nor `options` is not continued.
    pub trained_with: &'a [String],
    /// The training tokens.
    pub training: &'a TokenDataset,
    /// The training tokens of each phase that has a mix of its own, in the order of `train.phase`; may be
    /// shorter.
    pub phases: &'a [Option<TokenDataset>],
    /// The validation tokens.
    pub validation: Option<&'a TokenDataset>,
    /// Raised to stop after saving.
    pub stop: &'a StopFlag,
    /// With a full disk.
    pub patience: Patience,
    /// Goes into `training_metrics.json` as it is: device, threads, versions. See [`crate::environment`].
    pub environment: Value,
}

/// Makes text of a model in training. The caller has the tokenizer and a decoding model to copy weights into.
pub trait Sampler<D: Device> {
    /// One continuation for each prompt, without the prompt. An error becomes a warning; training goes on.
    fn sample(
        &mut self,
        model: &mut TrainingModel<D>,
        prompts: &[String],
    ) -> std::result::Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>>;
}

/// How a job ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Completed,
    /// The flag was raised; a checkpoint holds everything.
    Stopped,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Steps done in all.
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
    /// Trained tokens in all.
    pub tokens_seen: u64,
    /// Time over all sessions.
    pub elapsed_s: f64,
    /// Trained tokens a second over the optimizer steps of this session, validation and saving not counted.
    pub tokens_per_s: f64,
    /// The newest checkpoint.
    pub last_checkpoint: Option<PathBuf>,
    /// The checkpoint with the lowest validation loss, where there is one.
    pub best_checkpoint: Option<PathBuf>,
    /// What `training_metrics.json` in the run's folder holds.
    pub training_metrics: Value,
}
