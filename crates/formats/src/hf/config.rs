//! `config.json`: the shape of a model of the Llama family.

use std::path::Path;

use serde_json::{Map, Value, json};
use store::fs::Fs;

use super::rope::RopeScaling;
use crate::error::{Error, Result};
use crate::fields::{CONFIG_LIMIT_BYTES, Fields, read_limited};
use crate::safetensors::Dtype;

/// The class that transformers builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// `LlamaForCausalLM`, without variants.
    Llama,
    /// `Qwen2ForCausalLM`: biases on the query, key and value projections. Read, never written: transformers
    /// 5 gives every folder of this class Qwen2's own tokenizer, whatever tokenizer.json says.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMSNorm on each head's queries and keys.
    Qwen3,
    /// `MistralForCausalLM`: Llama with a sliding window in every layer.
    Mistral,
    /// `SmolLM3ForCausalLM`: Llama with layers that are not rotated, or windows that Mistral cannot have.
    SmolLm3,
    /// `Phi3ForCausalLM`: Llama with fused projections in its files. Read, never written.
    Phi3,
}

impl Architecture {
    /// The class name in `architectures`.
    pub fn class_name(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            Architecture::Mistral => "MistralForCausalLM",
            Architecture::SmolLm3 => "SmolLM3ForCausalLM",
            Architecture::Phi3 => "Phi3ForCausalLM",
        }
    }

    /// The `model_type` key.
    pub fn model_type(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Mistral => "mistral",
            Architecture::SmolLm3 => "smollm3",
            Architecture::Phi3 => "phi3",
        }
    }
}

/// The content of `config.json`, with both forms unified and defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Vocabulary size.
    pub vocab_size: usize,
    /// D: width of the residual stream.
    pub hidden_size: usize,
    /// F: width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// H: query heads.
    pub num_attention_heads: usize,
    /// K: key and value heads; divides H.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Maximum sequence length.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary positions are stretched, if they are.
    pub rope_scaling: Option<RopeScaling>,
    /// ε of RMSNorm.
    pub rms_norm_eps: f64,
    /// The output layer is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether query, key and value projections have biases. If a class has one on the output projection too,
    /// it must be zero in the weights: see [`Config::zero_tensors`].
    pub qkv_bias: bool,
    /// RMSNorm over each head's queries and keys before the rotation.
    pub qk_norm: bool,
    /// Tokens that a query sees in layers with a sliding window, itself included.
    pub sliding_window: Option<usize>,
    /// Layers without the window, if there is one.
    pub full_attention_layers: Vec<usize>,
    /// Layers whose queries and keys are not rotated.
    pub unrotated_layers: Vec<usize>,
    /// The file stores queries, keys and values as one tensor, and gate and up as another.
    pub fused_projections: bool,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Element type of the weights.
    pub dtype: Dtype,
    /// Token that opens a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Padding token.
    pub pad_token_id: Option<u32>,
}

impl Config {
    /// The class to write: Llama wherever the maths allows, since most programs know it.
    pub fn architecture(&self) -> Architecture {
        let is_windowed = self.sliding_window.is_some();
        // Mistral's class has no biases, and its window in every layer.
        let is_partly_windowed = is_windowed && (self.qkv_bias || !self.full_attention_layers.is_empty());
        match (self.qk_norm, self.unrotated_layers.is_empty() && !is_partly_windowed, is_windowed) {
            (true, ..) => Architecture::Qwen3,
            (false, false, _) => Architecture::SmolLm3,
            (false, true, true) => Architecture::Mistral,
            (false, true, false) => Architecture::Llama,
        }
    }

    /// Whether [`Config::architecture`] has this shape.
    fn check_architecture(&self) -> Result<()> {
        let architecture = self.architecture();
        let extra = match architecture {
            Architecture::Qwen3 if !self.unrotated_layers.is_empty() => "layers that are not rotated",
            _ => return Ok(()),
        };
        let message = format!("a model of class {} cannot have {extra}", architecture.class_name());
        Err(Error::Invalid { message })
    }

    /// Tensors that the written class has and the model has not, to be stored as zeros: `attention_bias` puts
    /// a bias on the output projection too.
    pub fn zero_tensors(&self) -> Vec<(String, Vec<usize>)> {
        let layers = if self.qkv_bias { self.num_hidden_layers } else { 0 };
        (0..layers)
            .map(|i| (format!("model.layers.{i}.self_attn.o_proj.bias"), vec![self.hidden_size]))
            .collect()
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// `Io`, `NotFound`; `Corrupt` with the key or the line at fault; `Unsupported` with the key that asks
    /// for something else.
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<Config> {
        Config::parse(&read_limited(fs, path, CONFIG_LIMIT_BYTES, "a configuration")?, path)
    }

    /// Parses a `config.json`; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(json: &[u8], path: &Path) -> Result<Config> {
        let map: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| Error::corrupt(path, error.to_string()))?;
        let fields = Fields::new(path, "", &map);
        let architecture = architecture(&fields)?;
        refuse_other_maths(&fields)?;

        let hidden_size = fields.require_size("hidden_size")?;
        let num_attention_heads = fields.require_size("num_attention_heads")?;
        let num_key_value_heads = fields.size("num_key_value_heads")?.unwrap_or(num_attention_heads);
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            let message =
                format!("{num_key_value_heads} does not divide num_attention_heads ({num_attention_heads})");
            return Err(fields.corrupt("num_key_value_heads", message));
        }
        let head_dim = match (fields.size("head_dim")?, architecture) {
            (Some(head_dim), _) => head_dim,
            (None, Architecture::Qwen3) => 128, // the default of its class, whatever the other sizes
            (None, _) if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            (None, _) => {
                let message = format!("{num_attention_heads} does not divide hidden_size ({hidden_size})");
                return Err(fields.corrupt("num_attention_heads", message));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(
                fields.corrupt("head_dim", format!("must be even for rotary embeddings, not {head_dim}"))
            );
        }
        let max_position_embeddings = fields.size("max_position_embeddings")?.unwrap_or(2048);
        let num_hidden_layers = fields.require_size("num_hidden_layers")?;
        let (sliding_window, full_attention_layers) = window(&fields, architecture, num_hidden_layers)?;
        let (rope_theta, rope_scaling) = rope(&fields, max_position_embeddings)?;
        let first_id = |key| fields.token_ids(key).map(|ids| ids.first().copied());
        Ok(Config {
            vocab_size: fields.require_size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.require_size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            rope_theta,
            rope_scaling,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            tie_word_embeddings: fields
                .flag("tie_word_embeddings")?
                .unwrap_or(architecture == Architecture::SmolLm3),
            qkv_bias: architecture == Architecture::Qwen2 || fields.flag("attention_bias")?.unwrap_or(false),
            qk_norm: architecture == Architecture::Qwen3,
            sliding_window,
            full_attention_layers,
            unrotated_layers: unrotated_layers(&fields, architecture, num_hidden_layers)?,
            fused_projections: architecture == Architecture::Phi3,
            initializer_range: fields.positive("initializer_range")?.unwrap_or(0.02),
            dtype: dtype(&fields)?,
            bos_token_id: first_id("bos_token_id")?,
            eos_token_ids: fields.token_ids("eos_token_id")?,
            pad_token_id: first_id("pad_token_id")?,
        })
    }

    /// The v4 spelling, keys in the alphabetical order that transformers writes.
    ///
    /// # Errors
    /// `Invalid` for a dtype that no model is stored in.
    pub fn to_json(&self) -> Result<Value> {
        self.check_architecture()?;
        let architecture = self.architecture();
        let torch_dtype = match self.dtype {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            other => {
                return Err(Error::Invalid {
                    message: format!("models cannot be written as {other}: use F32, F16 or BF16"),
                });
            }
        };
        let eos_token_id = match &self.eos_token_ids[..] {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
        let mut map = json!({
            "architectures": [architecture.class_name()],
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos_token_id,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": architecture.model_type(),
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "pad_token_id": self.pad_token_id,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": self.rope_scaling.as_ref().map(RopeScaling::write),
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": torch_dtype,
            "use_cache": true,
            "vocab_size": self.vocab_size,
        });
        map["attention_bias"] = json!(self.qkv_bias);
        let windowed = self.sliding_window.is_some();
        match architecture {
            Architecture::Qwen3 | Architecture::SmolLm3 => {
                map["use_sliding_window"] = json!(windowed);
                if windowed {
                    map["sliding_window"] = json!(self.sliding_window);
                    map["layer_types"] = self.layer_types();
                }
            }
            Architecture::Mistral => map["sliding_window"] = json!(self.sliding_window),
            _ => map["mlp_bias"] = json!(false),
        }
        if architecture == Architecture::SmolLm3 {
            map["mlp_bias"] = json!(false);
            // 1 where a layer is rotated, whatever the key's name says.
            let rotated =
                (0..self.num_hidden_layers).map(|layer| u8::from(!self.unrotated_layers.contains(&layer)));
            map["no_rope_layers"] = rotated.collect();
        }
        map.sort_all_objects();
        Ok(map)
    }

    fn layer_types(&self) -> Value {
        let kind = |layer| match self.full_attention_layers.contains(&layer) {
            true => FULL_ATTENTION,
            false => SLIDING_ATTENTION,
        };
        (0..self.num_hidden_layers).map(kind).collect()
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// As [`Config::to_json`], and I/O errors.
    pub fn write(&self, fs: &dyn Fs, path: &Path) -> Result<()> {
        Ok(store::atomic::write_json(fs, path, &self.to_json()?)?)
    }
}

fn architecture(fields: &Fields) -> Result<Architecture> {
    // `model_type` decides for transformers' AutoModel; `architectures` is absent from some files.
    let model_type =
        fields.text("model_type")?.ok_or_else(|| fields.corrupt("model_type", "is missing".to_owned()))?;
    match model_type {
        "llama" => Ok(Architecture::Llama),
        "mistral" => Ok(Architecture::Mistral),
        "qwen2" => Ok(Architecture::Qwen2),
        "qwen3" => Ok(Architecture::Qwen3),
        "smollm3" => Ok(Architecture::SmolLm3),
        "phi3" => Ok(Architecture::Phi3),
        other => Err(fields.unsupported(
            "model_type",
            format!(
                "`{other}` is not supported: supported model types are llama, mistral, qwen2, qwen3, smollm3 \
                 and phi3"
            ),
        )),
    }
}

const FULL_ATTENTION: &str = "full_attention";
const SLIDING_ATTENTION: &str = "sliding_attention";

/// The sliding window, and the layers that do not have it, by the rules of each class in transformers.
fn window(fields: &Fields, architecture: Architecture, layers: usize) -> Result<(Option<usize>, Vec<usize>)> {
    let window = match architecture {
        Architecture::Llama => None,
        // Its class has a window where the key is absent, and none where it is null.
        Architecture::Mistral if !fields.is_written("sliding_window") => Some(4096),
        Architecture::Mistral | Architecture::Phi3 => fields.size("sliding_window")?,
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::SmolLm3 => {
            let switch = fields.flag("use_sliding_window")?.unwrap_or(false);
            let default = (architecture != Architecture::SmolLm3).then_some(4096);
            if switch { fields.size("sliding_window")?.or(default) } else { None }
        }
    };
    let full: Vec<usize> = match fields.texts("layer_types")? {
        Some(types) => {
            if types.len() != layers {
                let message = format!("has {} entries for {layers} layers", types.len());
                return Err(fields.corrupt("layer_types", message));
            }
            let known = [FULL_ATTENTION, SLIDING_ATTENTION];
            if let Some(other) = types.iter().find(|kind| !known.contains(kind)) {
                let message = format!("`{other}` is not supported: only {} are", known.join(" and "));
                return Err(fields.unsupported("layer_types", message));
            }
            if window.is_none() && types.contains(&SLIDING_ATTENTION) {
                let message = format!("has {SLIDING_ATTENTION} without a sliding_window");
                return Err(fields.corrupt("layer_types", message));
            }
            (0..layers).filter(|&layer| types[layer] == FULL_ATTENTION).collect()
        }
        // Below this layer attention is full.
        None if matches!(architecture, Architecture::Qwen2 | Architecture::Qwen3) => {
            (0..fields.count("max_window_layers")?.unwrap_or(28).min(layers)).collect()
        }
        // Every layer that is rotated has the window.
        None if architecture == Architecture::SmolLm3 => unrotated_layers(fields, architecture, layers)?,
        None => Vec::new(),
    };
    Ok(match window {
        Some(window) if full.len() < layers => (Some(window), full),
        _ => (None, Vec::new()),
    })
}

/// Layers whose queries and keys are not rotated.
fn unrotated_layers(fields: &Fields, architecture: Architecture, layers: usize) -> Result<Vec<usize>> {
    if architecture != Architecture::SmolLm3 {
        return Ok(Vec::new());
    }
    let Some(rotated) = fields.counts("no_rope_layers")? else {
        let interval = fields.size("no_rope_layer_interval")?.unwrap_or(4);
        return Ok((0..layers).filter(|layer| (layer + 1).is_multiple_of(interval)).collect());
    };
    if rotated.len() != layers {
        let message = format!("has {} entries for {layers} layers", rotated.len());
        return Err(fields.corrupt("no_rope_layers", message));
    }
    Ok((0..layers).filter(|&layer| rotated[layer] == 0).collect())
}

/// Keys that change the computation, at unsupported values.
fn refuse_other_maths(fields: &Fields) -> Result<()> {
    if let Some(activation) = fields.text("hidden_act")?.filter(|&name| name != "silu" && name != "swish") {
        return Err(
            fields.unsupported("hidden_act", format!("`{activation}` is not supported: only silu is"))
        );
    }
    if fields.flag("mlp_bias")? == Some(true) {
        return Err(
            fields.unsupported("mlp_bias", "true is not supported: only attention biases are".to_owned())
        );
    }
    if let Some(fraction) = fields.number("partial_rotary_factor")?.filter(|&fraction| fraction != 1.0) {
        let message = format!("{fraction} is not supported: every dimension of a head is rotated");
        return Err(fields.unsupported("partial_rotary_factor", message));
    }
    if fields.get("quantization_config").is_some() {
        let message = "quantized weights are not supported: use the original model".to_owned();
        return Err(fields.unsupported("quantization_config", message));
    }
    Ok(())
}

/// θ and the scaling: in v5 both are in `rope_parameters`, in v4 θ is at the top level and the scaling in
/// `rope_scaling`.
fn rope(fields: &Fields, max_position_embeddings: usize) -> Result<(f64, Option<RopeScaling>)> {
    let theta = fields.positive("rope_theta")?;
    let (theta, rule) = match fields.object("rope_parameters", "rope_parameters.")? {
        Some(rule) => (rule.positive("rope_theta")?.or(theta), Some(rule)),
        None => (theta, fields.object("rope_scaling", "rope_scaling.")?),
    };
    let scaling = match rule {
        Some(rule) => RopeScaling::read(&rule, max_position_embeddings)?,
        None => None,
    };
    Ok((theta.unwrap_or(10_000.0), scaling))
}

fn dtype(fields: &Fields) -> Result<Dtype> {
    let key = if fields.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    match fields.text(key)?.map(|name| name.trim_start_matches("torch.")) {
        None | Some("float32") => Ok(Dtype::F32),
        Some("float16") => Ok(Dtype::F16),
        Some("bfloat16") => Ok(Dtype::BF16),
        Some("float64") => Ok(Dtype::F64),
        Some(other) => Err(fields.unsupported(key, format!("`{other}` is not supported"))),
    }
}
