//! What PyTorch's golden numbers do not cover: dropout's gradient, threads, unfinished numbers, and the
//! memory plan.

use compute::cpu::{Cpu, InstructionSet};
use compute::reference::Reference;
use compute::rng::Rng;
use compute::{Batch, Device};
use model::{
    Decoder, Decoding, Evaluation, Evaluator, LearningRateScales, MemoryPlan, ModelConfig, Optimizer,
    Precision, Purpose, Role, StateKind, Training, TrainingModel, Update,
};

pub fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 23,
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 16,
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
        initializer_range: 0.3,
    }
}

pub fn random_batch(config: &ModelConfig, batch_size: usize, sequence_length: usize) -> Batch {
    let mut rng = Rng::from_parts(1, "batch", &[]);
    let mut batch = Batch::new(batch_size, sequence_length);
    for id in batch.tokens.iter_mut().chain(&mut batch.targets) {
        *id = rng.below(config.vocab_size as u64) as u32;
    }
    batch.weights.fill(1.0);
    batch
}

fn model<D: Device>(
    device: D,
    config: ModelConfig,
    batch_size: usize,
    sequence_length: usize,
) -> TrainingModel<D> {
    model_in(Precision::F32, device, config, batch_size, sequence_length)
}

fn model_in<D: Device>(
    precision: Precision,
    device: D,
    config: ModelConfig,
    batch_size: usize,
    sequence_length: usize,
) -> TrainingModel<D> {
    laid_out(device, config, Training::new(batch_size, sequence_length, precision))
}

pub fn laid_out<D: Device>(device: D, config: ModelConfig, training: Training) -> TrainingModel<D> {
    let mut model = TrainingModel::new(device, config, training).unwrap();
    model.initialize(7);
    model
}

/// The precisions that this CPU has.
pub fn precisions() -> &'static [Precision] {
    if InstructionSet::detect().has_bf16() {
        return &[Precision::F32, Precision::Bf16];
    }
    testkit::skip_without_hardware("bf16: this CPU has no products of it");
    &[Precision::F32]
}

pub const STEP: Update = Update {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.1,
    momentum: 0.95,
    max_gradient_norm: 1.0,
    step: 1,
    scales: LearningRateScales { embedding: 1.0, head: 1.0, hidden: 1.0, vectors: 1.0, layer_decay: 1.0 },
};

/// With a fixed seed dropout is a fixed function, so central differences hold for it as for any.
#[test]
fn dropout_has_the_gradient_of_its_own_mask() {
    let config = ModelConfig { dropout: 0.3, ..config() };
    let batch = random_batch(&config, 2, 5);
    let mut model = model(Reference::new(), config.clone(), 2, 5);
    let loss = |model: &mut TrainingModel<Reference>, seed| {
        model.begin_step();
        model.accumulate(&batch, 1.0, seed);
        model.step_outcome().loss_sum
    };
    let first = loss(&mut model, 3);
    assert_ne!(first, loss(&mut model, 4), "another seed drops other elements");
    assert_eq!(first, loss(&mut model, 3));
    for name in [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.0.input_layernorm.weight",
    ] {
        loss(&mut model, 3);
        let gradient = model.gradient(name).unwrap();
        let values = model.download(name, StateKind::Weight).unwrap();
        for index in [0, values.len() / 2, values.len() - 1] {
            let side = 1.0 / 1024.0;
            let [up, down] = [side, -side].map(|move_by| {
                let mut moved = values.clone();
                moved[index] += move_by;
                model.upload(name, StateKind::Weight, &moved).unwrap();
                (loss(&mut model, 3), moved[index])
            });
            model.upload(name, StateKind::Weight, &values).unwrap();
            let expected = (up.0 - down.0) / f64::from(up.1 - down.1);
            let found = f64::from(gradient[index]);
            assert!(
                (expected - found).abs() < 1e-4 * expected.abs().max(1.0),
                "{name}[{index}]: {found}, not {expected}"
            );
        }
    }
    // Evaluation drops nothing.
    let plain = ModelConfig { dropout: 0.0, ..config };
    let mut without = self::model(Reference::new(), plain, 2, 5);
    without.weights_mut().copy_from(model.weights_mut()).unwrap();
    assert_eq!(model.evaluate(&batch), without.evaluate(&batch));
}

#[test]
fn threads_do_not_change_a_bit() {
    let config = ModelConfig {
        vocab_size: 300,
        hidden_size: 96,
        intermediate_size: 200,
        head_dim: 24,
        max_position_embeddings: 64,
        initializer_range: 0.02,
        dropout: 0.1,
        qk_norm: true,
        ..config()
    };
    let batch = random_batch(&config, 3, 50);
    let run = |precision, optimizer, threads| {
        let training = Training { optimizer, ..Training::new(3, 50, precision) };
        let mut model = laid_out(Cpu::new(threads), config.clone(), training);
        for step in 1..=3 {
            model.begin_step();
            model.accumulate(&batch, 1.0 / 150.0, step);
            model.optimizer_step(&Update { step, ..STEP });
        }
        let outcome = model.step_outcome();
        let names: Vec<String> = model.weights().parameters().iter().map(|p| p.name.clone()).collect();
        let mut bits = vec![outcome.loss_sum.to_bits(), outcome.gradient_norm.to_bits()];
        for name in names {
            for kind in [StateKind::Weight, StateKind::Moment1, StateKind::Moment2] {
                let values = model.download(&name, kind).unwrap_or_default();
                bits.extend(values.iter().map(|v| u64::from(v.to_bits())));
            }
        }
        bits
    };
    for &precision in precisions() {
        for optimizer in [Optimizer::AdamW, Optimizer::Muon] {
            let one = run(precision, optimizer, 1);
            assert_eq!(one, run(precision, optimizer, 2));
            assert_eq!(one, run(precision, optimizer, 3));
        }
    }
}

/// Layers that are computed again give the gradients of layers that were kept, whatever they are made of.
#[test]
fn recomputed_layers_change_no_bit() {
    for (layers, dropout, qk_norm) in [(1, 0.0, false), (3, 0.0, true), (3, 0.1, false), (3, 0.1, true)] {
        let config = ModelConfig {
            num_hidden_layers: layers,
            max_position_embeddings: 64,
            attention_bias: !qk_norm,
            dropout,
            qk_norm,
            ..config()
        };
        let batches = [random_batch(&config, 2, 20), random_batch(&config, 3, 16)];
        let run = |precision, recompute| {
            let training = Training { recompute, ..Training::new(3, 20, precision) };
            let mut model = laid_out(Cpu::new(2), config.clone(), training);
            let mut bits = Vec::new();
            for step in 1..=2 {
                model.begin_step();
                for (batch, seed) in batches.iter().zip(step..) {
                    model.accumulate(batch, 0.01, seed);
                }
                let names: Vec<String> =
                    model.weights().parameters().iter().map(|p| p.name.clone()).collect();
                for name in names {
                    let gradient = model.gradient(&name).unwrap();
                    bits.extend(gradient.iter().map(|g| u64::from(g.to_bits())));
                }
                model.optimizer_step(&Update { step, ..STEP });
                bits.push(model.step_outcome().gradient_norm.to_bits());
                bits.push(model.evaluate(&batches[0]).to_bits());
            }
            bits
        };
        for &precision in precisions() {
            assert_eq!(run(precision, false), run(precision, true), "{layers} layers, {precision:?}");
        }
        let activations = |recompute| {
            let training = Training { recompute, ..Training::new(3, 20, Precision::F32) };
            MemoryPlan::new(&config, &Purpose::Train(training)).activations_bytes
        };
        assert_eq!(activations(true) < activations(false), layers > 1);
    }
}

/// Every kernel of the bf16 path at once: biases, QK-norm, dropout, a batch smaller than the layout.
#[test]
fn bf16_trains_like_f32() {
    let config = ModelConfig {
        vocab_size: 300,
        hidden_size: 96,
        intermediate_size: 200,
        head_dim: 24,
        max_position_embeddings: 64,
        initializer_range: 0.05,
        dropout: 0.1,
        qk_norm: true,
        attention_bias: true,
        ..config()
    };
    let batch = random_batch(&config, 3, 50);
    let train = |precision, steps: u64| {
        let mut model = model_in(precision, Cpu::new(2), config.clone(), 4, 60);
        let mut losses = Vec::new();
        for step in 1..=steps {
            model.begin_step();
            model.accumulate(&batch, 1.0 / 150.0, step);
            losses.push(model.step_outcome().loss_sum / 150.0);
            model.optimizer_step(&Update { step, ..STEP });
        }
        (model, losses)
    };
    let (mut exact, expected) = train(Precision::F32, 30);
    let first = expected[0];
    assert!(expected[29] < 0.1 * first, "{expected:?}");
    for &precision in &precisions()[1..] {
        let (mut model, losses) = train(precision, 30);
        for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < 0.02 * first, "step {step}: {found}, not {expected}");
        }
        // Weights that are replaced are rounded anew, and the f32 weights are what is kept.
        model.weights_mut().copy_from(exact.weights_mut()).unwrap();
        let (found, expected) = (model.evaluate(&batch), exact.evaluate(&batch));
        assert!((found - expected).abs() < 1e-3 * first * 150.0, "{found}, not {expected}");
        let name = "model.layers.1.mlp.up_proj.weight";
        assert_eq!(
            model.download(name, StateKind::Weight).unwrap(),
            exact.download(name, StateKind::Weight).unwrap()
        );
        // The first step's gradients point the same way.
        let gradient = |precision| {
            let (mut model, _) = train(precision, 1);
            let names: Vec<String> = model.weights().parameters().iter().map(|p| p.name.clone()).collect();
            names.iter().map(|name| model.gradient(name).unwrap()).collect::<Vec<_>>()
        };
        for (a, b) in gradient(Precision::F32).iter().zip(&gradient(precision)) {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            assert!(cosine > 0.999, "{cosine}");
        }
    }
}

/// Columns that are orthonormal: Gram–Schmidt over random ones. Row-major (rows, columns).
fn orthonormal(rng: &mut Rng, rows: usize, columns: usize) -> Vec<f64> {
    let mut q: Vec<Vec<f64>> = Vec::new();
    while q.len() < columns {
        let mut v: Vec<f64> = (0..rows).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for u in &q {
                let along: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= along * u);
            }
        }
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        q.push(v.iter().map(|v| v / norm).collect());
    }
    (0..rows * columns).map(|at| q[at % columns][at / columns]).collect()
}

/// A gradient U·S·Vᵀ moves the matrix along U·Vᵀ, singular values from 1e-3 of the norm on near 1, whatever
/// its shape.
#[test]
fn muon_moves_along_the_orthogonal_factor() {
    let config = config();
    for &precision in precisions() {
        for name in [
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.1.mlp.gate_proj.weight",
            "model.layers.1.mlp.down_proj.weight",
        ] {
            let training = Training { optimizer: Optimizer::Muon, ..Training::new(1, 4, precision) };
            let mut model = laid_out(Cpu::new(2), config.clone(), training);
            let shape = model.weights().parameters().iter().find(|p| p.name == name).unwrap().shape.clone();
            let (rows, columns, side) = (shape[0], shape[1], shape[0].min(shape[1]));
            let mut rng = Rng::from_parts(5, name, &[]);
            let (u, v) = (orthonormal(&mut rng, rows, side), orthonormal(&mut rng, columns, side));
            let singular: Vec<f64> = (0..side).map(|i| 10f64.powf(-2.0 * i as f64 / side as f64)).collect();
            let gradient: Vec<f32> = (0..rows * columns)
                .map(|at| {
                    (0..side)
                        .map(|i| u[at / columns * side + i] * singular[i] * v[at % columns * side + i])
                        .sum::<f64>() as f32
                })
                .collect();
            let before = model.download(name, StateKind::Weight).unwrap();
            model.begin_step();
            model.set_gradient(name, &gradient).unwrap();
            model.optimizer_step(&Update { weight_decay: 0.0, ..STEP });
            let after = model.download(name, StateKind::Weight).unwrap();
            let length = f64::from(STEP.learning_rate) * 0.2 * (rows.max(columns) as f64).sqrt();
            let moved: Vec<f64> = before.iter().zip(&after).map(|(b, a)| f64::from(b - a) / length).collect();
            // Uᵀ·moved·V is diagonal.
            for i in 0..side {
                for j in 0..side {
                    let along: f64 = (0..rows * columns)
                        .map(|at| u[at / columns * side + i] * moved[at] * v[at % columns * side + j])
                        .sum();
                    let (expected, tolerance) = if i == j { (1.0, 0.16) } else { (0.0, 1e-3) };
                    let tolerance = if precision == Precision::Bf16 { tolerance + 0.05 } else { tolerance };
                    assert!((along - expected).abs() < tolerance, "{name} {precision:?} ({i}, {j}): {along}");
                }
            }
            assert!(model.download(name, StateKind::Moment2).is_err(), "Muon keeps no second moment");
        }
    }
}

/// The first step of AdamW is as long as its learning rate, so what a parameter moved shows it.
#[test]
fn scales_multiply_the_learning_rate_of_their_parameters() {
    let config = ModelConfig { tie_word_embeddings: false, num_hidden_layers: 3, ..config() };
    let scales =
        LearningRateScales { embedding: 2.0, head: 0.5, hidden: 4.0, vectors: 0.0, layer_decay: 0.5 };
    let mut model = model(Cpu::new(1), config.clone(), 1, 4);
    let parameters = model.weights().parameters().to_vec();
    model.begin_step();
    let mut before = Vec::new();
    for parameter in &parameters {
        before.push(model.download(&parameter.name, StateKind::Weight).unwrap());
        model.set_gradient(&parameter.name, &vec![1e-3; parameter.len()]).unwrap();
    }
    model.optimizer_step(&Update { weight_decay: 0.0, scales, ..STEP });
    for (parameter, before) in parameters.iter().zip(before) {
        let name = &parameter.name;
        let expected = STEP.learning_rate
            * match (parameter.role, parameter.layer) {
                (Role::Embedding, _) => 2.0 * 0.125,
                (Role::Head, _) => 0.5,
                (Role::Hidden, Some(layer)) => 4.0 * 0.5f32.powi(2 - layer as i32),
                _ => 0.0,
            };
        for (before, after) in before.iter().zip(model.download(name, StateKind::Weight).unwrap()) {
            assert!((before - after - expected).abs() < 1e-3 * expected + 1e-6, "{name}: {}", before - after);
        }
    }
}

#[test]
fn the_average_follows_the_weights_and_takes_their_place() {
    let config = config();
    let batch = random_batch(&config, 1, 4);
    for &precision in precisions() {
        let training = Training { average: true, ..Training::new(1, 4, precision) };
        let mut model = laid_out(Cpu::new(2), config.clone(), training);
        let name = "model.layers.1.mlp.up_proj.weight";
        let mut expected = model.download(name, StateKind::Weight).unwrap();
        assert_eq!(model.download(name, StateKind::Average).unwrap(), expected);
        for step in 1..=3 {
            model.begin_step();
            model.accumulate(&batch, 0.25, 0);
            model.optimizer_step(&Update { step, ..STEP });
            model.average_weights(0.75);
            let weights = model.download(name, StateKind::Weight).unwrap();
            expected.iter_mut().zip(weights).for_each(|(e, w)| *e = 0.75 * *e + 0.25 * w);
        }
        let found = model.download(name, StateKind::Average).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
        let loss = model.evaluate(&batch);
        model.swap_average();
        assert_eq!(model.download(name, StateKind::Weight).unwrap(), found);
        let mut plain = laid_out(Cpu::new(2), config.clone(), Training::new(1, 4, precision));
        plain.weights_mut().copy_from(model.weights_mut()).unwrap();
        let of_average = model.evaluate(&batch);
        assert_eq!(of_average, plain.evaluate(&batch));
        model.swap_average();
        assert_eq!(model.evaluate(&batch), loss);
        assert_ne!(loss, of_average);
    }
}

#[test]
fn gradients_that_are_not_finite_change_nothing() {
    let config = config();
    let batch = random_batch(&config, 1, 4);
    let mut model = model(Cpu::new(2), config, 1, 4);
    let name = "model.layers.1.mlp.up_proj.weight";
    let before = model.download("model.norm.weight", StateKind::Weight).unwrap();
    let mut poisoned = model.download(name, StateKind::Weight).unwrap();
    poisoned[3] = f32::NAN;
    model.upload(name, StateKind::Weight, &poisoned).unwrap();
    model.begin_step();
    model.accumulate(&batch, 0.25, 0);
    model.optimizer_step(&STEP);
    assert!(model.step_outcome().skipped_non_finite);
    assert!(!model.state_is_finite());
    assert_eq!(model.download("model.norm.weight", StateKind::Weight).unwrap(), before);
    assert!(model.download("model.norm.weight", StateKind::Moment1).unwrap().iter().all(|&m| m == 0.0));
}

/// The arena of a model for a purpose, and its parameters' roles and lengths.
fn arena_of(config: &ModelConfig, purpose: &Purpose) -> (MemoryPlan, Vec<(Role, usize)>) {
    let (device, config) = (Cpu::new(1), config.clone());
    let (plan, parameters) = match purpose.clone() {
        Purpose::Train(training) => {
            let model = TrainingModel::new(device, config, training).unwrap();
            (model.plan(), model.weights().parameters().to_vec())
        }
        Purpose::Evaluate(evaluation) => {
            let model = Evaluator::new(device, config, evaluation).unwrap();
            (model.plan(), model.weights().parameters().to_vec())
        }
        Purpose::Decode(decoding) => {
            let model = Decoder::new(device, config, decoding).unwrap();
            (model.plan(), model.weights().parameters().to_vec())
        }
    };
    (plan, parameters.iter().map(|parameter| (parameter.role, parameter.len())).collect())
}

#[test]
fn the_plan_is_the_arena() {
    for qk_norm in [false, true] {
        let config =
            ModelConfig { qk_norm, attention_bias: !qk_norm, tie_word_embeddings: qk_norm, ..config() };
        for purpose in [
            Purpose::Train(Training::new(3, 16, Precision::F32)),
            Purpose::Train(Training::new(3, 16, Precision::Bf16)),
            Purpose::Train(Training { recompute: true, ..Training::new(3, 16, Precision::Bf16) }),
            Purpose::Train(Training {
                optimizer: Optimizer::Muon,
                average: true,
                ..Training::new(3, 16, Precision::F32)
            }),
            Purpose::Evaluate(Evaluation::new(3, 16, Precision::F32)),
            Purpose::Evaluate(Evaluation::new(3, 16, Precision::Bf16)),
            Purpose::Decode(Decoding::one(300)),
        ] {
            let plan = MemoryPlan::new(&config, &purpose);
            let (arena, sizes) = arena_of(&config, &purpose);
            assert_eq!(arena, plan);
            let parts = plan.parameters_bytes
                + plan.gradients_bytes
                + plan.moments_bytes
                + plan.activations_bytes
                + plan.scratch_bytes;
            assert_eq!(parts, plan.total_bytes);
            // Every tensor is rounded up to a cache line; nothing else is added.
            let parameters: usize = sizes.iter().map(|(_, len)| len).sum();
            assert_eq!(parameters, config.parameter_count().total);
            let is_bf16 = matches!(purpose, Purpose::Train(Training { precision: Precision::Bf16, .. }));
            let each = match purpose {
                Purpose::Evaluate(Evaluation { precision: Precision::Bf16, .. }) => 2,
                _ if is_bf16 => 4 + 2,
                _ => 4,
            };
            assert!(plan.parameters_bytes >= each * parameters);
            assert!(plan.parameters_bytes <= each * parameters + 128 * sizes.len());
            if let Purpose::Train(training) = &purpose {
                let hidden = sizes.iter().filter(|(role, _)| *role == Role::Hidden);
                let hidden: usize = hidden.map(|(_, len)| len).sum();
                let moments = match training.optimizer {
                    Optimizer::AdamW => 2 * parameters,
                    Optimizer::Muon => 2 * parameters - hidden,
                };
                let kept = 4 * (moments + if training.average { parameters } else { 0 });
                assert!(plan.moments_bytes >= kept, "{} of {kept}", plan.moments_bytes);
                assert!(plan.moments_bytes <= kept + 384 * sizes.len());
            }
        }
    }
}

#[test]
fn shapes_that_cannot_be_built_are_named() {
    let refused =
        |config: ModelConfig| Decoder::new(Cpu::new(1), config, Decoding::one(8)).err().unwrap().to_string();
    let message = refused(ModelConfig { num_key_value_heads: 3, ..config() });
    assert!(message.contains("model.num_key_value_heads") && message.contains('3'), "{message}");
    assert!(refused(ModelConfig { head_dim: 5, ..config() }).contains("model.head_dim"));
    assert!(refused(ModelConfig { vocab_size: 0, ..config() }).contains("model.vocab_size"));
    assert!(refused(ModelConfig { dropout: 1.0, ..config() }).contains("model.dropout"));
}

/// Packing: another document in the row changes no bit of a document's logits.
#[test]
fn documents_of_a_row_do_not_see_each_other() {
    let config = config();
    for &precision in precisions() {
        let mut model = model_in(precision, Cpu::new(2), config.clone(), 1, 24);
        let mut batch = random_batch(&config, 1, 24);
        for (at, start) in batch.document_starts.iter_mut().enumerate() {
            *start = at as u32 / 8 * 8;
        }
        let evaluation = model::Evaluation::new(1, 24, precision);
        let mut evaluator = model::Evaluator::new(Cpu::new(2), config.clone(), evaluation).unwrap();
        evaluator.weights_mut().copy_from(model.weights_mut()).unwrap();
        let before = evaluator.logits(&batch);
        for id in &mut batch.tokens[8..16] {
            *id = (*id + 1) % config.vocab_size as u32;
        }
        let after = evaluator.logits(&batch);
        let of = |logits: &[f32], tokens: std::ops::Range<usize>| {
            logits[tokens.start * config.vocab_size..tokens.end * config.vocab_size].to_vec()
        };
        for others in [0..8, 16..24] {
            assert_eq!(of(&before, others.clone()), of(&after, others), "{precision:?}");
        }
        assert_ne!(of(&before, 8..16), of(&after, 8..16));
    }
}
