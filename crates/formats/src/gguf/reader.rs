//! Reads the whole header first, then any tensor in any order.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use store::fs::{Fs, FsReader};

use super::header::{self, TensorInfo};
use super::metadata::Metadata;
use super::names::{self, Heads};
use crate::error::{Error, ErrorKind, Result};
use crate::hf::Config;

/// Bytes converted at a time: the only memory of a read besides its result.
const CHUNK_BYTES: usize = 1 << 20;

/// An open GGUF file whose header has been checked against its size.
#[derive(Debug)]
pub struct Reader<R = Box<dyn FsReader>> {
    source: R,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: BTreeMap<String, usize>,
}

impl Reader {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// `NotFound` and `Io` from the system; `Corrupt` where the header breaks the format or does not fit the
    /// file; `Unsupported` for arrays of arrays.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Reader> {
        Reader::new(fs.open(path).map_err(Error::io("open", path))?, path)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads from anything seekable; `path` only names it in errors.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(mut source: R, path: &Path) -> Result<Reader<R>> {
        let file_bytes = source.seek(SeekFrom::End(0)).map_err(Error::io("read", path))?;
        source.rewind().map_err(Error::io("read", path))?;
        let (metadata, tensors) = header::parse(BufReader::new(&mut source), file_bytes, path)?;
        let index = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Ok(Reader { source, metadata, tensors, index })
    }

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// Describes a tensor.
    pub fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Describes a tensor that must exist.
    ///
    /// # Errors
    /// `NotFound`, naming the file and the tensor.
    pub fn require(&self, name: &str) -> Result<&TensorInfo> {
        self.find(name).ok_or_else(|| {
            self.tensor_error(name, ErrorKind::NotFound, "is missing from the file".to_owned())
        })
    }

    /// The raw blocks of a tensor.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `Unsupported` for a type of unknown size, `Io` from the system.
    pub fn read_bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let tensor = self.require(name)?;
        let (begin, Some(bytes)) = (tensor.begin, tensor.bytes) else {
            return Err(self.unsupported_type(tensor));
        };
        // The header was checked: the file really holds this many bytes.
        let mut content = vec![0; bytes as usize];
        self.seek(begin)?;
        self.source.read_exact(&mut content).map_err(Error::io("read", self.metadata.path()))?;
        Ok(content)
    }

    /// The values of a tensor of type F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `Unsupported` for another type, `Io` from the system.
    pub fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.require(name)?;
        let (Some(decode), Some((block_values, block_bytes))) =
            (tensor.tensor_type.decoder(), tensor.tensor_type.block())
        else {
            return Err(self.unsupported_type(tensor));
        };
        let begin = tensor.begin;
        let mut values = vec![0.0; tensor.elements()];
        self.seek(begin)?;
        let blocks = CHUNK_BYTES / block_bytes;
        let mut buffer = vec![0; (values.len() / block_values).min(blocks) * block_bytes];
        for chunk in values.chunks_mut(blocks * block_values) {
            let bytes = &mut buffer[..chunk.len() / block_values * block_bytes];
            self.source.read_exact(bytes).map_err(Error::io("read", self.metadata.path()))?;
            decode(bytes, chunk);
        }
        Ok(values)
    }

    /// The values of a parameter under Hugging Face's name, rows in Hugging Face's order; `config` is
    /// [`config()`](super::config())'s.
    ///
    /// # Errors
    /// As [`Reader::read_f32`]; `Corrupt` where the rows are not the heads that `config` has.
    pub fn read_parameter_f32(&mut self, hf_name: &str, config: &Config) -> Result<Vec<f32>> {
        let name = self.parameter(hf_name)?;
        let order = self.row_order(hf_name, &name, config)?;
        let values = self.read_f32(&name)?;
        Ok(reordered(values, order.as_deref()))
    }

    /// Like [`Reader::read_parameter_f32`] for raw blocks: whole rows are moved, so their bytes do not
    /// change.
    ///
    /// # Errors
    /// As [`Reader::read_bytes`]; `Corrupt` where the rows are not the heads that `config` has, or not whole
    /// blocks.
    pub fn read_parameter_bytes(&mut self, hf_name: &str, config: &Config) -> Result<Vec<u8>> {
        let name = self.parameter(hf_name)?;
        let order = self.row_order(hf_name, &name, config)?;
        let bytes = self.read_bytes(&name)?;
        if let Some(order) = &order
            && !bytes.len().is_multiple_of(order.len().max(1))
        {
            let message = "its rows are not whole blocks and must be reordered: read it as f32".to_owned();
            return Err(self.tensor_error(&name, ErrorKind::Corrupt, message));
        }
        Ok(reordered(bytes, order.as_deref()))
    }

    fn parameter(&self, hf_name: &str) -> Result<String> {
        names::tensor_name(hf_name).ok_or_else(|| {
            let message = "is not a parameter of GGUF files of this family".to_owned();
            self.tensor_error(hf_name, ErrorKind::NotFound, message)
        })
    }

    fn row_order(&self, hf_name: &str, name: &str, config: &Config) -> Result<Option<Vec<usize>>> {
        let heads = match names::heads_of(hf_name) {
            Some(Heads::Query) => config.num_attention_heads,
            Some(Heads::Key) => config.num_key_value_heads,
            None => return Ok(None),
        };
        let architecture = self.metadata.str("general.architecture")?.unwrap_or("");
        let rows = self.require(name)?.shape.first().copied().unwrap_or(1);
        if Some(rows) != heads.checked_mul(config.head_dim) {
            let message = format!("has {rows} rows, expected {heads} heads of {}", config.head_dim);
            return Err(self.tensor_error(name, ErrorKind::Corrupt, message));
        }
        names::row_order(architecture, hf_name, heads, rows)
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        let sought = self.source.seek(SeekFrom::Start(position));
        sought.map(drop).map_err(Error::io("read", self.metadata.path()))
    }

    fn unsupported_type(&self, tensor: &TensorInfo) -> Error {
        let message = format!(
            "is stored as {}, which is not supported: use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, \
             Q5_1, Q4_K, Q5_K or Q6_K",
            tensor.tensor_type
        );
        self.tensor_error(&tensor.name, ErrorKind::Unsupported, message)
    }

    pub(super) fn tensor_error(&self, name: &str, kind: ErrorKind, message: String) -> Error {
        Error::Tensor { path: self.path().to_owned(), tensor: name.to_owned(), message, kind }
    }
}

/// Row `order[i]` becomes row i.
fn reordered<T: Copy>(values: Vec<T>, order: Option<&[usize]>) -> Vec<T> {
    let Some(order) = order.filter(|order| !order.is_empty()) else { return values };
    let width = values.len() / order.len();
    order.iter().flat_map(|&row| &values[row * width..(row + 1) * width]).copied().collect()
}
