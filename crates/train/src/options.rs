//! `[train]` of the recipe: every knob of the loop, with its default here and nowhere else.

use compute::Target;
use model::{LearningRateScales, Optimizer, Precision, Trainable, Training, Update};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phase_options::PhaseOptions;
use crate::precision;
use crate::schedule::{DecayShape, ScheduleKind};
use crate::{Error, Result};

/// How to train. All losses are in nats a token; a step is one optimizer update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainOptions {
    /// Passes over the training data. Without `epochs` and `steps`: 1.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: Option<u64>,
    /// Optimizer steps, instead of `epochs`.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Sequences an optimizer step.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub batch_size: usize,
    /// Sequences that go through the model at once; divides `batch_size`. 0: chosen from the model's shape.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub micro_batch_size: usize,
    /// Tokens a sequence.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub sequence_length: usize,
    /// Arithmetic of training. auto: bf16 where the device multiplies it, else f32.
    #[serde(with = "precision")]
    #[schemars(with = "precision::Schema")]
    pub precision: Option<Precision>,
    /// Keep less of the forward and compute it again in the backward (activation checkpointing): less memory,
    /// about a quarter more time, not a bit of difference.
    #[schemars(extend("x-change" = "reporting"))]
    pub recompute: bool,
    /// The highest learning rate, reached after the warm-up.
    #[schemars(extend("x-change" = "tunable"), range(min = 1e-12, max = 10.0))]
    pub learning_rate: f64,
    /// Where cosine, linear and wsd end, as a share of `learning_rate`.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1.0))]
    pub minimum_learning_rate_ratio: f64,
    /// How the learning rate moves after the warm-up.
    #[schemars(extend("x-change" = "tunable"))]
    pub schedule: ScheduleKind,
    /// Steps of linear warm-up. Without it: `warmup_ratio` of all steps.
    #[schemars(extend("x-change" = "tunable"))]
    pub warmup_steps: Option<u64>,
    /// Share of all steps that warm up.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1.0))]
    pub warmup_ratio: f64,
    /// Share of all steps in which wsd decays, at the end.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1.0))]
    pub decay_fraction: f64,
    /// The curve of wsd's decay.
    #[schemars(extend("x-change" = "tunable"))]
    pub decay_shape: DecayShape,
    /// The run in parts, each with its own length, context and course of the learning rate, as
    /// `[[train.phase]]` tables. None: one part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phase: Vec<PhaseOptions>,
    /// The rule that updates the matrices of the layers.
    pub optimizer: Optimizer,
    /// Factors on the learning rate by kind of parameter.
    #[schemars(extend("x-change" = "tunable"))]
    pub learning_rate_scales: LearningRateScales,
    /// Muon's decay of the mean of gradients.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 0.999_999))]
    pub momentum: f64,
    /// AdamW's decay of the mean of gradients.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 0.999_999))]
    pub beta1: f64,
    /// AdamW's decay of the mean of squared gradients.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 0.999_999))]
    pub beta2: f64,
    /// AdamW's epsilon.
    #[schemars(extend("x-change" = "tunable"), range(min = 1e-30, max = 0.1))]
    pub epsilon: f64,
    /// Decoupled decay of matrices; norms and biases are left alone.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0: no clipping.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1e9))]
    pub gradient_clip: f64,
    /// Decay a step of a moving average of the weights (EMA), which is then what is validated, sampled and
    /// exported; usual are 0.99 to 0.9999. 0: no average.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub ema_decay: f64,
    /// Validations in a row without a new best after which the run ends (early stopping). 0: never.
    #[schemars(extend("x-change" = "tunable"))]
    pub early_stopping: u64,
    /// Times in a row to go back to the last good checkpoint and leave out the batches since, when the loss
    /// spikes or is not finite; then the run stops. 0: never go back.
    #[schemars(extend("x-change" = "tunable"), range(min = 0, max = 100))]
    pub rollbacks: u64,
    /// Decides initial weights, the order of data and dropout.
    pub seed: u64,
    /// Steps between validations; 0: only at the end of each epoch.
    #[schemars(extend("x-change" = "tunable"))]
    pub validate_every: u64,
    /// Steps between samples; 0: only at the end of the run.
    #[schemars(extend("x-change" = "reporting"))]
    pub sample_every: u64,
    /// What samples begin with; none: no samples during training.
    #[schemars(extend("x-change" = "reporting"))]
    pub sample_prompts: Vec<String>,
    /// Tokens of a sample.
    #[schemars(extend("x-change" = "reporting"), range(min = 1, max = 4096))]
    pub sample_max_new_tokens: usize,
    /// Temperature of samples.
    #[schemars(extend("x-change" = "reporting"), range(min = 0.0, max = 10.0))]
    pub sample_temperature: f64,
    /// Steps between checkpoints; 0: only at the end of each epoch.
    #[schemars(extend("x-change" = "tunable"))]
    pub checkpoint_every: u64,
    /// Newest verified checkpoints to keep, beside the best one.
    #[schemars(extend("x-change" = "reporting"), range(min = 1, max = 10_000))]
    pub keep_last: usize,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions {
            epochs: None,
            steps: None,
            batch_size: 16,
            micro_batch_size: 0,
            sequence_length: 256,
            precision: None,
            recompute: false,
            learning_rate: 1e-3,
            minimum_learning_rate_ratio: 0.1,
            schedule: ScheduleKind::Wsd,
            warmup_steps: None,
            warmup_ratio: 0.02,
            decay_fraction: 0.2,
            decay_shape: DecayShape::Sqrt,
            phase: Vec::new(),
            optimizer: Optimizer::Muon,
            learning_rate_scales: LearningRateScales::default(),
            momentum: 0.95,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            gradient_clip: 1.0,
            ema_decay: 0.0,
            early_stopping: 0,
            rollbacks: 3,
            seed: 42,
            validate_every: 0,
            sample_every: 0,
            sample_prompts: Vec::new(),
            sample_max_new_tokens: 48,
            sample_temperature: 0.8,
            checkpoint_every: 0,
            keep_last: 2,
        }
    }
}

impl TrainOptions {
    /// The arithmetic of training: what is asked for, or what the device is fastest with.
    pub fn settled_precision(&self, target: Target) -> Precision {
        self.precision.unwrap_or(if target.has_bf16() { Precision::Bf16 } else { Precision::F32 })
    }

    /// What the model is laid out for on a device.
    pub fn training(&self, micro_batch_size: usize, target: Target) -> Training {
        Training {
            batch_size: micro_batch_size,
            sequence_length: self.sequence_length,
            precision: self.settled_precision(target),
            recompute: self.recompute,
            optimizer: self.optimizer,
            average: self.ema_decay > 0.0,
            trainable: Trainable::All,
            logits_bytes: target.logits_bytes(),
        }
    }

    /// The optimizer's step number `updates`, from 1.
    pub fn update(&self, learning_rate: f64, updates: u64) -> Update {
        Update {
            learning_rate: learning_rate as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            epsilon: self.epsilon as f32,
            momentum: self.momentum as f32,
            weight_decay: self.weight_decay as f32,
            max_gradient_norm: self.gradient_clip as f32,
            step: updates,
            scales: self.learning_rate_scales,
        }
    }

    /// The decay of the weights' average at a step: less at first, so that what the run began with is soon
    /// forgotten.
    pub fn ema_decay_at(&self, updates: u64) -> f64 {
        self.ema_decay.min((1.0 + updates as f64) / (10.0 + updates as f64))
    }

    /// Refuses an arithmetic that the device has not.
    pub fn check_precision(&self, target: Target) -> Result<()> {
        if self.settled_precision(target) == Precision::F32 || target.has_bf16() {
            return Ok(());
        }
        let message = "bf16 needs a CPU with AVX512-BF16 (or a GPU), which this machine does not have: a new run can \
                       use \"auto\" or \"f32\"; a run that began in bf16 can only be continued on such a machine"
            .to_owned();
        Err(Error::Option { key: "precision".to_owned(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_toml() {
        let options = TrainOptions::default();
        assert_eq!(options.problems(), []);
        assert_eq!(toml::from_str::<TrainOptions>(&toml::to_string(&options).unwrap()).unwrap(), options);
        assert_eq!(toml::from_str::<TrainOptions>("").unwrap(), options);
        let given: TrainOptions =
            toml::from_str("schedule = \"linear\"\ndecay_shape = \"linear\"\nsteps = 7").unwrap();
        assert_eq!(given.schedule, ScheduleKind::Linear);
        assert_eq!(given.epochs_wanted(), None);
        assert_eq!(options.epochs_wanted(), Some(1));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let message = toml::from_str::<TrainOptions>("lerning_rate = 1").unwrap_err().to_string();
        assert!(message.contains("lerning_rate") && message.contains("learning_rate"), "{message}");
    }
}
