//! Files that the writer makes: byte by byte, and as the reader sees them.

use std::collections::BTreeMap;
use std::path::Path;

use formats::gguf::{
    self, Array, BlockFormat, Layout, Metadata, Reader, Source, TensorSpec, TensorType, Value, write,
};
use formats::hf::{Config, RopeScaling};
use formats::safetensors::Dtype;
use formats::{ErrorKind, Result};
use store::fs::Fs;
use store::fs::faulty::{Fault, MemoryFs};

use crate::gguf_file::*;

const PATH: &str = "/m/x.gguf";

fn spec(name: &str, tensor_type: TensorType, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), tensor_type, shape: shape.to_vec() }
}

fn key(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}

/// 0, 1, 2, …
fn counted(spec: &TensorSpec) -> Result<Vec<f32>> {
    Ok((0..spec.shape.iter().product()).map(|i: usize| i as f32).collect())
}

#[test]
fn bytes_are_those_of_the_format() {
    let array = |array: Array| Value::Array(array);
    let keys = [
        key("general.architecture", Value::String("llama".to_owned())),
        key("a.u8", Value::U8(200)),
        key("a.i8", Value::I8(-56)),
        key("a.u16", Value::U16(513)),
        key("a.i16", Value::I16(-1)),
        key("a.u32", Value::U32(7)),
        key("a.i32", Value::I32(-2)),
        key("a.f32", Value::F32(1e-5)),
        key("a.bool", Value::Bool(true)),
        key("a.u64", Value::U64(u64::MAX)),
        key("a.i64", Value::I64(i64::MIN)),
        key("a.f64", Value::F64(0.1)),
        key("b.strings", array(Array::String(vec![String::new(), "x y".to_owned()]))),
        key("b.i32s", array(Array::I32(vec![3, -1]))),
        key("b.f32s", array(Array::F32(vec![2.5]))),
        key("b.bools", array(Array::Bool(vec![true, false]))),
    ];
    let tensors = [
        spec("z", TensorType::F32, &[2, 3]),
        spec("half", TensorType::F16, &[3]),
        spec("a", TensorType::F32, &[9]),
    ];
    let fs = MemoryFs::new();
    let length = write(&fs, Path::new(PATH), &keys, &tensors, counted).unwrap();
    let bytes = fs.read(Path::new(PATH)).unwrap();
    assert_eq!(bytes.len() as u64, length);

    let number = |kind: u32, bytes: &[u8]| [&kind.to_le_bytes()[..], bytes].concat();
    let expected = File::new()
        .key("general.architecture", string_value("llama"))
        .key("a.u8", number(0, &[200]))
        .key("a.i8", number(1, &[200]))
        .key("a.u16", number(2, &[1, 2]))
        .key("a.i16", number(3, &[0xFF, 0xFF]))
        .key("a.u32", u32_value(7))
        .key("a.i32", number(5, &[0xFE, 0xFF, 0xFF, 0xFF]))
        .key("a.f32", f32_value(1e-5))
        .key("a.bool", number(7, &[1]))
        .key("a.u64", number(10, &u64::MAX.to_le_bytes()))
        .key("a.i64", number(11, &i64::MIN.to_le_bytes()))
        .key("a.f64", number(12, &0.1f64.to_le_bytes()))
        .key("b.strings", array_value(8, 2, &[string(""), string("x y")].concat()))
        .key("b.i32s", array_value(5, 2, &[3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]))
        .key("b.f32s", array_value(6, 1, &2.5f32.to_le_bytes()))
        .key("b.bools", array_value(7, 2, &[1, 0]))
        .f32("z", &[2, 3])
        .tensor("half", &[3], 1, [0, 0x3C00u16, 0x4000].iter().flat_map(|h| h.to_le_bytes()).collect())
        .f32("a", &[9]);
    let mut expected = expected.bytes();
    // The last tensor is padded too.
    expected.resize(expected.len().next_multiple_of(ALIGNMENT), 0);
    assert!(bytes == expected, "{bytes:?}\n{expected:?}");

    // Tensors are in the order given, with their data at multiples of the alignment.
    let reader = Reader::open(&fs, Path::new(PATH)).unwrap();
    let names: Vec<&str> = reader.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["z", "half", "a"]);
    assert!(reader.tensors().iter().all(|tensor| tensor.begin.is_multiple_of(ALIGNMENT as u64)));
}

#[test]
fn every_type_is_read_back() {
    let values: Vec<f32> = (0..3 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
    let types = [
        (TensorType::F32, 0.0),
        (TensorType::F16, 1e-3),
        (TensorType::BF16, 1e-2),
        (TensorType::Blocks(BlockFormat::Q8_0), 1e-2),
        (TensorType::Blocks(BlockFormat::Q4_0), 0.2),
    ];
    for (tensor_type, tolerance) in types {
        let fs = MemoryFs::new();
        let tensors = [spec("t", tensor_type, &[3, 64]), spec("after", TensorType::F32, &[1])];
        let source = |spec: &TensorSpec| Ok(if spec.name == "t" { values.clone() } else { vec![7.0] });
        write(&fs, Path::new(PATH), &[], &tensors, source).unwrap();
        let mut reader = Reader::open(&fs, Path::new(PATH)).unwrap();
        assert_eq!(reader.find("t").unwrap().tensor_type, tensor_type);
        let read = reader.read_f32("t").unwrap();
        let largest = read.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest <= tolerance, "{tensor_type}: {largest}");
        assert_eq!(reader.read_f32("after").unwrap(), [7.0]);
        if let TensorType::Blocks(format) = tensor_type {
            assert_eq!(reader.read_bytes("t").unwrap(), format.encode(&values));
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_the_file_stays() {
    let fs = MemoryFs::new();
    let path = Path::new(PATH);
    store::atomic::write(&fs, path, b"old").unwrap();
    let (f32, q8_0) = (TensorType::F32, TensorType::Blocks(BlockFormat::Q8_0));
    let long = "x".repeat(64);
    let cases = [
        (vec![], vec![spec("a", f32, &[1]), spec("a", f32, &[2])], "already"),
        (vec![key("k", Value::U8(1)), key("k", Value::U8(2))], vec![], "twice"),
        (vec![], vec![spec("a", q8_0, &[2, 33])], "rows of 33"),
        (vec![], vec![spec("a", TensorType::Blocks(BlockFormat::Q4K), &[256])], "Q4_K"),
        (vec![], vec![spec("a", TensorType::Other(99), &[1])], "99"),
        (vec![], vec![spec(&long, f32, &[1])], "63 bytes"),
        (vec![], vec![spec("a", f32, &[1, 1, 1, 1, 1])], "4 dimensions"),
        (vec![], vec![spec("a", f32, &[usize::MAX, 2])], "too large"),
    ];
    for (keys, tensors, problem) in cases {
        let error = write(&fs, path, &keys, &tensors, counted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(problem), "{error}");
    }
    let short = write(&fs, path, &[], &[spec("a", f32, &[2])], |_| Ok(vec![1.0])).unwrap_err();
    assert!(short.to_string().contains("1 values"), "{short}");
    let large = write(&fs, path, &[], &[spec("a", TensorType::F16, &[1])], |_| Ok(vec![1e6])).unwrap_err();
    assert!(large.to_string().contains("beyond the range of F16"), "{large}");
    assert_eq!(fs.read(path).unwrap(), b"old");
}

#[test]
fn a_crash_at_any_call_leaves_the_old_file_or_the_new_one() {
    let path = Path::new(PATH);
    let tensors = [spec("a", TensorType::F32, &[4]), spec("b", TensorType::F16, &[2])];
    let old_disk = || {
        let disk = MemoryFs::new();
        store::atomic::write(&disk, path, b"old").unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    };
    let whole = old_disk();
    let before = whole.calls();
    write(&whole, path, &[], &tensors, counted).unwrap();
    let new = whole.read(path).unwrap();
    for call in before..whole.calls() {
        let disk = old_disk();
        disk.fail_at(call, Fault::Crash);
        assert!(write(&disk, path, &[], &tensors, counted).is_err());
        let left = disk.after_crash(1).read(path).unwrap();
        assert!(left == b"old" || left == new, "call {call}: {left:?}");
    }
}

fn config() -> Config {
    Config {
        vocab_size: 10,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 256,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: false,
        qkv_bias: false,
        qk_norm: false,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        fused_projections: false,
        initializer_range: 0.02,
        dtype: Dtype::F32,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        pad_token_id: None,
    }
}

/// Names and shapes as a model has them.
fn parameters(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) =
        (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, d])];
    for layer in 0..config.num_hidden_layers {
        let mut put = |name: &str, shape: &[usize]| {
            all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        put("self_attn.q_proj.weight", &[q, d]);
        put("self_attn.k_proj.weight", &[kv, d]);
        put("self_attn.v_proj.weight", &[kv, d]);
        put("self_attn.o_proj.weight", &[d, q]);
        put("mlp.gate_proj.weight", &[f, d]);
        put("mlp.up_proj.weight", &[f, d]);
        put("mlp.down_proj.weight", &[d, f]);
        put("input_layernorm.weight", &[d]);
        put("post_attention_layernorm.weight", &[d]);
        if config.qkv_bias {
            put("self_attn.q_proj.bias", &[q]);
            put("self_attn.k_proj.bias", &[kv]);
            put("self_attn.v_proj.bias", &[kv]);
        }
        if config.qk_norm {
            put("self_attn.q_norm.weight", &[config.head_dim]);
            put("self_attn.k_norm.weight", &[config.head_dim]);
        }
    }
    all.push(("model.norm.weight".to_owned(), vec![d]));
    if !config.tie_word_embeddings {
        all.push(("lm_head.weight".to_owned(), vec![config.vocab_size, d]));
    }
    all
}

/// Different values for each parameter.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let start: u32 = name.bytes().map(u32::from).sum();
    (0..shape.iter().product()).map(|i: usize| start as f32 + i as f32 / 1024.0).collect()
}

fn write_model(fs: &MemoryFs, config: &Config) -> Result<()> {
    let layout = Layout::new(config)?;
    let shapes: BTreeMap<String, Vec<usize>> = parameters(config).into_iter().collect();
    let tensors = layout.tensors(&parameters(config))?;
    let specs: Vec<TensorSpec> =
        tensors.iter().map(|(name, shape, _)| spec(name, TensorType::F32, shape)).collect();
    write(fs, Path::new(PATH), &layout.keys()?, &specs, |spec| {
        let (.., source) = tensors.iter().find(|(name, ..)| *name == spec.name).unwrap();
        match source {
            Source::Values(values) => Ok(values.clone()),
            Source::Parameters(parts) => {
                let mut all = Vec::new();
                for (name, _) in parts {
                    all.extend(layout.reordered(name, values(name, &shapes[name]))?);
                }
                Ok(all)
            }
        }
    })?;
    Ok(())
}

#[test]
fn a_model_is_read_back_with_its_configuration() {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 64,
        attention_factor: None,
        beta_fast: Some(16.0),
        beta_slow: None,
    };
    let cases = [
        ("llama", Config { num_attention_heads: 8, ..config() }),
        ("llama", Config { rope_scaling: Some(llama3), head_dim: 8, tie_word_embeddings: true, ..config() }),
        ("llama", Config { rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }), ..config() }),
        ("llama", Config { qkv_bias: true, head_dim: 8, ..config() }),
        ("qwen2", Config { qkv_bias: true, rope_scaling: Some(yarn), ..config() }),
        ("qwen3", Config { qk_norm: true, head_dim: 6, ..config() }),
        ("smollm3", Config { unrotated_layers: vec![3], rope_theta: 5e6, ..config() }),
    ];
    for (architecture, config) in cases {
        let fs = MemoryFs::new();
        write_model(&fs, &config).unwrap();
        let mut reader = Reader::open(&fs, Path::new(PATH)).unwrap();
        assert_eq!(reader.metadata().str("general.architecture").unwrap(), Some(architecture));
        assert_eq!(gguf::config(&mut reader).unwrap(), config);
        for (name, shape) in parameters(&config) {
            let read = reader.read_parameter_f32(&name, &config).unwrap();
            assert_eq!(read, values(&name, &shape), "{architecture}: {name}");
        }
    }
}

#[test]
fn windows_end_the_context_and_dynamic_scaling_is_beyond_it() {
    let fs = MemoryFs::new();
    let dynamic = Some(RopeScaling::Dynamic { factor: 2.0 });
    write_model(&fs, &Config { sliding_window: Some(48), rope_scaling: dynamic, ..config() }).unwrap();
    let read = gguf::config(&mut Reader::open(&fs, Path::new(PATH)).unwrap()).unwrap();
    assert_eq!(read, Config { max_position_embeddings: 48, ..config() });
}

#[test]
fn fused_projections_are_one_tensor() {
    let config = Config { fused_projections: true, ..config() };
    let fs = MemoryFs::new();
    write_model(&fs, &config).unwrap();
    let mut reader = Reader::open(&fs, Path::new(PATH)).unwrap();
    let metadata: &Metadata = reader.metadata();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("phi3"));
    assert_eq!(metadata.u64("phi3.attention.sliding_window").unwrap(), Some(0));
    let parts = |layer: usize, names: [&str; 3], rows: [usize; 3]| -> Vec<f32> {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let parts = names.iter().zip(rows).filter(|(_, rows)| *rows > 0);
        parts.flat_map(|(part, rows)| values(&name(part), &[rows, config.hidden_size])).collect()
    };
    let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
    assert_eq!(reader.find("blk.2.attn_qkv.weight").unwrap().shape, [32, 16]);
    assert_eq!(reader.read_f32("blk.2.attn_qkv.weight").unwrap(), parts(2, qkv, [16, 8, 8]));
    let gate_up = ["mlp.gate_proj", "mlp.up_proj", ""];
    assert_eq!(reader.read_f32("blk.1.ffn_up.weight").unwrap(), parts(1, gate_up, [24, 24, 0]));
    assert!(reader.find("blk.1.attn_q.weight").is_none() && reader.find("blk.1.ffn_gate.weight").is_none());
    let layout = Layout::of_base(&config, None).unwrap();
    let name = |part: &str| layout.tensor_name(&format!("model.layers.7.{part}.weight"));
    assert_eq!(name("self_attn.qkv_proj").as_deref(), Some("blk.7.attn_qkv.weight"));
    assert_eq!(name("mlp.gate_up_proj").as_deref(), Some("blk.7.ffn_up.weight"));
    assert_eq!(name("mlp.down_proj").as_deref(), Some("blk.7.ffn_down.weight"));
}

#[test]
fn arithmetic_that_llama_cpp_lacks_is_refused_by_key() {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 64,
        attention_factor: Some(1.5),
        beta_fast: None,
        beta_slow: None,
    };
    for (config, key) in [
        (Config { unrotated_layers: vec![1, 3], ..config() }, "no_rope_layers"),
        (Config { qk_norm: true, unrotated_layers: vec![3], ..config() }, "no_rope_layers"),
        (Config { qkv_bias: true, rope_scaling: Some(llama3), ..config() }, "rope_scaling"),
        (Config { rope_scaling: Some(yarn), ..config() }, "attention_factor"),
        (Config { fused_projections: true, head_dim: 8, ..config() }, "head_dim"),
    ] {
        let error = Layout::new(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(key), "{error}");
    }
    assert!(Layout::of_base(&config(), Some("gemma")).unwrap_err().to_string().contains("gemma"));
}
