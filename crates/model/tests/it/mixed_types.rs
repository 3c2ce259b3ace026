//! Decoding with weights of different types: GGUF files keep the embedding in eight bits beside layers that
//! become f32.

use std::collections::BTreeMap;

use compute::DType;
use compute::cpu::Cpu;
use model::{Decoder, Decoding, ModelConfig, WeightTypes};

use crate::training;

fn decoder(config: &ModelConfig, weights: WeightTypes) -> Decoder<Cpu> {
    let mut decoder =
        Decoder::new(Cpu::new(2), config.clone(), Decoding { weights, ..Decoding::one(64) }).unwrap();
    decoder.weights_mut().initialize(5);
    decoder
}

#[test]
fn an_embedding_of_fewer_bits_changes_logits_little() {
    let config = ModelConfig {
        vocab_size: 272,
        hidden_size: 192,
        intermediate_size: 256,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        num_key_value_heads: 1,
        head_dim: 64,
        tie_word_embeddings: true,
        initializer_range: 0.1,
        max_position_embeddings: 64,
        ..training::config()
    };
    let mut exact = decoder(&config, WeightTypes::All(DType::F32));
    for dtype in [DType::Bf16, DType::Q8_0] {
        let types = BTreeMap::from([("model.embed_tokens.weight".to_owned(), dtype)]);
        let mut mixed = decoder(&config, WeightTypes::Each(types));
        for length in [1, 3, 5, 7, 8, 17, 37] {
            let tokens: Vec<u32> = (0..length).map(|at| (at * 37 + 11) % 272).collect();
            exact.reset();
            mixed.reset();
            let (expected, found) = (exact.decode(&tokens).unwrap(), mixed.decode(&tokens).unwrap());
            let norm = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
            let difference: Vec<f32> = expected.iter().zip(&found).map(|(x, y)| x - y).collect();
            let error = norm(&difference) / norm(&expected);
            assert!(error < 0.05, "{dtype:?}, {length} tokens: {error}");
        }
    }
}
