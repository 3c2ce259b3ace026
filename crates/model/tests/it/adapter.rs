//! Adapters: what they add, their gradients, and that nothing else is trained.

use std::collections::BTreeSet;

use compute::Batch;
use compute::cpu::Cpu;
use model::adapter_folder::{self, BaseName};
use model::{
    AdapterConfig, DType, Evaluation, Evaluator, MemoryPlan, ModelConfig, Module, Precision, Preference,
    PreferenceLoss, Purpose, StateKind, Trainable, Training, TrainingModel, Update, WeightTypes,
};
use store::fs::RealFs;

use crate::training;

pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 40,
        hidden_size: 48,
        intermediate_size: 80,
        num_hidden_layers: 3,
        head_dim: 16,
        attention_bias: true,
        qk_norm: true,
        initializer_range: 0.1,
        ..training::config()
    }
}

pub(crate) fn adapter(dropout: f32) -> AdapterConfig {
    AdapterConfig { rank: 4, alpha: 6.0, dropout, ..AdapterConfig::default() }
}

/// Of conversations only some tokens are trained.
pub(crate) fn batch() -> Batch {
    let mut batch = training::random_batch(&config(), 2, 12);
    for (at, weight) in batch.weights.iter_mut().enumerate() {
        *weight = if at % 3 == 1 { 1.0 } else { 0.0 };
    }
    batch
}

pub(crate) fn adapted(adapter: AdapterConfig, precision: Precision) -> Training {
    let (trainable, adapter) = (Trainable::Adapters, Some(adapter));
    Training { trainable, adapter, ..Training::new(2, 12, precision) }
}

/// A model with weights from a seed, and B's that are not zero.
pub(crate) fn laid_out(training: Training) -> TrainingModel<Cpu> {
    let mut model = training::laid_out(Cpu::new(2), config(), training);
    model.initialize(7);
    for parameter in model.weights().parameters().to_vec() {
        let step = |at: usize| ((at * 37 % 29) as f32 - 14.0) / 100.0;
        if parameter.name.contains("lora_B") {
            let values: Vec<f32> = (0..parameter.len()).map(step).collect();
            model.weights_mut().upload(&parameter.name, &values).unwrap();
        } else if parameter.name.contains("lora_magnitude") {
            let mut values = model.weights_mut().download(&parameter.name).unwrap();
            values.iter_mut().enumerate().for_each(|(at, value)| *value *= 1.0 + step(at));
            model.weights_mut().upload(&parameter.name, &values).unwrap();
        }
    }
    model.clear_state();
    model
}

pub(crate) fn names(model: &TrainingModel<Cpu>, part: &str) -> Vec<String> {
    let parameters = model.weights().parameters().iter();
    parameters.map(|p| p.name.clone()).filter(|name| name.contains(part)).collect()
}

/// W + s·B·A in every layer, without adapters.
fn merged(adapted: &mut TrainingModel<Cpu>, config: &AdapterConfig) -> Evaluator<Cpu> {
    let evaluation = Evaluation::new(2, 12, Precision::F32);
    let mut merged = Evaluator::new(Cpu::new(1), self::config(), evaluation).unwrap();
    for parameter in merged.weights().parameters().to_vec() {
        let mut weight = adapted.weights_mut().download(&parameter.name).unwrap();
        let module = parameter.name.trim_end_matches(".weight");
        let a = adapted.weights_mut().download(&format!("{module}.lora_A.weight"));
        let b = adapted.weights_mut().download(&format!("{module}.lora_B.weight"));
        if let (Ok(a), Ok(b)) = (a, b) {
            let (columns, rank) = (parameter.shape[1], config.rank);
            for (at, value) in weight.iter_mut().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let sum: f32 = (0..rank).map(|r| b[row * rank + r] * a[r * columns + column]).sum();
                *value += config.scale() * sum;
            }
        }
        if let Ok(norms) = adapted.weights_mut().download(&format!("{module}.lora_magnitude_vector")) {
            for (row, norm) in weight.chunks_exact_mut(parameter.shape[1]).zip(norms) {
                let by = norm / row.iter().map(|w| w * w).sum::<f32>().sqrt();
                row.iter_mut().for_each(|w| *w *= by);
            }
        }
        merged.weights_mut().upload(&parameter.name, &weight).unwrap();
    }
    merged
}

#[test]
fn an_adapter_adds_the_product_of_its_matrices() {
    let some = [Module::KProj, Module::UpProj, Module::DownProj];
    let all = Module::ALL.to_vec();
    for (targets, rank_stabilized, dora) in [
        (&all, false, false),
        (&some.to_vec(), true, false),
        (&all, false, true),
        (&some.to_vec(), true, true),
    ] {
        let target_modules: BTreeSet<Module> = targets.iter().copied().collect();
        let config = AdapterConfig { target_modules, rank_stabilized, dora, ..adapter(0.1) };
        let mut model = laid_out(adapted(config.clone(), Precision::F32));
        let (found, expected) = (model.evaluate(&batch()), merged(&mut model, &config).evaluate(&batch()));
        assert!((found / expected - 1.0).abs() < 1e-6, "{found}, merged {expected}");

        let evaluation =
            Evaluation { adapter: Some(config.clone()), ..Evaluation::new(2, 12, Precision::F32) };
        let mut evaluator = Evaluator::new(Cpu::new(1), self::config(), evaluation).unwrap();
        evaluator.weights_mut().copy_from(model.weights_mut()).unwrap();
        let evaluated = evaluator.evaluate(&batch());
        assert!((evaluated / expected - 1.0).abs() < 1e-6, "{evaluated}, merged {expected}");
    }
}

/// The loss of one accumulation: dropout drops the same elements for the same seed.
pub(crate) fn loss(model: &mut TrainingModel<Cpu>) -> f64 {
    model.begin_step();
    model.accumulate(&batch(), 1.0, 3);
    model.step_outcome().loss_sum
}

/// Compares some elements of a parameter's gradient with differences of the loss.
pub(crate) fn assert_gradient_is_a_difference(model: &mut TrainingModel<Cpu>, name: &str) {
    loss(model);
    let gradient = model.gradient(name).unwrap();
    let weights = model.weights_mut().download(name).unwrap();
    for at in [0, weights.len() / 2, weights.len() - 1] {
        let mut at_offset = |offset: f32| {
            let mut moved = weights.clone();
            moved[at] += offset;
            model.weights_mut().upload(name, &moved).unwrap();
            loss(model)
        };
        let (epsilon, difference) = (4e-3, at_offset(4e-3) - at_offset(-4e-3));
        let (found, expected) = (f64::from(gradient[at]), difference / (2.0 * epsilon));
        let close = (found - expected).abs() < 2e-2 * expected.abs().max(0.05);
        let dropout = model.training().adapter.as_ref().map(|adapter| adapter.dropout);
        assert!(close, "{name} {at}, dropout {dropout:?}: {found}, difference {expected}");
        model.weights_mut().upload(name, &weights).unwrap();
    }
}

#[test]
fn gradients_are_finite_differences_with_and_without_dropout() {
    for dropout in [0.0, 0.2] {
        let mut model = laid_out(adapted(adapter(dropout), Precision::F32));
        loss(&mut model);
        for name in names(&model, "layers.1.").iter().filter(|name| name.contains("lora_")) {
            assert_gradient_is_a_difference(&mut model, name);
        }
    }
}

#[test]
fn only_adapters_are_trained_and_only_they_take_memory() {
    for &precision in training::precisions() {
        let training = adapted(adapter(0.05), precision);
        let mut model = laid_out(training.clone());
        let before: Vec<_> = model.weights().parameters().to_vec();
        let mut values = Vec::new();
        for parameter in &before {
            values.push(model.weights_mut().download(&parameter.name).unwrap());
        }
        let mut losses = Vec::new();
        for step in 1..=20 {
            model.begin_step();
            model.accumulate(&batch(), 1.0 / 24.0, step);
            model.optimizer_step(&Update { step, learning_rate: 5e-3, ..training::STEP });
            losses.push(model.step_outcome().loss_sum);
        }
        assert!(losses[19] < losses[0], "{precision:?}: {losses:?}");
        for (parameter, before) in before.iter().zip(&values) {
            let moved = &model.weights_mut().download(&parameter.name).unwrap() != before;
            let is_adapter = parameter.name.contains("lora_");
            assert_eq!((moved, parameter.is_trainable()), (is_adapter, is_adapter), "{}", parameter.name);
            assert_eq!(model.download(&parameter.name, StateKind::Moment1).is_ok(), is_adapter);
        }
        let adapters: usize = before.iter().filter(|p| p.is_trainable()).map(|p| p.len()).sum();
        let padding = 64 * before.len();
        let plan = MemoryPlan::new(&config(), &Purpose::Train(training));
        assert!(plan.gradients_bytes <= 4 * adapters + padding, "{plan:?}");
        assert!(plan.moments_bytes <= 8 * adapters + padding, "{plan:?}");
    }
}

/// The head computes only the rows that are trained: the loss is that of all rows with their weights.
#[test]
fn rows_that_are_not_trained_change_nothing() {
    for &precision in training::precisions() {
        let mut model = laid_out(adapted(adapter(0.0), precision));
        let (found, expected) = (loss(&mut model), model.evaluate(&batch()));
        assert!((found / expected - 1.0).abs() < 1e-6, "{precision:?}: {found}, of all rows {expected}");
        let mut whole = training::random_batch(&config(), 2, 12);
        whole.weights.fill(0.0);
        model.begin_step();
        model.accumulate(&whole, 1.0, 3);
        assert_eq!(model.step_outcome().loss_sum, 0.0);
        let name = &names(&model, "lora_B")[0];
        assert!(model.gradient(name).unwrap().iter().all(|&gradient| gradient == 0.0));
    }
}

/// In bfloat16 the loss and the gradients stay near those of f32.
#[test]
fn bfloat16_is_close_to_f32() {
    if !training::precisions().contains(&Precision::Bf16) {
        testkit::skip_without_hardware("this CPU has no bfloat16");
        return;
    }
    let [mut exact, mut rounded] =
        [Precision::F32, Precision::Bf16].map(|precision| laid_out(adapted(adapter(0.0), precision)));
    let (expected, found) = (loss(&mut exact), loss(&mut rounded));
    assert!((found / expected - 1.0).abs() < 5e-3, "{found}, f32 {expected}");
    for name in names(&exact, "lora_") {
        let (expected, found) = (exact.gradient(&name).unwrap(), rounded.gradient(&name).unwrap());
        let norm = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
        let difference: Vec<f32> = expected.iter().zip(&found).map(|(x, y)| x - y).collect();
        assert!(norm(&difference) < 0.05 * norm(&expected), "{name}");
    }
}

#[test]
fn what_cannot_be_an_adapter_is_refused() {
    for (config, key) in [
        (AdapterConfig { rank: 0, ..adapter(0.0) }, "rank"),
        (AdapterConfig { alpha: f64::NAN, ..adapter(0.0) }, "alpha"),
        (AdapterConfig { dropout: 1.0, ..adapter(0.0) }, "dropout"),
        (AdapterConfig { target_modules: BTreeSet::new(), ..adapter(0.0) }, "target_modules"),
    ] {
        let refused = TrainingModel::new(Cpu::new(1), self::config(), adapted(config, Precision::F32));
        let Err(error) = refused else { panic!("{key} was accepted") };
        assert!(error.to_string().starts_with(&format!("adapter.{key}")), "{error}");
    }
}

/// What QLoRA promises: a base in blocks trains exactly as its dequantized values would, in less memory.
#[test]
fn a_base_in_blocks_trains_as_its_dequantized_values() {
    let config =
        || ModelConfig { hidden_size: 64, intermediate_size: 128, attention_bias: false, ..self::config() };
    let laid_out = |hidden, recompute| {
        let frozen = Some(WeightTypes::Layers { hidden, ends: DType::F32 });
        let training = Training { frozen, recompute, ..adapted(adapter(0.1), Precision::F32) };
        let mut model = training::laid_out(Cpu::new(2), config(), training);
        model.initialize(7);
        model
    };
    let batch = training::random_batch(&config(), 2, 12);
    for hidden in [DType::Q8_0, DType::Q4_0, DType::Nf4] {
        let mut plain = laid_out(DType::F32, false);
        let mut blocks = laid_out(hidden, true);
        assert!(blocks.plan().parameters_bytes < plain.plan().parameters_bytes / 2, "{hidden:?}");
        let mut in_blocks = 0;
        for parameter in plain.weights().parameters().to_vec() {
            let mut values = plain.weights_mut().download(&parameter.name).unwrap();
            if blocks.weights().is_stored_as(&parameter.name, hidden).unwrap() {
                let format = hidden.block_format();
                let encoded = format.encode(&values);
                blocks.weights_mut().upload_blocks(&parameter.name, &encoded).unwrap();
                values = format.decode(&encoded);
                in_blocks += 1;
            }
            plain.weights_mut().upload(&parameter.name, &values).unwrap();
            if !blocks.weights().is_stored_as(&parameter.name, hidden).unwrap() {
                blocks.weights_mut().upload(&parameter.name, &values).unwrap();
            }
        }
        assert_eq!(in_blocks, 7 * config().num_hidden_layers);
        for step in 1..4 {
            let outcomes = [&mut plain, &mut blocks].map(|model| {
                model.begin_step();
                model.accumulate(&batch, 1.0, step);
                model.optimizer_step(&Update { step, learning_rate: 5e-3, ..training::STEP });
                let outcome = model.step_outcome();
                (outcome.loss_sum, outcome.gradient_norm)
            });
            assert_eq!(outcomes[0], outcomes[1], "{hidden:?}, step {step}");
        }
        for name in names(&plain, "lora_") {
            let [plain, blocks] =
                [&mut plain, &mut blocks].map(|model| model.weights_mut().download(&name).unwrap());
            assert_eq!(plain, blocks, "{hidden:?}, {name}");
        }
    }
}

/// As a folder in PEFT's form, also where the base's projections are fused, and of some modules only.
#[test]
fn an_adapter_is_read_back_as_it_was_written() {
    let some = [Module::QProj, Module::VProj, Module::UpProj, Module::DownProj];
    for (targets, dora) in [
        (Module::ALL.to_vec(), false),
        (some.to_vec(), false),
        (Module::ALL.to_vec(), true),
        (some.to_vec(), true),
    ] {
        for fused_projections in [false, true] {
            let target_modules = targets.iter().copied().collect();
            let config = AdapterConfig { target_modules, dora, ..adapter(0.0) };
            let mut model = laid_out(adapted(config.clone(), Precision::F32));
            let expected = model.evaluate(&batch());
            let folder = tempfile::tempdir().unwrap();
            let base = BaseName {
                name: Some("base".into()),
                hash: Some("x".into()),
                fused_projections,
                ..BaseName::default()
            };
            let saved = adapter_folder::save(&RealFs, folder.path(), model.weights_mut(), &config, &base);
            if dora && fused_projections && targets.len() < Module::ALL.len() {
                let refused = saved.unwrap_err().to_string();
                assert!(refused.contains("DoRA on a part of"), "{refused}");
                continue;
            }
            saved.unwrap();

            let (read, name) = adapter_folder::read_config(&RealFs, folder.path()).unwrap();
            assert_eq!((name.name, name.hash), (base.name, base.hash));
            if !fused_projections {
                assert_eq!(read, config);
            }
            let evaluation = Evaluation { adapter: Some(read), ..Evaluation::new(2, 12, Precision::F32) };
            let mut other = Evaluator::new(Cpu::new(1), self::config(), evaluation).unwrap();
            for parameter in model.weights().parameters().to_vec().iter().filter(|p| !p.is_adapter()) {
                let values = model.weights_mut().download(&parameter.name).unwrap();
                other.weights_mut().upload(&parameter.name, &values).unwrap();
            }
            adapter_folder::load(&RealFs, folder.path(), other.weights_mut()).unwrap();
            let found = other.evaluate(&batch());
            assert!((found / expected - 1.0).abs() < 1e-6, "{targets:?} {fused_projections}: {found}");

            let narrow = ModelConfig { intermediate_size: 64, ..self::config() };
            let evaluation = Evaluation { adapter: Some(config), ..Evaluation::new(2, 12, Precision::F32) };
            let mut narrow = Evaluator::new(Cpu::new(1), narrow, evaluation).unwrap();
            let refused = adapter_folder::load(&RealFs, folder.path(), narrow.weights_mut()).unwrap_err();
            assert!(refused.to_string().contains("another base"), "{refused}");
        }
    }
}

/// Two pairs of answers in two rows.
fn pairs() -> Batch {
    let mut batch = training::random_batch(&config(), 2, 12);
    for at in 0..24 {
        batch.document_starts[at] = if at % 12 < 5 { 0 } else { 5 };
        batch.weights[at] = if [2, 3, 8, 9, 10].contains(&(at % 12)) { 1.0 } else { 0.0 };
    }
    batch
}

#[test]
fn preferences_begin_at_ln_2_and_their_gradients_are_finite_differences() {
    let sigmoid = Preference { loss: PreferenceLoss::Sigmoid, beta: 0.5, label_smoothing: 0.1 };
    let ipo = Preference { loss: PreferenceLoss::Ipo, beta: 0.5, label_smoothing: 0.0 };
    let mut fresh = training::laid_out(Cpu::new(2), config(), adapted(adapter(0.0), Precision::F32));
    fresh.initialize(7);
    let outcome = fresh.evaluate_pairs(&pairs(), &sigmoid);
    assert_eq!((outcome.pairs, outcome.right), (2, 0));
    assert!((outcome.loss_sum - 2.0 * std::f64::consts::LN_2).abs() < 1e-6, "{outcome:?}");

    for (preference, recompute) in [(sigmoid, false), (sigmoid, true), (ipo, false)] {
        let mut model = laid_out(Training { recompute, ..adapted(adapter(0.0), Precision::F32) });
        model.begin_step();
        let outcome = model.accumulate_pairs(&pairs(), &preference, 1.0);
        assert_eq!(outcome, model.evaluate_pairs(&pairs(), &preference));
        for name in names(&model, "layers.1.").iter().filter(|name| name.contains("lora_")) {
            let gradient = model.gradient(name).unwrap();
            let weights = model.weights_mut().download(name).unwrap();
            for at in [0, weights.len() - 1] {
                let mut at_offset = |offset: f32| {
                    let mut moved = weights.clone();
                    moved[at] += offset;
                    model.weights_mut().upload(name, &moved).unwrap();
                    model.evaluate_pairs(&pairs(), &preference).loss_sum
                };
                let (epsilon, difference) = (4e-3, at_offset(4e-3) - at_offset(-4e-3));
                let (found, expected) = (f64::from(gradient[at]), difference / (2.0 * epsilon));
                let close = (found - expected).abs() < 2e-2 * expected.abs().max(0.05);
                assert!(close, "{name} {at}, {preference:?}: {found}, difference {expected}");
                model.weights_mut().upload(name, &weights).unwrap();
            }
        }
    }
}
