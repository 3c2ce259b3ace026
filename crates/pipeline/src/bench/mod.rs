//! Benchmarks a whole training step, the same work as `pytorch_train_bench.py`: forward, backward, gradient
//! clipping, optimizer, on random tokens; median of the steps after three warm-up steps. Also its time by
//! kernel ([`kernels`]) and decoding ([`decode`]).

pub mod decode;
pub mod kernels;

use std::time::Instant;

use compute::rng::Rng;
use compute::{AnyDevice, Batch, Device, Target};
use model::{
    AdapterConfig, DType, LearningRateScales, ModelConfig, Optimizer, Precision, Trainable, Training,
    TrainingModel, Update, WeightTypes,
};
use serde::Serialize;

use crate::plan::planned_bytes;
use crate::{Result, shape};
use recipe::ModelOptions;

/// Number of warm-up steps.
const WARM_UP: usize = 3;

/// Presets, the same as in the PyTorch script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 4.5M parameters.
    Tiny,
    /// 13.8M parameters.
    Small,
    /// 100M parameters.
    Base,
    /// 135M parameters in the shape of SmolLM2-135M, as adapters are trained on it.
    Smollm2,
    /// 124M parameters, for a GPU.
    Gpu124m,
    /// 360M parameters, for a GPU.
    Gpu350m,
    /// 1.5B parameters, for a GPU.
    Gpu1b5,
}

impl Preset {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Tiny => "tiny",
            Preset::Small => "small",
            Preset::Base => "base",
            Preset::Smollm2 => "smollm2",
            Preset::Gpu124m => "gpu124m",
            Preset::Gpu350m => "gpu350m",
            Preset::Gpu1b5 => "gpu1b5",
        }
    }

    /// Model shape, T and B.
    pub fn shape(self) -> (ModelConfig, usize, usize) {
        // d, layers, heads, kv heads, ffn, vocabulary, T, B
        let (d, layers, heads, kv_heads, ffn, vocab, t, b) = match self {
            Preset::Tiny => (256, 4, 4, 4, 768, 4096, 128, 32),
            Preset::Small => (384, 6, 6, 6, 1024, 8192, 256, 16),
            Preset::Base => (768, 12, 12, 4, 2048, 32_000, 512, 4),
            Preset::Smollm2 => (576, 30, 9, 3, 1536, 49_152, 512, 4),
            Preset::Gpu124m => (768, 12, 12, 12, 2048, 50_304, 1024, 32),
            Preset::Gpu350m => (1024, 24, 16, 16, 2816, 50_304, 1024, 16),
            Preset::Gpu1b5 => (2048, 28, 16, 16, 5632, 32_000, 2048, 8),
        };
        let config = ModelConfig {
            vocab_size: vocab,
            hidden_size: d,
            intermediate_size: ffn,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim: d / heads,
            max_position_embeddings: t,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            attention_bias: false,
            qk_norm: false,
            sliding_window: None,
            full_attention_layers: Vec::new(),
            unrotated_layers: Vec::new(),
            dropout: 0.0,
            initializer_range: 0.02,
        };
        (config, t, b)
    }
}

/// Options of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// The preset.
    pub preset: Preset,
    /// Sequence length instead of the preset's.
    pub sequence_length: Option<usize>,
    /// Batch size instead of the preset's.
    pub batch_size: Option<usize>,
    /// Number of parameters instead of the preset's; the vocabulary is kept.
    pub parameters: Option<u64>,
    /// Precision.
    pub precision: Precision,
    /// Activation checkpointing.
    pub recompute: bool,
    /// Optimizer of the layers' weight matrices.
    pub optimizer: Optimizer,
    /// Rank of adapters on every linear layer, which are trained instead of the weights.
    pub lora_rank: Option<usize>,
    /// Type of the weights below adapters; `None`: that of products.
    pub base: Option<DType>,
    /// Device and threads.
    pub target: Target,
    /// Number of steps.
    pub steps: usize,
    /// Seed of weights and tokens.
    pub seed: u64,
}

impl BenchOptions {
    /// Model shape and training layout.
    fn subject(&self) -> (ModelConfig, Training) {
        let (mut config, t, b) = self.preset.shape();
        if let Some(parameters) = self.parameters {
            config = shape::nearest(&ModelOptions::default(), config.vocab_size, parameters);
        }
        let sequence_length = self.sequence_length.unwrap_or(t);
        let batch_size = self.batch_size.unwrap_or(b);
        config.max_position_embeddings = sequence_length;
        let training = Training {
            recompute: self.recompute,
            optimizer: self.optimizer,
            logits_bytes: self.target.logits_bytes(),
            ..Training::new(batch_size, sequence_length, self.precision)
        };
        let training = match self.lora_rank {
            None => training,
            Some(rank) => {
                let (alpha, dropout) = (2.0 * rank as f64, 0.0);
                Training {
                    trainable: Trainable::Adapters,
                    adapter: Some(AdapterConfig { rank, alpha, dropout, ..AdapterConfig::default() }),
                    frozen: self.base.map(|hidden| WeightTypes::Layers { hidden, ends: DType::Bf16 }),
                    ..training
                }
            }
        };
        (config, training)
    }
}

/// Results, with the PyTorch script's names.
#[derive(Clone, Debug, Serialize)]
pub struct BenchFigures {
    /// Name of the preset.
    pub preset: &'static str,
    /// Precision.
    pub dtype: Precision,
    /// Whether activation checkpointing was on.
    pub recompute: bool,
    /// Optimizer of the layers' weight matrices.
    pub optimizer: Optimizer,
    /// Rank of the adapters that were trained instead of the weights.
    pub lora_rank: Option<usize>,
    /// Name of the device.
    pub device: String,
    /// CPU threads used.
    pub threads: usize,
    /// Number of parameters.
    pub params: usize,
    /// B · T.
    pub tokens_per_step: usize,
    /// Median time of a step.
    pub step_ms: f64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// FLOPs per token ([`ModelConfig::flops_per_token`]) times tokens per second.
    pub model_gflops: f64,
    /// Model FLOPs divided by the GPU's specified dense bfloat16 peak; `None` on a CPU, in f32, or for an
    /// unknown GPU.
    pub mfu: Option<f64>,
    /// Time from opening the device to the end of the first step.
    pub first_step_s: f64,
    /// Peak resident memory of the process, in MiB as in the PyTorch script.
    pub peak_rss_mb: f64,
    /// Memory allocated on the GPU, in MiB, as PyTorch counts it.
    pub gpu_mb: Option<f64>,
    /// Planned memory, before the first step.
    pub planned_mb: f64,
    /// Loss of the last step, in nats per token.
    pub loss: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// Not enough memory.
pub fn run(options: &BenchOptions) -> Result<BenchFigures> {
    let (config, training) = options.subject();
    let (b, t) = (training.batch_size, training.sequence_length);
    let planned = planned_bytes(&config, &training, options.target);
    let mut timed = time_steps(&config, training, options.steps, options.target, options.seed)?;
    let step_s = median(&mut timed.seconds[WARM_UP..]);
    let tokens = b * t;
    let model_gflops = config.flops_per_token(t) * tokens as f64 / step_s / 1e9;
    let stated = timed.stated_gflops.filter(|_| options.precision == Precision::Bf16);
    Ok(BenchFigures {
        preset: options.preset.name(),
        dtype: options.precision,
        recompute: options.recompute,
        optimizer: options.optimizer,
        lora_rank: options.lora_rank,
        device: timed.device,
        threads: timed.threads,
        params: config.parameter_count().total,
        tokens_per_step: tokens,
        step_ms: round(step_s * 1e3, 1),
        tokens_per_s: (tokens as f64 / step_s).round(),
        model_gflops: round(model_gflops, 1),
        mfu: stated.map(|stated| round(model_gflops / stated, 4)),
        first_step_s: round(timed.first_step_s, 2),
        peak_rss_mb: (store::system::peak_rss_bytes().unwrap_or(0) >> 20) as f64,
        gpu_mb: timed.allocated_bytes.map(|bytes| (bytes >> 20) as f64),
        planned_mb: (planned >> 20) as f64,
        loss: round(timed.loss, 4),
    })
}

/// Times of single steps.
pub(crate) struct Timed {
    pub seconds: Vec<f64>,
    pub device: String,
    pub threads: usize,
    /// Time from opening the device to the end of the first step.
    pub first_step_s: f64,
    /// Memory allocated on the GPU.
    pub allocated_bytes: Option<u64>,
    pub stated_gflops: Option<f64>,
    pub loss: f64,
}

/// Trains `steps` steps on one batch of random tokens and times each of them.
pub(crate) fn time_steps(
    config: &ModelConfig,
    training: Training,
    steps: usize,
    target: Target,
    seed: u64,
) -> Result<Timed> {
    let began = Instant::now();
    let device = target.open()?;
    let mut timed = Timed {
        seconds: Vec::with_capacity(steps),
        device: device.name(),
        threads: device.threads(),
        first_step_s: 0.0,
        allocated_bytes: None,
        stated_gflops: device.stated_gflops(),
        loss: f64::NAN,
    };
    let mut steps_on = Steps::new(device, config, training, seed)?;
    for _ in 0..steps {
        let start = Instant::now();
        timed.loss = steps_on.step();
        timed.seconds.push(start.elapsed().as_secs_f64());
        if timed.seconds.len() == 1 {
            timed.first_step_s = began.elapsed().as_secs_f64();
        }
    }
    timed.allocated_bytes = steps_on.model.weights().device().allocated_bytes();
    Ok(timed)
}

/// A model that trains on one batch of random tokens.
struct Steps<D: Device> {
    model: TrainingModel<D>,
    batch: Batch,
    taken: u64,
}

impl<D: Device> Steps<D> {
    fn new(device: D, config: &ModelConfig, training: Training, seed: u64) -> Result<Steps<D>> {
        let Training { batch_size, sequence_length, .. } = training;
        let mut model = TrainingModel::new(device, config.clone(), training)?;
        model.initialize(seed);
        let batch = random_batch(config.vocab_size, batch_size, sequence_length, seed);
        Ok(Steps { model, batch, taken: 0 })
    }

    /// One optimizer step; returns the loss in nats per token.
    fn step(&mut self) -> f64 {
        self.accumulate();
        self.update()
    }

    /// The forward and backward of a step.
    fn accumulate(&mut self) {
        self.model.begin_step();
        let scale = (1.0 / self.batch.weight_sum()) as f32;
        self.model.accumulate(&self.batch, scale, self.taken);
    }

    /// The update of a step; returns the loss in nats per token.
    fn update(&mut self) -> f64 {
        self.taken += 1;
        self.model.optimizer_step(&Update {
            learning_rate: 3e-4,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            momentum: 0.95,
            weight_decay: 0.01,
            max_gradient_norm: 1.0,
            step: self.taken,
            scales: LearningRateScales::default(),
        });
        self.model.step_outcome().loss_sum / self.batch.weight_sum()
    }
}

/// Median times of the parts of a step.
pub(crate) struct PartsTimed {
    /// Forward and backward of one micro-batch.
    pub micro_batch_s: f64,
    /// The optimizer's update, whatever the number of micro-batches.
    pub update_s: f64,
    pub steps: usize,
    pub threads: usize,
}

/// Times the parts of steps on one batch of random tokens for about `seconds`, after one or two warm-up
/// steps.
pub(crate) fn time_parts(
    config: &ModelConfig,
    training: Training,
    seconds: f64,
    target: Target,
) -> Result<PartsTimed> {
    const FEWEST: usize = 3;
    const MOST: usize = 40;
    /// Steps of this length need one warm-up step.
    const LONG_S: f64 = 0.5;
    let device = target.open()?;
    let threads = device.threads();
    let mut steps = Steps::new(device, config, training, 0)?;
    let part = |steps: &mut Steps<AnyDevice>, run: fn(&mut Steps<AnyDevice>)| {
        let start = Instant::now();
        run(steps);
        steps.model.weights_mut().device_mut().synchronize();
        start.elapsed().as_secs_f64()
    };
    let (mut micro_batches, mut updates) = (Vec::new(), Vec::new());
    let mut began = Instant::now();
    for step in 0.. {
        if step == 1 || step == 2 && micro_batches.iter().all(|&s| s < LONG_S) {
            (micro_batches, updates, began) = (Vec::new(), Vec::new(), Instant::now());
        }
        if updates.len() >= MOST || updates.len() >= FEWEST && began.elapsed().as_secs_f64() > seconds {
            break;
        }
        micro_batches.push(part(&mut steps, Steps::accumulate));
        updates.push(part(&mut steps, |steps| {
            steps.update();
        }));
    }
    let timed = updates.len();
    Ok(PartsTimed {
        micro_batch_s: median(&mut micro_batches),
        update_s: median(&mut updates),
        steps: timed,
        threads,
    })
}

/// Median.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rounds to a number of digits after the point.
fn round(value: f64, digits: i32) -> f64 {
    (value * 10f64.powi(digits)).round() / 10f64.powi(digits)
}

fn random_batch(vocab_size: usize, batch_size: usize, sequence_length: usize, seed: u64) -> Batch {
    let mut batch = Batch::new(batch_size, sequence_length);
    let mut rng = Rng::from_parts(seed, "bench", &[]);
    for row in 0..batch_size {
        let mut next = rng.below(vocab_size as u64) as u32;
        for column in 0..sequence_length {
            let at = row * sequence_length + column;
            batch.tokens[at] = next;
            next = rng.below(vocab_size as u64) as u32;
            batch.targets[at] = next;
        }
    }
    batch.weights.fill(1.0);
    batch
}
