//! `config.json` in the spellings found in the wild, in ours, and broken.

use std::path::Path;

use formats::ErrorKind;
use formats::hf::{Architecture, Config, GenerationConfig, RopeScaling};
use formats::safetensors::Dtype;
use proptest::prelude::*;
use serde_json::{Value, json};
use store::fs::RealFs;

fn parse(value: &Value) -> formats::Result<Config> {
    Config::parse(value.to_string().as_bytes(), Path::new("m/config.json"))
}

/// Llama 3.2 1B as published, in the v4 spelling.
fn llama_3_2_v4() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256
    })
}

/// The same in the v5 spelling.
fn llama_3_2_v5() -> Value {
    let mut value = llama_3_2_v4();
    let map = value.as_object_mut().unwrap();
    let mut rope = map.remove("rope_scaling").unwrap();
    rope["rope_theta"] = map.remove("rope_theta").unwrap();
    map.insert("rope_parameters".into(), rope);
    map.insert("dtype".into(), map["torch_dtype"].clone());
    map.remove("torch_dtype");
    value
}

/// The smallest file that names a model.
fn minimal() -> Value {
    json!({"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
           "num_attention_heads": 2})
}

fn ours() -> Config {
    Config {
        vocab_size: 4096,
        hidden_size: 192,
        intermediate_size: 512,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 256,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        fused_projections: false,
        initializer_range: 0.02,
        dtype: Dtype::F32,
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        pad_token_id: Some(0),
    }
}

#[test]
fn both_spellings_say_the_same() {
    let v4 = parse(&llama_3_2_v4()).unwrap();
    assert_eq!(v4, parse(&llama_3_2_v5()).unwrap());
    assert_eq!(v4.architecture(), Architecture::Llama);
    assert_eq!((v4.rope_theta, v4.dtype, v4.head_dim), (500_000.0, Dtype::BF16, 64));
    assert_eq!(v4.eos_token_ids, [128_001, 128_008, 128_009]);
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_eq!(v4.rope_scaling, Some(expected));
}

#[test]
fn what_transformers_5_wrote_is_read() {
    let golden = Path::new("../model/tests/golden");
    for (name, architecture, theta, scaled) in [
        ("llama_tied", Architecture::Llama, 1e4, false),
        ("qwen3_untied", Architecture::Qwen3, 1e6, false),
        ("qwen2_llama3_rope", Architecture::Llama, 50.0, true),
    ] {
        let text = std::fs::read(golden.join(format!("{name}.json"))).unwrap();
        let record: Value = serde_json::from_slice(&text).unwrap();
        let config = parse(&record["config"]).unwrap();
        assert_eq!(config.architecture(), architecture);
        assert_eq!(config.qkv_bias, name.starts_with("qwen2"));
        assert_eq!((config.rope_theta, config.rope_scaling.is_some()), (theta, scaled), "{name}");
        assert_eq!(parse(&config.to_json().unwrap()).unwrap(), config, "{name}");
    }
}

#[test]
fn defaults_are_those_of_the_class() {
    let config = parse(&minimal()).unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim, config.max_position_embeddings), (2, 4, 2048));
    assert_eq!((config.rope_theta, config.rms_norm_eps, config.dtype), (1e4, 1e-6, Dtype::F32));
    assert_eq!((config.tie_word_embeddings, config.eos_token_ids.len()), (false, 0));
    let mut qwen3 = minimal();
    qwen3["model_type"] = json!("qwen3");
    assert_eq!(parse(&qwen3).unwrap().head_dim, 128);
}

#[test]
fn the_written_file_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    ours().write(&RealFs, &path).unwrap();
    assert_eq!(Config::read(&RealFs, &path).unwrap(), ours());
    let expected = r#"{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "attention_bias": false,
  "attention_dropout": 0.0,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "head_dim": 32,
  "hidden_act": "silu",
  "hidden_size": 192,
  "initializer_range": 0.02,
  "intermediate_size": 512,
  "max_position_embeddings": 256,
  "mlp_bias": false,
  "model_type": "llama",
  "num_attention_heads": 6,
  "num_hidden_layers": 3,
  "num_key_value_heads": 2,
  "pad_token_id": 0,
  "rms_norm_eps": 0.00001,
  "rope_scaling": null,
  "rope_theta": 10000.0,
  "tie_word_embeddings": true,
  "torch_dtype": "float32",
  "use_cache": true,
  "vocab_size": 4096
}
"#;
    let text = std::fs::read_to_string(&path).unwrap().replace("1e-5", "0.00001");
    assert_eq!(text, expected);
}

#[test]
fn every_variant_survives_its_own_spelling() {
    let scalings = [
        None,
        Some(RopeScaling::Linear { factor: 2.5 }),
        Some(RopeScaling::Dynamic { factor: 4.0 }),
        Some(RopeScaling::Yarn {
            factor: 8.0,
            original_max_position_embeddings: 64,
            attention_factor: Some(1.25),
            beta_fast: None,
            beta_slow: Some(2.0),
        }),
        Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 128,
        }),
    ];
    for rope_scaling in scalings {
        for (qkv_bias, qk_norm) in [(false, false), (true, false), (false, true), (true, true)] {
            for (dtype, eos_token_ids) in [(Dtype::BF16, vec![]), (Dtype::F16, vec![2, 5])] {
                let config = Config {
                    rope_scaling: rope_scaling.clone(),
                    qkv_bias,
                    qk_norm,
                    dtype,
                    eos_token_ids,
                    ..ours()
                };
                assert_eq!(parse(&config.to_json().unwrap()).unwrap(), config);
            }
        }
    }
}

#[test]
fn biases_are_written_as_a_class_that_leaves_the_tokenizer_alone() {
    let config = Config { qkv_bias: true, ..ours() };
    let json = config.to_json().unwrap();
    assert_eq!((&json["model_type"], &json["attention_bias"]), (&json!("llama"), &json!(true)));
    let zeros = config.zero_tensors();
    assert_eq!(zeros.len(), 3);
    assert_eq!(zeros[2], ("model.layers.2.self_attn.o_proj.bias".to_owned(), vec![192]));
    assert!(ours().zero_tensors().is_empty());
}

#[test]
fn what_cannot_be_written_says_why() {
    assert_eq!(Config { dtype: Dtype::I8, ..ours() }.to_json().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn other_maths_and_wrong_values_are_refused_by_key() {
    use ErrorKind::{Corrupt, Unsupported};
    let cases = [
        ("model_type", json!("mamba"), Unsupported, "`mamba` is not supported"),
        ("model_type", json!(null), Corrupt, "is missing"),
        ("hidden_act", json!("gelu"), Unsupported, "only silu"),
        ("mlp_bias", json!(true), Unsupported, "not supported"),
        ("quantization_config", json!({"bits": 4}), Unsupported, "original model"),
        ("hidden_size", json!(-3), Corrupt, "an integer"),
        ("hidden_size", json!(0), Corrupt, "from 1 to"),
        ("hidden_size", json!(1e300), Corrupt, "from 1 to"),
        ("hidden_size", json!("8"), Corrupt, "an integer, not `\"8\"`"),
        ("vocab_size", json!(u64::MAX), Corrupt, "from 1 to"),
        ("num_key_value_heads", json!(3), Corrupt, "does not divide"),
        ("num_attention_heads", json!(3), Corrupt, "does not divide hidden_size"),
        ("head_dim", json!(5), Corrupt, "even"),
        ("rms_norm_eps", json!(0.0), Corrupt, "more than 0"),
        ("rope_theta", json!("big"), Corrupt, "a number"),
        ("tie_word_embeddings", json!("yes"), Corrupt, "true or false"),
        ("eos_token_id", json!("</s>"), Corrupt, "token id"),
        ("eos_token_id", json!([1, -2]), Corrupt, "token id"),
        ("torch_dtype", json!("int8"), Unsupported, "`int8`"),
        ("partial_rotary_factor", json!(0.5), Unsupported, "every dimension"),
        ("rope_scaling", json!([1]), Corrupt, "an object"),
        ("rope_scaling.rope_type", json!({"rope_type": "longrope"}), Unsupported, "`longrope`"),
        ("rope_scaling.factor", json!({"rope_type": "linear"}), Corrupt, "is missing"),
        ("rope_scaling.factor", json!({"type": "linear", "factor": 0.5}), Corrupt, "at least 1"),
        (
            "rope_scaling.high_freq_factor",
            json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}),
            Corrupt,
            "more than low_freq_factor",
        ),
    ];
    for (key, value, kind, expected) in cases {
        let mut config = minimal();
        config[key.split('.').next().unwrap()] = value;
        let error = parse(&config).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}");
        assert!(message.starts_with(&format!("`m/config.json`, key `{key}`: ")), "{message}");
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn a_window_counts_where_its_class_uses_it() {
    let window = |config: &Value| parse(config).unwrap().sliding_window;
    let mut config = minimal();
    config["sliding_window"] = json!(1024);
    config["use_sliding_window"] = json!(true);
    assert_eq!(window(&config), None, "Llama has no window, whatever its keys say");
    config["model_type"] = json!("mistral");
    assert_eq!(window(&config), Some(1024));
    config["sliding_window"] = json!(null);
    assert_eq!(window(&config), None);
    config.as_object_mut().unwrap().remove("sliding_window");
    assert_eq!(window(&config), Some(4096), "the default of its class");
}

#[test]
fn generation_config_round_trips_and_leaves_out_what_is_not_set() {
    let config = GenerationConfig {
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
        do_sample: Some(true),
        temperature: Some(0.8),
        top_k: Some(50),
        ..GenerationConfig::default()
    };
    let json = config.to_json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["bos_token_id", "do_sample", "eos_token_id", "temperature", "top_k"]);
    assert_eq!(GenerationConfig::parse(json.to_string().as_bytes(), Path::new("g")).unwrap(), config);
    let off = GenerationConfig::parse(br#"{"top_k": 0, "eos_token_id": -1, "unknown": [1]}"#, Path::new("g"))
        .unwrap();
    assert_eq!(off, GenerationConfig::default());
    assert!(
        GenerationConfig::parse(br#"{"top_p": "x"}"#, Path::new("g"))
            .unwrap_err()
            .to_string()
            .contains("top_p")
    );
}

#[test]
fn damaged_text_never_panics_and_names_the_line() {
    let text = serde_json::to_string_pretty(&llama_3_2_v5()).unwrap();
    for length in 0..text.len() {
        let error = Config::parse(&text.as_bytes()[..length], Path::new("c")).unwrap_err();
        assert!(error.to_string().contains("line"), "{error}");
    }
    for position in 0..text.len() {
        for value in [b'0', b'-', b'"', b'{', b',', 0xFF] {
            let mut changed = text.clone().into_bytes();
            changed[position] = value;
            if let Ok(config) = Config::parse(&changed, Path::new("c")) {
                config.to_json().unwrap_or_default();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn random_numbers_never_panic(numbers in proptest::collection::vec(any::<f64>(), 8), whole in proptest::collection::vec(any::<i64>(), 6)) {
        let mut value = llama_3_2_v4();
        for (key, number) in ["rms_norm_eps", "rope_theta", "initializer_range", "head_dim"].iter().zip(&numbers) {
            value[*key] = json!(number);
        }
        for (key, number) in ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"].iter().zip(&numbers[4..]) {
            value["rope_scaling"][*key] = json!(number);
        }
        for (key, number) in ["hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "eos_token_id"].iter().zip(&whole) {
            value[*key] = json!(number);
        }
        if let Ok(config) = parse(&value) {
            prop_assert_eq!(parse(&config.to_json().unwrap()).unwrap(), config);
        }
    }
}
