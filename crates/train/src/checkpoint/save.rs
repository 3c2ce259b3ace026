//! Saves checkpoints: staged, hashed, swapped in, and read back before they count.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use formats::safetensors::{self, TensorSpec};
use serde_json::json;
use store::fs::Fs;
use store::manifest::Manifest;
use store::ownership;
use store::stage::StagedFolder;

use super::{AVERAGE, Checkpoints, MOMENTS, STAGE, SavedTensor, TRAINER, TensorStore, TrainerState, WEIGHTS};
use crate::{Error, ErrorKind, Result};

/// A checkpoint that was written and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// Its size in bytes, without the manifest.
    pub bytes: u64,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Checkpoints<'_> {
    /// Writes the checkpoint of `state.step` and verifies it on disk, replacing one of the same step.
    ///
    /// # Errors
    /// `NonFiniteWeights` before anything is written; otherwise I/O errors. Older checkpoints are not
    /// touched.
    pub fn save(&self, state: &TrainerState, tensors: &mut dyn TensorStore) -> Result<Saved> {
        let options = json!({ "step": state.step, "train": state.options.hash() });
        let list = tensors.saved_tensors();
        self.remove_unusable(state.step)?;
        let staged = StagedFolder::begin(self.fs, &self.path(state.step), STAGE)?;
        for file in [WEIGHTS, MOMENTS, AVERAGE] {
            let of_file: Vec<&SavedTensor> = list.iter().filter(|tensor| tensor.file() == file).collect();
            if file == AVERAGE && of_file.is_empty() {
                continue;
            }
            write_tensors(staged.fs(), &staged.path().join(file), &of_file, state.step, tensors)?;
        }
        store::atomic::write_json(staged.fs(), &staged.path().join(TRAINER), state)?;
        let inputs = BTreeMap::from([
            ("data".to_owned(), state.data_hash.clone()),
            ("tokenizer".to_owned(), state.tokenizer_hash.clone()),
        ]);
        let made = staged.commit(Manifest::new(STAGE, options, inputs))?;
        let manifest = made.manifest;
        let found = self.verify(state.step)?;
        if found != manifest {
            let message = "the data read back differs from the data written".to_owned();
            return Err(Error::Corrupt { path: self.path(state.step), message });
        }
        let bytes = manifest.outputs.values().map(|record| record.bytes).sum();
        Ok(Saved { path: self.path(state.step), bytes, manifest })
    }

    /// Copies the checkpoint of `step` to another run's folder, verifying every byte.
    ///
    /// # Errors
    /// `NotFound` or `Corrupt` if it is not intact; I/O errors.
    pub fn copy_to(&self, step: u64, other: &Checkpoints<'_>) -> Result<()> {
        let manifest = self.verify(step)?;
        let staged = StagedFolder::begin(other.fs, &other.path(step), STAGE)?;
        for name in manifest.outputs.keys() {
            let (from, to) = (self.path(step).join(name), staged.path().join(name));
            let mut reader = self.fs.open(&from).map_err(store::Error::io("read", &from))?;
            let mut writer = other.fs.create(&to).map_err(store::Error::io("write", &to))?;
            std::io::copy(&mut reader, &mut writer).map_err(store::Error::io("copy", &from))?;
        }
        staged.adopt(manifest)?;
        Ok(())
    }

    /// Removes a checkpoint of `step` that is damaged or contains other files, which are kept next to it: the
    /// run rolled back before it and now makes it again.
    fn remove_unusable(&self, step: u64) -> Result<()> {
        let path = self.path(step);
        if !self.fs.exists(&path) {
            return Ok(());
        }
        let is_whole = match self.verify(step) {
            Ok(_) => ownership::strays(self.fs, &path)?.is_empty(),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => false,
            Err(error) => return Err(error),
        };
        if is_whole { Ok(()) } else { self.remove(step) }
    }

    /// Approximate size in bytes of a checkpoint of these tensors.
    pub fn size_bytes(tensors: &dyn TensorStore) -> u64 {
        let values: usize =
            tensors.saved_tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        // Headers and trainer.json.
        4 * values as u64 + (1 << 18)
    }
}

fn write_tensors(
    fs: &dyn Fs,
    path: &Path,
    list: &[&SavedTensor],
    step: u64,
    tensors: &mut dyn TensorStore,
) -> Result<()> {
    let by_name: BTreeMap<String, &SavedTensor> =
        list.iter().map(|&tensor| (tensor.name_in_file(), tensor)).collect();
    let specs = by_name.iter().map(|(name, tensor)| TensorSpec::f32(name, &tensor.shape)).collect();
    // The writer's closure returns errors of `formats`; errors of this crate are passed around it.
    let mut refused = None;
    let written = safetensors::write(fs, path, specs, &safetensors::pytorch_metadata(), |spec| {
        let error = match tensors.read_tensor(by_name[&spec.name]) {
            Ok(values) if values.iter().all(|value| value.is_finite()) => return Ok(Cow::Owned(values)),
            Ok(_) => Error::NonFiniteWeights { step, tensor: spec.name.clone() },
            Err(error) => error,
        };
        let message = error.to_string();
        refused = Some(error);
        Err(formats::Error::Invalid { message })
    });
    match refused {
        Some(error) => Err(error),
        None => written.map(|_| ()).map_err(Error::from),
    }
}
