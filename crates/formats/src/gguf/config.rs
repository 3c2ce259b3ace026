//! The shape of a model, from the keys of its architecture.
//!
//! A key that this program does not know may change the arithmetic, so it is refused unless its value says
//! "off" (0 or false); and so is a tensor that no parameter is read from. Names of keys and their defaults:
//! `llama-arch.cpp` and `llama-model.cpp` of <https://github.com/ggml-org/llama.cpp>.

use std::f64::consts::PI;
use std::io::{Read, Seek};

use super::metadata::Metadata;
use super::names::{self, ROPE_FACTORS, UNROTATED_INTERVAL};
use super::reader::Reader;
use super::tensor_type::TensorType;
use crate::error::{ErrorKind, Result};
use crate::hf::{Architecture, Config, RopeScaling};
use crate::safetensors::Dtype;

/// Larger sizes are refused before anything is multiplied: no model of this family comes near.
const LARGEST_SIZE: u64 = 1 << 32;

/// Keys of an architecture that do not affect logits.
const HARMLESS: [&str; 3] = ["pooling_type", "rope.scaling.finetuned", "tensor_data_layout"];
/// Keys that [`config`] takes, or refuses, by value.
const TAKEN: [&str; 22] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "vocab_size",
];

/// The configuration of a model of architecture `llama`, `qwen2`, `qwen3` or `smollm3`. Tied embeddings are
/// those of a file without `output.weight`; a quantized model's `dtype` is F32.
///
/// # Errors
/// `Corrupt` for a key that is missing or contradicts another, `Unsupported` for a key or a tensor that asks
/// for other arithmetic, `Io` from the system.
pub fn config<R: Read + Seek>(reader: &mut Reader<R>) -> Result<Config> {
    let keys = Keys::new(reader.metadata())?;
    keys.refuse_other_maths()?;
    let hidden_size = keys.require_size("embedding_length")?;
    let num_attention_heads = keys.require_size("attention.head_count")?;
    let num_key_value_heads = keys.size("attention.head_count_kv")?.unwrap_or(num_attention_heads);
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        let message = format!("{num_key_value_heads} does not divide the head count ({num_attention_heads})");
        return Err(keys.corrupt("attention.head_count_kv", message));
    }
    let head_dim = keys.head_dim(hidden_size, num_attention_heads)?;
    let max_position_embeddings = keys.require_size("context_length")?;
    let num_hidden_layers = keys.require_size("block_count")?;
    let rope_theta = keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
    let mut rope_scaling = keys.rope_scaling(max_position_embeddings)?;
    let embedding = reader.require("token_embd.weight")?;
    let vocab_size = keys.vocab_size(embedding.shape.first().copied().unwrap_or(0))?;
    let dtype = match embedding.tensor_type {
        TensorType::F16 => Dtype::F16,
        TensorType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    };
    let intermediate_size = keys.require_size("feed_forward_length")?;
    let rms_norm_eps = keys.require_positive("attention.layer_norm_rms_epsilon")?;
    let [bos_token_id, eos_token_id, pad_token_id] =
        ["bos", "eos", "padding"].map(|name| keys.token_id(name, vocab_size));
    let (bos_token_id, eos_token_id, pad_token_id) = (bos_token_id?, eos_token_id?, pad_token_id?);
    let qk_norm = keys.architecture == Architecture::Qwen3;
    let original = keys.size("rope.scaling.original_context_length")?;
    let rotated_by_factors = keys.architecture == Architecture::Llama;
    let unrotated_layers = match keys.architecture {
        Architecture::SmolLm3 => {
            (0..num_hidden_layers).filter(|layer| (layer + 1).is_multiple_of(UNROTATED_INTERVAL)).collect()
        }
        _ => Vec::new(),
    };

    let qkv_bias = check_tensors(reader, num_hidden_layers, qk_norm, rotated_by_factors)?;
    if reader.find(ROPE_FACTORS).is_some() {
        let factors = reader.read_f32(ROPE_FACTORS)?;
        let refuse = |message| reader.tensor_error(ROPE_FACTORS, ErrorKind::Unsupported, message);
        if rope_scaling.is_some() {
            return Err(refuse("frequency factors beside `rope.scaling` are not supported".to_owned()));
        }
        rope_scaling = llama3(&factors, head_dim, rope_theta, original.unwrap_or(8192)).ok_or_else(|| {
            refuse(
                "its frequency factors are not Llama 3's with low_freq_factor 1 and high_freq_factor 4: use \
                 the original model"
                    .to_owned(),
            )
        })?;
    }
    Ok(Config {
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings,
        rope_theta,
        rope_scaling,
        rms_norm_eps,
        tie_word_embeddings: reader.find("output.weight").is_none(),
        qkv_bias,
        qk_norm,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers,
        fused_projections: false,
        initializer_range: 0.02,
        dtype,
        bos_token_id,
        eos_token_ids: eos_token_id.into_iter().collect(),
        pad_token_id,
    })
}

/// The metadata under the prefix of its architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: Architecture,
}

impl<'a> Keys<'a> {
    fn new(metadata: &'a Metadata) -> Result<Keys<'a>> {
        let key = "general.architecture";
        let architecture = match metadata.str(key)? {
            Some("llama") => Architecture::Llama,
            Some("qwen2") => Architecture::Qwen2,
            Some("qwen3") => Architecture::Qwen3,
            Some("smollm3") => Architecture::SmolLm3,
            Some(other) => {
                let other: String = other.chars().take(80).collect();
                let message = format!(
                    "`{other}` is not supported: supported architectures are llama, qwen2, qwen3 and smollm3"
                );
                return Err(metadata.unsupported(key, message));
            }
            None => return Err(metadata.corrupt(key, "is missing".to_owned())),
        };
        Ok(Keys { metadata, architecture })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.model_type())
    }

    fn corrupt(&self, name: &str, message: String) -> crate::Error {
        self.metadata.corrupt(&self.key(name), message)
    }

    fn unsupported(&self, name: &str, message: String) -> crate::Error {
        self.metadata.unsupported(&self.key(name), message)
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        match self.metadata.u64(&self.key(name))? {
            None => Ok(None),
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size as usize)),
            Some(size) => Err(self.corrupt(name, format!("must be from 1 to {LARGEST_SIZE}, not {size}"))),
        }
    }

    fn require_size(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.corrupt(name, "is missing".to_owned()))
    }

    fn positive(&self, name: &str) -> Result<Option<f64>> {
        match self.metadata.f64(&self.key(name))? {
            Some(number) if number <= 0.0 => {
                Err(self.corrupt(name, format!("must be more than 0, not {number}")))
            }
            other => Ok(other),
        }
    }

    fn require_positive(&self, name: &str) -> Result<f64> {
        self.positive(name)?.ok_or_else(|| self.corrupt(name, "is missing".to_owned()))
    }

    fn refuse_other_maths(&self) -> Result<()> {
        let metadata = self.metadata;
        if let Some(kind) = metadata.str("general.type")?.filter(|&kind| kind != "model") {
            let kind: String = kind.chars().take(80).collect();
            return Err(metadata.unsupported("general.type", format!("`{kind}` is not a complete model")));
        }
        if let Some(count) = metadata.u64("split.count")?.filter(|&count| count > 1) {
            let message =
                format!("the model is split into {count} files: merge them with llama-gguf-split --merge");
            return Err(metadata.unsupported("split.count", message));
        }
        let prefix = self.key("");
        for (key, value) in metadata.iter() {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            if !TAKEN.contains(&name) && !HARMLESS.contains(&name) && !value.is_off() {
                let message =
                    "is not supported: it may require arithmetic that this program does not implement"
                        .to_owned();
                return Err(metadata.unsupported(key, message));
            }
        }
        if metadata.bool(&self.key("attention.causal"))? == Some(false) {
            let message = "false is not supported: only causal attention is".to_owned();
            return Err(self.unsupported("attention.causal", message));
        }
        // 0 is a window that is off.
        let window = metadata.u64(&self.key("attention.sliding_window"))?.unwrap_or(0);
        let longest = metadata.u64(&self.key("context_length"))?.unwrap_or(u64::MAX);
        if (1..longest).contains(&window) {
            let message =
                format!("a window of {window} below the context length ({longest}) is not supported");
            return Err(self.unsupported("attention.sliding_window", message));
        }
        Ok(())
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize> {
        let head_dim = match self.size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                let message = format!("{heads} does not divide the embedding length ({hidden_size})");
                return Err(self.corrupt("attention.head_count", message));
            }
        };
        if !head_dim.is_multiple_of(2) {
            let message = format!("must be even for rotary embeddings, not {head_dim}");
            return Err(self.corrupt("attention.key_length", message));
        }
        // llama.cpp's default for values does not follow the keys.
        let value_length = self.size("attention.value_length")?.unwrap_or(hidden_size / heads);
        if value_length != head_dim {
            let message = format!("{value_length} is not supported beside keys of {head_dim}");
            return Err(self.unsupported("attention.value_length", message));
        }
        if let Some(rotated) = self.size("rope.dimension_count")?.filter(|&rotated| rotated != head_dim) {
            let message =
                format!("{rotated} is not supported: every dimension of a head ({head_dim}) is rotated");
            return Err(self.unsupported("rope.dimension_count", message));
        }
        Ok(head_dim)
    }

    /// The rows of the embedding, which the keys must not contradict.
    fn vocab_size(&self, rows: usize) -> Result<usize> {
        let (tokens_key, size_key) = ("tokenizer.ggml.tokens", self.key("vocab_size"));
        let tokens = match self.metadata.get(tokens_key) {
            Some(_) => self.metadata.strings(tokens_key)?.map(<[String]>::len),
            None => None,
        };
        for (key, size) in [(&size_key[..], self.size("vocab_size")?), (tokens_key, tokens)] {
            if let Some(size) = size.filter(|&size| size != rows) {
                let message = format!("has {size} tokens, but `token_embd.weight` has {rows} rows");
                return Err(self.metadata.corrupt(key, message));
            }
        }
        Ok(rows)
    }

    fn rope_scaling(&self, max_position_embeddings: usize) -> Result<Option<RopeScaling>> {
        // The second is the name of before 2023-09. 0 is a factor that is off.
        let mut factor = None;
        for name in ["rope.scaling.factor", "rope.scale_linear"] {
            factor = factor.or(self.metadata.f64(&self.key(name))?.map(|factor| (name, factor)));
        }
        let factor = match factor {
            Some((name, factor)) if factor != 0.0 && factor < 1.0 => {
                return Err(self.corrupt(name, format!("must be at least 1, not {factor}")));
            }
            Some((_, factor)) if factor > 1.0 => Some(factor),
            _ => None,
        };
        for name in ["rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor"] {
            if let Some(number) = self.metadata.f64(&self.key(name))?.filter(|&number| number != 1.0) {
                return Err(self.unsupported(name, format!("{number} is not supported: only 1 is")));
            }
        }
        let name = self.metadata.str(&self.key("rope.scaling.type"))?.unwrap_or("linear");
        Ok(match (name, factor) {
            ("none", _) | ("linear" | "yarn", None) => None,
            ("linear", Some(factor)) => Some(RopeScaling::Linear { factor }),
            ("yarn", Some(factor)) => Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings: self
                    .size("rope.scaling.original_context_length")?
                    .unwrap_or(max_position_embeddings),
                attention_factor: None,
                beta_fast: self.positive("rope.scaling.yarn_beta_fast")?,
                beta_slow: self.positive("rope.scaling.yarn_beta_slow")?,
            }),
            (other, _) => {
                let other: String = other.chars().take(80).collect();
                let message =
                    format!("`{other}` is not supported: supported types are none, linear and yarn");
                return Err(self.unsupported("rope.scaling.type", message));
            }
        })
    }

    fn token_id(&self, name: &str, vocab_size: usize) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        // -1 is how some writers say "none", and most do so in 32 bits without a sign.
        let id = match self.metadata.get(&key) {
            Some(super::Value::I32(-1) | super::Value::U32(u32::MAX)) | None => return Ok(None),
            Some(_) => self.metadata.u64(&key)?,
        };
        match id {
            Some(id) if id >= vocab_size as u64 => {
                Err(self.metadata.corrupt(&key, format!("{id} is outside the vocabulary of {vocab_size}")))
            }
            id => Ok(id.and_then(|id| u32::try_from(id).ok())),
        }
    }
}

/// Refuses tensors that no parameter is read from, but for zero biases on output projections: files of models
/// with biases on the other three have them. Says whether the query, key and value projections have biases.
fn check_tensors<R: Read + Seek>(
    reader: &mut Reader<R>,
    layers: usize,
    qk_norm: bool,
    rope_factors: bool,
) -> Result<bool> {
    let (mut biases, mut to_be_zero) = (0, Vec::new());
    for tensor in reader.tensors() {
        let known = match names::layer_part(&tensor.name) {
            Some((layer, part)) => {
                match part {
                    "attn_q.bias" | "attn_k.bias" | "attn_v.bias" => biases += 1,
                    "attn_output.bias" => to_be_zero.push(tensor.name.clone()),
                    _ => {}
                }
                let norm_of_heads = matches!(part, "attn_q_norm.weight" | "attn_k_norm.weight");
                layer < layers && (qk_norm || !norm_of_heads)
            }
            None => match &tensor.name[..] {
                "token_embd.weight" | "output_norm.weight" | "output.weight" => true,
                name => name == ROPE_FACTORS && rope_factors,
            },
        };
        if !known {
            let message =
                format!("does not belong to a supported model of this architecture with {layers} layers");
            return Err(reader.tensor_error(&tensor.name, ErrorKind::Unsupported, message));
        }
    }
    for name in to_be_zero {
        if reader.read_f32(&name)?.iter().any(|&value| value != 0.0) {
            let message = "is not zero: only biases of queries, keys and values are supported".to_owned();
            return Err(reader.tensor_error(&name, ErrorKind::Unsupported, message));
        }
    }
    match biases {
        0 => Ok(false),
        _ if Some(biases) == layers.checked_mul(3) => Ok(true),
        _ => {
            let message = format!(
                "only {biases} of the biases of {layers} layers are present: all three of each layer, or \
                 none, must be"
            );
            Err(reader.tensor_error("blk.*.attn_{q,k,v}.bias", ErrorKind::Unsupported, message))
        }
    }
}

/// Llama 3's rule, if these factors are what it divides the frequencies by; `Some(None)` where they change
/// nothing. The file holds only the result, so the parameters that all published models share are tried and
/// must reproduce every factor.
fn llama3(
    factors: &[f32],
    head_dim: usize,
    rope_theta: f64,
    original_max_position_embeddings: usize,
) -> Option<Option<RopeScaling>> {
    if factors.len() != head_dim / 2 {
        return None;
    }
    if factors.iter().all(|&factor| factor == 1.0) {
        return Some(None);
    }
    let (low_freq_factor, high_freq_factor) = (1.0, 4.0);
    // The slowest pair is slowed by the whole factor.
    let factor = f64::from(*factors.last()?);
    let original = original_max_position_embeddings as f64;
    let same = factors.iter().enumerate().all(|(i, &found)| {
        let wavelength = 2.0 * PI * rope_theta.powf(2.0 * i as f64 / head_dim as f64);
        // 1 where short wavelengths are kept, 0 where long ones are divided.
        let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
        let smooth = smooth.clamp(0.0, 1.0);
        let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
        (f64::from(found) / expected - 1.0).abs() < 1e-4
    });
    (same && factor > 1.0).then_some(Some(RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings,
    }))
}
