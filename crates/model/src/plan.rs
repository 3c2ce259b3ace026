//! Every byte that a model takes, and the work that it asks of a device, before anything is allocated: what
//! `plan` prints is what the device allocates.

use crate::config::ModelConfig;
use crate::layout::{DecodingLayout, EvaluationLayout, TrainingLayout, muon_shapes};
use crate::network::Network;
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
