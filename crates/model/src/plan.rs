//! Every byte that a model takes, and the work that it asks of a device, before anything is allocated: what
//! `plan` prints is what the device allocates.

use crate::config::ModelConfig;
use crate::layout::{DecodingLayout, EvaluationLayout, TrainingLayout, muon_shapes};
use crate::network::{Network, Regions};
use crate::parameters::Parameter;
use crate::purpose::{Optimizer, Precision, Purpose, Training};
use compute::DType;
use compute::device::{Product, Work};

pub use crate::layout::MemoryPlan;

impl MemoryPlan {
    /// The plan of a model for a purpose.
    pub fn new(config: &ModelConfig, purpose: &Purpose) -> MemoryPlan {
        match purpose {
            Purpose::Train(training) => TrainingLayout::new(config, training).plan,
            Purpose::Evaluate(evaluation) => EvaluationLayout::new(config, evaluation).plan,
            Purpose::Decode(decoding) => DecodingLayout::new(config, decoding).plan,
        }
    }
}

/// FLOPs of a training step a token: [`ModelConfig::flops_per_token`] where all weights are trained. Frozen
/// matrices have no gradient of their own (4 instead of 6 a weight); adapters have one. DoRA computes the
/// outputs of adapted matrices once more. Recomputation repeats the forward of all layers but the last.
pub fn training_flops_per_token(config: &ModelConfig, training: &Training) -> f64 {
    let mut flops = config.flops_per_token(training.sequence_length);
    if training.adapter.is_some() {
        flops += 6.0 * adapter_parameters(config, training) - 2.0 * multiplied(config);
    }
    if let Some(adapter) = training.adapter.as_ref().filter(|adapter| adapter.dora) {
        let adapted = |parameter: &&Parameter| adapter.adapts(&parameter.name);
        let weights: usize = Network::parameters_of(config).iter().filter(adapted).map(Parameter::len).sum();
        flops += 2.0 * (weights as f64 + adapter_parameters(config, training));
    }
    if training.recompute {
        let count = config.parameter_count();
        let layers = (count.attention + count.mlp) as f64 + adapter_parameters(config, training);
        let again = 1.0 - 1.0 / config.num_hidden_layers.max(1) as f64;
        flops += again * (2.0 * layers + attention_flops(config, training.sequence_length));
    }
    flops
}

/// FLOPs of a forward a token, without adapters.
pub fn forward_flops_per_token(config: &ModelConfig, sequence_length: usize) -> f64 {
    2.0 * multiplied(config) + attention_flops(config, sequence_length)
}

/// Of a forward; counted whole, as if attention were not causal.
fn attention_flops(config: &ModelConfig, sequence_length: usize) -> f64 {
    4.0 * (config.num_hidden_layers * config.query_width() * sequence_length) as f64
}

/// Parameters that are multiplied with: not an embedding table that is only looked up.
fn multiplied(config: &ModelConfig) -> f64 {
    let count = config.parameter_count();
    let looked_up = if config.tie_word_embeddings { 0 } else { count.embedding };
    (count.total - looked_up) as f64
}

fn adapter_parameters(config: &ModelConfig, training: &Training) -> f64 {
    let network = Network::new(config, &training.storage(), &Regions::default());
    network.parameters.iter().filter(|parameter| parameter.is_adapter()).map(Parameter::len).sum::<usize>()
        as f64
}

/// Bytes of the largest tensor of a checkpoint; only what is trained is saved.
pub fn largest_saved_bytes(config: &ModelConfig, training: &Training) -> usize {
    let network = Network::new(config, &training.storage(), &Regions::default());
    let trained = network.parameters.iter().filter(|parameter| parameter.is_trainable());
    trained.map(Parameter::len).max().unwrap_or(0) * DType::F32.size()
}

/// Device memory of training other than the arena.
pub fn training_work(config: &ModelConfig, training: &Training) -> Work {
    let &Training { batch_size, sequence_length, precision, optimizer, .. } = training;
    let layout = TrainingLayout::new(config, training);
    let bf16 = precision == Precision::Bf16;
    let (n, d, v, chunk) =
        (batch_size * sequence_length, config.hidden_size, config.vocab_size, layout.forward.logits.rows);
    let mut work = Work {
        attention: (sequence_length, config.head_dim),
        stream: (n, d),
        heads: config.num_attention_heads,
        products: Vec::new(),
    };
    let mut add = |m, k, n, out| work.products.push(Product { m, k, n, bf16, out });
    // (in, out) of each linear layer; those into the residual stream give f32.
    for (inner, outer, out) in [
        (d, config.qkv_width(), precision.dtype()),
        (config.query_width(), d, DType::F32),
        (d, 2 * config.intermediate_size, precision.dtype()),
        (config.intermediate_size, d, DType::F32),
    ] {
        add(n, inner, outer, out);
        add(n, outer, inner, precision.dtype());
        add(outer, n, inner, DType::F32);
    }
    if optimizer == Optimizer::Muon {
        for (rows, columns) in muon_shapes(&Network::parameters_of(config)) {
            let side = rows.min(columns);
            add(side, rows.max(columns), side, precision.dtype());
            add(side, side, side, precision.dtype());
            add(rows, if rows <= columns { rows } else { columns }, columns, precision.dtype());
        }
    }
    add(chunk, d, v, DType::F32);
    add(chunk, v, d, precision.dtype());
    add(v, chunk, d, DType::F32);
    work
}
