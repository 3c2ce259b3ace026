//! The weights of a model folder: one file, or several with an index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use store::fs::{Fs, FsReader};

use super::header::TensorEntry;
use super::reader::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::read_limited;

/// File name of weights in one file.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File name of the index of weights in several files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Largest index that is read; that of a model with 100 layers takes 100 kB.
const INDEX_LIMIT_BYTES: u64 = 1 << 26;

/// The tensors of a folder, wherever they are.
pub struct WeightFiles {
    index_path: PathBuf,
    files: Vec<Reader<Box<dyn FsReader>>>,
    /// The file of each tensor.
    index: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or all files that `model.safetensors.index.json` names, and checks their
    /// headers.
    ///
    /// # Errors
    /// `NotFound` for a folder without weights, or without one of its files; as [`Reader::open`]; `Corrupt`
    /// where index and files do not agree.
    pub fn open(fs: &dyn Fs, folder: &Path) -> Result<WeightFiles> {
        let single = folder.join(WEIGHTS_FILE);
        let index_path = folder.join(INDEX_FILE);
        if fs.exists(&single) || !fs.exists(&index_path) {
            return WeightFiles::of_file(fs, &single);
        }
        let map = read_index(fs, &index_path)?;
        let mut names: Vec<&String> = map.values().collect();
        names.sort_unstable();
        names.dedup();
        let mut files = Vec::new();
        for name in &names {
            if name.contains(['/', '\\']) || name.starts_with('.') {
                return Err(Error::corrupt(
                    &index_path,
                    format!("`{name}` is not the name of a file beside it"),
                ));
            }
            files.push(Reader::open_with(fs, &folder.join(name))?);
        }
        let mut index = BTreeMap::new();
        for (tensor, name) in &map {
            let file = names.partition_point(|&other| other < name);
            files[file].require(tensor)?;
            index.insert(tensor.clone(), file);
        }
        Ok(WeightFiles { index_path, files, index })
    }

    /// Opens one file, whatever its name, and checks its header.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn of_file(fs: &dyn Fs, path: &Path) -> Result<WeightFiles> {
        let file = Reader::open_with(fs, path)?;
        let index = file.tensors().iter().map(|tensor| (tensor.name.clone(), 0)).collect();
        Ok(WeightFiles { index_path: path.to_owned(), files: vec![file], index })
    }

    /// The file that names all tensors, for messages: the only one, or the index.
    pub fn path(&self) -> &Path {
        match &self.files[..] {
            [file] => file.path(),
            _ => &self.index_path,
        }
    }

    /// The files, for messages and hashes.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(Reader::path)
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorEntry> {
        self.index.iter().filter_map(|(name, &file)| self.files[file].find(name))
    }

    /// Describes a tensor.
    pub fn find(&self, name: &str) -> Option<&TensorEntry> {
        self.files[*self.index.get(name)?].find(name)
    }

    /// The values of the rows from `first_row` on, as f32, into the caller's memory.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; as [`Reader::read_f32_into`].
    pub fn read_rows_into(&mut self, name: &str, first_row: usize, values: &mut [f32]) -> Result<()> {
        match self.index.get(name) {
            Some(&file) => self.files[file].read_rows_into(name, first_row, values),
            None => Err(Error::Tensor {
                path: self.path().to_owned(),
                tensor: name.to_owned(),
                message: "is missing from the weights".to_owned(),
                kind: ErrorKind::NotFound,
            }),
        }
    }

    /// All values of a tensor, as f32.
    ///
    /// # Errors
    /// As [`WeightFiles::read_rows_into`].
    pub fn read_f32(&mut self, name: &str) -> Result<Vec<f32>> {
        let elements = self.find(name).map_or(0, TensorEntry::elements);
        let mut values = vec![0.0; elements];
        self.read_rows_into(name, 0, &mut values)?;
        Ok(values)
    }
}

fn read_index(fs: &dyn Fs, path: &Path) -> Result<BTreeMap<String, String>> {
    let json = read_limited(fs, path, INDEX_LIMIT_BYTES, "an index")?;
    let index: Index =
        serde_json::from_slice(&json).map_err(|error| Error::corrupt(path, error.to_string()))?;
    if index.weight_map.is_empty() {
        return Err(Error::corrupt(path, "it names no tensor".to_owned()));
    }
    Ok(index.weight_map)
}
