//! Adapters on disk, in PEFT's form.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use compute::{DType, Device};
use formats::hf;
use formats::peft::{self, LoraConfig};
use formats::safetensors::{self, Reader, TensorSpec, pytorch_metadata};
use store::fs::{Fs, FsReader};

use crate::adapter::{self, AdapterConfig, Module};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::folder::Place;
use crate::network::Network;
use crate::weights::Weights;

/// The key of the file's metadata that identifies the base's weights.
const BASE_HASH: &str = "base_blake3";
/// The key of the type that the base's matrices were quantized to in training.
const BASE_TYPE: &str = "base_quantization";

/// The model that an adapter belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseName {
    /// A path, or a name on the hub.
    pub name: Option<String>,
    /// Its commit on the hub.
    pub revision: Option<String>,
    /// Identifies its weights, where the adapter was made by this program.
    pub hash: Option<String>,
    /// The type that its layers' matrices were quantized to in training, where they were.
    pub quantization: Option<DType>,
    /// Whether its files keep queries, keys and values in one matrix, and gate and up in another.
    pub fused_projections: bool,
}

/// Writes the adapters of a model into `folder`, which exists.
///
/// Where the base keeps projections in one matrix, so does the file, as PEFT needs it: the As lie one after
/// the other and the Bs along a diagonal, with that multiple of rank and scale.
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
    let hf = hf::Config { fused_projections: base.fused_projections, ..weights.config().to_hf() };
    let shapes: Vec<(String, Vec<usize>)> = weights
        .parameters()
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.shape.clone()))
        .collect();
    let targets = targets(&shapes, config, &hf);
    let mut named = BTreeMap::new();
    for target in &targets {
        named.insert(target.module_name().to_owned(), target.parts.len());
    }
    let file = LoraConfig {
        rank: config.rank,
        alpha: config.alpha,
        dropout: f64::from(config.dropout),
        rank_stabilized: config.rank_stabilized,
        dora: config.dora,
        target_modules: Some(named.keys().cloned().collect()),
        multiples: named.into_iter().filter(|(_, parts)| *parts > 1).collect(),
        base_model: base.name.clone(),
        revision: base.revision.clone(),
    };
    file.write(fs, &folder.join(peft::CONFIG_FILE))?;
    let mut metadata = pytorch_metadata();
    metadata.extend(base.hash.clone().map(|hash| (BASE_HASH.to_owned(), hash)));
    metadata.extend(base.quantization.map(|dtype| (BASE_TYPE.to_owned(), dtype.name().to_owned())));
    let mut specs = Vec::new();
    let mut sources = BTreeMap::new();
    for target in &targets {
        let rank = target.parts.len() * config.rank;
        for (matrix, shape) in [('A', [rank, target.columns]), ('B', [target.rows, rank])] {
            specs.push(TensorSpec::f32(target.tensor_name(matrix), &shape));
            sources.insert(target.tensor_name(matrix), (target, Kind::Matrix(matrix)));
        }
        if config.dora {
            specs.push(TensorSpec::f32(target.magnitude_name(), &[target.rows]));
            sources.insert(target.magnitude_name(), (target, Kind::Magnitude));
        }
    }
    safetensors::write(fs, &folder.join(peft::WEIGHTS_FILE), specs, &metadata, |spec| {
        let missing =
            |_| formats::Error::Invalid { message: format!("no tensor {} in the model", spec.name) };
        let (target, kind) = sources[&spec.name];
        let mut values = Vec::new();
        for part in &target.parts {
            let name = kind.parameter_name(&part.weight);
            values.push(match (shapes.iter().any(|(known, _)| *known == name), kind) {
                (true, _) => weights.download(&name).map_err(missing)?,
                // Fused with weights that have an adapter, and without one.
                (false, Kind::Matrix('A')) => vec![0.0; config.rank * target.columns],
                (false, Kind::Matrix(_)) => vec![0.0; config.rank * part.rows],
                (false, Kind::Magnitude) => {
                    let message = format!("DoRA on a part of {} cannot be stored", target.module);
                    return Err(formats::Error::Invalid { message });
                }
            });
        }
        Ok(Cow::Owned(match kind {
            Kind::Matrix('B') => target.diagonal(&values, config.rank),
            _ => values.concat(),
        }))
    })?;
    Ok(())
}

/// What an adapter consists of.
#[derive(Clone, Copy)]
enum Kind {
    /// A or B.
    Matrix(char),
    Magnitude,
}

impl Kind {
    /// The name of the parameter beside a weight.
    fn parameter_name(self, weight: &str) -> String {
        match self {
            Kind::Matrix(matrix) => adapter::parameter_name(weight, matrix),
            Kind::Magnitude => adapter::magnitude_name(weight),
        }
    }
}

/// A matrix of the base that an adapter in a file belongs to: one or several weights of the model.
pub(crate) struct Target {
    /// Its name without `.weight`.
    pub module: String,
    pub rows: usize,
    pub columns: usize,
    parts: Vec<Part>,
}

/// A weight of the model.
struct Part {
    weight: String,
    /// Its first row in the target.
    first_row: usize,
    rows: usize,
}

impl Target {
    pub fn tensor_name(&self, matrix: char) -> String {
        peft::tensor_name(&adapter::parameter_name(&self.module, matrix))
    }

    fn magnitude_name(&self) -> String {
        peft::tensor_name(&adapter::magnitude_name(&self.module))
    }

    fn module_name(&self) -> &str {
        self.module.rsplit('.').next().unwrap_or(&self.module)
    }

    /// The parts' B (rows, rank) along the diagonal of one of (rows, parts · rank).
    fn diagonal(&self, parts: &[Vec<f32>], rank: usize) -> Vec<f32> {
        let width = self.parts.len() * rank;
        let mut whole = vec![0.0; self.rows * width];
        for (index, (part, values)) in self.parts.iter().zip(parts).enumerate() {
            for (row, values) in values.chunks_exact(rank).enumerate() {
                let at = (part.first_row + row) * width + index * rank;
                whole[at..at + rank].copy_from_slice(values);
            }
        }
        whole
    }

    /// A and B of a part, from those of the target. Its A may be the part's own, where B is a diagonal, or
    /// one that all parts share, as PEFT trains them.
    fn part(&self, index: usize, a: &[f32], b: &[f32], rank: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let (part, columns) = (&self.parts[index], self.columns);
        let width = a.len() / columns;
        let rows = b[part.first_row * width..(part.first_row + part.rows) * width].chunks_exact(width);
        if width == rank {
            return Some((a.to_vec(), rows.flatten().copied().collect()));
        }
        let own = index * rank..(index + 1) * rank;
        let elsewhere = |row: &[f32]| (0..width).any(|at| !own.contains(&at) && row[at] != 0.0);
        if rows.clone().any(elsewhere) {
            return None;
        }
        let a = a[own.start * columns..own.end * columns].to_vec();
        Some((a, rows.flat_map(|row| &row[own.clone()]).copied().collect()))
    }
}

/// The matrices that have an adapter, of a model whose parameters have these names and shapes.
fn targets(parameters: &[(String, Vec<usize>)], config: &AdapterConfig, hf: &hf::Config) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for (name, shape) in parameters {
        let place = Place::of(name, hf);
        let module = place.tensor.trim_end_matches(".weight");
        let modules = Module::named(module.rsplit('.').next().unwrap_or(module));
        if !modules.iter().any(|module| config.target_modules.contains(module)) {
            continue;
        }
        let part = Part { weight: name.clone(), first_row: place.first_row, rows: shape[0] };
        match targets.iter_mut().rev().take(1).find(|target| target.module == module) {
            Some(target) => target.parts.push(part),
            None => targets.push(Target {
                module: module.to_owned(),
                rows: place.rows_in_all.unwrap_or(shape[0]),
                columns: shape[1],
                parts: vec![part],
            }),
        }
    }
    targets
}

/// An adapter's file with the matrices of the base that its tensors belong to.
pub(crate) struct AdapterFile {
    path: PathBuf,
    pub reader: Reader<Box<dyn FsReader>>,
    rank: usize,
    dora: bool,
    pub targets: Vec<Target>,
}

/// The adapter of one weight, each row-major.
pub(crate) struct Matrices {
    /// (rank, columns).
    pub a: Vec<f32>,
    /// (rows, rank).
    pub b: Vec<f32>,
    /// (rows), with DoRA.
    pub magnitude: Option<Vec<f32>>,
}

impl AdapterFile {
    /// Opens the adapter of a folder for a base whose parameters have these names and shapes.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape, or of no matrix: the adapter belongs to another base.
    pub fn open(
        fs: &dyn Fs,
        folder: &Path,
        config: &AdapterConfig,
        parameters: &[(String, Vec<usize>)],
        shape: &hf::Config,
    ) -> Result<AdapterFile> {
        let path = folder.join(peft::WEIGHTS_FILE);
        let reader = Reader::open_with(fs, &path)?;
        let is_fused = |name: &str| name.contains(".qkv_proj.") || name.contains(".gate_up_proj.");
        let fused_projections = reader.tensors().iter().any(|tensor| is_fused(&tensor.name));
        let hf = hf::Config { fused_projections, ..shape.clone() };
        let targets = targets(parameters, config, &hf);
        let refuse = |message: String| Err(Error::Folder { path: path.clone(), message });
        for target in &targets {
            let ranks = [config.rank, target.parts.len() * config.rank];
            for matrix in ['A', 'B'] {
                let name = target.tensor_name(matrix);
                let fit = ranks.map(|rank| match matrix {
                    'A' => [rank, target.columns],
                    _ => [target.rows, rank],
                });
                let found = reader.find(&name).map(|entry| entry.shape.clone());
                if !found.as_ref().is_some_and(|found| fit.iter().any(|fit| fit[..] == found[..])) {
                    let found = found.map_or("is missing".to_owned(), |shape| format!("has shape {shape:?}"));
                    return refuse(format!(
                        "tensor {name} {found}, and this model needs shape {:?}: the adapter belongs to another \
                         base",
                        fit[1]
                    ));
                }
            }
            let name = target.magnitude_name();
            let magnitude = reader.find(&name).map(|entry| entry.shape.clone());
            if config.dora && magnitude.as_deref() != Some(&[target.rows]) {
                return refuse(format!("there is no tensor {name} of shape [{}]", target.rows));
            }
        }
        let expected = targets.len() * if config.dora { 3 } else { 2 };
        if reader.tensors().len() != expected {
            return refuse(format!(
                "it has {} tensors, and adapters of this shape on this model {expected}: it belongs to another \
                 base",
                reader.tensors().len(),
            ));
        }
        Ok(AdapterFile { path, reader, rank: config.rank, dora: config.dora, targets })
    }

    /// The adapter of a weight; `None`: it has none.
    pub fn matrices(&mut self, weight: &str) -> Result<Option<Matrices>> {
        let is_it = |part: &Part| part.weight == weight;
        let Some(target) = self.targets.iter().find(|target| target.parts.iter().any(is_it)) else {
            return Ok(None);
        };
        let index = target.parts.iter().position(is_it).unwrap_or(0);
        let a = self.reader.read_f32(&target.tensor_name('A'))?;
        let b = self.reader.read_f32(&target.tensor_name('B'))?;
        if a.len() / target.columns != b.len() / target.rows {
            let message = format!("the matrices of {} have different ranks", target.module);
            return Err(Error::Folder { path: self.path.clone(), message });
        }
        let part = &target.parts[index];
        let magnitude = match self.dora {
            true => {
                let all = self.reader.read_f32(&target.magnitude_name())?;
                Some(all[part.first_row..part.first_row + part.rows].to_vec())
            }
            false => None,
        };
        match target.part(index, &a, &b, self.rank) {
            Some((a, b)) => Ok(Some(Matrices { a, b, magnitude })),
            None => {
                let message = format!(
                    "the adapter of {} mixes its projections at a rank of {}, which is not supported",
                    target.module,
                    a.len() / target.columns
                );
                Err(Error::Folder { path: self.path.clone(), message })
            }
        }
    }
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
    let mut found = BTreeSet::new();
    for tensor in reader.tensors() {
        let name = peft::parameter_name(&tensor.name).and_then(module_name);
        let modules = name.map(Module::named).unwrap_or_default();
        if modules.is_empty() {
            return Err(refuse(format!(
                "tensor {} is not of an adapter on one of the modules {}",
                tensor.name,
                Module::ALL.map(Module::name).join(", ")
            )));
        }
        found.extend(modules);
    }
    // Also by their paths, as PEFT writes them where names alone are ambiguous.
    let named = config.target_modules.iter().flatten();
    for name in named.map(|name| name.rsplit('.').next().unwrap_or(name)) {
        if !Module::named(name).iter().any(|module| found.contains(module)) {
            return Err(refuse(format!("there is no adapter on {name}, which {} names", peft::CONFIG_FILE)));
        }
    }
    let adapter = AdapterConfig {
        rank: config.rank,
        alpha: config.alpha,
        dropout: config.dropout as f32,
        rank_stabilized: config.rank_stabilized,
        dora: config.dora,
        target_modules: found,
    };
    adapter.validate()?;
    let hash = reader.metadata().get(BASE_HASH).cloned();
    let quantization = match reader.metadata().get(BASE_TYPE) {
        None => None,
        Some(name) => {
            let known = DType::BLOCKS.into_iter().find(|dtype| dtype.name() == name);
            let unknown = || refuse(format!("{BASE_TYPE}: `{name}` is not supported"));
            Some(known.ok_or_else(unknown)?)
        }
    };
    let LoraConfig { base_model: name, revision, .. } = config;
    Ok((adapter, BaseName { name, revision, hash, quantization, fused_projections: false }))
}

/// Loads the adapters of a folder into a model that has them.
///
/// # Errors
/// A tensor that is missing or does not fit: the adapter belongs to another base.
pub fn load<D: Device>(fs: &dyn Fs, folder: &Path, weights: &mut Weights<D>) -> Result<()> {
    for (name, values) in read(fs, folder, weights.config())? {
        weights.upload(&name, &values)?;
    }
    Ok(())
}

/// Names and values of the adapters in a folder, for a model of this shape.
///
/// # Errors
/// As [`load`].
pub fn read(fs: &dyn Fs, folder: &Path, shape: &ModelConfig) -> Result<BTreeMap<String, Vec<f32>>> {
    let (config, _) = read_config(fs, folder)?;
    let parameters = Network::parameters_of(shape).into_iter();
    let shapes: Vec<(String, Vec<usize>)> = parameters.map(|p| (p.name, p.shape)).collect();
    let mut file = AdapterFile::open(fs, folder, &config, &shapes, &shape.to_hf())?;
    let mut values = BTreeMap::new();
    for (weight, _) in &shapes {
        if let Some(Matrices { a, b, magnitude }) = file.matrices(weight)? {
            values.insert(adapter::parameter_name(weight, 'A'), a);
            values.insert(adapter::parameter_name(weight, 'B'), b);
            values.extend(magnitude.map(|values| (adapter::magnitude_name(weight), values)));
        }
    }
    Ok(values)
}

/// Whether a folder holds an adapter.
pub fn is_adapter(fs: &dyn Fs, folder: &Path) -> bool {
    fs.exists(&folder.join(peft::CONFIG_FILE))
}

/// `q_proj` of `….q_proj.lora_A.weight`.
fn module_name(parameter: &str) -> Option<&str> {
    let (module, _) = parameter.rsplit_once(".lora_")?;
    module.rsplit('.').next()
}
