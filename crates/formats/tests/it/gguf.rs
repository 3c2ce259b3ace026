//! The reader against files written here byte by byte, and against damaged files.

use std::path::Path;

use formats::gguf::{self, Array, Reader, TensorType, Value, row_order, tensor_name};
use formats::hf::{Config, RopeScaling};
use formats::safetensors::Dtype;
use formats::{Error, ErrorKind};
use proptest::prelude::*;
use store::fs::faulty::MemoryFs;

use crate::gguf_file::*;

#[test]
fn what_a_file_says_is_read_back() {
    for version in [2, 3] {
        let mut file = File::new()
            .key("a.u8", [0, 0, 0, 0, 200].to_vec())
            .key("a.i8", [1, 0, 0, 0, 200].to_vec())
            .key("a.u16", [2, 0, 0, 0, 1, 2].to_vec())
            .key("a.i16", [3, 0, 0, 0, 0xFF, 0xFF].to_vec())
            .key("a.u32", u32_value(7))
            .key("a.i32", [5, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF].to_vec())
            .key("a.f32", f32_value(1e-5))
            .key("a.bool", [7, 0, 0, 0, 1].to_vec())
            .key("a.string", string_value("héllo"))
            .key("a.u64", [&10u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat())
            .key("a.i64", [&11u32.to_le_bytes()[..], &i64::MIN.to_le_bytes()].concat())
            .key("a.f64", [&12u32.to_le_bytes()[..], &0.1f64.to_le_bytes()].concat())
            .key("b.strings", array_value(8, 2, &[string(""), string("x y")].concat()))
            .key("b.i32s", array_value(5, 2, &[3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]))
            .key("b.f32s", array_value(6, 1, &2.5f32.to_le_bytes()))
            .key("b.bools", array_value(7, 2, &[1, 0]))
            .key("b.empty", array_value(12, 0, &[]))
            .f32("t", &[2, 3])
            .tensor(
                "half",
                &[3],
                1,
                [0x3C00u16, 0xC000, 0x0001].iter().flat_map(|h| h.to_le_bytes()).collect(),
            )
            .tensor("brain", &[1, 2], 30, [0x3F80u16, 0xC040].iter().flat_map(|h| h.to_le_bytes()).collect())
            .f32("scalar", &[])
            .f32("none", &[0, 5]);
        file.version = version;
        file.tensors[3].3 = f32_bytes([9.0]);

        let fs = MemoryFs::new();
        let path = Path::new("/x.gguf");
        store::atomic::write(&fs, path, &file.bytes()).unwrap();
        let mut reader = Reader::open(&fs, path).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.iter().count(), 17);
        assert_eq!(metadata.get("a.i8"), Some(&Value::I8(-56)));
        assert_eq!(metadata.get("a.i16"), Some(&Value::I16(-1)));
        assert_eq!(metadata.get("a.i64"), Some(&Value::I64(i64::MIN)));
        assert_eq!(metadata.get("b.bools"), Some(&Value::Array(Array::Bool(vec![true, false]))));
        assert_eq!(metadata.get("b.empty"), Some(&Value::Array(Array::F64(vec![]))));
        assert_eq!(metadata.u64("a.u8").unwrap(), Some(200));
        assert_eq!(metadata.u64("a.u16").unwrap(), Some(513));
        assert_eq!(metadata.u64("a.u64").unwrap(), Some(u64::MAX));
        assert_eq!(metadata.f64("a.f32").unwrap(), Some(1e-5), "the decimal that was meant");
        assert_eq!(metadata.f64("a.f64").unwrap(), Some(0.1));
        assert_eq!(metadata.f64("a.i32").unwrap(), Some(-2.0));
        assert_eq!(metadata.bool("a.bool").unwrap(), Some(true));
        assert_eq!(metadata.str("a.string").unwrap(), Some("héllo"));
        assert_eq!(metadata.str("absent").unwrap(), None);
        assert_eq!(metadata.strings("b.strings").unwrap().unwrap(), ["", "x y"]);
        assert_eq!(metadata.i32s("b.i32s").unwrap().unwrap(), [3, -1]);
        assert_eq!(metadata.f32s("b.f32s").unwrap().unwrap(), [2.5]);
        let wrong = metadata.u64("a.i32").unwrap_err();
        assert_eq!(wrong.to_string(), "`/x.gguf`, key `a.i32`: must be a non-negative integer, not -2");

        let t = reader.find("t").unwrap();
        assert_eq!((&t.shape[..], t.tensor_type, t.bytes), (&[2, 3][..], TensorType::F32, Some(24)));
        assert_eq!(reader.read_f32("t").unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(reader.read_bytes("t").unwrap(), f32_bytes((0..6).map(|i| i as f32)));
        assert_eq!(reader.read_f32("half").unwrap(), [1.0, -2.0, 2f32.powi(-24)]);
        assert_eq!(reader.read_f32("brain").unwrap(), [1.0, -3.0]);
        assert_eq!(reader.read_f32("scalar").unwrap(), [9.0]);
        assert!(reader.read_f32("none").unwrap().is_empty());
        let missing = reader.read_f32("u").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert_eq!(missing.to_string(), "`/x.gguf`, tensor `u`: is missing from the file");
    }
}

/// Numbers and names as `ggml.h` has them; what the values are is `quant`'s test.
#[test]
fn every_type_is_read_by_its_number() {
    use quant::BlockFormat::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    for (number, name, format) in [
        (2, "Q4_0", Q4_0),
        (3, "Q4_1", Q4_1),
        (6, "Q5_0", Q5_0),
        (7, "Q5_1", Q5_1),
        (8, "Q8_0", Q8_0),
        (12, "Q4_K", Q4K),
        (13, "Q5_K", Q5K),
        (14, "Q6_K", Q6K),
    ] {
        let data: Vec<u8> = (0..3 * format.bytes()).map(|i| (i * 37 % 61) as u8).collect();
        let shape = [3, format.values() as u64];
        let mut reader = File::new().tensor("t", &shape, number, data.clone()).open().unwrap();
        assert_eq!(reader.tensors()[0].tensor_type.to_string(), name);
        assert_eq!(reader.read_f32("t").unwrap(), format.decode(&data), "{name}");
        assert_eq!(reader.read_bytes("t").unwrap(), data, "{name}");
    }
}

/// More than the reader converts at a time.
#[test]
fn a_long_tensor_is_read_in_pieces() {
    let count = 100_000u64 * 32;
    let data: Vec<u8> = (0..count / 32)
        .flat_map(|i| [&0x3C00u16.to_le_bytes()[..], &[(i % 100) as u8; 32]].concat())
        .collect();
    let mut reader = File::new().tensor("t", &[count], 8, data).open().unwrap();
    let values = reader.read_f32("t").unwrap();
    assert!(values.iter().enumerate().all(|(i, &value)| value == (i / 32 % 100) as f32));
}

#[test]
fn types_that_are_not_read_are_named() {
    let file = File::new()
        .tensor("q2", &[256], 10, vec![0; 84])
        .tensor("iq", &[256], 23, vec![0; 136])
        .tensor("new", &[7], 99, vec![0; 7]);
    let mut reader = file.open().unwrap();
    assert_eq!(reader.read_bytes("q2").unwrap().len(), 84);
    for (name, said) in [("q2", "Q2_K"), ("iq", "IQ4_XS (type 23)"), ("new", "stored as type 99")] {
        let error = reader.read_f32(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(reader.read_bytes("new").unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn headers_that_break_the_format_are_refused() {
    let key = |value: &[u8]| header(3, 0, 1, &[&string("key.name"), value].concat());
    let info = |rank: u32, sizes: &[u64], number: u32, offset: u64| {
        let mut bytes = [&string("t")[..], &rank.to_le_bytes()].concat();
        sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend([&number.to_le_bytes()[..], &offset.to_le_bytes(), &[0; 200]].concat());
        header(3, 1, 0, &bytes)
    };
    let huge = u64::MAX;
    let cases = [
        (Vec::new(), "truncated"),
        (b"GGUF".to_vec(), "truncated"),
        (b"GGML\x03\0\0\0".to_vec(), "does not start with `GGUF`"),
        (header(1, 0, 0, &[]), "version is 1"),
        (header(4, 0, 0, &[]), "version is 4"),
        (header(3 << 24, 0, 0, &[]), "big-endian"),
        (header(3, huge, 0, &[]), "claims 18446744073709551615 tensors"),
        (header(3, 0, huge, &[]), "claims 18446744073709551615 keys"),
        (header(3, 60_000, 0, &[]), "list of tensors"),
        (header(3, 0, 60_000, &[]), "list of keys"),
        (header(3, 0, 1, &[&huge.to_le_bytes()[..], &[0; 20]].concat()), "the limit is 65535"),
        (header(3, 0, 1, &[&100u64.to_le_bytes()[..], &[0; 20]].concat()), "a key at byte 32"),
        (header(3, 0, 1, &[&1u64.to_le_bytes()[..], &[0xFF; 20]].concat()), "not UTF-8"),
        (key(&[13, 0, 0, 0]), "unknown type 13"),
        (key(&[7, 0, 0, 0, 2]), "must be 0 or 1"),
        (key(&[&8u32.to_le_bytes()[..], &huge.to_le_bytes()].concat()), "the limit is"),
        (key(&[&8u32.to_le_bytes()[..], &(1u64 << 27).to_le_bytes()].concat()), "value of `key.name`"),
        (key(&array_value(0, huge, &[])), "array `key.name`"),
        (key(&array_value(8, huge / 8, &[])), "array `key.name`"),
        (key(&array_value(12, 1 << 61, &[])), "array `key.name`"),
        (key(&array_value(4, 61 << 30, &[])), "array `key.name`"),
        (key(&array_value(77, 0, &[])), "unknown type 77"),
        (info(5, &[1; 5], 0, 0), "5 dimensions"),
        (info(huge as u32, &[], 0, 0), "dimensions"),
        (info(2, &[huge, huge], 0, 0), "too large"),
        (info(2, &[1 << 32, 1 << 32], 0, 0), "too large"),
        (info(3, &[1 << 40, 1 << 40, 0], 0, 0), "too large"),
        (info(1, &[1 << 50], 0, 0), "exceed the end"),
        (info(1, &[33], 8, 0), "whole blocks of 32"),
        (info(0, &[], 2, 0), "whole blocks of 32"),
        (info(2, &[32, 256], 12, 0), "whole blocks of 256"),
        (info(1, &[1], 0, 4), "not a multiple of 32"),
        (info(1, &[1], 0, huge - 31), "exceed the end"),
        (info(1, &[1], 99, 1 << 20), "exceed the end"),
        (File::new().key("general.alignment", u32_value(24)).bytes(), "power of two"),
        (File::new().key("general.alignment", u32_value(0)).bytes(), "power of two"),
        (File::new().f32("t", &[1]).f32("t", &[1]).bytes(), "occurs twice"),
        (header(3, 0, 2, &[string("k"), u32_value(1), string("k"), u32_value(2)].concat()), "occurs twice"),
        (File::new().f32(&"n".repeat(65), &[1]).bytes(), "the limit is 64"),
    ];
    for (bytes, expected) in cases {
        let error = open(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let message = error.to_string();
        assert!(message.contains("m/x.gguf") && message.contains(expected), "{expected}: {message}");
    }
    let nested = open(key(&array_value(9, 1, &[0; 12]))).unwrap_err();
    assert_eq!(nested.kind(), ErrorKind::Unsupported);
}

#[test]
fn tensors_that_overlap_are_refused() {
    // The second tensor's offset is its info's last field.
    let bytes = File::new().f32("a", &[16]).f32("b", &[1]).bytes();
    let at = bytes.windows(8).rposition(|window| window == 64u64.to_le_bytes()).unwrap();
    for (offset, refused) in [(0u64, true), (32, true), (64, false)] {
        let mut changed = bytes.clone();
        changed[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        match open(changed) {
            Ok(_) => assert!(!refused, "{offset}"),
            Err(error) => {
                assert!(refused && error.to_string().contains("within the previous tensor"), "{error}")
            }
        }
    }
}

#[test]
fn an_alignment_of_its_own_is_kept() {
    let mut bytes = File::new().key("general.alignment", u32_value(64)).f32("a", &[1]).bytes();
    let values = bytes.split_off(bytes.len() - 4);
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend(values.iter().map(|_| 0x40));
    assert_eq!(open(bytes).unwrap().read_f32("a").unwrap(), [f32::from_bits(0x4040_4040)]);
}

/// Opens and reads all there is; the point is that it returns.
fn read_everything(bytes: Vec<u8>) {
    let Ok(mut reader) = open(bytes) else { return };
    for tensor in reader.tensors().to_vec() {
        match reader.read_f32(&tensor.name) {
            Ok(values) => assert_eq!(values.len(), tensor.elements()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
        assert_eq!(reader.read_bytes(&tensor.name).ok().map(|bytes| bytes.len() as u64), tensor.bytes);
    }
    if let Ok(config) = gguf::config(&mut reader) {
        for name in ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"]
        {
            let _ = reader.read_parameter_f32(name, &config);
            let _ = reader.read_parameter_bytes(name, &config);
        }
    }
}

fn small_files() -> [Vec<u8>; 2] {
    let quantized = File::new()
        .key("general.alignment", u32_value(32))
        .key("x", array_value(8, 2, &[string("a"), string("b")].concat()))
        .tensor("q", &[1, 256], 12, vec![7; 144])
        .tensor("b", &[2], 30, vec![1; 4]);
    [model("llama").bytes(), quantized.bytes()]
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for bytes in small_files() {
        for length in 0..bytes.len() {
            let error = open(bytes[..length].to_vec()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut to {length} bytes");
        }
    }
}

#[test]
fn any_single_byte_changed_never_panics() {
    for bytes in small_files() {
        for position in 0..bytes.len().min(1200) {
            for value in [0, 1, 9, 0x7F, 0xFF, bytes[position] ^ 1, bytes[position] ^ 0x80] {
                let mut changed = bytes.clone();
                changed[position] = value;
                read_everything(changed);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn random_bytes_never_panic(
        tensors in 0u64..4, keys in 0u64..4, rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        read_everything(header(3, tensors, keys, &rest));
    }

    #[test]
    fn random_infos_never_panic(
        sizes in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..600], 0..5),
        number in 0u32..45, offset in prop_oneof![any::<u64>(), (0u64..8).prop_map(|i| i * 32)], data in 0usize..600,
    ) {
        let mut bytes = [&string("t")[..], &(sizes.len() as u32).to_le_bytes()].concat();
        sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend([&number.to_le_bytes()[..], &offset.to_le_bytes(), &vec![0; data]].concat());
        read_everything(header(3, 1, 0, &bytes));
    }
}

#[test]
fn names_are_those_of_llama_cpp() {
    for (hf, gguf) in [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"),
        ("model.layers.12.self_attn.q_proj.weight", "blk.12.attn_q.weight"),
        ("model.layers.12.self_attn.k_proj.bias", "blk.12.attn_k.bias"),
        ("model.layers.1.self_attn.v_proj.weight", "blk.1.attn_v.weight"),
        ("model.layers.1.self_attn.o_proj.bias", "blk.1.attn_output.bias"),
        ("model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
        ("model.layers.1.self_attn.k_norm.weight", "blk.1.attn_k_norm.weight"),
        ("model.layers.1.post_attention_layernorm.weight", "blk.1.ffn_norm.weight"),
        ("model.layers.1.mlp.gate_proj.weight", "blk.1.ffn_gate.weight"),
        ("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
    ] {
        assert_eq!(tensor_name(hf).as_deref(), Some(gguf));
    }
    for other in [
        "",
        "model.norm.bias",
        "model.layers.+1.mlp.up_proj.weight",
        "model.layers.01.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj.bias",
        "model.layers.1.mlp.up_proj",
        "model.layers.1.self_attn.rotary_emb.inv_freq",
    ] {
        assert_eq!(tensor_name(other), None, "{other}");
    }
}

/// `LlamaModel.permute` is reshape(heads, 2, width / 2).swapaxes(1, 2): row (head, half, pair) goes to (head,
/// pair, half).
#[test]
fn query_and_key_rows_are_interleaved_for_llama_and_smollm3() {
    let (q, k) = ("model.layers.0.self_attn.q_proj.weight", "model.layers.3.self_attn.k_proj.bias");
    assert_eq!(row_order("llama", q, 2, 8).unwrap().unwrap(), [0, 2, 1, 3, 4, 6, 5, 7]);
    assert_eq!(row_order("llama", k, 1, 6).unwrap().unwrap(), [0, 2, 4, 1, 3, 5]);
    assert!(row_order("smollm3", q, 2, 8).unwrap().is_some());
    for architecture in ["qwen2", "qwen3"] {
        assert_eq!(row_order(architecture, q, 2, 8).unwrap(), None);
    }
    for other in ["v_proj.weight", "o_proj.weight", "q_norm.weight"] {
        let name = format!("model.layers.0.self_attn.{other}");
        assert_eq!(row_order("llama", &name, 2, 8).unwrap(), None);
    }
    for (heads, rows) in [(0, 8), (3, 8), (2, 6)] {
        assert_eq!(row_order("llama", q, heads, rows).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(row_order("llama", q, 2, 0).unwrap(), Some(vec![]));
}

#[test]
fn parameters_come_in_the_order_of_hugging_face() {
    let q = "model.layers.0.self_attn.q_proj.weight";
    let rows = |order: [usize; 8]| {
        order.iter().flat_map(|&row| (0..8).map(move |i| (row * 8 + i) as f32)).collect::<Vec<f32>>()
    };
    for (architecture, order) in [("llama", [0, 2, 1, 3, 4, 6, 5, 7]), ("qwen2", [0, 1, 2, 3, 4, 5, 6, 7])] {
        let mut reader = model(architecture).open().unwrap();
        let config = gguf::config(&mut reader).unwrap();
        assert_eq!(reader.read_parameter_f32(q, &config).unwrap(), rows(order));
        assert_eq!(reader.read_parameter_bytes(q, &config).unwrap(), f32_bytes(rows(order)));
        let v = reader.read_parameter_f32("model.layers.0.self_attn.v_proj.weight", &config).unwrap();
        assert_eq!(v, (0..32).map(|i| i as f32).collect::<Vec<f32>>());
        let unknown = reader.read_parameter_f32("model.layers.0.mlp.up_proj.bias", &config).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        let absent = reader.read_parameter_bytes("lm_head.weight", &config).unwrap_err();
        assert_eq!(absent.to_string(), "`m/x.gguf`, tensor `output.weight`: is missing from the file");
    }

    // Quantized rows move whole: four rows of one Q8_0 block each, as one head of keys.
    let block = |i: u8| [&[0x00, 0x3C][..], &[i; 32]].concat();
    let file = model("llama").without("blk.0.attn_k.weight");
    let file = file.tensor("blk.0.attn_k.weight", &[4, 32], 8, (0..4).flat_map(block).collect());
    let mut reader = file.open().unwrap();
    let config = gguf::config(&mut reader).unwrap();
    let k = "model.layers.0.self_attn.k_proj.weight";
    let expected: Vec<u8> = [0, 2, 1, 3].into_iter().flat_map(block).collect();
    assert_eq!(reader.read_parameter_bytes(k, &config).unwrap(), expected);
    let values = reader.read_parameter_f32(k, &config).unwrap();
    assert_eq!([values[0], values[32], values[64], values[96]], [0.0, 2.0, 1.0, 3.0]);
    let other = Config { num_key_value_heads: 2, ..config };
    let error = reader.read_parameter_f32(k, &other).unwrap_err();
    assert!(error.to_string().contains("has 4 rows, expected 2 heads of 4"), "{error}");
}

#[test]
fn a_configuration_is_read() {
    let config = model("llama").config().unwrap();
    assert_eq!(
        config,
        Config {
            vocab_size: 3,
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            max_position_embeddings: 64,
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
            bos_token_id: None,
            eos_token_ids: vec![2],
            pad_token_id: None,
        }
    );
    let file = model("llama")
        .f32("output.weight", &[3, 8])
        .key("llama.rope.freq_base", f32_value(500_000.0))
        .key("llama.attention.key_length", u32_value(6))
        .key("llama.attention.value_length", u32_value(6))
        .key("llama.rope.dimension_count", u32_value(6))
        .key("llama.vocab_size", u32_value(3))
        .key("llama.expert_count", u32_value(0))
        .key("llama.attention.sliding_window", u32_value(64))
        .key("tokenizer.ggml.bos_token_id", u32_value(1))
        .key("tokenizer.ggml.padding_token_id", u32_value(u32::MAX));
    let config = file.config().unwrap();
    assert_eq!((config.tie_word_embeddings, config.rope_theta, config.head_dim), (false, 500_000.0, 6));
    assert_eq!((config.bos_token_id, config.pad_token_id), (Some(1), None));

    let qwen3 = model("qwen3").f32("blk.0.attn_q_norm.weight", &[4]).f32("blk.0.attn_k_norm.weight", &[4]);
    assert!(qwen3.config().unwrap().qk_norm);
    let biases = |file: File| {
        file.f32("blk.0.attn_q.bias", &[8]).f32("blk.0.attn_k.bias", &[4]).f32("blk.0.attn_v.bias", &[4])
    };
    assert!(biases(model("qwen2")).config().unwrap().qkv_bias);
    // The Hugging Face folders of Llama with biases have one on the output too, which must be zero.
    let zero = biases(model("llama")).tensor("blk.0.attn_output.bias", &[8], 0, vec![0; 32]);
    assert!(zero.config().unwrap().qkv_bias);
}

#[test]
fn rope_rules_are_read() {
    let rule = |kind: &str| {
        let file = model("llama").key("llama.rope.scaling.type", string_value(kind));
        file.key("llama.rope.scaling.factor", f32_value(2.5))
    };
    assert_eq!(rule("none").config().unwrap().rope_scaling, None);
    let linear = Some(RopeScaling::Linear { factor: 2.5 });
    assert_eq!(rule("linear").config().unwrap().rope_scaling, linear);
    assert_eq!(rule("none").without("llama.rope.scaling.type").config().unwrap().rope_scaling, linear);
    let old = model("llama").key("llama.rope.scale_linear", f32_value(2.5));
    assert_eq!(old.config().unwrap().rope_scaling, linear);
    let yarn = rule("yarn")
        .key("llama.rope.scaling.original_context_length", u32_value(32))
        .key("llama.rope.scaling.yarn_beta_fast", f32_value(16.0));
    assert_eq!(
        yarn.config().unwrap().rope_scaling,
        Some(RopeScaling::Yarn {
            factor: 2.5,
            original_max_position_embeddings: 32,
            attention_factor: None,
            beta_fast: Some(16.0),
            beta_slow: None,
        })
    );
}

/// Llama 3.2 1B's rule: θ 500000, heads of 64, factor 32. Golden: `generate_extra_tensors` of
/// `convert_hf_to_gguf.py`.
#[test]
fn llama_3_is_known_by_its_frequency_factors() {
    let factors: [f32; 32] = [
        1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.6513293, 3.2922628,
        9.666731, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0,
    ];
    let file = |factors: &[f32]| {
        model("llama")
            .key("llama.rope.freq_base", f32_value(500_000.0))
            .key("llama.attention.key_length", u32_value(64))
            .key("llama.attention.value_length", u32_value(64))
            .tensor("rope_freqs.weight", &[factors.len() as u64], 0, f32_bytes(factors.iter().copied()))
    };
    assert_eq!(
        file(&factors).config().unwrap().rope_scaling,
        Some(RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        })
    );
    assert_eq!(file(&[1.0; 32]).config().unwrap().rope_scaling, None);
    let mut other = factors;
    other[16] *= 1.01;
    for refused in [
        file(&other),
        file(&factors[..31]),
        file(&[0.0; 32]),
        file(&[f32::NAN; 32]),
        file(&factors).key("llama.rope.freq_base", f32_value(10_000.0)),
        file(&factors).key("llama.rope.scaling.factor", f32_value(2.0)),
    ] {
        let error = refused.config().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("tensor `rope_freqs.weight`"), "{error}");
    }
}

#[test]
fn what_asks_for_other_maths_is_refused_by_name() {
    let llama = || model("llama");
    let unsupported = [
        (llama().key("general.architecture", string_value("gemma")), "general.architecture"),
        (llama().key("general.type", string_value("adapter")), "general.type"),
        (llama().key("split.count", u32_value(2)), "split.count"),
        (llama().key("llama.expert_count", u32_value(8)), "llama.expert_count"),
        (llama().key("llama.logit_scale", f32_value(0.5)), "llama.logit_scale"),
        (llama().key("llama.attention.sliding_window", u32_value(32)), "llama.attention.sliding_window"),
        (llama().key("llama.attention.causal", vec![7, 0, 0, 0, 0]), "llama.attention.causal"),
        (llama().key("llama.attention.value_length", u32_value(8)), "llama.attention.value_length"),
        (llama().key("llama.rope.dimension_count", u32_value(2)), "llama.rope.dimension_count"),
        (llama().key("llama.rope.scaling.type", string_value("longrope")), "llama.rope.scaling.type"),
        (llama().key("llama.rope.scaling.attn_factor", f32_value(1.2)), "llama.rope.scaling.attn_factor"),
        (
            llama().key("llama.rope.scaling.yarn_attn_factor", f32_value(1.2)),
            "llama.rope.scaling.yarn_attn_factor",
        ),
        (llama().f32("blk.0.ffn_up.bias", &[12]), "blk.0.ffn_up.bias"),
        (llama().f32("blk.0.attn_q_norm.weight", &[4]), "blk.0.attn_q_norm.weight"),
        (llama().f32("blk.1.attn_q.weight", &[8, 8]), "blk.1.attn_q.weight"),
        (llama().f32("blk.0.attn_output.bias", &[8]), "blk.0.attn_output.bias"),
        (llama().f32("blk.0.attn_q.bias", &[8]), "blk.*.attn_{q,k,v}.bias"),
        (model("qwen2").f32("rope_freqs.weight", &[2]), "rope_freqs.weight"),
        (model("qwen2").f32("output.bias", &[3]), "output.bias"),
    ];
    let corrupt = [
        (llama().without("general.architecture"), "general.architecture"),
        (llama().without("llama.embedding_length"), "llama.embedding_length"),
        (llama().without("llama.attention.layer_norm_rms_epsilon"), "llama.attention.layer_norm_rms_epsilon"),
        (llama().key("llama.block_count", u32_value(0)), "llama.block_count"),
        (llama().key("llama.block_count", string_value("1")), "llama.block_count"),
        (
            llama().key("llama.attention.head_count", array_value(4, 1, &[2, 0, 0, 0])),
            "llama.attention.head_count",
        ),
        (llama().key("llama.attention.head_count_kv", u32_value(3)), "llama.attention.head_count_kv"),
        (llama().key("llama.attention.key_length", u32_value(5)), "llama.attention.key_length"),
        (llama().key("llama.rope.freq_base", f32_value(f32::NAN)), "llama.rope.freq_base"),
        (llama().key("llama.rope.scaling.factor", f32_value(0.5)), "llama.rope.scaling.factor"),
        (llama().key("llama.vocab_size", u32_value(4)), "llama.vocab_size"),
        (llama().key("tokenizer.ggml.tokens", array_value(8, 0, &[])), "tokenizer.ggml.tokens"),
        (llama().key("tokenizer.ggml.bos_token_id", u32_value(3)), "tokenizer.ggml.bos_token_id"),
    ];
    let cases = unsupported.map(|(file, name)| (file, name, ErrorKind::Unsupported)).into_iter();
    for (file, name, kind) in cases.chain(corrupt.map(|(file, name)| (file, name, ErrorKind::Corrupt))) {
        let error = file.config().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            matches!(&error, Error::Key { key: at, .. } | Error::Tensor { tensor: at, .. } if at == name),
            "{name}: {error}"
        );
    }
    assert_eq!(llama().without("token_embd.weight").config().unwrap_err().kind(), ErrorKind::NotFound);
}
