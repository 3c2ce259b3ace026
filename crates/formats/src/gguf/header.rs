//! The header: magic, version, counts, keys and values, tensor infos; each length checked against the file
//! before it is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use super::metadata::{Array, Metadata, Value, key_error};
use super::tensor_type::TensorType;
use crate::error::{Error, ErrorKind, Result};

/// Size limit of a header, and so of what a malicious file can make a reader allocate. The largest
/// vocabularies take about 30 MB.
const HEADER_LIMIT_BYTES: u64 = 1 << 28;
/// The most keys, and the most tensors; real files have dozens, and thousands. A name costs more in memory
/// than in the file.
const LARGEST_COUNT: u64 = 1 << 16;
/// The format's limit on a key.
const LARGEST_KEY_BYTES: u64 = (1 << 16) - 1;
/// The format's limits on a tensor.
const LARGEST_NAME_BYTES: u64 = 64;
const LARGEST_RANK: u32 = 4;

/// Position and type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its element type.
    pub tensor_type: TensorType,
    /// Its sizes, outermost first (the file has them reversed); empty for a scalar.
    pub shape: Vec<usize>,
    /// Offset of its first byte in the file.
    pub begin: u64,
    /// Its length in the file; `None` where the type is unknown.
    pub bytes: Option<u64>,
}

impl TensorInfo {
    /// Number of values. It cannot overflow: the header was checked.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A place in the header.
struct Source<'a, R> {
    source: R,
    path: &'a Path,
    position: u64,
    /// Bytes of the whole file.
    file_bytes: u64,
}

impl<R: Read> Source<'_, R> {
    /// Returns an error if `count` items of at least `width` bytes cannot follow.
    fn expect(&self, count: u64, width: u64, what: &str) -> Result<()> {
        let left = self.file_bytes.min(HEADER_LIMIT_BYTES) - self.position;
        match count.checked_mul(width) {
            Some(bytes) if bytes <= left => Ok(()),
            _ if self.file_bytes > HEADER_LIMIT_BYTES => Err(Error::corrupt(
                self.path,
                format!(
                    "{what} at byte {} exceeds the limit of {HEADER_LIMIT_BYTES} bytes for a header",
                    self.position
                ),
            )),
            _ => Err(Error::corrupt(
                self.path,
                format!(
                    "{what} at byte {} needs more than the {left} bytes that follow: the file is truncated; \
                     copy or download it again",
                    self.position
                ),
            )),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let path = self.path;
        self.source.read_exact(bytes).map_err(|source: io::Error| Error::io("read", path)(source))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.expect(1, N as u64, what)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.take(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.take(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &str, limit: u64) -> Result<String> {
        let begin = self.position;
        let length = self.u64(what)?;
        if length > limit {
            return Err(Error::corrupt(
                self.path,
                format!("{what} at byte {begin} claims {length} bytes; the limit is {limit}"),
            ));
        }
        self.expect(length, 1, what)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes)
            .map_err(|_| Error::corrupt(self.path, format!("{what} at byte {begin} is not UTF-8")))
    }

    fn bool(&mut self, what: &str) -> Result<bool> {
        match self.take(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Error::corrupt(
                self.path,
                format!("{what} at byte {} must be 0 or 1, not {other}", self.position - 1),
            )),
        }
    }

    /// `count` items that take at least `width` bytes each in the file.
    fn list<T>(
        &mut self,
        count: u64,
        width: u64,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect(count, width, what)?;
        let mut items = Vec::with_capacity(count as usize);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let what = &format!("the value of `{key}`")[..];
        Ok(match self.u32(what)? {
            0 => Value::U8(u8::from_le_bytes(self.take(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.take(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.take(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.take(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.take(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.take(what)?)),
            7 => Value::Bool(self.bool(what)?),
            8 => Value::String(self.string(what, HEADER_LIMIT_BYTES)?),
            9 => {
                let (kind, count) = (self.u32(what)?, self.u64(what)?);
                Value::Array(self.array(key, kind, count)?)
            }
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.take(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.take(what)?)),
            other => return Err(self.unknown_type(key, other)),
        })
    }

    fn array(&mut self, key: &str, kind: u32, count: u64) -> Result<Array> {
        let what = &format!("the array `{key}`")[..];
        Ok(match kind {
            0 => Array::U8(self.list(count, 1, what, |s| s.take(what).map(u8::from_le_bytes))?),
            1 => Array::I8(self.list(count, 1, what, |s| s.take(what).map(i8::from_le_bytes))?),
            2 => Array::U16(self.list(count, 2, what, |s| s.take(what).map(u16::from_le_bytes))?),
            3 => Array::I16(self.list(count, 2, what, |s| s.take(what).map(i16::from_le_bytes))?),
            4 => Array::U32(self.list(count, 4, what, |s| s.u32(what))?),
            5 => Array::I32(self.list(count, 4, what, |s| s.take(what).map(i32::from_le_bytes))?),
            6 => Array::F32(self.list(count, 4, what, |s| s.take(what).map(f32::from_le_bytes))?),
            7 => Array::Bool(self.list(count, 1, what, |s| s.bool(what))?),
            // Its length alone takes 8 bytes, and `String` 24: at most three times the file.
            8 => Array::String(self.list(count, 8, what, |s| s.string(what, HEADER_LIMIT_BYTES))?),
            9 => {
                let message = "is an array of arrays, which is not supported".to_owned();
                return Err(key_error(self.path, key, message, ErrorKind::Unsupported));
            }
            10 => Array::U64(self.list(count, 8, what, |s| s.u64(what))?),
            11 => Array::I64(self.list(count, 8, what, |s| s.take(what).map(i64::from_le_bytes))?),
            12 => Array::F64(self.list(count, 8, what, |s| s.take(what).map(f64::from_le_bytes))?),
            other => return Err(self.unknown_type(key, other)),
        })
    }

    fn unknown_type(&self, key: &str, number: u32) -> Error {
        key_error(self.path, key, format!("has a value of unknown type {number}"), ErrorKind::Corrupt)
    }

    /// A tensor info as in the file: `begin` is relative to the data section.
    fn tensor_info(&mut self) -> Result<TensorInfo> {
        let name = self.string("a tensor's name", LARGEST_NAME_BYTES)?;
        let what = &format!("the info of tensor `{name}`")[..];
        let path = self.path;
        let problem = |message| tensor_error(path, &name, message);
        let rank = self.u32(what)?;
        if rank > LARGEST_RANK {
            return Err(problem(format!("has {rank} dimensions; the limit is {LARGEST_RANK}")));
        }
        let mut sizes = self.list(rank.into(), 8, what, |s| s.u64(what))?;
        sizes.reverse();
        let tensor_type = TensorType::from_number(self.u32(what)?);
        let begin = self.u64(what)?;
        let too_large = || problem(format!("its shape {sizes:?} is too large"));
        let mut shape = Vec::with_capacity(sizes.len());
        for &size in &sizes {
            shape.push(usize::try_from(size).map_err(|_| too_large())?);
        }
        // Zeros hide the product of the rest, which a caller may form.
        let elements = shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size.max(1)))
            .filter(|&product| product <= isize::MAX as usize / size_of::<f32>())
            .ok_or_else(too_large)?;
        let elements = if shape.contains(&0) { 0 } else { elements };
        let bytes = match tensor_type.block() {
            None => None,
            Some((values, bytes)) => {
                let row = shape.last().copied().unwrap_or(1);
                if !row.is_multiple_of(values) {
                    return Err(problem(format!(
                        "its rows of {row} values are not whole blocks of {values}, as {tensor_type} has them"
                    )));
                }
                Some((elements / values).checked_mul(bytes).ok_or_else(too_large)? as u64)
            }
        };
        Ok(TensorInfo { name, tensor_type, shape, begin, bytes })
    }
}

/// Parses and checks the header of a file of `file_bytes`. Tensors come back in the order of their data.
pub(super) fn parse(source: impl Read, file_bytes: u64, path: &Path) -> Result<(Metadata, Vec<TensorInfo>)> {
    let mut source = Source { source, path, position: 0, file_bytes };
    let magic: [u8; 4] = source.take("the magic")?;
    if magic != *b"GGUF" {
        return Err(Error::corrupt(path, "it does not start with `GGUF`"));
    }
    match source.u32("the version")? {
        2 | 3 => {}
        other if other & 0xFFFF == 0 => {
            return Err(Error::corrupt(path, "it is big-endian: convert it with gguf_convert_endian.py"));
        }
        other => {
            let message = format!(
                "its version is {other}; only versions 2 and 3 are supported: convert the model again"
            );
            return Err(Error::corrupt(path, message));
        }
    }
    let tensor_count = source.u64("the tensor count")?;
    let key_count = source.u64("the key count")?;
    for (count, what) in [(tensor_count, "tensors"), (key_count, "keys")] {
        if count > LARGEST_COUNT {
            return Err(Error::corrupt(
                path,
                format!("it claims {count} {what}; the limit is {LARGEST_COUNT}"),
            ));
        }
    }
    // The least a key takes: its length, one letter, a type, one byte. An info: a length, a rank, a type, an
    // offset.
    source.expect(key_count, 14, "the list of keys")?;
    source.expect(tensor_count, 24, "the list of tensors")?;

    let mut values = BTreeMap::new();
    for _ in 0..key_count {
        let key = source.string("a key", LARGEST_KEY_BYTES)?;
        let value = source.value(&key)?;
        if values.contains_key(&key) {
            // Two readers might disagree on which of the two counts.
            return Err(key_error(path, &key, "occurs twice".to_owned(), ErrorKind::Corrupt));
        }
        values.insert(key, value);
    }
    let metadata = Metadata { path: path.to_owned(), values };
    let alignment = alignment(&metadata)?;

    let mut tensors = source.list(tensor_count, 24, "the list of tensors", Source::tensor_info)?;
    let data_begin = source.position.next_multiple_of(alignment);
    place(&mut tensors, data_begin, alignment, file_bytes, path)?;
    Ok((metadata, tensors))
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let key = "general.alignment";
    match metadata.get(key) {
        None => Ok(32),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => Ok(u64::from(*alignment)),
        Some(_) => Err(metadata.corrupt(key, "must be a 32-bit power of two".to_owned())),
    }
}

/// Converts offsets to file positions, and checks that tensors are within the file, aligned, disjoint, and
/// have unique names.
fn place(
    tensors: &mut [TensorInfo],
    data_begin: u64,
    alignment: u64,
    file_bytes: u64,
    path: &Path,
) -> Result<()> {
    let mut names = BTreeSet::new();
    for tensor in &*tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(tensor_error(path, &tensor.name, "occurs twice".to_owned()));
        }
    }
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.bytes));
    let mut end = data_begin;
    for tensor in tensors {
        let problem = |message| tensor_error(path, &tensor.name, message);
        let offset = tensor.begin;
        if !offset.is_multiple_of(alignment) {
            return Err(problem(format!("its offset {offset} is not a multiple of {alignment}")));
        }
        let begin = data_begin.checked_add(offset);
        // Where the size is unknown, at least the beginning must be there.
        let range = begin.and_then(|begin| Some((begin, begin.checked_add(tensor.bytes.unwrap_or(0))?)));
        let Some((begin, tensor_end)) = range.filter(|&(_, tensor_end)| tensor_end <= file_bytes) else {
            return Err(problem(format!(
                "its {} bytes at offset {offset} of the data, which starts at byte {data_begin}, exceed the \
                 end of the file ({file_bytes}): the file is truncated; copy or download it again",
                tensor.bytes.unwrap_or(0)
            )));
        };
        if begin < end {
            return Err(problem(format!(
                "its data starts at byte {begin}, within the previous tensor (end {end})"
            )));
        }
        tensor.begin = begin;
        end = tensor_end;
    }
    Ok(())
}

fn tensor_error(path: &Path, name: &str, message: String) -> Error {
    Error::Tensor { path: path.to_owned(), tensor: name.to_owned(), message, kind: ErrorKind::Corrupt }
}
