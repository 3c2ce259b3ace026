//! How a configuration stretches the rotary positions, under the names that transformers gives the rules.
//!
//! Only the parameters live here; the frequencies they yield are `model`'s.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::fields::Fields;

/// A rule of `rope_scaling` (v4) or `rope_parameters` (v5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Positions are divided by `factor`.
    Linear {
        /// Factor by which the context grows.
        factor: f64,
    },
    /// NTK-aware: the base grows with the sequence once it exceeds `max_position_embeddings`.
    Dynamic {
        /// Factor by which the context grows.
        factor: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        /// Factor by which the context grows.
        factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: usize,
        /// Multiplies cosine and sine; derived from `factor` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Rotations above which a dimension is left alone; 32 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beta_fast: Option<f64>,
        /// Rotations below which a dimension is divided by `factor`; 1 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beta_slow: Option<f64>,
    },
    /// Llama 3.1's rule: long wavelengths divided, short ones kept, a blend between.
    Llama3 {
        /// Factor by which the context grows.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided by `factor`.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Reads the scaling from `rope_scaling` or `rope_parameters`; `None` for plain rotary positions.
    /// `max_position_embeddings` replaces a missing original context, as in transformers.
    pub(super) fn read(fields: &Fields, max_position_embeddings: usize) -> Result<Option<RopeScaling>> {
        // `type` is the name of before transformers 4.43.
        let name = match fields.text("rope_type")? {
            Some(name) => name,
            None => fields.text("type")?.unwrap_or("default"),
        };
        if let Some(fraction) = fields.number("partial_rotary_factor")?.filter(|&fraction| fraction != 1.0) {
            let message = format!("{fraction} is not supported: every dimension of a head is rotated");
            return Err(fields.unsupported("partial_rotary_factor", message));
        }
        let original = || -> Result<usize> {
            Ok(fields.size("original_max_position_embeddings")?.unwrap_or(max_position_embeddings))
        };
        let factor = || -> Result<f64> {
            match fields.require_positive("factor")? {
                factor if factor < 1.0 => {
                    Err(fields.corrupt("factor", format!("must be at least 1, not {factor}")))
                }
                factor => Ok(factor),
            }
        };
        Ok(Some(match name {
            "default" => return Ok(None),
            "linear" => RopeScaling::Linear { factor: factor()? },
            "dynamic" => RopeScaling::Dynamic { factor: factor()? },
            "yarn" => {
                for key in ["mscale", "mscale_all_dim"] {
                    if fields.get(key).is_some() {
                        return Err(fields.unsupported(key, "is not supported with YaRN".to_owned()));
                    }
                }
                if fields.flag("truncate")? == Some(false) {
                    return Err(fields.unsupported("truncate", "false is not supported with YaRN".to_owned()));
                }
                RopeScaling::Yarn {
                    factor: factor()?,
                    original_max_position_embeddings: original()?,
                    attention_factor: fields.positive("attention_factor")?,
                    beta_fast: fields.positive("beta_fast")?,
                    beta_slow: fields.positive("beta_slow")?,
                }
            }
            "llama3" => {
                let (low_freq_factor, high_freq_factor) = (
                    fields.require_positive("low_freq_factor")?,
                    fields.require_positive("high_freq_factor")?,
                );
                // Equal factors would divide by zero in the blend.
                if high_freq_factor <= low_freq_factor {
                    let message = format!(
                        "must be more than low_freq_factor ({low_freq_factor}), not {high_freq_factor}"
                    );
                    return Err(fields.corrupt("high_freq_factor", message));
                }
                RopeScaling::Llama3 {
                    factor: factor()?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: original()?,
                }
            }
            other => {
                let message =
                    format!("`{other}` is not supported: use default, linear, dynamic, yarn or llama3");
                return Err(fields.unsupported("rope_type", message));
            }
        }))
    }

    /// The v4 object. `type` in addition to `rope_type` serves transformers before 4.43.
    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        let name = match self {
            RopeScaling::Linear { factor } => {
                put("factor", Some(json!(factor)));
                "linear"
            }
            RopeScaling::Dynamic { factor } => {
                put("factor", Some(json!(factor)));
                "dynamic"
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                attention_factor,
                beta_fast,
                beta_slow,
            } => {
                put("attention_factor", attention_factor.map(|value| json!(value)));
                put("beta_fast", beta_fast.map(|value| json!(value)));
                put("beta_slow", beta_slow.map(|value| json!(value)));
                put("factor", Some(json!(factor)));
                put("original_max_position_embeddings", Some(json!(original_max_position_embeddings)));
                "yarn"
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                put("factor", Some(json!(factor)));
                put("high_freq_factor", Some(json!(high_freq_factor)));
                put("low_freq_factor", Some(json!(low_freq_factor)));
                put("original_max_position_embeddings", Some(json!(original_max_position_embeddings)));
                "llama3"
            }
        };
        put("rope_type", Some(json!(name)));
        put("type", Some(json!(name)));
        Value::Object(map)
    }
}
