//! The recipe's `[model]`: the model's shape, in full or derived from one number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::rope::RopeScalingOptions;

/// `[model]`: one of `depth`; `size`; or `hidden_size` with `num_hidden_layers`. If none is set, the size is
/// chosen from the amount of training text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelOptions {
    /// Number of layers; width (64 · depth), heads and feed-forward size are derived from it.
    #[schemars(range(min = 1, max = 128))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Total number of parameters, such as "10M" or "1.5B"; the nearest shape is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Width of the residual stream.
    #[schemars(range(min = 8, max = 65_536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Number of transformer layers.
    #[schemars(range(min = 1, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_hidden_layers: Option<usize>,
    /// Number of query heads per layer.
    #[schemars(range(min = 1, max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Number of key/value heads per layer (grouped-query attention); must divide the query heads. Default:
    /// the number of query heads.
    #[schemars(range(min = 1, max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Size of one head; must be even. Default: hidden_size / num_attention_heads.
    #[schemars(range(min = 2, max = 512))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Width of the SwiGLU feed-forward. Default: 8/3 of hidden_size, rounded up to a multiple of 32.
    #[schemars(range(min = 8, max = 262_144))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Maximum sequence length that the exported model declares. Default: train.sequence_length.
    #[schemars(range(min = 8, max = 1_048_576))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_position_embeddings: Option<usize>,
    /// Base of the rotary position embeddings.
    #[schemars(range(min = 1.0, max = 1e9))]
    pub rope_theta: f64,
    /// Scaling of rotary positions, for a model that was first trained with a shorter context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScalingOptions>,
    /// Epsilon of RMSNorm.
    #[schemars(range(min = 1e-12, max = 0.1))]
    pub rms_norm_eps: f64,
    /// Share the weights of the input embedding and the output layer: fewer parameters, better for small
    /// models.
    pub tie_word_embeddings: bool,
    /// Add biases to the query, key and value projections.
    pub attention_bias: bool,
    /// Apply RMSNorm to queries and keys: more stable at high learning rates.
    pub qk_norm: bool,
    /// Dropout probability of residual branches; 0: no dropout.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub dropout: f64,
    /// Standard deviation of the initial weights.
    #[schemars(range(min = 1e-4, max = 1.0))]
    pub initializer_range: f64,
}

impl Default for ModelOptions {
    fn default() -> ModelOptions {
        ModelOptions {
            depth: None,
            size: None,
            hidden_size: None,
            num_hidden_layers: None,
            num_attention_heads: None,
            num_key_value_heads: None,
            head_dim: None,
            intermediate_size: None,
            max_position_embeddings: None,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            attention_bias: false,
            qk_norm: false,
            dropout: 0.0,
            initializer_range: 0.02,
        }
    }
}

/// How `[model]` defines the shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShapeChoice {
    /// `depth = N`.
    Depth(usize),
    /// `size = "10M"`, in parameters.
    Size(u64),
    /// `hidden_size` and `num_hidden_layers`.
    Explicit {
        /// Width.
        hidden_size: usize,
        /// Blocks.
        num_hidden_layers: usize,
    },
    /// No key: chosen from the amount of training text.
    Auto,
}

impl ModelOptions {
    /// How the shape is defined; contradictions were found by [`ModelOptions::problems`].
    pub fn shape_choice(&self) -> ShapeChoice {
        match (
            self.hidden_size,
            self.num_hidden_layers,
            self.depth,
            self.size.as_deref().and_then(parse_size),
        ) {
            (Some(hidden_size), Some(num_hidden_layers), ..) => {
                ShapeChoice::Explicit { hidden_size, num_hidden_layers }
            }
            (_, _, Some(depth), _) => ShapeChoice::Depth(depth),
            (_, _, _, Some(parameters)) => ShapeChoice::Size(parameters),
            _ => ShapeChoice::Auto,
        }
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let explicit = self.hidden_size.is_some() || self.num_hidden_layers.is_some();
        let ways =
            usize::from(self.depth.is_some()) + usize::from(self.size.is_some()) + usize::from(explicit);
        if ways > 1 {
            let at = if self.size.is_some() { "model.size" } else { "model.depth" };
            found.push(Problem::new(
                at,
                "[model] defines the shape in more than one way",
                "keep one of `depth`, `size`, or `hidden_size` with `num_hidden_layers`",
            ));
        }
        if let Some(size) = &self.size
            && parse_size(size).is_none()
        {
            found.push(Problem::new(
                "model.size",
                format!("`model.size` = \"{size}\" is not a valid number of parameters"),
                "use a number with K, M or B from 1K to 100B, such as \"10M\"",
            ));
        }
        if explicit {
            match (self.hidden_size, self.num_hidden_layers) {
                (Some(_), None) => found.push(Problem::new(
                    "model.hidden_size",
                    "`model.hidden_size` is given without `num_hidden_layers`",
                    "add `num_hidden_layers`, or use `depth`",
                )),
                (None, Some(_)) => found.push(Problem::new(
                    "model.num_hidden_layers",
                    "`model.num_hidden_layers` is given without `hidden_size`",
                    "add `hidden_size`, or use `depth`",
                )),
                _ => {}
            }
        }
        if let (Some(hidden), Some(heads), None) = (self.hidden_size, self.num_attention_heads, self.head_dim)
            && !hidden.is_multiple_of(heads)
        {
            found.push(Problem::new(
                "model.num_attention_heads",
                format!("hidden_size {hidden} is not divisible by {heads} attention heads"),
                "choose a divisor, or set head_dim",
            ));
        }
        if let (Some(heads), Some(kv_heads)) = (self.num_attention_heads, self.num_key_value_heads)
            && !heads.is_multiple_of(kv_heads)
        {
            found.push(Problem::new(
                "model.num_key_value_heads",
                format!("{heads} attention heads are not divisible by {kv_heads} key/value heads"),
                "choose a divisor of num_attention_heads",
            ));
        }
        if let Some(head_dim) = self.head_dim
            && !head_dim.is_multiple_of(2)
        {
            found.push(Problem::new(
                "model.head_dim",
                format!("`model.head_dim` must be even, not {head_dim}: rotary embeddings rotate pairs"),
                "use 32, 64 or 128",
            ));
        }
        found
    }
}

/// Parses "10M", "1.5B", "260K" or a plain number as a count of parameters from 1K to 100B.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().replace('_', "");
    let (digits, factor) = match text.chars().last()?.to_ascii_lowercase() {
        'k' => (&text[..text.len() - 1], 1e3),
        'm' => (&text[..text.len() - 1], 1e6),
        'b' | 'g' => (&text[..text.len() - 1], 1e9),
        _ => (text.as_str(), 1.0),
    };
    let number: f64 = digits.trim().parse().ok()?;
    let parameters = number * factor;
    (1e3..=1e11).contains(&parameters).then_some(parameters.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_words() {
        assert_eq!(parse_size("10M"), Some(10_000_000));
        assert_eq!(parse_size("1.5b"), Some(1_500_000_000));
        assert_eq!(parse_size(" 260k "), Some(260_000));
        assert_eq!(parse_size("4_500_000"), Some(4_500_000));
        for wrong in ["", "M", "ten", "-5M", "NaN", "infM", "1T", "5"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn contradictory_shapes_are_problems() {
        let both = ModelOptions { depth: Some(4), size: Some("1M".into()), ..ModelOptions::default() };
        assert_eq!(both.problems().len(), 1);
        let lone = ModelOptions { hidden_size: Some(64), ..ModelOptions::default() };
        assert_eq!(lone.problems()[0].path, "model.hidden_size");
        assert!(ModelOptions::default().problems().is_empty());
    }
}
