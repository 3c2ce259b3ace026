//! What llama.cpp wants of a model: the name of its architecture, keys, and tensors, from Hugging Face's
//! configuration and parameters.
//!
//! What no architecture of llama.cpp computes is refused by key. Two rules lose nothing within the context
//! that is written: a sliding window, which these architectures lack, ends the context; and dynamic scaling
//! of rotary positions only begins beyond it. Sources: `conversion/llama.py`, `conversion/phi.py`,
//! `src/models/` and `src/llama-adapter.h` of <https://github.com/ggml-org/llama.cpp>.

use super::metadata::Value;
use super::names::{self, Heads, ROPE_FACTORS, UNROTATED_INTERVAL, tensor_name};
use crate::error::{Error, Result};
use crate::hf::{Config, RopeScaling};

/// Where the values of a tensor come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Parameters of these Hugging Face names and numbers of rows, one below the other.
    Parameters(Vec<(String, usize)>),
    /// These values.
    Values(Vec<f32>),
}

/// How a model, or an adapter on it, lies in a GGUF file.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    config: &'a Config,
    architecture: &'static str,
}

impl<'a> Layout<'a> {
    /// The layout of a whole model.
    ///
    /// # Errors
    /// `Invalid`, by the key of `config.json`, for arithmetic that llama.cpp does not have.
    pub fn new(config: &'a Config) -> Result<Layout<'a>> {
        let layout = Layout::of_base(config, None)?;
        layout.check_rotation()?;
        let is_square = config.num_attention_heads * config.head_dim == config.hidden_size;
        if layout.architecture == "phi3" && (!is_square || config.qkv_bias || config.qk_norm) {
            return Err(layout.refuse("head_dim", "heads that do not make up hidden_size"));
        }
        Ok(layout)
    }

    /// The layout of an adapter on a model: only names and the order of rows matter. `known` is the
    /// architecture where the model is a GGUF file itself.
    ///
    /// # Errors
    /// `Invalid` for an architecture that has no layout here.
    pub fn of_base(config: &'a Config, known: Option<&str>) -> Result<Layout<'a>> {
        let is_square = config.num_attention_heads * config.head_dim == config.hidden_size;
        let wanted = known.unwrap_or(match config {
            Config { fused_projections: true, .. } => "phi3",
            Config { qk_norm: true, .. } => "qwen3",
            config if !config.unrotated_layers.is_empty() => "smollm3",
            Config { qkv_bias: true, .. } if is_square => "qwen2",
            _ => "llama",
        });
        let found = ["llama", "qwen2", "qwen3", "smollm3", "phi3"].into_iter().find(|name| *name == wanted);
        let architecture = found.ok_or_else(|| Error::Invalid {
            message: format!("GGUF's architecture `{wanted}` is not supported"),
        })?;
        Ok(Layout { config, architecture })
    }

    /// llama.cpp's name of the architecture.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// Tokens of the longest sequence that llama.cpp computes as this program does.
    pub fn context_length(&self) -> usize {
        let longest = self.config.max_position_embeddings;
        self.config.sliding_window.map_or(longest, |window| window.min(longest))
    }

    fn refuse(&self, key: &str, what: &str) -> Error {
        let message =
            format!("llama.cpp's architecture `{}` does not support {what} ({key})", self.architecture);
        Error::Invalid { message }
    }

    fn check_rotation(&self) -> Result<()> {
        let config = self.config;
        let layers = 0..config.num_hidden_layers;
        let interval: Vec<usize> =
            layers.filter(|layer| (layer + 1).is_multiple_of(UNROTATED_INTERVAL)).collect();
        let expected = if self.architecture == "smollm3" { &interval[..] } else { &[] };
        if config.unrotated_layers != expected {
            return Err(self.refuse("no_rope_layers", "rotary positions in these layers only"));
        }
        match &config.rope_scaling {
            Some(RopeScaling::Llama3 { .. }) if self.architecture != "llama" => {
                Err(self.refuse("rope_scaling", "Llama 3's scaling of rotary positions"))
            }
            Some(RopeScaling::Yarn { factor, attention_factor: Some(given), .. })
                if (given - (0.1 * factor.ln() + 1.0)).abs() > 1e-6 =>
            {
                Err(self.refuse("rope_scaling.attention_factor", "another factor than 0.1·ln(factor) + 1"))
            }
            _ => Ok(()),
        }
    }

    /// The keys of the shape, `general.architecture` first.
    ///
    /// # Errors
    /// `Invalid` for a size beyond 32 bits.
    pub fn keys(&self) -> Result<Vec<(String, Value)>> {
        let config = self.config;
        let size = |name: &'static str, size: usize| match u32::try_from(size) {
            Ok(size) => Ok((name, Value::U32(size))),
            Err(_) => Err(Error::Invalid { message: format!("{name}: {size} is more than GGUF can hold") }),
        };
        let float = |number: f64| Value::F32(number as f32);
        let mut keys = vec![
            size("vocab_size", config.vocab_size)?,
            size("context_length", self.context_length())?,
            size("embedding_length", config.hidden_size)?,
            size("block_count", config.num_hidden_layers)?,
            size("feed_forward_length", config.intermediate_size)?,
            size("attention.head_count", config.num_attention_heads)?,
            size("attention.head_count_kv", config.num_key_value_heads)?,
            size("attention.key_length", config.head_dim)?,
            size("attention.value_length", config.head_dim)?,
            ("attention.layer_norm_rms_epsilon", float(config.rms_norm_eps)),
            size("rope.dimension_count", config.head_dim)?,
            ("rope.freq_base", float(config.rope_theta)),
        ];
        if self.architecture == "phi3" {
            // Its readers require the key; 0 is a window that is off.
            keys.push(("attention.sliding_window", Value::U32(0)));
        }
        let original = "rope.scaling.original_context_length";
        let mut scaled = |name: &str, factor: &f64| {
            keys.push(("rope.scaling.type", Value::String(name.to_owned())));
            keys.push(("rope.scaling.factor", float(*factor)));
        };
        match &config.rope_scaling {
            // Dynamic scaling begins beyond the context.
            None | Some(RopeScaling::Dynamic { .. }) => {
                if self.architecture == "phi3" {
                    keys.push(size(original, config.max_position_embeddings)?);
                }
            }
            Some(RopeScaling::Linear { factor }) => scaled("linear", factor),
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                ..
            }) => {
                scaled("yarn", factor);
                keys.push(size(original, *original_max_position_embeddings)?);
                keys.extend(beta_fast.map(|beta| ("rope.scaling.yarn_beta_fast", float(beta))));
                keys.extend(beta_slow.map(|beta| ("rope.scaling.yarn_beta_slow", float(beta))));
            }
            // The rule itself is a tensor of factors.
            Some(RopeScaling::Llama3 { original_max_position_embeddings, .. }) => {
                keys.push(size(original, *original_max_position_embeddings)?);
            }
        }
        let architecture = Value::String(self.architecture.to_owned());
        let mut all = vec![("general.architecture".to_owned(), architecture)];
        all.extend(keys.into_iter().map(|(name, value)| (format!("{}.{name}", self.architecture), value)));
        Ok(all)
    }

    /// Names, shapes and sources of the tensors, from names and shapes of Hugging Face's parameters.
    ///
    /// # Errors
    /// `Invalid` for a parameter without a name in GGUF files.
    pub fn tensors(&self, parameters: &[(String, Vec<usize>)]) -> Result<Vec<(String, Vec<usize>, Source)>> {
        let mut tensors: Vec<(String, Vec<usize>, Source)> = Vec::new();
        if let Some(factors) = self.rope_factors() {
            tensors.push((ROPE_FACTORS.to_owned(), vec![factors.len()], Source::Values(factors)));
        }
        for (hf_name, shape) in parameters {
            let name = self.tensor_name(hf_name).ok_or_else(|| Error::Invalid {
                message: format!(
                    "`{hf_name}` has no name in a GGUF file of architecture {}",
                    self.architecture
                ),
            })?;
            let part = (hf_name.clone(), shape[0]);
            match tensors.last_mut() {
                Some((last, all, Source::Parameters(parts))) if *last == name => {
                    all[0] += shape[0];
                    parts.push(part);
                }
                _ => tensors.push((name, shape.clone(), Source::Parameters(vec![part]))),
            }
        }
        Ok(tensors)
    }

    /// The tensor that a Hugging Face parameter is, or is part of. Fused projections may be named as such.
    pub fn tensor_name(&self, hf_name: &str) -> Option<String> {
        if self.architecture != "phi3" {
            return tensor_name(hf_name);
        }
        let fused = [
            ("qkv_proj", "q_proj", "attn_qkv"),
            ("q_proj", "q_proj", "attn_qkv"),
            ("k_proj", "q_proj", "attn_qkv"),
            ("v_proj", "q_proj", "attn_qkv"),
            ("gate_up_proj", "up_proj", "ffn_up"),
            ("gate_proj", "up_proj", "ffn_up"),
            ("up_proj", "up_proj", "ffn_up"),
        ];
        for (part, stand_in, name) in fused {
            let ending = format!(".{part}.weight");
            if let Some(before) = hf_name.strip_suffix(&ending) {
                let known = tensor_name(&format!("{before}.{stand_in}.weight"))?;
                let (layer, _) = known.strip_prefix("blk.")?.split_once('.')?;
                return Some(format!("blk.{layer}.{name}.weight"));
            }
        }
        tensor_name(hf_name)
    }

    /// The rows of a parameter, or of the B (rows, rank) of an adapter on it, in the order of the file.
    ///
    /// # Errors
    /// `Invalid` for values that are not whole heads of an even size.
    pub fn reordered(&self, hf_name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
        let heads = match names::heads_of(hf_name) {
            Some(Heads::Query) => self.config.num_attention_heads,
            Some(Heads::Key) => self.config.num_key_value_heads,
            None => return Ok(values),
        };
        let rows = heads * self.config.head_dim;
        let Some(order) = names::row_order(self.architecture, hf_name, heads, rows)? else {
            return Ok(values);
        };
        let width = values.len() / rows;
        let mut reordered = vec![0.0; values.len()];
        for (row, values) in order.into_iter().zip(values.chunks_exact(width)) {
            reordered[row * width..(row + 1) * width].copy_from_slice(values);
        }
        Ok(reordered)
    }

    /// What Llama 3's rule divides the frequency of each pair of dimensions by.
    fn rope_factors(&self) -> Option<Vec<f32>> {
        let Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) = self.config.rope_scaling
        else {
            return None;
        };
        let head_dim = self.config.head_dim;
        let factors = (0..head_dim / 2).map(|pair| {
            let exponent = 2.0 * pair as f64 / head_dim as f64;
            let wavelength = 2.0 * std::f64::consts::PI * self.config.rope_theta.powf(exponent);
            // 1 where short wavelengths are kept, 0 where long ones are divided.
            let turns = original_max_position_embeddings as f64 / wavelength;
            let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let smooth = smooth.clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        });
        Some(factors.collect())
    }
}
