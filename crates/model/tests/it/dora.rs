//! DoRA: the norms of rows are trained, and constants to the backward of A and B.

use compute::cpu::Cpu;
use model::{AdapterConfig, Precision, TrainingModel, Update};

use crate::adapter::{
    adapted, adapter, assert_gradient_is_a_difference, batch, config, laid_out, loss, names,
};
use crate::training;

fn dora(dropout: f32) -> AdapterConfig {
    AdapterConfig { dora: true, ..adapter(dropout) }
}

#[test]
fn it_begins_as_the_base() {
    for &precision in training::precisions() {
        let fresh = |adapter| {
            let mut model = training::laid_out(Cpu::new(2), config(), adapted(adapter, precision));
            model.initialize(7);
            model.evaluate(&batch())
        };
        let (found, base) = (fresh(dora(0.0)), fresh(adapter(0.0)));
        let tolerance = if precision == Precision::F32 { 1e-6 } else { 2e-3 };
        assert!((found / base - 1.0).abs() < tolerance, "{precision:?}: {found}, base {base}");
    }
}

#[test]
fn gradients_of_magnitudes_are_finite_differences() {
    for dropout in [0.0, 0.2] {
        let mut model = laid_out(adapted(dora(dropout), Precision::F32));
        let magnitudes = names(&model, "lora_magnitude");
        assert_eq!(magnitudes.len(), 7 * config().num_hidden_layers);
        for name in magnitudes.iter().filter(|name| name.contains("layers.1.")) {
            assert_gradient_is_a_difference(&mut model, name);
        }
    }
}

/// With the gains g as constants, a layer is a plain adapter on g ⊙ W with g ⊙ B.
#[test]
fn gradients_of_the_matrices_are_those_of_a_plain_adapter_with_scaled_rows() {
    for recompute in [false, true] {
        let mut model = laid_out(model::Training { recompute, ..adapted(dora(0.2), Precision::F32) });
        let mut plain = laid_out(adapted(adapter(0.2), Precision::F32));
        let gains = scale_rows(&mut model, &mut plain);
        let (found, expected) = (loss(&mut model), loss(&mut plain));
        assert!((found / expected - 1.0).abs() < 1e-5, "{found}, scaled by hand {expected}");
        for (module, gains) in gains {
            for (matrix, rows_have_gains) in [("lora_A", false), ("lora_B", true)] {
                let name = format!("{module}.{matrix}.weight");
                let found = model.gradient(&name).unwrap();
                let mut expected = plain.gradient(&name).unwrap();
                if rows_have_gains {
                    for (row, gain) in expected.chunks_exact_mut(4).zip(&gains) {
                        row.iter_mut().for_each(|value| *value *= gain);
                    }
                }
                let largest = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-4 * largest, "{name}: {found}, {expected}");
                }
            }
        }
    }
}

/// Makes `plain` compute what `model` does; the gains by module.
fn scale_rows(model: &mut TrainingModel<Cpu>, plain: &mut TrainingModel<Cpu>) -> Vec<(String, Vec<f32>)> {
    let scale = adapter(0.0).scale();
    let mut gains = Vec::new();
    for name in names(model, "lora_magnitude") {
        let module = name.trim_end_matches(".lora_magnitude_vector").to_owned();
        let mut read = |part: &str| model.weights_mut().download(&format!("{module}.{part}")).unwrap();
        let (mut w, mut b) = (read("weight"), read("lora_B.weight"));
        let (a, norms) = (read("lora_A.weight"), read("lora_magnitude_vector"));
        let columns = w.len() / norms.len();
        let mut of_module = Vec::new();
        for (row, norm) in norms.iter().enumerate() {
            let b = &mut b[row * 4..(row + 1) * 4];
            let w = &mut w[row * columns..(row + 1) * columns];
            let squares: f32 = w
                .iter()
                .enumerate()
                .map(|(column, w)| {
                    let product: f32 = (0..4).map(|r| b[r] * a[r * columns + column]).sum();
                    (w + scale * product).powi(2)
                })
                .sum();
            let gain = norm / squares.sqrt();
            b.iter_mut().chain(w).for_each(|value| *value *= gain);
            of_module.push(gain);
        }
        plain.weights_mut().upload(&format!("{module}.weight"), &w).unwrap();
        plain.weights_mut().upload(&format!("{module}.lora_B.weight"), &b).unwrap();
        gains.push((module, of_module));
    }
    for name in names(model, "bias") {
        let values = model.weights_mut().download(&name).unwrap();
        plain.weights_mut().upload(&name, &values).unwrap();
    }
    gains
}

#[test]
fn training_lowers_the_loss_and_moves_the_magnitudes() {
    for &precision in training::precisions() {
        let mut model = laid_out(adapted(dora(0.05), precision));
        let name = &names(&model, "lora_magnitude")[0];
        let before = model.weights_mut().download(name).unwrap();
        let mut losses = Vec::new();
        for step in 1..=20 {
            model.begin_step();
            model.accumulate(&batch(), 1.0 / 24.0, step);
            model.optimizer_step(&Update { step, learning_rate: 5e-3, ..training::STEP });
            losses.push(model.step_outcome().loss_sum);
        }
        assert!(losses[19] < losses[0], "{precision:?}: {losses:?}");
        assert_ne!(model.weights_mut().download(name).unwrap(), before);
    }
}

#[test]
fn a_row_of_zeros_stays_one_and_breaks_nothing() {
    let mut model = training::laid_out(Cpu::new(2), config(), adapted(dora(0.0), Precision::F32));
    let name = "model.layers.1.mlp.down_proj.weight";
    model.initialize(7);
    let mut values = model.weights_mut().download(name).unwrap();
    values[..config().intermediate_size].fill(0.0);
    model.weights_mut().upload(name, &values).unwrap();
    model.weights_mut().initialize_adapters(7);
    model.clear_state();
    assert!(loss(&mut model).is_finite());
    let outcome = model.step_outcome();
    model.optimizer_step(&Update { step: 1, learning_rate: 5e-3, ..training::STEP });
    assert!(!model.step_outcome().skipped_non_finite, "{outcome:?}");
    assert!(loss(&mut model).is_finite());
}
