//! Model folders in Hugging Face form: `config.json` and `model.safetensors`, f32, names as transformers has
//! them.
//!
//! The tokenizer's files and the model card are the caller's to add.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::network::{Model, StateKind};
use crate::parameters::{Parameter, Weights};
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
    /// Opens a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Fills a row.
    pub pad: Option<u32>,
}

/// Writes the model's weights and configuration into `folder`, which exists.
///
/// # Errors
/// A shape without a Hugging Face class; what the disk says.
pub fn save<D: Device>(fs: &dyn Fs, folder: &Path, model: &mut Model<D>, ids: TokenIds) -> Result<()> {
    let mut config = model.config().to_hf();
    (config.bos_token_id, config.pad_token_id) = (ids.bos, ids.pad);
    config.eos_token_ids = ids.eos.into_iter().collect();
    config.write(fs, &folder.join(CONFIG_FILE))?;
    let zeros = config.zero_tensors();
    let path = folder.join(WEIGHTS_FILE);
    write_state(fs, &path, model, &[("", StateKind::Weight)], &zeros, &pytorch_metadata())
}

/// Writes some of a model's state as one safetensors file; each kind's names get its prefix.
///
/// # Errors
/// What the disk says.
pub fn write_weights<D: Device>(
    fs: &dyn Fs,
    path: &Path,
    model: &mut Model<D>,
    kinds: &[(&str, StateKind)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    write_state(fs, path, model, kinds, &[], metadata)
}

fn write_state<D: Device>(
    fs: &dyn Fs,
    path: &Path,
    model: &mut Model<D>,
    kinds: &[(&str, StateKind)],
    zeros: &[(String, Vec<usize>)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut specs: Vec<TensorSpec> = zeros.iter().map(|(name, shape)| TensorSpec::f32(name, shape)).collect();
    let zeros: BTreeMap<&str, usize> =
        zeros.iter().map(|(name, shape)| (name.as_str(), shape.iter().product())).collect();
    let mut sources = BTreeMap::new();
    for (prefix, kind) in kinds {
        for parameter in model.parameters() {
            let name = format!("{prefix}{}", parameter.name);
            specs.push(TensorSpec::f32(name.clone(), &parameter.shape));
            sources.insert(name, (parameter.name.clone(), *kind));
        }
    }
    safetensors::write(fs, path, specs, metadata, |spec| {
        if let Some(&len) = zeros.get(spec.name.as_str()) {
            return Ok(Cow::Owned(vec![0.0; len]));
        }
        let missing = || formats::Error::Invalid { message: format!("no tensor {} in the model", spec.name) };
        let (name, kind) = sources.get(&spec.name).ok_or_else(missing)?;
        let values = model.download(name, *kind).map_err(|_| missing())?;
        Ok(Cow::Owned(values))
    })?;
    Ok(())
}

/// Reads what [`write_weights`] wrote into a model of the same shape.
///
/// # Errors
/// A missing tensor, another shape, a corrupt file: the file is named.
pub fn read_weights<D: Device>(
    fs: &dyn Fs,
    path: &Path,
    model: &mut Model<D>,
    kinds: &[(&str, StateKind)],
) -> Result<()> {
    let mut reader = Reader::open_with(fs, path)?;
    let parameters = model.parameters().to_vec();
    for (prefix, kind) in kinds {
        for parameter in &parameters {
            let name = format!("{prefix}{}", parameter.name);
            let values = reader.read_f32_shaped(&name, &parameter.shape)?;
            model.upload(&parameter.name, *kind, &values)?;
        }
    }
    Ok(())
}

/// The configuration of a model folder.
///
/// # Errors
/// A folder that is none, or a configuration of another family.
pub fn read_config(fs: &dyn Fs, folder: &Path) -> Result<(ModelConfig, Config)> {
    let path = folder.join(CONFIG_FILE);
    let hf = Config::read(fs, &path).map_err(|error| match error.kind() {
        formats::ErrorKind::NotFound => Error::Folder {
            path: folder.to_path_buf(),
            message: format!(
                "there is no {CONFIG_FILE} here; a model folder holds one beside {WEIGHTS_FILE}"
            ),
        },
        _ => Error::Format(error),
    })?;
    let config = ModelConfig::from_hf(&hf);
    config.validate().map_err(in_file(&path))?;
    Ok((config, hf))
}

/// A refusal of a shape, told of the file that names it rather than of a recipe.
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
    for Parameter { name, shape, .. } in &Weights::new(config).parameters {
        let differs = match shape_of(name)? {
            Some(found) if found == *shape => continue,
            Some(found) => format!("tensor {name} is {found:?} and would be {shape:?}"),
            None => format!("there is no tensor {name} of {shape:?}"),
        };
        let message = format!(
            "{differs} with the configuration's vocab_size = {}, hidden_size = {}, intermediate_size = {}, num_hidden_layers = {}, \
             num_attention_heads = {}, num_key_value_heads = {}, head_dim = {}: the two do not belong together. Fetch the model again",
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
/// As [`read_weights`]; a bias on an output projection that is not zero, for which this model has no place.
pub fn load<D: Device>(fs: &dyn Fs, folder: &Path, model: &mut Model<D>) -> Result<()> {
    let path = folder.join(WEIGHTS_FILE);
    let mut reader = Reader::open_with(fs, &path)?;
    for layer in 0..model.config().num_hidden_layers {
        let name = format!("model.layers.{layer}.self_attn.o_proj.bias");
        if reader.find(&name).is_some() && reader.read_f32(&name)?.iter().any(|&value| value != 0.0) {
            let message = format!("{name} is not zero: models with a bias there are not supported");
            return Err(Error::Folder { path, message });
        }
    }
    read_weights(fs, &folder.join(WEIGHTS_FILE), model, &[("", StateKind::Weight)])
}
