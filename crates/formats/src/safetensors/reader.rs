//! Reads the whole header first, then any tensor in any order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ::safetensors::Dtype;
use half::{bf16, f16};
use store::fs::{Fs, FsReader};

use super::header::{self, HEADER_LIMIT_BYTES, LENGTH_BYTES, TensorEntry};
use crate::error::{Error, ErrorKind, Result};

/// Bytes converted at a time: the only memory of a read besides its result.
const CHUNK_BYTES: usize = 1 << 20;

/// An open safetensors file whose header has been checked against its size.
#[derive(Debug)]
pub struct Reader<R = File> {
    source: R,
    path: PathBuf,
    data_begin: u64,
    entries: Vec<TensorEntry>,
    index: BTreeMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl Reader<File> {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// `NotFound` and `Io` from the system; `Corrupt` where the header breaks the format or does not fit the
    /// file.
    pub fn open(path: &Path) -> Result<Reader<File>> {
        Reader::new(File::open(path).map_err(Error::io("open", path))?, path)
    }
}

impl Reader<Box<dyn FsReader>> {
    /// As [`Reader::open`], through the disk seam.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_with(fs: &dyn Fs, path: &Path) -> Result<Reader<Box<dyn FsReader>>> {
        Reader::new(fs.open(path).map_err(Error::io("open", path))?, path)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads from anything seekable; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(mut source: R, path: &Path) -> Result<Reader<R>> {
        let io = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let file_bytes = source.seek(SeekFrom::End(0)).map_err(io)?;
        source.rewind().map_err(io)?;
        if file_bytes < LENGTH_BYTES {
            return Err(Error::corrupt(path, format!("it has {file_bytes} bytes, too few for a header")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        source.read_exact(&mut length).map_err(io)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > HEADER_LIMIT_BYTES {
            return Err(Error::corrupt(
                path,
                format!("its header claims {header_bytes} bytes; the limit is {HEADER_LIMIT_BYTES}"),
            ));
        }
        let Some(data_bytes) = (file_bytes - LENGTH_BYTES).checked_sub(header_bytes) else {
            return Err(Error::corrupt(
                path,
                format!(
                    "its header claims {header_bytes} bytes, but the file has {file_bytes}: the file is \
                     truncated; copy or download it again"
                ),
            ));
        };
        let mut json = vec![0; header_bytes as usize];
        source.read_exact(&mut json).map_err(io)?;
        let (entries, metadata) = header::parse(&json, data_bytes, path)?;
        let index = entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        let path = path.to_owned();
        Ok(Reader { source, path, data_begin: LENGTH_BYTES + header_bytes, entries, index, metadata })
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    /// The header's free text pairs.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Describes a tensor.
    pub fn find(&self, name: &str) -> Option<&TensorEntry> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// Describes a tensor that must exist.
    ///
    /// # Errors
    /// `NotFound`, naming the file and the tensor.
    pub fn require(&self, name: &str) -> Result<&TensorEntry> {
        self.find(name).ok_or_else(|| {
            self.tensor_error(name, ErrorKind::NotFound, "is missing from the file".to_owned())
        })
    }

    /// The values of a tensor of any floating type, as f32. f64 is rounded.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `Unsupported` for a type that is not floating, `Io` from the system.
    pub fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        // The header was checked: the file really holds this many values.
        let mut values = vec![0.0; self.require(name)?.elements()];
        self.read_f32_into(name, &mut values)?;
        Ok(values)
    }

    /// As [`Reader::read_f32`], and the shape must be the one expected.
    ///
    /// # Errors
    /// As [`Reader::read_f32`]; `Corrupt` where the shape differs.
    pub fn read_f32_shaped(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.require(name)?;
        if entry.shape != shape {
            let message = format!("has shape {:?}, expected {shape:?}", entry.shape);
            return Err(self.tensor_error(name, ErrorKind::Corrupt, message));
        }
        self.read_f32(name)
    }

    /// As [`Reader::read_f32`] into the caller's memory.
    ///
    /// # Errors
    /// As [`Reader::read_f32`]; `Corrupt` where the number of values differs from `values.len()`.
    pub fn read_f32_into(&mut self, name: &str, values: &mut [f32]) -> Result<()> {
        let entry = self.require(name)?;
        let elements = entry.elements();
        if elements != values.len() {
            let message =
                format!("has {elements} values of shape {:?}, expected {}", entry.shape, values.len());
            return Err(self.tensor_error(name, ErrorKind::Corrupt, message));
        }
        self.read_rows_into(name, 0, values)
    }

    /// As [`Reader::read_f32_into`], for as many values as there is memory, from a row on.
    ///
    /// # Errors
    /// As [`Reader::read_f32`]; `Corrupt` where the tensor does not reach that far.
    pub fn read_rows_into(&mut self, name: &str, first_row: usize, values: &mut [f32]) -> Result<()> {
        let entry = self.require(name)?;
        let (dtype, begin, elements) = (entry.dtype, entry.begin, entry.elements());
        let row: usize = entry.shape.iter().skip(1).product();
        let first = first_row.saturating_mul(row);
        if first.saturating_add(values.len()) > elements {
            let message = format!(
                "has {elements} values of shape {:?}, expected {} from row {first_row} on",
                entry.shape,
                values.len()
            );
            return Err(self.tensor_error(name, ErrorKind::Corrupt, message));
        }
        let convert = match dtype {
            Dtype::F32 => |bytes: &[u8], out: &mut [f32]| fill::<4>(bytes, out, f32::from_le_bytes),
            Dtype::BF16 => {
                |bytes: &[u8], out: &mut [f32]| fill::<2>(bytes, out, |b| bf16::from_le_bytes(b).to_f32())
            }
            Dtype::F16 => {
                |bytes: &[u8], out: &mut [f32]| fill::<2>(bytes, out, |b| f16::from_le_bytes(b).to_f32())
            }
            Dtype::F64 => {
                |bytes: &[u8], out: &mut [f32]| fill::<8>(bytes, out, |b| f64::from_le_bytes(b) as f32)
            }
            other => {
                let message = format!("has type {other}; only F64, F32, F16 and BF16 are supported");
                return Err(self.tensor_error(name, ErrorKind::Unsupported, message));
            }
        };
        let width = dtype.bitsize() / 8;
        let begin = begin + (first * width) as u64;
        let mut buffer = vec![0; (values.len() * width).min(CHUNK_BYTES)];
        let path = &self.path;
        let io = |source| Error::Io { action: "read", path: path.clone(), source };
        self.source.seek(SeekFrom::Start(self.data_begin + begin)).map_err(io)?;
        for chunk in values.chunks_mut(CHUNK_BYTES / width) {
            let bytes = &mut buffer[..chunk.len() * width];
            self.source.read_exact(bytes).map_err(io)?;
            convert(bytes, chunk);
        }
        Ok(())
    }

    fn tensor_error(&self, name: &str, kind: ErrorKind, message: String) -> Error {
        Error::Tensor { path: self.path.clone(), tensor: name.to_owned(), message, kind }
    }
}

fn fill<const WIDTH: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; WIDTH]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
        *out = value(*bytes);
    }
}
