//! Checkpoints: everything that determines the next step, in a folder that is complete or does not exist.
//!
//! `checkpoints/step-00000500/` contains `weights.safetensors`, `moments.safetensors` (`….exp_avg`,
//! `….exp_avg_sq`), with `train.ema_decay` `average.safetensors`, `trainer.json` ([`TrainerState`]) and
//! `manifest.json`, written last. It contains no times, so the same training gives the same bytes. Reading
//! order: `state`, `save`, `load`, `retain`.

mod load;
#[cfg(test)]
mod real_disk;
mod retain;
mod save;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::Result;
use model::StateKind;
use store::fs::{FileKind, Fs};

pub use crate::spike::{Spike, SpikeWindow};
pub use load::{Part, Which};
pub use state::{Best, EpochLoss, EpochSummary, LeftStream, Rollbacks, TrainerState};

/// The stage's name in a checkpoint's manifest.
const STAGE: &str = "checkpoint";
const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "moments.safetensors";
/// Only if the run keeps an average.
const AVERAGE: &str = "average.safetensors";
const TRAINER: &str = "trainer.json";
/// All files that a checkpoint may have.
const FILES: [&str; 5] = [WEIGHTS, MOMENTS, AVERAGE, TRAINER, store::manifest::FILE_NAME];

/// A folder being deleted: it is renamed first, so that a crash never leaves half a checkpoint under its own
/// name.
const DELETING: &str = "deleting";

/// Describes one tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTensor {
    /// The parameter's name.
    pub name: String,
    /// Which of the parameter's values.
    pub kind: StateKind,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl SavedTensor {
    fn file(&self) -> &'static str {
        match self.kind {
            StateKind::Weight => WEIGHTS,
            StateKind::Moment1 | StateKind::Moment2 => MOMENTS,
            StateKind::Average => AVERAGE,
        }
    }

    /// As PyTorch's AdamW names its state.
    fn name_in_file(&self) -> String {
        match self.kind {
            StateKind::Weight | StateKind::Average => self.name.clone(),
            StateKind::Moment1 => format!("{}.exp_avg", self.name),
            StateKind::Moment2 => format!("{}.exp_avg_sq", self.name),
        }
    }
}

/// A source and target of tensors: the model, or a stand-in in tests.
pub trait TensorStore {
    /// All tensors, in a fixed order.
    fn saved_tensors(&self) -> Vec<SavedTensor>;
    /// The values of a tensor.
    fn read_tensor(&mut self, tensor: &SavedTensor) -> Result<Vec<f32>>;
    /// Replaces the values of a tensor.
    fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> Result<()>;
}

/// The checkpoints of one run.
pub struct Checkpoints<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
}

impl<'a> Checkpoints<'a> {
    /// The checkpoints in `folder`, usually [`runs::run::RunDir::checkpoints`].
    pub fn new(fs: &'a dyn Fs, folder: &Path) -> Checkpoints<'a> {
        Checkpoints { fs, folder: folder.to_owned() }
    }

    /// The folder of a step, which may not exist.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// The steps that have a folder, ascending, without verifying them.
    pub fn steps(&self) -> Result<Vec<u64>> {
        if !self.fs.exists(&self.folder) {
            return Ok(Vec::new());
        }
        let entries = self.fs.list(&self.folder).map_err(store::Error::io("list", &self.folder))?;
        let mut steps: Vec<u64> = entries
            .iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| step_of(&entry.name))
            // `step-1` and `step-00000001` would be the same step twice.
            .filter(|&step| self.fs.exists(&self.path(step)))
            .collect();
        steps.sort_unstable();
        steps.dedup();
        Ok(steps)
    }

    /// Files in a checkpoint's folder that do not belong to a checkpoint.
    ///
    /// # Errors
    /// I/O errors.
    pub fn strays(fs: &dyn Fs, folder: &Path) -> Result<Vec<PathBuf>> {
        let names = fs.names(folder).map_err(store::Error::io("list", folder))?;
        let is_ours = |name: &std::ffi::OsStr, kind: FileKind| {
            let known = name.to_str().is_some_and(|name| FILES.contains(&name));
            kind == FileKind::File && (known || store::ownership::is_passing(name))
        };
        let strays = names.into_iter().filter(|(name, kind)| !is_ours(name, *kind));
        Ok(strays.map(|(name, _)| folder.join(name)).collect())
    }
}

/// Whether a name in `checkpoints/` is that of a checkpoint or of an unfinished one.
pub fn is_folder_name(name: &std::ffi::OsStr) -> bool {
    let left = |name: &str| {
        let (name, suffix) = name.strip_prefix('.')?.rsplit_once('.')?;
        matches!(suffix, "partial" | "old" | DELETING).then(|| step_of(name)).flatten()
    };
    name.to_str().is_some_and(|name| step_of(name).or_else(|| left(name)).is_some())
}

/// The step of a checkpoint's folder, by its name.
pub fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}
