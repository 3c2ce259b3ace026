//! Model folders: what is saved loads to the same logits, in every class.

use std::path::Path;

use compute::Batch;
use compute::cpu::Cpu;
use formats::safetensors::{Reader, TensorSpec, pytorch_metadata, write};
use model::folder::{self, TokenIds};
use model::{Evaluation, Evaluator, ModelConfig, Precision, Stored};
use store::fs::{Fs, RealFs};

fn evaluator(config: ModelConfig) -> model::Result<Evaluator<Cpu>> {
    Evaluator::new(Cpu::new(1), config, Evaluation::new(1, 6, Precision::F32))
}

fn shape(attention_bias: bool, qk_norm: bool, tie_word_embeddings: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 31,
        hidden_size: 16,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        max_position_embeddings: 32,
        rope_theta: 1e4,
        rope_scaling: None,
        rms_norm_eps: 1e-5,
        tie_word_embeddings,
        attention_bias,
        qk_norm,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        dropout: 0.0,
        initializer_range: 0.2,
    }
}

fn save(folder: &Path, config: ModelConfig) -> Vec<f32> {
    let mut model = evaluator(config).unwrap();
    model.weights_mut().initialize(7);
    let ids = TokenIds { bos: Some(1), eos: Some(2), pad: Some(0) };
    folder::save(&RealFs, folder, model.weights_mut(), ids).unwrap();
    model.logits(&batch())
}

fn batch() -> Batch {
    let mut batch = Batch::new(1, 6);
    batch.tokens.copy_from_slice(&[1, 5, 30, 7, 7, 2]);
    batch
}

fn load(folder: &Path) -> model::Result<Evaluator<Cpu>> {
    let mut stored = Stored::open(&RealFs, folder)?;
    let hf = stored.hf().clone();
    assert_eq!((hf.bos_token_id, hf.eos_token_ids, hf.pad_token_id), (Some(1), vec![2], Some(0)));
    let mut model = evaluator(stored.config().clone())?;
    stored.load(model.weights_mut())?;
    Ok(model)
}

#[test]
fn a_saved_model_loads_to_the_same_logits() {
    for bits in 0..8 {
        let config = shape(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let folder = tempfile::tempdir().unwrap();
        let expected = save(folder.path(), config.clone());
        let mut model = load(folder.path()).unwrap();
        assert_eq!(model.config(), &config);
        assert_eq!(model.logits(&batch()), expected);
        let reader = Reader::open(&folder.path().join(folder::WEIGHTS_FILE)).unwrap();
        let bias = reader.find("model.layers.1.self_attn.o_proj.bias").is_some();
        assert_eq!(bias, config.attention_bias, "the class that is written has that bias");
        assert_eq!(reader.metadata(), &pytorch_metadata());
    }
}

#[test]
fn a_bias_that_the_model_has_no_place_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), shape(true, false, true));
    let path = folder.path().join(folder::WEIGHTS_FILE);
    let mut reader = Reader::open(&path).unwrap();
    let specs: Vec<TensorSpec> =
        reader.tensors().iter().map(|entry| TensorSpec::f32(entry.name.clone(), &entry.shape)).collect();
    write(&RealFs, &path, specs, &pytorch_metadata(), |spec| {
        let mut values = reader.read_f32(&spec.name)?;
        if spec.name == "model.layers.1.self_attn.o_proj.bias" {
            values[3] = 0.5;
        }
        Ok(values.into())
    })
    .unwrap();
    let message = load(folder.path()).err().unwrap().to_string();
    assert!(message.contains("layers.1.self_attn.o_proj.bias is not zero"), "{message}");
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let none = load(folder.path()).err().unwrap().to_string();
    assert!(none.contains("there is no config.json"), "{none}");
    save(folder.path(), shape(false, false, true));
    let path = folder.path().join(folder::WEIGHTS_FILE);
    let bytes = RealFs.read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let cut = load(folder.path()).err().unwrap().to_string();
    assert!(cut.contains("model.safetensors") && cut.contains("truncated"), "{cut}");
}

#[test]
fn sizes_of_a_foreign_configuration_are_checked_against_the_weights_before_anything_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let config = shape(false, false, true);
    save(folder.path(), config);
    Stored::open(&RealFs, folder.path()).unwrap();
    let path = folder.path().join(folder::CONFIG_FILE);
    let whole: serde_json::Value = serde_json::from_slice(&RealFs.read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("num_hidden_layers", 1000),
        ("num_hidden_layers", 3),
        ("hidden_size", 100_000),
        ("intermediate_size", 500_000),
        ("vocab_size", 16_000_000),
        ("num_attention_heads", 1000),
        ("num_key_value_heads", 1),
        ("head_dim", 4096),
    ] {
        let mut changed = whole.clone();
        changed[key] = value.into();
        std::fs::write(&path, changed.to_string()).unwrap();
        let message = Stored::open(&RealFs, folder.path()).err().expect(key).to_string();
        assert!(
            message.contains("model.safetensors") && message.contains(&format!("{key} = {value}")),
            "{message}"
        );
        assert!(!message.contains("train."), "{message}");
    }
    for (key, value) in
        [("num_hidden_layers", 5000_u64), ("hidden_size", 1 << 40), ("max_position_embeddings", 1 << 30)]
    {
        let mut changed = whole.clone();
        changed[key] = value.into();
        std::fs::write(&path, changed.to_string()).unwrap();
        let message = Stored::open(&RealFs, folder.path()).err().expect(key).to_string();
        assert!(message.contains("config.json") && message.contains(key), "{message}");
        assert!(!message.contains(&format!("model.{key}")), "no key of a recipe: {message}");
    }
}
