//! Model folders in Hugging Face form: `config.json` and `model.safetensors`, f32, names as transformers has
//! them.
//!
//! The tokenizer's files and the model card are the caller's to add.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::network::Network;
use crate::parameters::Parameter;
use crate::weights::Weights;
use compute::Device;
use formats::hf::Config;
use formats::safetensors::{self, Reader, TensorSpec, pytorch_metadata};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use store::fs::Fs;

/// File name of the weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
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
pub fn check_weights(fs: &dyn Fs, folder: &Path, config: &ModelConfig) -> Result<()> {
    let path = folder.join(WEIGHTS_FILE);
    let reader = Reader::open_with(fs, &path)?;
    check_shapes(config, &path, |name| Ok(reader.find(name).map(|entry| entry.shape.clone())))
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

/// Loads the weights of a model folder.
///
/// # Errors
/// A missing tensor, another shape, a corrupt file: the file is named. A bias on an output projection that is
/// not zero, for which this model has no place.
pub fn load<D: Device>(fs: &dyn Fs, folder: &Path, weights: &mut Weights<D>) -> Result<()> {
    let path = folder.join(WEIGHTS_FILE);
    let mut reader = Reader::open_with(fs, &path)?;
    for layer in 0..weights.config().num_hidden_layers {
        let name = format!("model.layers.{layer}.self_attn.o_proj.bias");
        if reader.find(&name).is_some() && reader.read_f32(&name)?.iter().any(|&value| value != 0.0) {
            let message = format!("{name} is not zero: this bias is not supported");
            return Err(Error::Folder { path, message });
        }
    }
    for parameter in weights.parameters().to_vec() {
        let values = reader.read_f32_shaped(&parameter.name, &parameter.shape)?;
        weights.upload(&parameter.name, &values)?;
    }
    Ok(())
}
