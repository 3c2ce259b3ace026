//! The model against PyTorch: logits, loss, every gradient, ten AdamW steps and the weights after them, on
//! every device.
//!
//! `tools/golden_model.py` made the numbers in float64 with transformers' own classes: Llama tied, Qwen3
//! untied with its own head width, Qwen2 with biases and Llama 3's rotary scaling. The batch packs documents,
//! weighs tokens and pads.

use std::path::PathBuf;

use compute::cpu::{Cpu, InstructionSet};
use compute::reference::Reference;
use compute::{Batch, Device};
use formats::hf::Config;
use formats::safetensors::Reader;
use model::{
    DType, Decoder, Decoding, Evaluation, Evaluator, LearningRateScales, ModelConfig, Precision, Training,
    TrainingModel, Update, WeightTypes, Weights,
};
use serde_json::Value;

const VARIANTS: [&str; 3] = ["llama_tied", "qwen3_untied", "qwen2_llama3_rope"];

struct Golden {
    name: &'static str,
    record: Value,
    tensors: Reader,
    config: ModelConfig,
    batch: Batch,
}

/// How far a device may be from float64, each relative to the largest magnitude in its tensor.
struct Tolerance {
    logits: f64,
    loss: f64,
    gradient: f64,
    /// After ten steps. Adam divides by the gradient's size, so where that is near zero its rounding counts
    /// in full. A missing weight decay would show as 1e-3.
    weights: f64,
}

/// The specification computes in f64 from the same f32 weights; the rest is the rounding of the stored golden
/// numbers.
const REFERENCE: Tolerance = Tolerance { logits: 5e-7, loss: 1e-7, gradient: 1e-6, weights: 5e-6 };
const F32: Tolerance = Tolerance { logits: 2e-6, loss: 1e-6, gradient: 5e-6, weights: 2e-4 };

fn folder() -> PathBuf {
    PathBuf::from("tests/golden")
}

impl Golden {
    fn open(name: &'static str) -> Golden {
        let path = folder().join(format!("{name}.json"));
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let hf = Config::parse(record["config"].to_string().as_bytes(), &path).unwrap();
        let numbers = |key: &str| record[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap());
        let ids = |key: &str| numbers(key).map(|value| value as u32).collect();
        let batch = Batch {
            batch_size: record["batch_size"].as_u64().unwrap() as usize,
            sequence_length: record["sequence_length"].as_u64().unwrap() as usize,
            tokens: ids("tokens"),
            targets: ids("targets"),
            document_starts: ids("document_starts"),
            weights: numbers("weights").map(|value| value as f32).collect(),
        };
        let tensors = Reader::open(&folder().join(format!("{name}.safetensors"))).unwrap();
        Golden { name, config: ModelConfig::from_hf(&hf), record, tensors, batch }
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        self.record[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    }

    fn option(&self, key: &str) -> f32 {
        self.record["optimizer"][key].as_f64().unwrap() as f32
    }

    fn load<D: Device>(&mut self, weights: &mut Weights<D>) {
        let parameters = weights.parameters().to_vec();
        let golden = self.tensors.tensors().iter().filter(|entry| entry.name.starts_with("weight.")).count();
        assert_eq!(parameters.len(), golden, "{}: as many parameters as PyTorch has", self.name);
        for parameter in parameters {
            let name = format!("weight.{}", parameter.name);
            let values = self.tensors.read_f32_shaped(&name, &parameter.shape).unwrap();
            weights.upload(&parameter.name, &values).unwrap();
        }
    }

    fn training<D: Device>(&mut self, device: D) -> TrainingModel<D> {
        let Batch { batch_size, sequence_length, .. } = self.batch;
        let training = Training::new(batch_size, sequence_length, Precision::F32);
        let mut model = TrainingModel::new(device, self.config.clone(), training).unwrap();
        self.load(model.weights_mut());
        model
    }

    fn evaluator<D: Device>(&mut self, device: D) -> Evaluator<D> {
        let Batch { batch_size, sequence_length, .. } = self.batch;
        let evaluation = Evaluation::new(batch_size, sequence_length, Precision::F32);
        let mut model = Evaluator::new(device, self.config.clone(), evaluation).unwrap();
        self.load(model.weights_mut());
        model
    }

    fn decoder<D: Device>(&mut self, device: D, decoding: Decoding) -> Decoder<D> {
        let mut model = Decoder::new(device, self.config.clone(), decoding).unwrap();
        self.load(model.weights_mut());
        model
    }

    /// Compares a tensor of every parameter with the golden ones; returns the largest relative difference.
    fn compare(&mut self, prefix: &str, tolerance: f64, mut of: impl FnMut(&str) -> Vec<f32>) -> f64 {
        let mut largest = 0f64;
        let prefix_dot = format!("{prefix}.");
        let entries = self.tensors.tensors().iter().map(|entry| entry.name.clone());
        let names: Vec<String> = entries.filter(|name| name.starts_with(&prefix_dot)).collect();
        assert!(!names.is_empty());
        for name in names {
            let expected = self.tensors.read_f32(&name).unwrap();
            let difference = relative_difference(&of(&name[prefix_dot.len()..]), &expected);
            assert!(difference <= tolerance, "{}: {name} differs by {difference:e}", self.name);
            largest = largest.max(difference);
        }
        largest
    }
}

/// Largest difference over the largest expected magnitude.
fn relative_difference(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(0f64, |a, b| if b.is_nan() { b } else { a.max(b) })
    };
    let scale = largest(&mut expected.iter().map(|&value| f64::from(value).abs()));
    let difference =
        largest(&mut actual.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()));
    difference / scale.max(1e-30)
}

/// The rows `from..to` of a batch.
fn rows(batch: &Batch, from: usize, to: usize) -> Batch {
    let range = from * batch.sequence_length..to * batch.sequence_length;
    Batch {
        batch_size: to - from,
        sequence_length: batch.sequence_length,
        tokens: batch.tokens[range.clone()].to_vec(),
        targets: batch.targets[range.clone()].to_vec(),
        document_starts: batch.document_starts[range.clone()].to_vec(),
        weights: batch.weights[range].to_vec(),
    }
}

/// The golden numbers on a GPU, in f32.
#[cfg(feature = "cuda")]
pub fn check_gpu(device: impl Fn() -> compute::cuda::Cuda) {
    check(device, &F32, &[0, 2, 3]);
}

/// Everything golden, with each step's batch cut at these rows.
fn check<D: Device>(device: impl Fn() -> D, tolerance: &Tolerance, cuts: &[usize]) {
    for name in VARIANTS {
        let mut golden = Golden::open(name);
        let mut model = golden.training(device());
        let batch = golden.batch.clone();
        let weight_sum = batch.weight_sum();

        let mut evaluator = golden.evaluator(device());
        let logits = evaluator.logits(&batch);
        let expected = golden.tensors.read_f32("logits").unwrap();
        let logits_difference = relative_difference(&logits, &expected);
        assert!(logits_difference <= tolerance.logits, "{name}: logits differ by {logits_difference:e}");
        let loss = model.evaluate(&batch) / weight_sum;
        assert_eq!(evaluator.evaluate(&batch) / weight_sum, loss, "{name}: evaluator and model in training");
        let losses = golden.numbers("losses");
        assert!(
            (loss / losses[0] - 1.0).abs() <= tolerance.loss,
            "{name}: loss {loss}, PyTorch {}",
            losses[0]
        );

        let mut gradient_difference = 0.0;
        let mut loss_difference = 0f64;
        for (step, (&loss, &norm)) in losses.iter().zip(&golden.numbers("gradient_norms")).enumerate() {
            model.begin_step();
            for cut in cuts.windows(2) {
                model.accumulate(&rows(&batch, cut[0], cut[1]), (1.0 / weight_sum) as f32, 0);
            }
            if step == 0 {
                gradient_difference =
                    golden.compare("gradient", tolerance.gradient, |name| model.gradient(name).unwrap());
            }
            model.optimizer_step(&Update {
                learning_rate: golden.option("learning_rate"),
                beta1: golden.option("beta1"),
                beta2: golden.option("beta2"),
                epsilon: golden.option("epsilon"),
                weight_decay: golden.option("weight_decay"),
                max_gradient_norm: golden.option("max_gradient_norm"),
                momentum: 0.95,
                step: step as u64 + 1,
                scales: LearningRateScales::default(),
            });
            let outcome = model.step_outcome();
            let difference = (outcome.loss_sum / weight_sum / loss - 1.0).abs();
            let norm_difference = (outcome.gradient_norm / norm - 1.0).abs();
            let at = format!("{name}, step {}", step + 1);
            assert!(difference <= tolerance.loss, "{at}: loss differs by {difference:e}");
            assert!(
                norm_difference <= tolerance.gradient,
                "{at}: gradient norm differs by {norm_difference:e}"
            );
            assert!(!outcome.skipped_non_finite, "{at}");
            loss_difference = loss_difference.max(difference);
        }
        let weights = model.weights_mut();
        let weights_difference =
            golden.compare("final", tolerance.weights, |name| weights.download(name).unwrap());
        println!(
            "{name}: relative difference of logits {logits_difference:.1e}, losses {loss_difference:.1e}, \
             gradients {gradient_difference:.1e}, final weights {weights_difference:.1e}"
        );
    }
}

#[test]
fn the_reference_device_agrees_with_pytorch() {
    check(Reference::new, &REFERENCE, &[0, 3]);
}

#[test]
fn the_cpu_agrees_with_pytorch() {
    check(|| Cpu::new(2), &F32, &[0, 3]);
}

#[test]
fn the_cpu_without_wide_vectors_agrees_with_pytorch() {
    check(|| Cpu::with_instruction_set(1, InstructionSet::Portable), &F32, &[0, 3]);
}

#[test]
fn micro_batches_add_up_to_the_step() {
    check(|| Cpu::new(1), &F32, &[0, 2, 3]);
}

/// Row 0 is one document, so what follows each of its tokens can also be decoded with the key/value cache.
#[test]
fn decoding_agrees_with_pytorch() {
    for name in VARIANTS {
        let mut golden = Golden::open(name);
        let (length, vocab) = (golden.batch.sequence_length, golden.config.vocab_size);
        let expected = golden.tensors.read_f32("logits").unwrap();
        let tokens = golden.batch.tokens[..length].to_vec();
        let mut model = golden.decoder(Cpu::new(2), Decoding::one(length));
        for (position, &token) in tokens.iter().enumerate() {
            let logits = model.decode(&[token]).unwrap();
            let difference = relative_difference(&logits, &expected[position * vocab..][..vocab]);
            assert!(difference <= 1e-5, "{name}, position {position}: logits differ by {difference:e}");
        }
        for cut in [1, 7, length] {
            model.reset();
            let mut logits = Vec::new();
            for part in tokens.chunks(cut) {
                logits = model.decode(part).unwrap();
            }
            let difference = relative_difference(&logits, &expected[(length - 1) * vocab..][..vocab]);
            assert!(difference <= 1e-5, "{name}, in parts of {cut}: logits differ by {difference:e}");
        }
    }
}

/// Several sequences at once, in parts of all sizes, in every type of weights: the same tokens must give the
/// same logits as alone, and be as near to PyTorch's as the type allows.
#[test]
fn sequences_side_by_side_agree_with_pytorch() {
    for name in VARIANTS {
        let mut golden = Golden::open(name);
        let (length, vocab) = (golden.batch.sequence_length, golden.config.vocab_size);
        let expected = golden.tensors.read_f32("logits").unwrap();
        let last = &expected[(length - 1) * vocab..][..vocab];
        let tokens = golden.batch.tokens[..length].to_vec();
        for (dtype, tolerance) in
            [(DType::F32, 1e-5), (DType::Bf16, 2e-2), (DType::Q8_0, 4e-2), (DType::Q4_0, 0.4)]
        {
            let weights = WeightTypes::All(dtype);
            let decoding = Decoding { sequences: 3, weights, ..Decoding::one(length) };
            let mut model = golden.decoder(Cpu::new(2), decoding);
            let mut found = vec![Vec::new(); 3];
            for (sequence, cut) in [(0, length / 2), (2, 3)] {
                model.decode_each(&[(sequence, &tokens[..cut])]).unwrap();
            }
            // All three end with the same text, each from where it is, a token or more at a time.
            let mut turn = 0;
            while (0..3).any(|s| model.context_used(s) < length) {
                let parts: Vec<(usize, &[u32])> = [2, 0, 1]
                    .into_iter()
                    .filter(|&s| model.context_used(s) < length)
                    .map(|s| {
                        (
                            s,
                            &tokens[model.context_used(s)..]
                                [..(1 + (turn + s) % 2).min(length - model.context_used(s))],
                        )
                    })
                    .collect();
                let logits = model.decode_each(&parts).unwrap();
                for (logits, (sequence, _)) in logits.chunks(vocab).zip(&parts) {
                    found[*sequence] = logits.to_vec();
                }
                turn += 1;
            }
            for (sequence, logits) in found.iter().enumerate() {
                let difference = relative_difference(logits, last);
                println!("{name} {dtype:?} sequence {sequence}: {difference:e}");
                assert!(difference <= tolerance, "{name}, {dtype:?}, sequence {sequence}: {difference:e}");
            }
            model.forget(1);
            let again = model.decode_each(&[(1, &tokens)]).unwrap();
            assert!(relative_difference(&again, last) <= tolerance, "{name}, {dtype:?}, a sequence anew");
        }
    }
}
