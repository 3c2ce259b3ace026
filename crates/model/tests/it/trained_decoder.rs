//! Decoding with a model in training, in the memory of its activations.

use compute::cpu::Cpu;
use model::{
    AdapterConfig, DType, Decoder, Decoding, ModelConfig, Precision, Trainable, Training, TrainingModel,
    Update, WeightTypes,
};

use crate::training;

const TOKENS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 40,
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 3,
        head_dim: 16,
        qk_norm: true,
        initializer_range: 0.1,
        ..training::config()
    }
}

fn adapter() -> AdapterConfig {
    AdapterConfig { rank: 4, dropout: 0.1, ..AdapterConfig::default() }
}

fn step(model: &mut TrainingModel<Cpu>, step: u64) -> (f64, f64) {
    model.begin_step();
    model.accumulate(&training::random_batch(&config(), 4, 24), 1.0 / 96.0, step);
    model.optimizer_step(&Update { step, learning_rate: 5e-2, ..training::STEP });
    let outcome = model.step_outcome();
    (outcome.loss_sum, outcome.gradient_norm)
}

/// Logits after each of the tokens; the first ones together.
fn logits(mut decode: impl FnMut(&[u32]) -> Vec<f32>) -> Vec<Vec<f32>> {
    let (first, rest) = TOKENS.split_at(5);
    std::iter::once(first).chain(rest.chunks(1)).map(&mut decode).collect()
}

fn each_training(mut each: impl FnMut(Training)) {
    for &precision in training::precisions() {
        for recompute in [false, true] {
            let whole = Training { recompute, average: true, ..Training::new(4, 24, precision) };
            each(whole.clone());
            let (trainable, adapter) = (Trainable::Adapters, Some(adapter()));
            let adapted = Training { trainable, adapter, average: false, ..whole };
            each(adapted.clone());
            let dora = adapted.adapter.clone().map(|adapter| AdapterConfig { dora: true, ..adapter });
            each(Training { adapter: dora, ..adapted.clone() });
            let types = WeightTypes::Layers { hidden: DType::Nf4, ends: precision.dtype() };
            each(Training { frozen: Some(types), ..adapted });
        }
    }
}

#[test]
fn it_is_what_a_decoder_computes() {
    each_training(|training| {
        if training.frozen.is_some() {
            return;
        }
        let mut model = training::laid_out(Cpu::new(2), config(), training.clone());
        model.initialize(7);
        step(&mut model, 1);
        let decoding = Decoding { adapter: training.adapter.clone(), ..Decoding::one(TOKENS.len()) };
        let mut decoder = Decoder::new(Cpu::new(2), config(), decoding).unwrap();
        decoder.weights_mut().copy_from(model.weights_mut()).unwrap();
        let expected = logits(|tokens| decoder.decode(tokens).unwrap());
        let mut trained = model.decoder(TOKENS.len()).expect("there is room");
        let found = logits(|tokens| trained.decode(tokens).unwrap());
        let tolerance = if training.precision == Precision::F32 { 1e-5 } else { 0.1 };
        for (expected, found) in expected.iter().flatten().zip(found.iter().flatten()) {
            assert!((expected - found).abs() < tolerance, "{found} for {expected} in {training:?}");
        }
    });
}

#[test]
fn training_goes_on_as_if_nothing_had_been_decoded() {
    each_training(|training| {
        let [mut asked, mut left_alone] = [0; 2].map(|_| {
            let mut model = training::laid_out(Cpu::new(2), config(), training.clone());
            model.initialize(7);
            model
        });
        for number in 1..4 {
            assert_eq!(
                step(&mut asked, number),
                step(&mut left_alone, number),
                "step {number}, {training:?}"
            );
            asked.swap_average();
            let mut trained = asked.decoder(TOKENS.len()).expect("there is room");
            let found = logits(|tokens| trained.decode(tokens).unwrap());
            assert!(found.iter().flatten().all(|logit| logit.is_finite()), "{training:?}");
            asked.swap_average();
        }
        for parameter in asked.weights().parameters().to_vec().iter().filter(|p| p.is_trainable()) {
            let [asked, left_alone] =
                [&mut asked, &mut left_alone].map(|model| model.weights_mut().download(&parameter.name));
            assert_eq!(asked.unwrap(), left_alone.unwrap(), "{} in {training:?}", parameter.name);
        }
        assert!(asked.decoder(1 << 20).is_none(), "a cache of a million tokens");
    });
}
