//! Writing: the header from types and shapes alone, then one tensor after the other.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use half::{bf16, f16};
use quant::BlockFormat;
use store::fs::{Fs, FsFile};

use super::metadata::{Array, Value};
use super::tensor_type::TensorType;
use crate::error::{Error, Result};

/// The format's default of `general.alignment`, which is therefore not written.
const ALIGNMENT: u64 = 32;
/// Values converted at a time; whole blocks of every format.
const CHUNK: usize = 1 << 18;
/// The format's limit on a tensor's name, its final zero included.
const LARGEST_NAME_BYTES: usize = 63;
/// The format's limit on a tensor's dimensions.
const LARGEST_RANK: usize = 4;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file, at most 63 bytes.
    pub name: String,
    /// F32, F16, BF16 (rounded to nearest even), or blocks of Q8_0 or Q4_0 (rounded as ggml does).
    pub tensor_type: TensorType,
    /// Its sizes, outermost first; the file has them reversed.
    pub shape: Vec<usize>,
}

/// Writes a whole file of version 3, atomically, through `store`: keys and tensors in the order given, so the
/// bytes depend on nothing but the arguments. `source` is asked for the values of each tensor in that order,
/// row-major; what it returns is dropped before the next is asked for. Returns the file's length.
///
/// # Errors
/// `Invalid` for a name or key given twice, a type that is not written, rows that are not whole blocks, and
/// values that do not fit the shape or the type; what `source` returns; what the disk says. On an error the
/// file at `path` is left as it was.
pub fn write(
    fs: &dyn Fs,
    path: &Path,
    keys: &[(String, Value)],
    tensors: &[TensorSpec],
    mut source: impl FnMut(&TensorSpec) -> Result<Vec<f32>>,
) -> Result<u64> {
    let header = header(path, keys, tensors)?;
    // The disk's errors come back through `store`, which names the file; ours are carried around it.
    let mut refused = None;
    let mut length = header.len() as u64;
    let written = store::atomic::write_with(fs, path, |file| {
        file.write_all(&header)?;
        for spec in tensors {
            let values = match checked(path, spec, source(spec)) {
                Ok(values) => values,
                Err(error) => {
                    refused = Some(error);
                    return Err(io::Error::other("the source of the values stopped"));
                }
            };
            for chunk in values.chunks(CHUNK) {
                let bytes = encoded(spec.tensor_type, chunk);
                length += bytes.len() as u64;
                file.write_all(&bytes)?;
            }
            length += pad(file, length)?;
        }
        Ok(())
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(written.map(|()| length)?),
    }
}

/// Fills up to the next multiple of the alignment; returns the bytes written.
fn pad(file: &mut dyn FsFile, length: u64) -> io::Result<u64> {
    let missing = length.next_multiple_of(ALIGNMENT) - length;
    file.write_all(&[0; ALIGNMENT as usize][..missing as usize])?;
    Ok(missing)
}

fn checked(path: &Path, spec: &TensorSpec, values: Result<Vec<f32>>) -> Result<Vec<f32>> {
    let values = values?;
    let expected: usize = spec.shape.iter().product();
    if values.len() != expected {
        let message = format!("{} values for shape {:?}, which holds {expected}", values.len(), spec.shape);
        return Err(invalid(path, &spec.name, message));
    }
    let too_large = |value: &&f32| value.is_finite() && f16::from_f32(**value).is_infinite();
    if spec.tensor_type == TensorType::F16
        && let Some(value) = values.iter().find(too_large)
    {
        let message = format!("{value} is beyond the range of F16: use BF16 or F32");
        return Err(invalid(path, &spec.name, message));
    }
    Ok(values)
}

/// A whole number of blocks of values in a type that [`bytes_of`] knows.
fn encoded(tensor_type: TensorType, values: &[f32]) -> Vec<u8> {
    match tensor_type {
        TensorType::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        TensorType::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        TensorType::Blocks(format) => format.encode(values),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// The bytes of a tensor's data.
fn bytes_of(spec: &TensorSpec) -> std::result::Result<u64, String> {
    let is_written = matches!(
        spec.tensor_type,
        TensorType::F32
            | TensorType::F16
            | TensorType::BF16
            | TensorType::Blocks(BlockFormat::Q8_0 | BlockFormat::Q4_0)
    );
    let Some((values, bytes)) = spec.tensor_type.block().filter(|_| is_written) else {
        return Err(format!("{} cannot be written: use F32, F16, BF16, Q8_0 or Q4_0", spec.tensor_type));
    };
    let row = spec.shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(values) {
        return Err(format!(
            "its rows of {row} values are not whole blocks of {values}, as {} has them",
            spec.tensor_type
        ));
    }
    let elements = spec.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let total = elements.and_then(|elements| (elements / values).checked_mul(bytes));
    total.map(|total| total as u64).ok_or_else(|| format!("shape {:?} is too large", spec.shape))
}

/// Everything before the data, padded to the alignment.
fn header(path: &Path, keys: &[(String, Value)], tensors: &[TensorSpec]) -> Result<Vec<u8>> {
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    let mut known = BTreeSet::new();
    for (key, value) in keys {
        if !known.insert(key) {
            let message = format!("cannot write `{}`: key `{key}` is given twice", path.display());
            return Err(Error::Invalid { message });
        }
        put_string(&mut bytes, key);
        put_value(&mut bytes, value);
    }
    let (mut names, mut offset) = (BTreeSet::new(), 0u64);
    for spec in tensors {
        let refuse = |message: String| invalid(path, &spec.name, message);
        if !names.insert(&spec.name) {
            return Err(refuse("there is already a tensor of this name".to_owned()));
        }
        if spec.name.len() > LARGEST_NAME_BYTES || spec.shape.len() > LARGEST_RANK {
            return Err(refuse(format!(
                "a name has at most {LARGEST_NAME_BYTES} bytes and a shape {LARGEST_RANK} dimensions"
            )));
        }
        put_string(&mut bytes, &spec.name);
        bytes.extend((spec.shape.len() as u32).to_le_bytes());
        bytes.extend(spec.shape.iter().rev().flat_map(|&size| (size as u64).to_le_bytes()));
        bytes.extend(spec.tensor_type.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        let end = offset.checked_add(bytes_of(spec).map_err(refuse)?);
        offset = end
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .ok_or_else(|| refuse("the file would be too large".to_owned()))?;
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok(bytes)
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A value after the number of its type.
fn put_value(bytes: &mut Vec<u8>, value: &Value) {
    let mut put = |kind: u32, value: &[u8]| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    };
    match value {
        Value::U8(n) => put(0, &n.to_le_bytes()),
        Value::I8(n) => put(1, &n.to_le_bytes()),
        Value::U16(n) => put(2, &n.to_le_bytes()),
        Value::I16(n) => put(3, &n.to_le_bytes()),
        Value::U32(n) => put(4, &n.to_le_bytes()),
        Value::I32(n) => put(5, &n.to_le_bytes()),
        Value::F32(n) => put(6, &n.to_le_bytes()),
        Value::Bool(flag) => put(7, &[u8::from(*flag)]),
        Value::String(text) => {
            put(8, &[]);
            put_string(bytes, text);
        }
        Value::Array(array) => {
            put(9, &[]);
            put_array(bytes, array);
        }
        Value::U64(n) => put(10, &n.to_le_bytes()),
        Value::I64(n) => put(11, &n.to_le_bytes()),
        Value::F64(n) => put(12, &n.to_le_bytes()),
    }
}

fn put_array(bytes: &mut Vec<u8>, array: &Array) {
    macro_rules! numbers {
        ($kind:literal, $items:expr) => {{
            put_head(bytes, $kind, $items.len());
            bytes.extend($items.iter().flat_map(|n| n.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(items) => numbers!(0, items),
        Array::I8(items) => numbers!(1, items),
        Array::U16(items) => numbers!(2, items),
        Array::I16(items) => numbers!(3, items),
        Array::U32(items) => numbers!(4, items),
        Array::I32(items) => numbers!(5, items),
        Array::F32(items) => numbers!(6, items),
        Array::Bool(items) => {
            put_head(bytes, 7, items.len());
            bytes.extend(items.iter().map(|&flag| u8::from(flag)));
        }
        Array::String(items) => {
            put_head(bytes, 8, items.len());
            items.iter().for_each(|item| put_string(bytes, item));
        }
        Array::U64(items) => numbers!(10, items),
        Array::I64(items) => numbers!(11, items),
        Array::F64(items) => numbers!(12, items),
    }
}

/// The type of an array's items, and how many there are.
fn put_head(bytes: &mut Vec<u8>, kind: u32, count: usize) {
    bytes.extend(kind.to_le_bytes());
    bytes.extend((count as u64).to_le_bytes());
}

fn invalid(path: &Path, tensor: &str, message: String) -> Error {
    Error::Invalid { message: format!("cannot write tensor `{tensor}` to `{}`: {message}", path.display()) }
}
