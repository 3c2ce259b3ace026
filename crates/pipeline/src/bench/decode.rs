//! Benchmarks prompt processing and generation, for one sequence and for several at once: the same work as
//! `llama-bench` and `llama-batched-bench`, on random token ids, with greedy decoding.

use std::path::Path;
use std::time::Instant;

use compute::profile::Profiled;
use compute::rng::Rng;
use compute::{Device, Target};
use model::{DType, Decoder, Decoding, ModelConfig, Stored, WeightTypes};
use serde::Serialize;
use store::fs::RealFs;

use super::kernels::{Peaks, StepFigures};
use super::{Preset, median, round};
use crate::{Error, Result};

/// Options of the benchmark.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// Tokens to generate.
    pub new_tokens: usize,
    /// Batch sizes: numbers of sequences at once.
    pub sequences: Vec<usize>,
    /// Repetitions of each measurement.
    pub runs: usize,
    /// Device and threads.
    pub target: Target,
    /// Seed of the prompts' tokens.
    pub seed: u64,
}

/// Results; speeds are medians.
#[derive(Clone, Debug, Serialize)]
pub struct DecodeFigures {
    /// Name of the model.
    pub model: String,
    /// Data types of its matrices.
    pub dtype: String,
    /// Number of parameters.
    pub params: usize,
    /// Name of the device.
    pub device: String,
    /// CPU threads used.
    pub threads: usize,
    /// Tokens in the prompt of a single sequence.
    pub prompt_tokens: usize,
    /// Tokens generated per sequence.
    pub new_tokens: usize,
    /// Prompt processing, one sequence.
    pub prefill_tokens_per_s: f64,
    /// Generation, one sequence.
    pub decode_tokens_per_s: f64,
    /// Slowest and fastest run.
    pub decode_min_max: [f64; 2],
    /// Bytes of weights read per token.
    pub weight_bytes: usize,
    /// Bytes of weights per second during generation.
    pub weight_gbs: f64,
    /// Read bandwidth of a loop that only reads as many bytes.
    pub read_gbs: f64,
    /// Results for several sequences.
    pub batches: Vec<BatchFigures>,
    /// Peak resident memory of the process, in MiB.
    pub peak_rss_mb: f64,
}

/// Several sequences: a prompt of 64 tokens each, then one token of each at a time.
#[derive(Clone, Debug, Serialize)]
pub struct BatchFigures {
    /// Number of sequences.
    pub sequences: usize,
    /// New tokens of all sequences divided by the total time, prompts included.
    pub new_tokens_per_s: f64,
    /// New tokens per second without the time of prompts.
    pub decode_tokens_per_s: f64,
}

/// Prompt length per sequence if there are several.
const BATCH_PROMPT: usize = 64;

/// The shape of SmolLM2-135M.
fn smollm2_135m() -> ModelConfig {
    ModelConfig {
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        max_position_embeddings: 8192,
        rope_theta: 100_000.0,
        ..Preset::Small.shape().0
    }
}

/// A model to measure.
pub struct Subject {
    name: String,
    config: ModelConfig,
    weights: WeightTypes,
    stored: Option<Stored>,
}

impl Subject {
    /// A stored model, in its stored types or in `dtype`.
    ///
    /// # Errors
    /// A missing or damaged model.
    pub fn stored(path: &Path, dtype: Option<DType>) -> Result<Subject> {
        let stored = Stored::open(&RealFs, path)?;
        let weights = stored.weight_types(dtype)?;
        let (name, config) = (path.display().to_string(), stored.config().clone());
        Ok(Subject { name, config, weights, stored: Some(stored) })
    }

    /// Random weights with the shape of SmolLM2-135M: speed does not depend on their values.
    pub fn random(dtype: Option<DType>) -> Subject {
        let name = "random weights in the shape of SmolLM2-135M".to_owned();
        let weights = WeightTypes::All(dtype.unwrap_or(DType::Bf16));
        Subject { name, config: smollm2_135m(), weights, stored: None }
    }

    fn model<D: Device>(&mut self, device: D, sequences: usize, tokens: usize) -> Result<Decoder<D>> {
        if tokens > self.config.max_position_embeddings {
            let context = self.config.max_position_embeddings;
            let message = format!(
                "prompt and new tokens together are {tokens}, more than the model's context of {context}"
            );
            return Err(Error::Argument { message });
        }
        let decoding = Decoding { sequences, weights: self.weights.clone(), ..Decoding::one(tokens) };
        let mut model = Decoder::new(device, self.config.clone(), decoding)?;
        match &mut self.stored {
            Some(stored) => stored.load(model.weights_mut())?,
            None => model.weights_mut().initialize(0),
        }
        Ok(model)
    }
}

/// Bytes of weights read per token: of an embedding that is not also the output layer, only one row.
fn weight_bytes<D: Device>(model: &Decoder<D>) -> Result<usize> {
    let input_only = match model.config().tie_word_embeddings {
        true => 0,
        false => model.weights().parameter_bytes("model.embed_tokens.weight")?,
    };
    Ok(model.plan().parameters_bytes - input_only)
}

/// Times the kernels of generating one token, for as many sequences as the options give if they give one
/// number.
///
/// # Errors
/// As [`run`].
pub fn profile(mut subject: Subject, options: &DecodeOptions) -> Result<StepFigures> {
    let sequences = if let [sequences] = options.sequences[..] { sequences } else { 1 };
    let device = Profiled::new(options.target.open()?);
    let mut model = subject.model(device, sequences, options.new_tokens + 1)?;
    let peaks = Peaks::measure(options.target, weight_bytes(&model)?)?;
    let mut next = vec![0; sequences];
    let mut seconds = Vec::new();
    for step in 0..=options.new_tokens {
        let start = Instant::now();
        let parts: Vec<(usize, &[u32])> = next.chunks(1).enumerate().collect();
        next = all_likeliest(&model.decode_each(&parts)?, subject.config.vocab_size);
        if step == 0 {
            model.weights_mut().device_mut().clear();
        } else {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let name = format!(
        "one token for {sequences} sequence(s), {}, in {}",
        subject.name,
        model.weights().type_names()
    );
    let flops = 2.0 * (sequences * subject.config.parameter_count().total) as f64;
    Ok(StepFigures::new(name, model.weights().device(), &mut seconds, flops, peaks))
}

/// Runs the benchmark.
///
/// # Errors
/// Not enough memory; a context too short for the options; a damaged file.
pub fn run(mut subject: Subject, options: &DecodeOptions) -> Result<DecodeFigures> {
    let most = options.sequences.iter().copied().max().unwrap_or(1).max(1);
    let longest = options.prompt_tokens.max(if most > 1 { BATCH_PROMPT } else { 1 }) + options.new_tokens;
    let mut model = subject.model(options.target.open()?, most, longest)?;
    let config = &subject.config;
    let mut rng = Rng::from_parts(options.seed, "bench decode", &[]);
    let mut tokens =
        |n: usize| -> Vec<u32> { (0..n).map(|_| rng.below(config.vocab_size as u64) as u32).collect() };
    let prompt = tokens(options.prompt_tokens);
    let prompts: Vec<Vec<u32>> = (0..most).map(|_| tokens(BATCH_PROMPT)).collect();

    // Warm-up: buffers grow, and weights are read from the disk cache.
    model.decode(&prompt)?;
    let mut prefill = Vec::new();
    let mut decode = Vec::new();
    for _ in 0..options.runs {
        model.reset();
        prefill.push(prompt.len() as f64 / seconds(|| model.decode(&prompt).map(drop))?);
        model.reset();
        let mut next = prompt[0];
        let took = seconds(|| {
            for _ in 0..options.new_tokens {
                next = likeliest(&model.decode(&[next])?);
            }
            Ok(())
        })?;
        decode.push(options.new_tokens as f64 / took);
    }
    let mut batches = Vec::new();
    for &sequences in options.sequences.iter().filter(|&&n| n > 1) {
        let mut whole = Vec::new();
        let mut after = Vec::new();
        for _ in 0..options.runs {
            model.reset();
            let count = (sequences * options.new_tokens) as f64;
            let start = Instant::now();
            let all: Vec<(usize, &[u32])> = prompts[..sequences].iter().map(|p| &p[..]).enumerate().collect();
            let mut next = all_likeliest(&model.decode_each(&all)?, config.vocab_size);
            let prompts_read = Instant::now();
            for _ in 0..options.new_tokens {
                let parts: Vec<(usize, &[u32])> = next.chunks(1).enumerate().collect();
                next = all_likeliest(&model.decode_each(&parts)?, config.vocab_size);
            }
            whole.push(count / start.elapsed().as_secs_f64());
            after.push(count / prompts_read.elapsed().as_secs_f64());
        }
        batches.push(BatchFigures {
            sequences,
            new_tokens_per_s: round(median(&mut whole), 1),
            decode_tokens_per_s: round(median(&mut after), 1),
        });
    }

    let weight_bytes = weight_bytes(&model)?;
    // Taken before the read bandwidth is measured, which needs a buffer of its own.
    let peak_rss_mb = (store::system::peak_rss_bytes().unwrap_or(0) >> 20) as f64;
    let decode_tokens_per_s = median(&mut decode);
    Ok(DecodeFigures {
        model: subject.name,
        dtype: model.weights().type_names(),
        params: config.parameter_count().total,
        device: model.weights().device().name(),
        threads: model.weights().device().threads(),
        prompt_tokens: options.prompt_tokens,
        new_tokens: options.new_tokens,
        prefill_tokens_per_s: round(median(&mut prefill), 1),
        decode_tokens_per_s: round(decode_tokens_per_s, 1),
        decode_min_max: [round(decode[0], 1), round(decode[decode.len() - 1], 1)],
        weight_bytes,
        weight_gbs: round(weight_bytes as f64 * decode_tokens_per_s / 1e9, 1),
        read_gbs: round(options.target.open()?.peak_read_gbs(weight_bytes)?, 1),
        batches,
        peak_rss_mb,
    })
}

fn seconds(work: impl FnOnce() -> model::Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn all_likeliest(logits: &[f32], vocab_size: usize) -> Vec<u32> {
    logits.chunks(vocab_size).map(likeliest).collect()
}
