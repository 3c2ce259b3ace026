//! Models of which only a part is trained: the rest stays as it is and takes no memory for training.

use std::collections::BTreeSet;

use compute::Batch;
use compute::cpu::Cpu;
use model::{
    MemoryPlan, ModelConfig, Optimizer, Parameter, Precision, Purpose, StateKind, Trainable, Training,
    TrainingModel, Update,
};

use crate::training;

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 40,
        hidden_size: 48,
        intermediate_size: 80,
        num_hidden_layers: 3,
        head_dim: 16,
        tie_word_embeddings: false,
        attention_bias: true,
        qk_norm: true,
        dropout: 0.1,
        initializer_range: 0.1,
        ..training::config()
    }
}

fn batch() -> Batch {
    training::random_batch(&config(), 2, 12)
}

fn names(wanted: impl Fn(&Parameter) -> bool) -> BTreeSet<String> {
    let all = TrainingModel::new(Cpu::new(1), config(), Training::new(1, 4, Precision::F32)).unwrap();
    let wanted = all.weights().parameters().iter().filter(|parameter| wanted(parameter));
    wanted.map(|parameter| parameter.name.clone()).collect()
}

fn laid_out(training: Training) -> TrainingModel<Cpu> {
    training::laid_out(Cpu::new(2), config(), training)
}

/// Values that bfloat16 holds, so that frozen and trained matrices are the same numbers in either precision.
fn rounded_weights(model: &mut TrainingModel<Cpu>) {
    for parameter in model.weights().parameters().to_vec() {
        let values = model.weights_mut().download(&parameter.name).unwrap();
        let values: Vec<f32> = values.iter().map(|x| f32::from_bits(x.to_bits() & 0xFFFF_0000)).collect();
        model.weights_mut().upload(&parameter.name, &values).unwrap();
    }
    model.clear_state();
}

fn step(model: &mut TrainingModel<Cpu>, step: u64) -> f64 {
    model.begin_step();
    model.accumulate(&batch(), 1.0 / 24.0, step);
    model.optimizer_step(&Update { step, ..training::STEP });
    model.step_outcome().loss_sum
}

/// Gradients are those of a model that trains everything, bit for bit; three steps move what is trained and
/// nothing else.
fn check(trained: &BTreeSet<String>, training: Training) {
    assert!(!trained.is_empty());
    let all = Training { trainable: Trainable::All, ..training.clone() };
    let some = Training { trainable: Trainable::Only(trained.clone()), ..training.clone() };
    let [mut all, mut some] = [all, some].map(laid_out);
    rounded_weights(&mut all);
    some.weights_mut().copy_from(all.weights_mut()).unwrap();
    some.clear_state();
    let before = some.weights().parameters().to_vec();
    for model in [&mut all, &mut some] {
        model.begin_step();
        model.accumulate(&batch(), 1.0 / 24.0, 1);
    }
    let mut values = Vec::new();
    for parameter in &before {
        let name = &parameter.name;
        assert_eq!(parameter.is_trainable(), trained.contains(name));
        if parameter.is_trainable() {
            let (found, expected) = (some.gradient(name).unwrap(), all.gradient(name).unwrap());
            assert_eq!(found, expected, "{name} {:?}", training.precision);
        } else {
            assert!(some.gradient(name).is_err() && some.download(name, StateKind::Moment1).is_err());
        }
        values.push(some.weights_mut().download(name).unwrap());
    }
    for at in 1..=3 {
        step(&mut some, at);
        if training.average {
            some.average_weights(0.5);
        }
    }
    let loss = some.evaluate(&batch());
    some.swap_average();
    let of_average = some.evaluate(&batch());
    assert_eq!(loss != of_average, training.average);
    for swapped in [true, false] {
        for (parameter, before) in before.iter().zip(&values) {
            let after = some.weights_mut().download(&parameter.name).unwrap();
            let moved = &after != before;
            assert_eq!(moved, parameter.is_trainable(), "{} swapped {swapped}", parameter.name);
        }
        some.swap_average();
    }
    assert!(some.state_is_finite());
}

#[test]
fn norms_can_be_trained_alone() {
    let norms = names(|parameter| parameter.name.contains("norm"));
    for &precision in training::precisions() {
        for average in [false, true] {
            check(&norms, Training { average, ..Training::new(2, 12, precision) });
        }
        let training =
            Training { trainable: Trainable::Only(norms.clone()), ..Training::new(2, 12, precision) };
        let mut model = laid_out(training);
        let losses: Vec<f64> = (1..=30).map(|at| step(&mut model, at)).collect();
        assert!(losses[29] < losses[0], "{losses:?}");
    }
}

/// A layer below stays frozen, a part of each fused matrix is trained, with its bias, and the head without
/// the embedding.
#[test]
fn any_part_of_a_model_can_be_trained() {
    let parts: [&[&str]; 5] = [
        &["layers.1.self_attn.v_proj.weight", "layers.2.mlp.up_proj.weight"],
        &["layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.1.mlp.gate_proj.weight"],
        &["layers.2."],
        &["lm_head.weight"],
        &["embed_tokens.weight", "layers.1.self_attn.k_norm.weight"],
    ];
    for parts in parts {
        let trained = names(|parameter| parts.iter().any(|part| parameter.name.contains(part)));
        for &precision in training::precisions() {
            for recompute in [false, true] {
                for optimizer in [Optimizer::AdamW, Optimizer::Muon] {
                    let training = Training::new(2, 12, precision);
                    check(&trained, Training { recompute, optimizer, average: recompute, ..training });
                }
            }
        }
    }
}

#[test]
fn frozen_parameters_take_no_memory_for_training() {
    let norms = names(|parameter| parameter.name.contains("norm"));
    let config = config();
    let count = config.parameter_count();
    for precision in [Precision::F32, Precision::Bf16] {
        let trainable = Trainable::Only(norms.clone());
        let training = Training { trainable, average: true, ..Training::new(2, 12, precision) };
        let plan = MemoryPlan::new(&config, &Purpose::Train(training));
        let padding = 64 * 3 * norms.len();
        assert!(plan.gradients_bytes <= 4 * count.norms + padding);
        assert!(plan.moments_bytes <= 3 * 4 * count.norms + padding);
        let element = precision.dtype().size();
        let biases = 4 * 3 * config.qkv_width();
        let most = element * count.total + (4 + element) * count.norms + biases + padding;
        assert!(plan.parameters_bytes <= most, "{} of {most}", plan.parameters_bytes);
    }
}

/// 12 bytes a parameter of gradients and moments stay away from a model that only evaluates.
#[test]
fn an_evaluator_takes_weights_and_activations_alone() {
    let config = ModelConfig { hidden_size: 256, intermediate_size: 512, vocab_size: 4096, ..config() };
    let parameters = config.parameter_count().total as f64;
    for (precision, most) in [(Precision::F32, 4.2), (Precision::Bf16, 2.2)] {
        let evaluation = model::Evaluation::new(1, 16, precision);
        let plan = MemoryPlan::new(&config, &Purpose::Evaluate(evaluation));
        let each = plan.parameters_bytes as f64 / parameters;
        assert!(each <= most, "{precision:?}: {each} bytes a parameter");
        assert_eq!((plan.gradients_bytes, plan.moments_bytes), (0, 0));
    }
}
