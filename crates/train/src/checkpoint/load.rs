//! Loads checkpoints: verifies them first, and falls back to the previous one with a warning.

use std::path::PathBuf;

use formats::safetensors::Reader;
use model::StateKind;
use runs::report::{Phase, Reporter};
use store::manifest::Manifest;
use store::{ownership, stage};

use super::{
    AVERAGE, Checkpoints, MOMENTS, STAGE, SavedTensor, TRAINER, TensorStore, TrainerState, WEIGHTS, step_of,
};
use crate::{Error, ErrorKind, Result};

/// The selected checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest intact one.
    #[default]
    Latest,
    /// The checkpoint with the lowest validation loss.
    Best,
    /// The one of this step.
    Step(u64),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Which, String> {
        match text {
            "latest" => Ok(Which::Latest),
            "best" => Ok(Which::Best),
            _ => text
                .parse()
                .map(Which::Step)
                .map_err(|_| format!("`{text}` is not latest, best or a step number")),
        }
    }
}

/// What is needed of a checkpoint: only that is verified and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The trainer's state: which checkpoint is the best.
    State,
    /// The trainer's state and the weights, or their average if the run keeps one: for sampling, validation
    /// and export.
    Weights,
    /// Everything: for continuing the training.
    All,
}

impl Part {
    /// The files with tensors to read.
    fn tensor_files(self, averaged: bool) -> &'static [&'static str] {
        match (self, averaged) {
            (Part::State, _) => &[],
            (Part::Weights, false) => &[WEIGHTS],
            (Part::Weights, true) => &[AVERAGE],
            (Part::All, false) => &[WEIGHTS, MOMENTS],
            (Part::All, true) => &[WEIGHTS, MOMENTS, AVERAGE],
        }
    }

    /// Whether a file of the checkpoint must be intact.
    pub(super) fn needs(self, file: &str, averaged: bool) -> bool {
        self == Part::All || file == TRAINER || self.tensor_files(averaged).contains(&file)
    }
}

impl Checkpoints<'_> {
    /// Verifies every byte of a checkpoint against its manifest.
    pub fn verify(&self, step: u64) -> Result<Manifest> {
        self.verify_part(step, Part::All)
    }

    /// Verifies every byte of `part` of a checkpoint against its manifest.
    pub fn verify_part(&self, step: u64, part: Part) -> Result<Manifest> {
        let path = self.path(step);
        let manifest = Manifest::read(self.fs, &path)?;
        let damaged =
            |message: String| Error::Corrupt { path: path.join(store::manifest::FILE_NAME), message };
        if manifest.stage != STAGE {
            return Err(damaged(format!("it describes a {}, not a checkpoint", manifest.stage)));
        }
        if manifest.options["step"].as_u64() != Some(step) {
            return Err(damaged(format!("it belongs to step {}", manifest.options["step"])));
        }
        for name in [WEIGHTS, MOMENTS, TRAINER] {
            if !manifest.outputs.contains_key(name) {
                return Err(damaged(format!("it does not list `{name}`")));
            }
        }
        // Files that do not belong to it are not read.
        let averaged = manifest.outputs.contains_key(AVERAGE);
        manifest.verify_selected(self.fs, &path, |file| part.needs(file, averaged))?;
        Ok(manifest)
    }

    /// The file with a checkpoint's weights, or their average if the run keeps one, with every byte verified.
    ///
    /// # Errors
    /// A checkpoint that is missing or damaged: the file is named.
    pub fn weights_file(&self, step: u64) -> Result<PathBuf> {
        let manifest = self.verify_part(step, Part::Weights)?;
        let averaged = manifest.outputs.contains_key(AVERAGE);
        Ok(self.path(step).join(if averaged { AVERAGE } else { WEIGHTS }))
    }

    /// The step of the checkpoint with the lowest validation loss, or of the newest one if the run was never
    /// validated; `None` if it has no checkpoint. Reads no weights.
    ///
    /// # Errors
    /// A damaged record in the newest checkpoint.
    pub fn best_step(&self) -> Result<Option<u64>> {
        let Some(&newest) = self.steps()?.last() else { return Ok(None) };
        let (state, _) = self.read_verified(newest, Part::State)?;
        Ok(Some(state.best.map_or(newest, |best| best.step)))
    }

    /// Completes or removes unfinished checkpoints that a crash left in the folder.
    pub fn repair(&self) -> Result<()> {
        if !self.fs.exists(&self.folder) {
            return Ok(());
        }
        for entry in self.fs.list(&self.folder).map_err(store::Error::io("list", &self.folder))? {
            let Some((name, suffix)) = entry.name.strip_prefix('.').and_then(|name| name.rsplit_once('.'))
            else {
                continue;
            };
            let path = self.folder.join(&entry.name);
            match (step_of(name), suffix) {
                (Some(_), "partial" | "old") => {
                    stage::repair(self.fs, &self.folder.join(name))?;
                }
                (Some(_), super::DELETING) => {
                    ownership::discard_known(self.fs, &path, &self.folder.join(name), &super::FILES)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Loads the selected checkpoint into `tensors`. Returns `None` only if the run has no checkpoint.
    ///
    /// # Errors
    /// `NoneWhole` if all are damaged; `NotFound` or `Corrupt` for a checkpoint selected by step. `Latest`
    /// falls back to the previous one, with a warning that names the damaged file.
    pub fn load(
        &self,
        which: Which,
        tensors: &mut dyn TensorStore,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<TrainerState>> {
        self.load_part(which, Part::All, tensors, reporter)
    }

    /// Like [`Checkpoints::load`] for the weights alone, or their average if the run keeps one: for sampling
    /// and export.
    pub fn load_weights(
        &self,
        which: Which,
        tensors: &mut dyn TensorStore,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<TrainerState>> {
        self.load_part(which, Part::Weights, tensors, reporter)
    }

    /// The state of the newest checkpoint of which `part` is intact, without tensors.
    pub fn latest_state(&self, part: Part, reporter: &mut dyn Reporter) -> Result<Option<TrainerState>> {
        self.newest(reporter, |step| self.read_verified(step, part).map(|(state, _)| state))
    }

    fn load_part(
        &self,
        which: Which,
        part: Part,
        tensors: &mut dyn TensorStore,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<TrainerState>> {
        // Weights are also read while the run is training; its unfinished checkpoint must not be cleaned up
        // here.
        if part == Part::All {
            self.repair()?;
        }
        let step = match which {
            Which::Latest => return self.newest(reporter, |step| self.load_step(step, part, tensors)),
            Which::Step(step) => step,
            Which::Best => {
                let Some(state) = self.latest_state(Part::Weights, reporter)? else { return Ok(None) };
                let Some(best) = state.best else {
                    let message =
                        "this run was never validated, so it has no best checkpoint: use `latest`".to_owned();
                    return Err(Error::NotFound { message });
                };
                best.step
            }
        };
        let steps = self.steps()?;
        if !steps.contains(&step) {
            let there: Vec<String> = steps.iter().map(u64::to_string).collect();
            return Err(Error::NotFound {
                message: format!(
                    "there is no checkpoint of step {step} in `{}`; available steps: {}",
                    self.folder.display(),
                    if there.is_empty() { "none".to_owned() } else { there.join(", ") }
                ),
            });
        }
        self.load_step(step, part, tensors).map(Some)
    }

    /// The result of `read` for the newest checkpoint that it succeeds for.
    fn newest<T>(
        &self,
        reporter: &mut dyn Reporter,
        mut read: impl FnMut(u64) -> Result<T>,
    ) -> Result<Option<T>> {
        let steps = self.steps()?;
        let mut first = None;
        for (i, &step) in steps.iter().enumerate().rev() {
            match read(step) {
                Ok(found) => return Ok(Some(found)),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    let next = match i.checked_sub(1) {
                        Some(i) => format!("trying the previous one, of step {}", steps[i]),
                        None => "there is no earlier one".to_owned(),
                    };
                    reporter.warning(
                        Phase::Training,
                        &format!("the checkpoint of step {step} is unusable: {error}; {next}"),
                    );
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match first {
            None => Ok(None),
            Some(first) => Err(Error::NoneWhole {
                folder: self.folder.clone(),
                damaged: steps.len(),
                first: Box::new(first),
            }),
        }
    }

    /// Verifies every byte of `part` before the first is used.
    fn read_verified(&self, step: u64, part: Part) -> Result<(TrainerState, Manifest)> {
        let manifest = self.verify_part(step, part)?;
        let path = self.path(step).join(TRAINER);
        let state: TrainerState = store::atomic::read_json(self.fs, &path)?;
        if state.format != TrainerState::FORMAT {
            let message = format!(
                "it has format {}, and this program reads {}: use the version of text2llm that wrote it",
                state.format,
                TrainerState::FORMAT
            );
            return Err(Error::Corrupt { path, message });
        }
        if state.step != step {
            let message = format!("it belongs to step {}", state.step);
            return Err(Error::Corrupt { path, message });
        }
        Ok((state, manifest))
    }

    fn load_step(&self, step: u64, part: Part, tensors: &mut dyn TensorStore) -> Result<TrainerState> {
        let (state, manifest) = self.read_verified(step, part)?;
        for &file in part.tensor_files(manifest.outputs.contains_key(AVERAGE)) {
            let path = self.path(step).join(file);
            let source = self.fs.open(&path).map_err(store::Error::io("open", &path))?;
            let mut reader = Reader::new(source, &path)?;
            let is_wanted = |tensor: &SavedTensor| match part {
                Part::All => tensor.file() == file,
                Part::Weights | Part::State => tensor.kind == StateKind::Weight,
            };
            let wanted: Vec<_> = tensors.saved_tensors().into_iter().filter(is_wanted).collect();
            if reader.tensors().len() != wanted.len() {
                return Err(Error::Incompatible {
                    step,
                    what: "the number of tensors".to_owned(),
                    was: reader.tensors().len().to_string(),
                    now: wanted.len().to_string(),
                    remedy: "the recipe's [model], train.optimizer or train.ema_decay was changed: start a \
                             new run, or restore it",
                });
            }
            for tensor in wanted {
                let name = tensor.name_in_file();
                let shape = reader.require(&name)?.shape.clone();
                if shape != tensor.shape {
                    return Err(Error::Incompatible {
                        step,
                        what: "the shape of a tensor".to_owned(),
                        was: format!("{name} {shape:?}"),
                        now: format!("{:?}", tensor.shape),
                        remedy: "the recipe's [model] was changed: start a new run, or restore it",
                    });
                }
                let values = reader.read_f32_shaped(&name, &tensor.shape)?;
                tensors.write_tensor(&tensor, &values)?;
            }
        }
        Ok(state)
    }
}
