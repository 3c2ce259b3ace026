//! Merging adapters into their base: W + s·B·A, its rows scaled to the norms of DoRA where there are any.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use compute::{DType, Device};
use formats::safetensors::{self, Dtype, TensorSpec, pytorch_metadata};
use store::fs::Fs;

use crate::adapter::AdapterConfig;
use crate::adapter_folder::{AdapterFile, Matrices, read_config};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::network::{Network, Regions};
use crate::parameters::{Storage, Trainable, WeightTypes};
use crate::stored::Stored;
use crate::weights::Weights;

/// What is merged, and how.
#[derive(Clone, Debug)]
pub struct Merge<'a> {
    /// Folders of adapters, whose products are all added.
    pub adapters: &'a [PathBuf],
    /// What the base's matrices are rounded to before, as in training.
    pub quantization: Option<DType>,
    /// Subtract the products instead: the base from a merged model, up to rounding.
    pub undo: bool,
    /// Type of the weights that are written.
    pub dtype: Dtype,
}

impl Merge<'_> {
    fn configs(&self, fs: &dyn Fs) -> Result<Vec<AdapterConfig>> {
        let configs = self.adapters.iter().map(|folder| Ok(read_config(fs, folder)?.0));
        let configs: Vec<AdapterConfig> = configs.collect::<Result<_>>()?;
        let refuse = |message: &str| Err(Error::Adapter { key: "dora", message: message.to_owned() });
        match configs.iter().any(|config| config.dora) {
            true if self.undo => refuse("the norms of the base's rows are not known: use the base itself"),
            true if configs.len() > 1 => refuse("rows are scaled once: merge such an adapter alone"),
            _ => Ok(configs),
        }
    }
}

/// Writes a base's weights with adapters merged into them, as a model folder without tokenizer. One tensor
/// at a time is in memory.
///
/// # Errors
/// An adapter that does not fit the base, or that cannot be merged so; a type that models are not stored in;
/// I/O errors.
pub fn merge(fs: &dyn Fs, base: &mut Stored, options: &Merge<'_>, out: &Path) -> Result<()> {
    let configs = options.configs(fs)?;
    let quantized: BTreeSet<String> =
        configs.iter().flat_map(|config| quantized(base.config(), config, options.quantization)).collect();
    let parameters = base.parameters();
    let open = |(folder, config): (&PathBuf, &AdapterConfig)| {
        AdapterFile::open(fs, folder, config, &parameters, base.hf())
    };
    let mut files: Vec<AdapterFile> =
        options.adapters.iter().zip(&configs).map(open).collect::<Result<_>>()?;
    let dtype = options.dtype;
    let mut hf = base.hf().clone();
    (hf.dtype, hf.fused_projections) = (dtype, false);
    hf.write(fs, &out.join(crate::folder::CONFIG_FILE))?;
    let zeros = hf.zero_tensors();
    let spec = |(name, shape): &(String, Vec<usize>)| TensorSpec { dtype, ..TensorSpec::f32(name, shape) };
    let specs: Vec<TensorSpec> = parameters.iter().chain(&zeros).map(spec).collect();
    let mut merged = |spec: &TensorSpec| -> Result<Vec<f32>> {
        if zeros.iter().any(|(name, _)| *name == spec.name) {
            return Ok(vec![0.0; spec.shape.iter().product()]);
        }
        let mut values = base.read(&spec.name, &spec.shape)?;
        if let Some(dtype) = options.quantization.filter(|_| quantized.contains(&spec.name)) {
            values = dequantized(&values, dtype);
        }
        for (file, config) in files.iter_mut().zip(&configs) {
            if let Some(Matrices { a, b, magnitude }) = file.matrices(&spec.name)? {
                let scale = if options.undo { -config.scale() } else { config.scale() };
                add_product(&mut values, &a, &b, config.rank, scale);
                if let Some(magnitude) = magnitude {
                    set_row_norms(&mut values, &magnitude);
                }
            }
        }
        Ok(values)
    };
    let mut failed = None;
    let path = out.join(safetensors::WEIGHTS_FILE);
    let written = safetensors::write(fs, &path, specs, &pytorch_metadata(), |spec| {
        merged(spec).map(Cow::Owned).map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            formats::Error::Invalid { message }
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(written.map(drop)?),
    }
}

/// Replaces the weights of a model that has its base loaded, unquantized, by what they were in training where
/// the layers' matrices were quantized to `quantization`.
///
/// # Errors
/// As [`Stored::load`].
pub fn dequantize_base<D: Device>(
    base: &mut Stored,
    weights: &mut Weights<D>,
    config: &AdapterConfig,
    quantization: DType,
) -> Result<()> {
    for name in quantized(weights.config(), config, Some(quantization)) {
        let shape = weights.find(&name)?.shape.clone();
        let values = base.read(&name, &shape)?;
        weights.upload(&name, &dequantized(&values, quantization))?;
    }
    Ok(())
}

/// Values as they are after quantization to blocks of a type.
fn dequantized(values: &[f32], dtype: DType) -> Vec<f32> {
    let format = dtype.block_format();
    format.decode(&format.encode(values))
}

/// The weights that are quantized while adapters are trained on them.
fn quantized(shape: &ModelConfig, config: &AdapterConfig, to: Option<DType>) -> BTreeSet<String> {
    let Some(hidden) = to else { return BTreeSet::new() };
    let storage = Storage {
        types: WeightTypes::Layers { hidden, ends: DType::Bf16 },
        trainable: Trainable::Adapters,
        adapter: Some(config.clone()),
    };
    let parameters = Network::new(shape, &storage, &Regions::default()).parameters.into_iter();
    parameters.filter(|parameter| parameter.weight.dtype == hidden).map(|parameter| parameter.name).collect()
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

/// Scales each row of w to its norm.
fn set_row_norms(w: &mut [f32], norms: &[f32]) {
    for (row, norm) in w.chunks_exact_mut(w.len() / norms.len()).zip(norms) {
        let squares: f64 = row.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        if squares == 0.0 {
            continue;
        }
        let by = (f64::from(*norm) / squares.sqrt()) as f32;
        row.iter_mut().for_each(|w| *w *= by);
    }
}
