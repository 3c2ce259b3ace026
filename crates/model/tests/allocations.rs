//! Nothing is allocated on the host within a step: after the first one, every buffer is there.
#![allow(clippy::unwrap_used)] // a test says what broke by panicking

use compute::Batch;
use compute::counting::Counting;
use compute::cpu::{Cpu, InstructionSet};
use model::{LearningRateScales, ModelConfig, Optimizer, Precision, Training, TrainingModel, Update};

#[global_allocator]
static HEAP: Counting = Counting;

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 300,
        hidden_size: 96,
        intermediate_size: 200,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 24,
        max_position_embeddings: 64,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        attention_bias: true,
        qk_norm: true,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        dropout: 0.1,
        initializer_range: 0.02,
    }
}

/// One step of two micro-batches, with everything that the loop asks of the model in it.
fn step(model: &mut TrainingModel<Cpu>, batch: &Batch, step: u64) {
    model.begin_step();
    for part in 0..2 {
        model.accumulate(batch, 0.005, 2 * step + part);
    }
    model.optimizer_step(&Update {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        momentum: 0.95,
        weight_decay: 0.1,
        max_gradient_norm: 1.0,
        step,
        scales: LearningRateScales::default(),
    });
    model.average_weights(0.9);
    assert!(!model.step_outcome().skipped_non_finite);
}

#[test]
fn a_step_allocates_nothing() {
    let mut batch = Batch::new(3, 50);
    for (at, id) in batch.tokens.iter_mut().chain(&mut batch.targets).enumerate() {
        *id = (at * 37 % 300) as u32;
    }
    batch.weights.fill(1.0);
    let precisions: &[Precision] = match InstructionSet::detect().has_bf16() {
        true => &[Precision::F32, Precision::Bf16],
        false => &[Precision::F32],
    };
    for &precision in precisions {
        for (optimizer, recompute, threads) in
            [(Optimizer::AdamW, false, 1), (Optimizer::AdamW, true, 2), (Optimizer::Muon, false, 2)]
        {
            let training =
                Training { optimizer, recompute, average: true, ..Training::new(3, 50, precision) };
            let mut model = TrainingModel::new(Cpu::new(threads), config(), training).unwrap();
            model.initialize(1);
            step(&mut model, &batch, 1);
            let before = Counting::allocations();
            step(&mut model, &batch, 2);
            let made = Counting::allocations() - before;
            assert_eq!(made, 0, "{precision:?}, {optimizer:?}, recompute {recompute}, {threads} threads");
        }
    }
}
