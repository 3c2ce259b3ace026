//! The shape of a model: Hugging Face's names, checked once.

use crate::error::{Error, Result};
use formats::hf::{Config, RopeScaling};
use formats::safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// Everything that decides the maths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// V: vocabulary size.
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
    /// Biases on the query, key and value projections (Qwen2).
    pub attention_bias: bool,
    /// RMSNorm over each head's queries and keys before the rotation (Qwen3).
    pub qk_norm: bool,
    /// Tokens that a query sees in layers with a sliding window, itself included (Mistral).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Layers without the window, if there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full_attention_layers: Vec<usize>,
    /// Layers whose queries and keys are not rotated (SmolLM3's NoPE).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrotated_layers: Vec<usize>,
    /// Probability of dropping an element of the embeddings and of each block's two outputs, while training;
    /// 0 = off.
    pub dropout: f32,
    /// Standard deviation of the initial weights; outputs of blocks are divided by √(2·layers) on top
    /// (GPT-2).
    pub initializer_range: f64,
}

/// Parameters by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterCount {
    /// Token embedding, V·D; the output layer too when tied.
    pub embedding: usize,
    /// Query, key, value and output projections with their biases, all layers.
    pub attention: usize,
    /// Gate, up and down projections, all layers.
    pub mlp: usize,
    /// All norm weights.
    pub norms: usize,
    /// The output layer, 0 when tied.
    pub head: usize,
    /// Total.
    pub total: usize,
}

impl ModelConfig {
    /// Checks that the sizes can be built together.
    ///
    /// # Errors
    /// [`Error::Configuration`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, message: String| Err(Error::Configuration { key, message });
        for (key, value, limit) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 19),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 12),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
        ] {
            if value == 0 || value > limit {
                return refuse(key, format!("{value} is outside 1..={limit}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let message = format!(
                "{} does not divide num_attention_heads ({}): choose a divisor of it",
                self.num_key_value_heads, self.num_attention_heads
            );
            return refuse("num_key_value_heads", message);
        }
        if !self.head_dim.is_multiple_of(2) {
            return refuse(
                "head_dim",
                format!("{} is odd; rotary embeddings need an even size", self.head_dim),
            );
        }
        if self.sliding_window == Some(0) {
            return refuse("sliding_window", "0 is not a window".to_owned());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", format!("{} is outside 0..1", self.dropout));
        }
        for (key, value) in [
            ("rope_theta", self.rope_theta),
            ("rms_norm_eps", self.rms_norm_eps),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return refuse(key, format!("{value} is not a positive number"));
            }
        }
        Ok(())
    }

    /// The sliding window of a layer.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| !self.full_attention_layers.contains(&layer))
    }

    /// Whether a layer's queries and keys are rotated.
    pub fn is_rotated(&self, layer: usize) -> bool {
        !self.unrotated_layers.contains(&layer)
    }

    /// H·d.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// K·d.
    pub fn key_value_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// (H + 2K)·d: queries, keys and values side by side.
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.key_value_width()
    }

    /// Parameters by part.
    pub fn parameter_count(&self) -> ParameterCount {
        let (d, layers) = (self.hidden_size, self.num_hidden_layers);
        let bias = if self.attention_bias { self.qkv_width() } else { 0 };
        let head_norms = if self.qk_norm { 2 * self.head_dim } else { 0 };
        let embedding = self.vocab_size * d;
        let attention = layers * (self.qkv_width() * d + bias + self.query_width() * d);
        let mlp = layers * 3 * d * self.intermediate_size;
        let norms = layers * (2 * d + head_norms) + d;
        let head = if self.tie_word_embeddings { 0 } else { embedding };
        ParameterCount {
            embedding,
            attention,
            mlp,
            norms,
            head,
            total: embedding + attention + mlp + norms + head,
        }
    }

    /// Training FLOPs a token at sequences of `sequence_length`, by PaLM's definition (Chowdhery et al. 2022,
    /// appendix B): 6·N + 12·layers·heads·head size·T. N are the parameters that are multiplied with, so not
    /// an embedding table that is only looked up; attention counts whole, as if it were not causal, and
    /// recomputation does not count.
    pub fn flops_per_token(&self, sequence_length: usize) -> f64 {
        let count = self.parameter_count();
        let looked_up = if self.tie_word_embeddings { 0 } else { count.embedding };
        let attention = self.num_hidden_layers * self.query_width() * sequence_length;
        6.0 * (count.total - looked_up) as f64 + 12.0 * attention as f64
    }

    /// The shape that a `config.json` describes.
    pub fn from_hf(config: &Config) -> ModelConfig {
        ModelConfig {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            max_position_embeddings: config.max_position_embeddings,
            rope_theta: config.rope_theta,
            rope_scaling: config.rope_scaling.clone(),
            rms_norm_eps: config.rms_norm_eps,
            tie_word_embeddings: config.tie_word_embeddings,
            attention_bias: config.qkv_bias,
            qk_norm: config.qk_norm,
            sliding_window: config.sliding_window,
            full_attention_layers: config.full_attention_layers.clone(),
            unrotated_layers: config.unrotated_layers.clone(),
            dropout: 0.0,
            initializer_range: config.initializer_range,
        }
    }

    /// The `config.json` of this shape, without token ids.
    pub fn to_hf(&self) -> Config {
        Config {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            max_position_embeddings: self.max_position_embeddings,
            rope_theta: self.rope_theta,
            rope_scaling: self.rope_scaling.clone(),
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings,
            qkv_bias: self.attention_bias,
            qk_norm: self.qk_norm,
            sliding_window: self.sliding_window,
            full_attention_layers: self.full_attention_layers.clone(),
            unrotated_layers: self.unrotated_layers.clone(),
            fused_projections: false,
            initializer_range: self.initializer_range,
            dtype: Dtype::F32,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
        }
    }
}
