//! The model on a GPU, or on the emulator of one (tools/cuda-emulator): PyTorch's golden numbers, ten steps
//! beside the CPU, equal bits, graphs, and going on from what was saved.

use compute::cpu::Cpu;
use compute::cuda::Cuda;
use compute::rng::Rng;
use compute::{Batch, DType, Device, Target};
use model::{
    Decoder, Decoding, ModelConfig, Precision, StateKind, StepOutcome, Training, TrainingModel, Update,
    WeightTypes,
};

/// The first GPU, or a printed reason why there is none to test. With `TEXT2LLM_TEST_CUDA` set there must be
/// one.
fn gpu() -> Option<Cuda> {
    let gpu = Cuda::new(0).map_err(testkit::skip_without_hardware).ok();
    assert!(gpu.is_some() || std::env::var_os("TEXT2LLM_TEST_CUDA").is_none(), "there is no GPU");
    gpu
}

/// Heads of 64 and grouped queries: what runs on tensor cores.
fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 259,
        hidden_size: 128,
        intermediate_size: 192,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 64,
        max_position_embeddings: 96,
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

fn batch(step: u64) -> Batch {
    let mut rng = Rng::from_parts(step, "batch", &[]);
    let mut batch = Batch::new(2, 90);
    for id in batch.tokens.iter_mut().chain(&mut batch.targets) {
        *id = rng.below(259) as u32;
    }
    batch.weights.fill(1.0);
    // The second row holds two documents.
    batch.document_starts[90 + 40..].fill(40);
    batch
}

fn training(precision: Precision, recompute: bool) -> Training {
    let logits_bytes = Target::cpu(0).logits_bytes();
    Training { recompute, logits_bytes, ..Training::new(2, 90, precision) }
}

fn started<D: Device>(device: D, training: Training) -> TrainingModel<D> {
    let mut model = TrainingModel::new(device, config(), training).unwrap();
    model.initialize(7);
    model
}

/// One optimizer step over two micro-batches.
fn step<D: Device>(model: &mut TrainingModel<D>, step: u64) -> StepOutcome {
    model.begin_step();
    for part in 0..2 {
        model.accumulate(&batch(2 * step + part), 1.0 / 360.0, 2 * step + part);
    }
    model.optimizer_step(&Update { step: step + 1, ..STEP });
    model.step_outcome()
}

/// A smaller rate than the other tests take: bfloat16 has to stay beside f32.
const STEP: Update = Update { learning_rate: 1e-3, ..crate::training::STEP };

fn state<D: Device>(model: &mut TrainingModel<D>) -> Vec<Vec<u32>> {
    let names: Vec<String> = model.weights().parameters().iter().map(|p| p.name.clone()).collect();
    let kinds = [StateKind::Weight, StateKind::Moment1, StateKind::Moment2];
    let of = |name: &String, kind| model.download(name, kind).unwrap().iter().map(|x| x.to_bits()).collect();
    let mut of = of;
    names.iter().flat_map(|name| kinds.map(|kind| (name, kind))).map(|(name, kind)| of(name, kind)).collect()
}

#[test]
fn agrees_with_pytorch() {
    if gpu().is_some() {
        crate::golden::check_gpu(|| gpu().unwrap());
    }
}

#[test]
fn ten_steps_agree_with_the_cpu() {
    // bfloat16 rounds logits on a GPU, and sums are taken in other orders.
    for (precision, tolerance) in [(Precision::F32, 2e-5), (Precision::Bf16, 5e-3)] {
        let Some(gpu) = gpu() else { return };
        let mut on_gpu = started(gpu, training(precision, false));
        // The specification stands in for a CPU without bfloat16.
        let mut on_cpu = started(Cpu::new(2), training(Precision::F32, false));
        for at in 0..10 {
            let [found, expected] = [step(&mut on_gpu, at), step(&mut on_cpu, at)];
            let [loss, true_loss] = [found.loss_sum, expected.loss_sum].map(|sum| sum / 360.0);
            assert!(
                (loss / true_loss - 1.0).abs() < tolerance,
                "{precision:?} step {at}: {loss}, not {true_loss}"
            );
            let ratio = found.gradient_norm / expected.gradient_norm;
            assert!((ratio - 1.0).abs() < 10.0 * tolerance, "{precision:?} step {at}: norm off by {ratio}");
        }
        assert!(on_gpu.weights().device().graphs() > 0, "repeated steps are launched as graphs");
        let work = model::plan::training_work(&config(), &training(precision, false));
        let planned = (on_gpu.plan().total_bytes + Cuda::workspace_bytes(&work)) as f64;
        let ratio = on_gpu.weights().device().allocated_bytes() as f64 / planned;
        assert!((0.97..1.001).contains(&ratio), "{ratio} of the memory that was planned");
    }
}

#[test]
fn runs_are_equal_to_the_bit_and_go_on_from_what_was_saved() {
    for recompute in [false, true] {
        let Some(first) = gpu() else { return };
        let mut whole = started(first, training(Precision::Bf16, recompute));
        let losses: Vec<f64> = (0..4).map(|at| step(&mut whole, at).loss_sum).collect();

        let mut before = started(gpu().unwrap(), training(Precision::Bf16, false));
        for (at, loss) in losses.iter().enumerate().take(2) {
            assert_eq!(step(&mut before, at as u64).loss_sum, *loss, "step {at}");
        }
        let names: Vec<String> = before.weights().parameters().iter().map(|p| p.name.clone()).collect();
        let mut after = started(gpu().unwrap(), training(Precision::Bf16, recompute));
        for name in &names {
            for kind in [StateKind::Weight, StateKind::Moment1, StateKind::Moment2] {
                let values = before.download(name, kind).unwrap();
                after.upload(name, kind, &values).unwrap();
            }
        }
        for (at, loss) in losses.iter().enumerate().skip(2) {
            assert_eq!(step(&mut after, at as u64).loss_sum, *loss, "step {at}");
        }
        assert!(state(&mut whole) == state(&mut after), "recompute {recompute}: weights and moments");
    }
}

#[test]
fn a_gradient_that_is_no_number_changes_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut model = started(gpu, training(Precision::Bf16, false));
    step(&mut model, 0);
    let before = state(&mut model);
    model.begin_step();
    model.accumulate(&batch(1), f32::NAN, 1);
    model.optimizer_step(&Update { step: 2, ..STEP });
    assert!(model.step_outcome().skipped_non_finite);
    assert!(state(&mut model) == before);
    assert!(model.state_is_finite());
}

#[test]
fn decoding_agrees_with_the_cpu() {
    for (dtype, tolerance) in
        [(DType::F32, 2e-5), (DType::Bf16, 3e-2), (DType::Q8_0, 5e-2), (DType::Q4_0, 0.4)]
    {
        let Some(gpu) = gpu() else { return };
        let room = |dtype| Decoding { sequences: 2, weights: WeightTypes::All(dtype), ..Decoding::one(96) };
        let plain = ModelConfig { vocab_size: 272, ..config() };
        let mut trained = Decoder::new(Cpu::new(2), plain.clone(), room(DType::F32)).unwrap();
        trained.weights_mut().initialize(3);
        let mut on_gpu = Decoder::new(gpu, plain.clone(), room(dtype)).unwrap();
        let mut on_cpu = Decoder::new(Cpu::new(2), plain.clone(), room(DType::F32)).unwrap();
        on_gpu.weights_mut().copy_from(trained.weights_mut()).unwrap();
        on_cpu.weights_mut().copy_from(trained.weights_mut()).unwrap();
        let prompt: Vec<u32> = batch(0).tokens[..50].to_vec();
        let mut parts: Vec<(usize, Vec<u32>)> = vec![(1, prompt[..20].to_vec()), (0, prompt)];
        for turn in 0..12 {
            let parts_now: Vec<(usize, &[u32])> = parts.iter().map(|(s, t)| (*s, &t[..])).collect();
            let found = on_gpu.decode_each(&parts_now).unwrap();
            let expected = on_cpu.decode_each(&parts_now).unwrap();
            let scale = expected.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() <= tolerance * scale, "{dtype:?} turn {turn}: {f}, not {e}");
            }
            parts = vec![(1, vec![turn + 5]), (0, vec![2 * turn])];
        }
        assert!(on_gpu.weights().device().graphs() > 0, "tokens are launched as graphs");
    }
}
