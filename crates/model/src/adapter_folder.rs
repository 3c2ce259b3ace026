//! Adapters on disk, in PEFT's form.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use compute::Device;
use formats::peft::{self, LoraConfig};
use formats::safetensors::{self, Dtype, Reader, TensorSpec, pytorch_metadata};
use store::fs::Fs;

use crate::adapter::{self, AdapterConfig, Module};
use crate::error::{Error, Result};
use crate::parameters::Parameter;
use crate::stored::Stored;
use crate::weights::Weights;

/// The key of the file's metadata that identifies the base's weights.
const BASE_HASH: &str = "base_blake3";

/// The model that an adapter belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseName {
    /// A path, or a name on the hub.
    pub name: Option<String>,
    /// Identifies its weights, where the adapter was made by this program.
    pub hash: Option<String>,
}

/// Writes the adapters of a model into `folder`, which exists.
///
/// # Errors
/// I/O errors.
pub fn save<D: Device>(
    fs: &dyn Fs,
    folder: &Path,
    weights: &mut Weights<D>,
    config: &AdapterConfig,
    base: &BaseName,
) -> Result<()> {
    let targets = config.target_modules.iter().map(|module| module.name().to_owned()).collect();
    let file = LoraConfig {
        rank: config.rank,
        alpha: config.alpha,
        dropout: f64::from(config.dropout),
        rank_stabilized: config.rank_stabilized,
        target_modules: Some(targets),
        base_model: base.name.clone(),
    };
    file.write(fs, &folder.join(peft::CONFIG_FILE))?;
    let adapters: Vec<Parameter> =
        weights.parameters().iter().filter(|parameter| parameter.is_adapter()).cloned().collect();
    let specs = adapters.iter().map(|p| TensorSpec::f32(peft::tensor_name(&p.name), &p.shape)).collect();
    let mut metadata = pytorch_metadata();
    metadata.extend(base.hash.clone().map(|hash| (BASE_HASH.to_owned(), hash)));
    safetensors::write(fs, &folder.join(peft::WEIGHTS_FILE), specs, &metadata, |spec| {
        let missing =
            |_| formats::Error::Invalid { message: format!("no tensor {} in the model", spec.name) };
        let name = peft::parameter_name(&spec.name).unwrap_or(&spec.name);
        Ok(Cow::Owned(weights.download(name).map_err(missing)?))
    })?;
    Ok(())
}

/// The shape of the adapters in a folder, and the base that they belong to.
///
/// # Errors
/// A folder without an adapter, one of another kind, or with weights that are not those of its configuration.
pub fn read_config(fs: &dyn Fs, folder: &Path) -> Result<(AdapterConfig, BaseName)> {
    let path = folder.join(peft::WEIGHTS_FILE);
    let config = LoraConfig::read(fs, &folder.join(peft::CONFIG_FILE))?;
    let reader = Reader::open_with(fs, &path)?;
    let refuse = |message: String| Error::Folder { path: path.clone(), message };
    let mut found = BTreeMap::new();
    for tensor in reader.tensors() {
        let module = peft::parameter_name(&tensor.name).and_then(module_of);
        let Some(module) = module else {
            return Err(refuse(format!(
                "tensor {} is not of an adapter on one of the modules {}",
                tensor.name,
                Module::ALL.map(Module::name).join(", ")
            )));
        };
        found.insert(module, ());
    }
    if let Some(named) = &config.target_modules
        && let Some(missing) = named.iter().find(|name| !found.keys().any(|module| module.name() == *name))
    {
        return Err(refuse(format!("there is no adapter on {missing}, which {} names", peft::CONFIG_FILE)));
    }
    let adapter = AdapterConfig {
        rank: config.rank,
        alpha: config.alpha,
        dropout: config.dropout as f32,
        rank_stabilized: config.rank_stabilized,
        target_modules: found.into_keys().collect(),
    };
    adapter.validate()?;
    let hash = reader.metadata().get(BASE_HASH).cloned();
    Ok((adapter, BaseName { name: config.base_model, hash }))
}

/// Loads the adapters of a folder into a model that has them.
///
/// # Errors
/// A missing tensor, or one of another shape: the adapter belongs to another base.
pub fn load<D: Device>(fs: &dyn Fs, folder: &Path, weights: &mut Weights<D>) -> Result<()> {
    let path = folder.join(peft::WEIGHTS_FILE);
    let mut reader = Reader::open_with(fs, &path)?;
    let adapters: Vec<Parameter> =
        weights.parameters().iter().filter(|parameter| parameter.is_adapter()).cloned().collect();
    if reader.tensors().len() != adapters.len() {
        let message = format!(
            "it has {} tensors, and adapters of this shape on this model {}: it belongs to another base",
            reader.tensors().len(),
            adapters.len()
        );
        return Err(Error::Folder { path, message });
    }
    for parameter in adapters {
        let name = peft::tensor_name(&parameter.name);
        let found = reader.find(&name).map(|entry| entry.shape.clone());
        if found.as_ref() != Some(&parameter.shape) {
            let found = found.map_or("is missing".to_owned(), |shape| format!("has shape {shape:?}"));
            let message = format!(
                "tensor {name} {found}, and this model needs shape {:?}: the adapter belongs to another base",
                parameter.shape
            );
            return Err(Error::Folder { path, message });
        }
        let values = reader.read_f32(&name)?;
        weights.upload(&parameter.name, &values)?;
    }
    Ok(())
}

/// Whether a folder holds an adapter.
pub fn is_adapter(fs: &dyn Fs, folder: &Path) -> bool {
    fs.exists(&folder.join(peft::CONFIG_FILE))
}

/// The module of `….q_proj.lora_A.weight`.
fn module_of(parameter: &str) -> Option<Module> {
    let (module, _) = parameter.rsplit_once(".lora_")?;
    let name = module.rsplit('.').next()?;
    Module::ALL.into_iter().find(|module| module.name() == name)
}

/// Writes a base's weights with the adapters of a folder added to them, W + s·B·A, as a model folder without
/// tokenizer. One tensor at a time is in memory.
///
/// # Errors
/// An adapter that does not fit the base; a type that models are not stored in; I/O errors.
pub fn merge(fs: &dyn Fs, base: &mut Stored, adapter: &Path, dtype: Dtype, out: &Path) -> Result<()> {
    let (config, _) = read_config(fs, adapter)?;
    let path = adapter.join(peft::WEIGHTS_FILE);
    let mut reader = Reader::open_with(fs, &path)?;
    let parameters = base.parameters();
    for tensor in reader.tensors() {
        let fits = peft::parameter_name(&tensor.name).is_some_and(|name| {
            let weight = format!("{}.weight", name.rsplit_once(".lora_").map_or(name, |(module, _)| module));
            let wanted = parameters.iter().find(|(name, _)| *name == weight);
            wanted.is_some_and(|(_, shape)| match name.ends_with(".lora_A.weight") {
                true => tensor.shape == [config.rank, shape[1]],
                false => tensor.shape == [shape[0], config.rank],
            })
        });
        if !fits {
            let message = format!(
                "tensor {} of shape {:?} does not fit this model: the adapter belongs to another base",
                tensor.name, tensor.shape
            );
            return Err(Error::Folder { path, message });
        }
    }
    let mut hf = base.hf().clone();
    (hf.dtype, hf.fused_projections) = (dtype, false);
    hf.write(fs, &out.join(crate::folder::CONFIG_FILE))?;
    let zeros = hf.zero_tensors();
    let spec = |(name, shape): &(String, Vec<usize>)| TensorSpec { dtype, ..TensorSpec::f32(name, shape) };
    let specs: Vec<TensorSpec> = parameters.iter().chain(&zeros).map(spec).collect();
    let mut failed = None;
    let written =
        safetensors::write(fs, &out.join(safetensors::WEIGHTS_FILE), specs, &pytorch_metadata(), |spec| {
            if zeros.iter().any(|(name, _)| *name == spec.name) {
                return Ok(Cow::Owned(vec![0.0; spec.shape.iter().product()]));
            }
            let mut values = base.read(&spec.name, &spec.shape).map_err(|error| {
                let message = error.to_string();
                failed = Some(error);
                formats::Error::Invalid { message }
            })?;
            let [a, b] =
                ['A', 'B'].map(|matrix| peft::tensor_name(&adapter::parameter_name(&spec.name, matrix)));
            if reader.find(&a).is_some() {
                let (a, b) = (reader.read_f32(&a)?, reader.read_f32(&b)?);
                add_product(&mut values, &a, &b, config.rank, config.scale());
            }
            Ok(Cow::Owned(values))
        });
    match failed {
        Some(error) => Err(error),
        None => Ok(written.map(drop)?),
    }
}

/// `w += scale·b·a`, with w (rows, columns), b (rows, rank), a (rank, columns), row-major.
fn add_product(w: &mut [f32], a: &[f32], b: &[f32], rank: usize, scale: f32) {
    let columns = a.len() / rank;
    for (row, b) in w.chunks_exact_mut(columns).zip(b.chunks_exact(rank)) {
        for (&b, a) in b.iter().zip(a.chunks_exact(columns)) {
            for (w, a) in row.iter_mut().zip(a) {
                *w += scale * b * a;
            }
        }
    }
}
