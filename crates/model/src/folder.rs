//! Model folders in Hugging Face form: `config.json` and safetensors, names as transformers has them. Written
//! as one file of f32; read from one or several, of any floating type, with projections fused or apart.
//!
//! The tokenizer's files and the model card are the caller's to add.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::parameters::Parameter;
use crate::weights::Weights;
use compute::Device;
use formats::hf::Config;
use formats::safetensors::{self, TensorSpec, WeightFiles, pytorch_metadata};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use store::fs::Fs;

pub use formats::safetensors::WEIGHTS_FILE;

/// File name of the shape.
pub const CONFIG_FILE: &str = "config.json";

/// Special token ids that `config.json` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// Id of BOS.
    pub bos: Option<u32>,
    /// Id of EOS.
    pub eos: Option<u32>,
    /// Id of PAD.
    pub pad: Option<u32>,
}

/// Writes weights and configuration into `folder`, which exists.
///
/// # Errors
/// A configuration without a Hugging Face class; I/O errors.
pub fn save<D: Device>(fs: &dyn Fs, folder: &Path, weights: &mut Weights<D>, ids: TokenIds) -> Result<()> {
    let mut config = weights.config().to_hf();
    (config.bos_token_id, config.pad_token_id) = (ids.bos, ids.pad);
    config.eos_token_ids = ids.eos.into_iter().collect();
    config.write(fs, &folder.join(CONFIG_FILE))?;
    write_weights(fs, &folder.join(WEIGHTS_FILE), weights, &config.zero_tensors())
}

/// Writes weights as one safetensors file, with zeros under the names that transformers wants beside them.
fn write_weights<D: Device>(
    fs: &dyn Fs,
    path: &Path,
    weights: &mut Weights<D>,
    zeros: &[(String, Vec<usize>)],
) -> Result<()> {
    let of_zeros = zeros.iter().map(|(name, shape)| TensorSpec::f32(name, shape));
    let of_weights = weights.parameters().iter().map(|p| TensorSpec::f32(p.name.clone(), &p.shape));
    let specs: Vec<TensorSpec> = of_zeros.chain(of_weights).collect();
    let zeros: BTreeMap<&str, usize> =
        zeros.iter().map(|(name, shape)| (name.as_str(), shape.iter().product())).collect();
    safetensors::write(fs, path, specs, &pytorch_metadata(), |spec| {
        if let Some(&len) = zeros.get(spec.name.as_str()) {
            return Ok(Cow::Owned(vec![0.0; len]));
        }
        let missing =
            |_| formats::Error::Invalid { message: format!("no tensor {} in the model", spec.name) };
        Ok(Cow::Owned(weights.download(&spec.name).map_err(missing)?))
    })?;
    Ok(())
}

/// The configuration of a model folder.
///
/// # Errors
/// A folder that is not a model, or a configuration of another family.
pub fn read_config(fs: &dyn Fs, folder: &Path) -> Result<(ModelConfig, Config)> {
    let path = folder.join(CONFIG_FILE);
    let hf = Config::read(fs, &path).map_err(|error| match error.kind() {
        formats::ErrorKind::NotFound => Error::Folder {
            path: folder.to_path_buf(),
            message: format!("there is no {CONFIG_FILE}; a model folder has one next to {WEIGHTS_FILE}"),
        },
        _ => Error::Format(error),
    })?;
    let config = ModelConfig::from_hf(&hf);
    config.validate().map_err(in_file(&path))?;
    Ok((config, hf))
}

/// Attributes an invalid shape to the file that defines it instead of a recipe.
pub(crate) fn in_file(path: &Path) -> impl FnOnce(Error) -> Error + use<> {
    let path = path.to_path_buf();
    |error| match error {
        Error::Configuration { key, message } => Error::Folder { path, message: format!("{key}: {message}") },
        other => other,
    }
}

/// Checks that the weights of a model folder are those of `config`, before anything is allocated by its
/// sizes.
///
/// # Errors
/// A missing tensor, or one of another shape; the message names the keys of `config.json` that ask for it.
pub(crate) fn check_weights(files: &WeightFiles, config: &ModelConfig, hf: &Config) -> Result<()> {
    let mut refused = None;
    check_shapes(config, files.path(), |name| {
        let place = Place::of(name, hf);
        let shape = files.find(&place.tensor).map(|entry| entry.shape.clone());
        let Some(shape) = shape else { return Ok(None) };
        Ok(match place.rows_in_all {
            Some(all) if shape.first() == Some(&all) => Some([&[place.rows][..], &shape[1..]].concat()),
            _ => Some(shape),
        })
    })?;
    for tensor in files.tensors() {
        if !is_known(&tensor.name, hf) {
            refused.get_or_insert(&tensor.name);
        }
    }
    match refused {
        None => Ok(()),
        Some(name) => Err(Error::Folder {
            path: files.path().to_path_buf(),
            message: format!(
                "tensor {name} does not belong to a model of this configuration: weights and config.json do \
                 not match, or the model has parts that are not supported"
            ),
        }),
    }
}

/// Where a parameter lies in the files of a folder.
pub(crate) struct Place {
    /// The tensor it is, or is part of.
    pub tensor: String,
    /// Its first row there.
    pub first_row: usize,
    /// Its rows, where it is part of a larger tensor.
    pub rows: usize,
    /// Rows of that tensor.
    pub rows_in_all: Option<usize>,
}

impl Place {
    pub fn of(name: &str, hf: &Config) -> Place {
        let whole = || Place { tensor: name.to_owned(), first_row: 0, rows: 0, rows_in_all: None };
        if !hf.fused_projections {
            return whole();
        }
        let (query, key_value) = (hf.num_attention_heads * hf.head_dim, hf.num_key_value_heads * hf.head_dim);
        let (qkv, gate_up) = (query + 2 * key_value, 2 * hf.intermediate_size);
        let parts = [
            ("q_proj", "qkv_proj", 0, query, qkv),
            ("k_proj", "qkv_proj", query, key_value, qkv),
            ("v_proj", "qkv_proj", query + key_value, key_value, qkv),
            ("gate_proj", "gate_up_proj", 0, hf.intermediate_size, gate_up),
            ("up_proj", "gate_up_proj", hf.intermediate_size, hf.intermediate_size, gate_up),
        ];
        for (part, fused, first_row, rows, all) in parts {
            let ending = format!(".{part}.weight");
            if let Some(before) = name.strip_suffix(&ending) {
                let tensor = format!("{before}.{fused}.weight");
                return Place { tensor, first_row, rows, rows_in_all: Some(all) };
            }
        }
        whole()
    }
}

/// Whether a tensor of a folder is a parameter, or one that says nothing new.
fn is_known(tensor: &str, hf: &Config) -> bool {
    // A tied head is stored by some; frequencies were by old versions.
    if (hf.tie_word_embeddings && tensor == "lm_head.weight") || tensor.ends_with(".rotary_emb.inv_freq") {
        return true;
    }
    if matches!(tensor, "model.embed_tokens.weight" | "model.norm.weight" | "lm_head.weight") {
        return true;
    }
    let Some((layer, part)) = tensor.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let Some((module, kind)) = part.rsplit_once('.') else { return false };
    let is_layer = layer.parse::<usize>().is_ok_and(|layer| layer < hf.num_hidden_layers);
    let modules: &[&str] = match (module, kind) {
        (_, "bias") if hf.qkv_bias => {
            &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
        }
        (_, "weight") if hf.fused_projections => &[
            "input_layernorm",
            "post_attention_layernorm",
            "self_attn.qkv_proj",
            "self_attn.o_proj",
            "mlp.gate_up_proj",
            "mlp.down_proj",
        ],
        ("self_attn.q_norm" | "self_attn.k_norm", "weight") => {
            if hf.qk_norm {
                &["self_attn.q_norm", "self_attn.k_norm"]
            } else {
                &[]
            }
        }
        (_, "weight") => &[
            "input_layernorm",
            "post_attention_layernorm",
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ],
        _ => &[],
    };
    is_layer && modules.contains(&module)
}

/// The same for any file; `shape_of` gives the shape that a tensor has there.
pub(crate) fn check_shapes(
    config: &ModelConfig,
    path: &Path,
    shape_of: impl Fn(&str) -> Result<Option<Vec<usize>>>,
) -> Result<()> {
    for Parameter { name, shape, .. } in Network::parameters_of(config) {
        let differs = match shape_of(&name)? {
            Some(found) if found == shape => continue,
            Some(found) => format!("tensor {name} has shape {found:?}, not {shape:?}"),
            None => format!("there is no tensor {name} of shape {shape:?}"),
        };
        let message = format!(
            "{differs}, as the configuration requires with vocab_size = {}, hidden_size = {}, \
             intermediate_size = {}, num_hidden_layers = {}, num_attention_heads = {}, num_key_value_heads = \
             {}, head_dim = {}: weights and configuration do not match. Download the model again",
            config.vocab_size,
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim
        );
        return Err(Error::Folder { path: path.to_path_buf(), message });
    }
    Ok(())
}

/// The values of a parameter.
///
/// # Errors
/// A missing tensor, another shape, a corrupt file.
pub(crate) fn read(files: &mut WeightFiles, hf: &Config, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let place = Place::of(name, hf);
    let mut values = vec![0.0; shape.iter().product()];
    files.read_rows_into(&place.tensor, place.first_row, &mut values)?;
    Ok(values)
}

/// Refuses biases on output projections that are not zero: the model has no place for them.
pub(crate) fn check_zero_biases(files: &mut WeightFiles, layers: usize) -> Result<()> {
    for layer in 0..layers {
        let name = format!("model.layers.{layer}.self_attn.o_proj.bias");
        if files.find(&name).is_some() && files.read_f32(&name)?.iter().any(|&value| value != 0.0) {
            let message = format!("{name} is not zero: this bias is not supported");
            return Err(Error::Folder { path: files.path().to_path_buf(), message });
        }
    }
    Ok(())
}
