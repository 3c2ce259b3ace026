//! Where a model drops: after the embedding, and after attention and the MLP of each layer, with a mask of
//! its own at each place.
//!
//! With one token, row i of a projection's gradient is the gradient of element i of what it adds to the
//! residual stream: zeros there are the elements dropped in this place.

use compute::Batch;
use compute::cpu::Cpu;
use compute::rng::Rng;
use model::{ModelConfig, Precision, Training, TrainingModel};

const WIDTH: usize = 1024;
const P: f64 = 0.25;
/// The tensors whose rows show masks; of the embedding, one row is.
const SITES: [&str; 5] = [
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.1.self_attn.o_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
];

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 5,
        hidden_size: WIDTH,
        intermediate_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 1,
        num_key_value_heads: 1,
        head_dim: 8,
        max_position_embeddings: 4,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: false,
        attention_bias: false,
        qk_norm: false,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        dropout: P as f32,
        initializer_range: 0.1,
    }
}

/// Which elements each place drops for a seed.
fn masks(model: &mut TrainingModel<Cpu>, seed: u64) -> Vec<Vec<bool>> {
    let mut batch = Batch::new(1, 1);
    (batch.tokens, batch.targets) = (vec![3], vec![1]);
    batch.weights.fill(1.0);
    model.begin_step();
    model.accumulate(&batch, 1.0, seed);
    let mut masks = Vec::new();
    for name in SITES {
        let gradient = model.gradient(name).unwrap();
        let is_zero = |values: &[f32]| values.iter().all(|&value| value == 0.0);
        masks.push(match name {
            "model.embed_tokens.weight" => gradient[3 * WIDTH..4 * WIDTH].iter().map(|&x| x == 0.0).collect(),
            _ => gradient.chunks(gradient.len() / WIDTH).map(is_zero).collect(),
        });
    }
    masks
}

fn both(a: &[bool], b: &[bool]) -> usize {
    a.iter().zip(b).filter(|(a, b)| **a && **b).count()
}

/// Within six standard deviations of a binomial distribution.
#[track_caller]
fn assert_binomial(found: usize, p: f64, what: &str) {
    let (mean, deviation) = (WIDTH as f64 * p, (WIDTH as f64 * p * (1.0 - p)).sqrt());
    assert!((found as f64 - mean).abs() <= 6.0 * deviation, "{what}: {found} of {WIDTH}, not about {mean}");
}

#[test]
fn every_place_has_a_mask_of_its_own() {
    for recompute in [false, true] {
        let training = Training { recompute, ..Training::new(1, 1, Precision::F32) };
        let mut model = TrainingModel::new(Cpu::new(1), config(), training).unwrap();
        model.initialize(7);
        // As training draws them.
        let seeds = [1, 2, 3].map(|step| Rng::from_parts(1, "dropout", &[step, 0]).next_u64());
        let all: Vec<Vec<bool>> = seeds.iter().flat_map(|&seed| masks(&mut model, seed)).collect();
        let name = |i: usize| format!("{} of seed {}", SITES[i % SITES.len()], seeds[i / SITES.len()]);
        for (i, mask) in all.iter().enumerate() {
            assert_binomial(both(mask, mask), P, &name(i));
        }
        for i in 0..all.len() {
            for j in 0..i {
                let what = format!("both {} and {}", name(i), name(j));
                if all[i] == all[j] {
                    panic!("{what} are the same");
                }
                assert_binomial(both(&all[i], &all[j]), P * P, &what);
            }
        }
        assert_eq!(
            masks(&mut model, seeds[1]),
            all[SITES.len()..2 * SITES.len()],
            "the same seed, the same masks"
        );
    }
}
