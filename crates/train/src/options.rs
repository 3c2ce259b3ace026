//! `[train]` of the recipe: all options of the training loop, with their defaults.

use compute::Target;
use model::{LearningRateScales, Optimizer, Precision, Training, Update};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phase_options::PhaseOptions;
use crate::precision;
use crate::schedule::{DecayShape, ScheduleKind};
use crate::{Error, Result, Tuning};

/// Options of training. Losses are in nats per token; a step is one optimizer update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainOptions {
    /// Model to start from instead of random weights: a folder in Hugging Face format, a GGUF file, an
    /// adapter's folder (goes on with it), a project with a model, the folder of a run (its best checkpoint)
    /// or of its checkpoint, or hf://OWNER/NAME[@REVISION]. Its shape and tokenizer are used, so [model] and
    /// [tokenizer] have no effect, except for a longer context and another scaling of rotary positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Number of passes over the training data. Default: 1, unless `steps` is set.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: Option<u64>,
    /// Number of optimizer steps, instead of `epochs`.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Sequences per optimizer step.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub batch_size: usize,
    /// Sequences per forward and backward pass; must divide `batch_size`. The gradients of a step are
    /// accumulated. 0: chosen automatically from the model's shape.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub micro_batch_size: usize,
    /// Sequence length in tokens.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub sequence_length: usize,
    /// Precision of training. "auto": bf16 if the device has bf16 instructions, otherwise f32.
    #[serde(with = "precision")]
    #[schemars(with = "precision::Schema")]
    pub precision: Option<Precision>,
    /// Activation checkpointing: store fewer activations and recompute them in the backward pass. Needs less
    /// memory and about a quarter more time; results are bit-identical.
    #[schemars(extend("x-change" = "reporting"))]
    pub recompute: bool,
    /// Peak learning rate, reached after the warm-up.
    #[schemars(extend("x-change" = "tunable"), range(min = 1e-12, max = 10.0))]
    pub learning_rate: f64,
    /// Final learning rate of the schedules cosine, linear and wsd, as a fraction of `learning_rate`.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1.0))]
    pub minimum_learning_rate_ratio: f64,
    /// Learning-rate schedule after the warm-up.
    #[schemars(extend("x-change" = "tunable"))]
    pub schedule: ScheduleKind,
    /// Number of linear warm-up steps. Default: `warmup_ratio` of all steps.
    #[schemars(extend("x-change" = "tunable"))]
    pub warmup_steps: Option<u64>,
    /// Warm-up length as a fraction of all steps.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1.0))]
    pub warmup_ratio: f64,
    /// Length of the decay at the end of a wsd schedule, as a fraction of all steps.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1.0))]
    pub decay_fraction: f64,
    /// Shape of the decay of a wsd schedule.
    #[schemars(extend("x-change" = "tunable"))]
    pub decay_shape: DecayShape,
    /// Phases of the run, each with its own length, sequence length, data mix and learning-rate schedule, as
    /// `[[train.phase]]` tables. Empty: the run has no phases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phase: Vec<PhaseOptions>,
    /// Optimizer of the layers' weight matrices.
    pub optimizer: Optimizer,
    /// Multipliers of the learning rate by kind of parameter.
    #[schemars(extend("x-change" = "tunable"))]
    pub learning_rate_scales: LearningRateScales,
    /// Momentum of Muon.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 0.999_999))]
    pub momentum: f64,
    /// Decay rate of AdamW's first moment.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 0.999_999))]
    pub beta1: f64,
    /// Decay rate of AdamW's second moment.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 0.999_999))]
    pub beta2: f64,
    /// Epsilon of AdamW.
    #[schemars(extend("x-change" = "tunable"), range(min = 1e-30, max = 0.1))]
    pub epsilon: f64,
    /// Decoupled weight decay of matrices; not applied to norms and biases.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 10.0))]
    pub weight_decay: f64,
    /// Maximum global gradient norm; larger gradients are scaled down. 0: no clipping.
    #[schemars(extend("x-change" = "tunable"), range(min = 0.0, max = 1e9))]
    pub gradient_clip: f64,
    /// Decay rate per step of an exponential moving average (EMA) of the weights. If set, the average is
    /// used for validation, samples and export; typical values are 0.99 to 0.9999. 0: no average.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub ema_decay: f64,
    /// Early stopping: after this many consecutive validations without improvement, start the decay (wsd) or
    /// end the run (other schedules). 0: disabled.
    #[schemars(extend("x-change" = "tunable"))]
    pub early_stopping: u64,
    /// Maximum number of consecutive rollbacks. If the loss spikes or is not finite, training rolls back to
    /// the last good checkpoint and skips the batches consumed since that checkpoint; after this many
    /// attempts the run fails. 0: never roll back.
    #[schemars(extend("x-change" = "tunable"), range(min = 0, max = 100))]
    pub rollbacks: u64,
    /// Random seed of initial weights, data order and dropout.
    pub seed: u64,
    /// Steps between validations; 0: only at the end of each epoch.
    #[schemars(extend("x-change" = "tunable"))]
    pub validate_every: u64,
    /// Steps between samples; 0: only at the end of the run.
    #[schemars(extend("x-change" = "reporting"))]
    pub sample_every: u64,
    /// Prompts of samples. Empty: no samples during training.
    #[schemars(extend("x-change" = "reporting"))]
    pub sample_prompts: Vec<String>,
    /// Number of tokens to generate per sample.
    #[schemars(extend("x-change" = "reporting"), range(min = 1, max = 4096))]
    pub sample_max_new_tokens: usize,
    /// Sampling temperature of samples.
    #[schemars(extend("x-change" = "reporting"), range(min = 0.0, max = 10.0))]
    pub sample_temperature: f64,
    /// Fine-tuning: number of validation conversations whose first trained turn is generated at each
    /// validation, greedily. 0: none.
    #[schemars(extend("x-change" = "reporting"), range(min = 0, max = 100))]
    pub sample_conversations: u64,
    /// Steps between checkpoints; 0: only at the end of each epoch.
    #[schemars(extend("x-change" = "tunable"))]
    pub checkpoint_every: u64,
    /// Number of most recent checkpoints to keep, in addition to the best one.
    #[schemars(extend("x-change" = "reporting"), range(min = 1, max = 10_000))]
    pub keep_last: usize,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions {
            init: None,
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
            sample_conversations: 2,
            checkpoint_every: 0,
            keep_last: 2,
        }
    }
}

impl TrainOptions {
    /// The precision to train with: the requested one, or for `auto` the fastest on the device.
    pub fn settled_precision(&self, target: Target) -> Precision {
        self.precision.unwrap_or(if target.has_bf16() { Precision::Bf16 } else { Precision::F32 })
    }

    /// The training configuration to lay out the model with on a device.
    pub fn training(&self, micro_batch_size: usize, target: Target, tuning: &Tuning) -> Training {
        Training {
            batch_size: micro_batch_size,
            sequence_length: self.sequence_length,
            precision: self.settled_precision(target),
            recompute: self.recompute,
            optimizer: self.optimizer,
            average: self.ema_decay > 0.0,
            trainable: tuning.trainable(),
            adapter: tuning.adapter.clone(),
            frozen: tuning.frozen.clone(),
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

    /// The decay rate of the weights' moving average at a step: smaller at first, so that the initial weights
    /// are soon forgotten.
    pub fn ema_decay_at(&self, updates: u64) -> f64 {
        self.ema_decay.min((1.0 + updates as f64) / (10.0 + updates as f64))
    }

    /// Returns an error if the device does not support the precision.
    pub fn check_precision(&self, target: Target) -> Result<()> {
        if self.settled_precision(target) == Precision::F32 || target.has_bf16() {
            return Ok(());
        }
        let message =
            "bf16 needs a CPU with AVX512-BF16 (or a GPU), which this machine does not have: a new \
             run can use \"auto\" or \"f32\"; a run that began in bf16 can only be continued on \
             such a machine"
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
