//! Computes the shape from `[model]`: given in full, set by depth, or solved for a number of parameters.
//!
//! The depth rule is nanochat's (one number sets the rest: width = 64 · depth), adapted to the Llama family
//! and to laptops: small models have narrower heads, so that even a width of 64 has two, and key/value heads
//! are shared only where that saves relevant memory.

use model::ModelConfig;

use recipe::{ModelOptions, Recipe, ShapeChoice};

/// Compute-optimal tokens per parameter (Hoffmann et al. 2022), the goal of `[model]` without a shape.
pub const TOKENS_PER_PARAMETER: f64 = 20.0;

/// Width per layer.
const WIDTH_PER_LAYER: usize = 64;

/// The shape of the recipe's model with a vocabulary of `vocab_size`, to be trained on `trained_tokens`.
///
/// # Errors
/// A combination that `model` refuses, such as an odd head size.
pub fn design(recipe: &Recipe, vocab_size: usize, trained_tokens: u64) -> crate::Result<ModelConfig> {
    let options = &recipe.model;
    let context = options.max_position_embeddings.unwrap_or(recipe.train.sequence_length);
    let mut config = match options.shape_choice() {
        ShapeChoice::Explicit { hidden_size, num_hidden_layers } => {
            explicit(options, vocab_size, hidden_size, num_hidden_layers)
        }
        ShapeChoice::Depth(depth) => of_width(options, vocab_size, depth * WIDTH_PER_LAYER, depth),
        ShapeChoice::Size(parameters) => nearest(options, vocab_size, parameters),
        ShapeChoice::Auto => {
            let parameters = (trained_tokens as f64 / TOKENS_PER_PARAMETER).clamp(1e5, 1e11);
            nearest(options, vocab_size, parameters as u64)
        }
    };
    config.max_position_embeddings = context;
    config.validate()?;
    Ok(config)
}

/// Completes a shape from width and depth.
fn base(options: &ModelOptions, vocab_size: usize) -> ModelConfig {
    ModelConfig {
        vocab_size,
        hidden_size: 0,
        intermediate_size: 0,
        num_hidden_layers: 0,
        num_attention_heads: 0,
        num_key_value_heads: 0,
        head_dim: 0,
        max_position_embeddings: 1,
        rope_theta: options.rope_theta,
        rope_scaling: options.rope_scaling.clone().map(Into::into),
        rms_norm_eps: options.rms_norm_eps,
        tie_word_embeddings: options.tie_word_embeddings,
        attention_bias: options.attention_bias,
        qk_norm: options.qk_norm,
        sliding_window: None,
        full_attention_layers: Vec::new(),
        unrotated_layers: Vec::new(),
        dropout: options.dropout as f32,
        initializer_range: options.initializer_range,
    }
}

fn explicit(
    options: &ModelOptions,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
) -> ModelConfig {
    let heads = options
        .num_attention_heads
        .or_else(|| options.head_dim.map(|head_dim| (hidden_size / head_dim).max(1)))
        .unwrap_or_else(|| default_heads(hidden_size));
    ModelConfig {
        hidden_size,
        num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: options.num_key_value_heads.unwrap_or(heads),
        head_dim: options.head_dim.unwrap_or(hidden_size / heads),
        intermediate_size: options.intermediate_size.unwrap_or_else(|| feed_forward(hidden_size)),
        ..base(options, vocab_size)
    }
}

/// The shape for a width and a depth; keys in `[model]` for heads and feed-forward take precedence.
fn of_width(options: &ModelOptions, vocab_size: usize, hidden_size: usize, layers: usize) -> ModelConfig {
    let mut config = explicit(options, vocab_size, hidden_size, layers);
    if options.num_key_value_heads.is_none() {
        config.num_key_value_heads = shared_heads(hidden_size, config.num_attention_heads);
    }
    config
}

/// Head size 64; 32 in models narrower than 256; 128 from a width of 2,048.
fn default_heads(hidden_size: usize) -> usize {
    let wanted = default_head_dim(hidden_size);
    // A width that is not divisible by a common head size gets the widest even size that divides it.
    let head_dim = [wanted, 64, 32, 16, 8].into_iter().find(|&head_dim| hidden_size.is_multiple_of(head_dim));
    head_dim.map_or(1, |head_dim| hidden_size / head_dim)
}

fn default_head_dim(hidden_size: usize) -> usize {
    match hidden_size {
        0..256 => 32,
        256..2048 => 64,
        _ => 128,
    }
}

/// Key/value heads: from a width of 768, a third or a quarter of the query heads.
fn shared_heads(hidden_size: usize, heads: usize) -> usize {
    if hidden_size < 768 {
        return heads;
    }
    [4, 3, 2].into_iter().find(|share| heads.is_multiple_of(*share)).map_or(heads, |share| heads / share)
}

/// 8/3 of the width, so that SwiGLU's three matrices have the size of two in a plain feed-forward (Shazeer
/// 2020).
fn feed_forward(hidden_size: usize) -> usize {
    (hidden_size * 8).div_ceil(3).next_multiple_of(32)
}

/// The shape with the nearest number of parameters, preferring a width of 64 per layer.
pub(crate) fn nearest(options: &ModelOptions, vocab_size: usize, parameters: u64) -> ModelConfig {
    let mut best: Option<(f64, ModelConfig)> = None;
    for layers in 1..=128usize {
        // With the same parameters, shapes wider or narrower than this per layer learn less.
        let widths = (layers * 24).next_multiple_of(32).max(32)..=(layers * 160).max(64);
        for width in widths.step_by(32) {
            if !width.is_multiple_of(default_head_dim(width)) {
                continue;
            }
            let config = of_width(options, vocab_size, width, layers);
            let total = config.parameter_count().total as f64;
            let miss = (total / parameters as f64).ln().abs();
            let aspect = (width as f64 / (layers * WIDTH_PER_LAYER) as f64).ln().abs();
            let score = 10.0 * miss + aspect;
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, config));
            }
            if total > 4.0 * parameters as f64 {
                break;
            }
        }
    }
    match best {
        Some((_, config)) => config,
        None => of_width(options, vocab_size, WIDTH_PER_LAYER, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn designed(text: &str, vocab_size: usize) -> ModelConfig {
        let recipe = Recipe::load("r.toml", text, &[]).expect("valid recipe");
        design(&recipe, vocab_size, 20_000_000).expect("valid shape")
    }

    #[test]
    fn the_dial_at_the_peers_depths() {
        let six = designed("[model]\ndepth = 6\n", 8192);
        assert_eq!((six.hidden_size, six.num_attention_heads, six.intermediate_size), (384, 6, 1024));
        assert_eq!(six.parameter_count().total, 13_767_552);
        let twelve = designed("[model]\ndepth = 12\n", 32_000);
        assert_eq!((twelve.hidden_size, twelve.num_attention_heads), (768, 12));
        assert_eq!((twelve.num_key_value_heads, twelve.intermediate_size), (3, 2048));
        let one = designed("[model]\ndepth = 1\n", 512);
        assert_eq!((one.hidden_size, one.num_attention_heads, one.head_dim), (64, 2, 32));
    }

    #[test]
    fn a_size_is_met_closely_and_keeps_its_proportions() {
        for (size, wanted, vocab_size) in [
            ("260K", 260e3, 512),
            ("1M", 1e6, 2048),
            ("10M", 10e6, 8192),
            ("100M", 100e6, 32_000),
            ("1.5B", 1.5e9, 32_000),
        ] {
            let config = designed(&format!("[model]\nsize = \"{size}\"\n"), vocab_size);
            let total = config.parameter_count().total as f64;
            assert!((total / wanted - 1.0).abs() < 0.06, "{size}: {total}");
            let aspect = config.hidden_size as f64 / config.num_hidden_layers as f64;
            assert!((20.0..200.0).contains(&aspect), "{size}: {config:?}");
            assert_eq!(config.num_attention_heads * config.head_dim, config.hidden_size);
        }
    }

    #[test]
    fn without_a_shape_the_text_decides() {
        let config = designed("", 2048);
        let total = config.parameter_count().total as f64;
        assert!((total / 1e6 - 1.0).abs() < 0.06, "20M tokens want about 1M parameters, not {total}");
    }

    #[test]
    fn written_shapes_are_kept() {
        let config = designed(
            "[model]\nhidden_size = 128\nnum_hidden_layers = 4\nnum_attention_heads = 4\nnum_key_value_heads \
             = 2\nintermediate_size = 300\nqk_norm = true\n",
            65,
        );
        assert_eq!((config.head_dim, config.num_key_value_heads, config.intermediate_size), (32, 2, 300));
        assert!(config.qk_norm);
        assert_eq!(config.max_position_embeddings, 256, "the training context");
    }

    #[test]
    fn yarn_reaches_the_model() {
        let config = designed(
            "[model]\ndepth = 2\n[model.rope_scaling]\nrope_type = \"yarn\"\nfactor = \
             4.0\noriginal_max_position_embeddings = 256\n",
            512,
        );
        assert!(matches!(config.rope_scaling, Some(formats::hf::RopeScaling::Yarn { factor: 4.0, .. })));
    }
}
