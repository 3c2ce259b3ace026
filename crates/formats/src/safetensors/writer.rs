//! Writing: the header from the shapes alone, then one tensor after the other.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use ::safetensors::Dtype;
use half::{bf16, f16};
use serde_json::{Map, Value, json};
use store::fs::{Fs, FsFile};

use super::header::{HEADER_LIMIT_BYTES, LENGTH_BYTES};
use crate::error::{Error, Result};

/// Values converted at a time.
const CHUNK: usize = 1 << 18;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// F32, F16 or BF16 (round to nearest even).
    pub dtype: Dtype,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor of f32.
    pub fn f32(name: impl Into<String>, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec() }
    }
}

/// Writes a whole file, atomically, through `store`. Tensors are laid out by type, widest first, then by
/// name, as the `safetensors` crate does: every value is aligned, and the bytes depend on nothing but the
/// arguments. `source` is asked for the values of each tensor in that order; what it returns is dropped
/// before the next is asked for. Returns the file's length.
///
/// # Errors
/// `Invalid` for a type that is not written, a name given twice, or values that do not fit the shape; what
/// `source` returns; what the disk says. On an error the file at `path` is left as it was.
pub fn write<'a>(
    fs: &dyn Fs,
    path: &Path,
    mut specs: Vec<TensorSpec>,
    metadata: &BTreeMap<String, String>,
    mut source: impl FnMut(&TensorSpec) -> Result<Cow<'a, [f32]>>,
) -> Result<u64> {
    specs.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let (header, data_bytes) = header(&specs, metadata, path)?;
    // The disk's errors come back through `store`, which names the file; ours are carried around it.
    let mut refused = None;
    let written = store::atomic::write_with(fs, path, |file| {
        file.write_all(&header)?;
        let mut buffer = Vec::with_capacity(CHUNK * 4);
        for spec in &specs {
            match checked(spec, path, source(spec)) {
                Ok(values) => write_values(file, spec.dtype, &values, &mut buffer)?,
                Err(error) => {
                    refused = Some(error);
                    return Err(io::Error::other("the source of the values stopped"));
                }
            }
        }
        Ok(())
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(written.map(|()| header.len() as u64 + data_bytes)?),
    }
}

fn checked<'a>(spec: &TensorSpec, path: &Path, values: Result<Cow<'a, [f32]>>) -> Result<Cow<'a, [f32]>> {
    let values = values?;
    let expected: usize = spec.shape.iter().product();
    if values.len() != expected {
        return Err(invalid(
            path,
            &spec.name,
            format!("{} values for shape {:?}, which holds {expected}", values.len(), spec.shape),
        ));
    }
    Ok(values)
}

/// The header with its length before it, padded with spaces so that the data begins at a multiple of 8; and
/// the data's length.
fn header(specs: &[TensorSpec], metadata: &BTreeMap<String, String>, path: &Path) -> Result<(Vec<u8>, u64)> {
    let mut map = Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut names = BTreeSet::new();
    let mut end = 0u64;
    for spec in specs {
        if spec.name == "__metadata__" || !names.insert(&spec.name) {
            return Err(invalid(path, &spec.name, "there is already a tensor of this name".to_owned()));
        }
        if !matches!(spec.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(invalid(
                path,
                &spec.name,
                format!("{} cannot be written: use F32, F16 or BF16", spec.dtype),
            ));
        }
        let begin = end;
        end = spec
            .shape
            .iter()
            .try_fold(spec.dtype.bitsize() as u64 / 8, |bytes, &size| bytes.checked_mul(size as u64))
            .and_then(|bytes| bytes.checked_add(begin))
            .ok_or_else(|| invalid(path, &spec.name, format!("shape {:?} is too large", spec.shape)))?;
        let info = json!({ "dtype": spec.dtype, "shape": spec.shape, "data_offsets": [begin, end] });
        map.insert(spec.name.clone(), info);
    }
    let mut json = Value::Object(map).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    if json.len() as u64 > HEADER_LIMIT_BYTES {
        return Err(Error::Invalid {
            message: format!(
                "cannot write `{}`: its header would have {} bytes, and the format allows \
                 {HEADER_LIMIT_BYTES}",
                path.display(),
                json.len()
            ),
        });
    }
    let mut bytes = Vec::with_capacity(LENGTH_BYTES as usize + json.len());
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    Ok((bytes, end))
}

fn write_values(file: &mut dyn FsFile, dtype: Dtype, values: &[f32], buffer: &mut Vec<u8>) -> io::Result<()> {
    for chunk in values.chunks(CHUNK) {
        buffer.clear();
        match dtype {
            Dtype::F16 => buffer.extend(chunk.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Dtype::BF16 => buffer.extend(chunk.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
            _ => buffer.extend(chunk.iter().flat_map(|value| value.to_le_bytes())),
        }
        file.write_all(buffer)?;
    }
    Ok(())
}

fn invalid(path: &Path, tensor: &str, message: String) -> Error {
    Error::Invalid { message: format!("cannot write tensor `{tensor}` to `{}`: {message}", path.display()) }
}
