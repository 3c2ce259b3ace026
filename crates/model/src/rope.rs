//! Cosines and sines of the rotary positions under the scaling rules that Hugging Face's configurations name.
//!
//! Source: transformers' `modeling_rope_utils`, restated; YaRN is arXiv:2309.00071.

use crate::config::ModelConfig;
use formats::hf::RopeScaling;
use std::f64::consts::PI;

/// (positions, head_dim/2) cosines and sines, row-major.
pub(crate) struct Tables {
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
}

/// Tables for positions `0..positions`.
pub(crate) fn tables(config: &ModelConfig, positions: usize) -> Tables {
    let (frequencies, magnitude) = frequencies(config, positions);
    let len = positions * frequencies.len();
    let mut tables = Tables { cos: Vec::with_capacity(len), sin: Vec::with_capacity(len) };
    for position in 0..positions {
        for frequency in &frequencies {
            let angle = position as f64 * frequency;
            tables.cos.push((angle.cos() * magnitude) as f32);
            tables.sin.push((angle.sin() * magnitude) as f32);
        }
    }
    tables
}

/// Angle a position for each pair of dimensions, and what cosine and sine are multiplied by.
fn frequencies(config: &ModelConfig, positions: usize) -> (Vec<f64>, f64) {
    let d = config.head_dim as f64;
    let plain = |theta: f64| -> Vec<f64> {
        (0..config.head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / d)).collect()
    };
    let base = plain(config.rope_theta);
    match &config.rope_scaling {
        None => (base, 1.0),
        Some(RopeScaling::Linear { factor }) => (base.iter().map(|f| f / factor).collect(), 1.0),
        Some(RopeScaling::Dynamic { factor }) => {
            let longest = config.max_position_embeddings as f64;
            let length = (positions as f64).max(longest);
            let stretch = factor * length / longest - (factor - 1.0);
            (plain(config.rope_theta * stretch.powf(d / (d - 2.0))), 1.0)
        }
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => {
            let original = *original_max_position_embeddings as f64;
            let scaled = base.iter().map(|&frequency| {
                let wavelength = 2.0 * PI / frequency;
                if wavelength < original / high_freq_factor {
                    frequency
                } else if wavelength > original / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth =
                        (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            });
            (scaled.collect(), 1.0)
        }
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            attention_factor,
            beta_fast,
            beta_slow,
        }) => {
            let original = *original_max_position_embeddings as f64;
            // The dimension that turns `rotations` times over the original context.
            let dimension = |rotations: f64| {
                d * (original / (rotations * 2.0 * PI)).ln() / (2.0 * config.rope_theta.ln())
            };
            let low = dimension(beta_fast.unwrap_or(32.0)).floor().max(0.0);
            let high = dimension(beta_slow.unwrap_or(1.0)).ceil().min(d - 1.0);
            let span = if high > low { high - low } else { 0.001 };
            let blended = base.iter().enumerate().map(|(i, frequency)| {
                let interpolated = ((i as f64 - low) / span).clamp(0.0, 1.0);
                frequency / factor * interpolated + frequency * (1.0 - interpolated)
            });
            let magnitude =
                attention_factor.unwrap_or(if *factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 });
            (blended.collect(), magnitude)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::hf::Config;
    use serde_json::{Value, json};
    use std::path::Path;

    /// `tests/golden/rope.json`: transformers' frequencies of every rule, which it computes in f32.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let text = std::fs::read("tests/golden/rope.json").unwrap();
        let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let config = json!({
                "model_type": "llama", "vocab_size": 8, "hidden_size": 96, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": case["head_dim"],
                "max_position_embeddings": case["max_position_embeddings"], "rope_theta": case["rope_theta"],
                "rope_scaling": case["rope_scaling"],
            });
            let config = Config::parse(config.to_string().as_bytes(), Path::new("rope.json")).unwrap();
            let positions = case["sequence_length"].as_u64().unwrap() as usize;
            let (ours, magnitude) = frequencies(&ModelConfig::from_hf(&config), positions);
            let theirs = case["inverse_frequencies"].as_array().unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(
                    (ours / theirs.as_f64().unwrap() - 1.0).abs() < 2e-6,
                    "{}: {ours}, {theirs}",
                    case["rope_scaling"]
                );
            }
            assert!(
                (magnitude - case["attention_factor"].as_f64().unwrap()).abs() < 1e-12,
                "{}",
                case["rope_scaling"]
            );
        }
    }
}
