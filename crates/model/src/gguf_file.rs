//! Models and adapters written as GGUF files, one tensor at a time.
//!
//! Norms, biases and factors are f32 in every file; rows that are not whole blocks are F16. In files of Q4_0
//! the embedding and the output layer are Q8_0: few parameters that every token depends on.

use std::collections::BTreeMap;
use std::path::Path;

use formats::gguf::{self, Layout, Source, TensorSpec, TensorType, Value};
use quant::BlockFormat;
use store::fs::Fs;

use crate::adapter_folder::{self, AdapterFile};
use crate::error::{Error, Result};
use crate::stored::Stored;

/// The type where rows are not whole blocks.
const FALLBACK: TensorType = TensorType::F16;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// llama.cpp's name of the architecture.
    pub architecture: &'static str,
    /// Length of the file.
    pub bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Names of matrices that are F16 instead of blocks.
    pub not_in_blocks: Vec<String>,
}

/// Keys that say what a file is, and keys of its tokenizer.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// `general.…` and the like.
    pub general: Vec<(String, Value)>,
    /// `tokenizer.…`.
    pub tokenizer: Vec<(String, Value)>,
}

/// Writes a whole model; matrices are of `tensor_type`. `progress` gets bytes of tensors, written and in all.
///
/// # Errors
/// A model that llama.cpp's architectures do not compute, by key; a damaged model; a type that is not
/// written; I/O errors.
pub fn write(
    fs: &dyn Fs,
    path: &Path,
    model: &mut Stored,
    tensor_type: TensorType,
    keys: Keys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Written> {
    let hf = model.hf().clone();
    let layout = Layout::new(&hf)?;
    let shapes: BTreeMap<String, Vec<usize>> = model.parameters().into_iter().collect();
    let (mut specs, mut sources) = (Vec::new(), BTreeMap::new());
    for (name, shape, source) in layout.tensors(&model.parameters())? {
        specs.push(TensorSpec {
            tensor_type: type_of(tensor_type, &name, &shape),
            name: name.clone(),
            shape,
        });
        sources.insert(name, source);
    }
    let mut all = layout.keys()?;
    all.extend(keys.general);
    all.extend(file_type(tensor_type));
    all.extend(keys.tokenizer);
    let mut values = |spec: &TensorSpec| -> Result<Vec<f32>> {
        let parts = match &sources[&spec.name] {
            Source::Values(values) => return Ok(values.clone()),
            Source::Parameters(parts) => parts,
        };
        let mut values = Vec::new();
        for (hf_name, _) in parts {
            let part = layout.reordered(hf_name, model.read(hf_name, &shapes[hf_name])?)?;
            // The first is moved: most tensors have no second.
            if values.is_empty() { values = part } else { values.extend(part) }
        }
        Ok(values)
    };
    written(fs, path, &all, &specs, layout.architecture(), progress, &mut values)
}

/// Writes the adapter of a folder for llama.cpp's `--lora`; matrices are of `tensor_type`.
///
/// # Errors
/// An adapter that does not fit the base; a base of an architecture that llama.cpp does not have; a type that
/// is not written; I/O errors.
pub fn write_adapter(
    fs: &dyn Fs,
    path: &Path,
    base: &Stored,
    adapter: &Path,
    tensor_type: TensorType,
    general: Vec<(String, Value)>,
) -> Result<Written> {
    let (config, _) = adapter_folder::read_config(fs, adapter)?;
    if config.dora {
        let message =
            "llama.cpp's adapters have no magnitudes: merge it, and export the merged model".to_owned();
        return Err(Error::Adapter { key: "dora", message });
    }
    let known = base.gguf_metadata().map(|metadata| metadata.str("general.architecture")).transpose()?;
    let layout = Layout::of_base(base.hf(), known.flatten())?;
    let mut file = AdapterFile::open(fs, adapter, &config, &base.parameters(), base.hf())?;
    let targets = std::mem::take(&mut file.targets);
    let (mut specs, mut sources) = (Vec::new(), BTreeMap::new());
    for target in &targets {
        let weight = format!("{}.weight", target.module);
        let is_whole = |name: &String| match name.rsplit('.').nth(1) {
            Some("attn_qkv") => weight.ends_with("qkv_proj.weight"),
            Some("ffn_up") if layout.architecture() == "phi3" => weight.ends_with("gate_up_proj.weight"),
            _ => true,
        };
        let name = layout.tensor_name(&weight).filter(is_whole).ok_or_else(|| Error::Tensor {
            name: target.tensor_name('A'),
            message: format!(
                "models of llama.cpp's architecture `{}` have no such matrix: the adapter belongs to another base",
                layout.architecture()
            ),
        })?;
        let rank = file.reader.find(&target.tensor_name('A')).map_or(config.rank, |entry| entry.shape[0]);
        for (matrix, ending, shape) in
            [('A', "lora_a", [rank, target.columns]), ('B', "lora_b", [target.rows, rank])]
        {
            let name = format!("{name}.{ending}");
            let tensor_type = type_of(tensor_type, &name, &shape);
            specs.push(TensorSpec { name: name.clone(), tensor_type, shape: shape.to_vec() });
            sources.insert(name, (target, matrix, weight.clone(), rank));
        }
    }
    let text = |text: &str| Value::String(text.to_owned());
    let mut all = vec![("general.architecture".to_owned(), text(layout.architecture()))];
    all.extend(general);
    all.extend(file_type(tensor_type));
    all.push(("adapter.type".to_owned(), text("lora")));
    // llama.cpp divides it by the rank, whatever the adapter was trained with.
    let alpha = config.alpha * if config.rank_stabilized { (config.rank as f64).sqrt() } else { 1.0 };
    all.push(("adapter.lora.alpha".to_owned(), Value::F32(alpha as f32)));
    let mut values = |spec: &TensorSpec| -> Result<Vec<f32>> {
        let (target, matrix, weight, rank) = &sources[&spec.name];
        let mut values = file.reader.read_f32(&target.tensor_name(*matrix))?;
        if *matrix == 'A' {
            return Ok(values);
        }
        // llama.cpp divides by the rank of each matrix, and that of a fused one is a multiple.
        let multiple = (rank / config.rank) as f32;
        values.iter_mut().for_each(|value| *value *= multiple);
        Ok(layout.reordered(weight, values)?)
    };
    written(fs, path, &all, &specs, layout.architecture(), &mut |_, _| {}, &mut values)
}

fn written(
    fs: &dyn Fs,
    path: &Path,
    keys: &[(String, Value)],
    specs: &[TensorSpec],
    architecture: &'static str,
    progress: &mut dyn FnMut(u64, u64),
    values: &mut dyn FnMut(&TensorSpec) -> Result<Vec<f32>>,
) -> Result<Written> {
    let (total, mut done) = (specs.iter().map(bytes_of).sum(), 0);
    // Our errors are carried around those of the format.
    let mut failed = None;
    let bytes = gguf::write(fs, path, keys, specs, |spec| {
        progress(done, total);
        done += bytes_of(spec);
        values(spec).map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            formats::Error::Invalid { message }
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let bytes = bytes?;
    progress(total, total);
    let is_block = |tensor_type| matches!(tensor_type, TensorType::Blocks(_));
    let has_blocks = keys.iter().any(|(key, _)| key == QUANTIZATION_VERSION);
    let outside =
        specs.iter().filter(|spec| has_blocks && spec.shape.len() > 1 && !is_block(spec.tensor_type));
    let not_in_blocks = outside.map(|spec| spec.name.clone()).collect();
    Ok(Written { architecture, bytes, tensors: specs.len(), not_in_blocks })
}

fn bytes_of(spec: &TensorSpec) -> u64 {
    let elements: usize = spec.shape.iter().product();
    spec.tensor_type.block().map_or(0, |(values, bytes)| (elements / values * bytes) as u64)
}

const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// The keys that tell the type of most matrices.
fn file_type(tensor_type: TensorType) -> Vec<(String, Value)> {
    let number = tensor_type.file_type().map(|number| ("general.file_type".to_owned(), Value::U32(number)));
    // ggml's layouts of blocks have been these since version 2.
    let is_block = matches!(tensor_type, TensorType::Blocks(_));
    let version = is_block.then(|| (QUANTIZATION_VERSION.to_owned(), Value::U32(2)));
    number.into_iter().chain(version).collect()
}

/// The type of one tensor of a file whose matrices are of `wanted`.
fn type_of(wanted: TensorType, name: &str, shape: &[usize]) -> TensorType {
    let row = shape.last().copied().unwrap_or(1);
    match (shape.len(), wanted.block()) {
        (0 | 1, _) => TensorType::F32,
        (_, Some((values, _))) if !row.is_multiple_of(values) => FALLBACK,
        _ if wanted == TensorType::Blocks(BlockFormat::Q4_0)
            && matches!(name, "token_embd.weight" | "output.weight") =>
        {
            TensorType::Blocks(BlockFormat::Q8_0)
        }
        _ => wanted,
    }
}
