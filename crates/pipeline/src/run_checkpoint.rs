//! A run's checkpoint as a model: the weights are the checkpoint's, shape and tokenizer the run's.

use std::path::{Path, PathBuf};

use formats::hf;
use model::{ModelConfig, Stored};
use runs::run::RunDir;
use store::fs::{Fs, RealFs};
use tokenizer::Tokenizer;
use train::Checkpoints;
use train::checkpoint::step_of;

use crate::meta::RunMeta;
use crate::{Error, Result, record};

/// A run that a path names, and which of its checkpoints.
pub(crate) struct RunCheckpoint {
    run: RunDir,
    meta: RunMeta,
    config: ModelConfig,
    /// `None`: the best one.
    step: Option<u64>,
}

impl RunCheckpoint {
    /// The run of a path: its folder, or that of one of its checkpoints. `None`: the path is neither. Reads
    /// no weights.
    ///
    /// # Errors
    /// A run whose record is damaged, that trained adapters, or whose training has not begun.
    pub fn find(path: &Path) -> Result<Option<RunCheckpoint>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (folder, step) = match (step_of(name), path.parent().and_then(Path::parent)) {
            (Some(step), Some(folder)) => (folder, Some(step)),
            _ => (path, None),
        };
        if RealFs.exists(&path.join(model::folder::CONFIG_FILE)) || !RealFs.exists(folder) {
            return Ok(None);
        }
        let run = RunDir::open(&RealFs, folder)?;
        if !run.has_meta(&RealFs) || !RealFs.exists(&run.checkpoints()) {
            return Ok(None);
        }
        let meta = RunMeta::read(&RealFs, &run)?;
        if meta.recipe.tuning().adapter.is_some() {
            return Err(Error::Argument {
                message: format!(
                    "`{}`: the run trained adapters, and its checkpoints have no other weights: name the \
                     adapter's folder instead, `model/` of its project (`text2llm resume {}` writes it), or \
                     merge that into its base first (`text2llm merge`)",
                    path.display(),
                    run.id()
                ),
            });
        }
        let config = meta.model.clone().ok_or_else(|| without_checkpoint(&run))?;
        Ok(Some(RunCheckpoint { run, meta, config, step }))
    }

    /// The run's record.
    pub fn meta(&self) -> &RunMeta {
        &self.meta
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The checkpoint's folder and its weights, with every byte verified.
    ///
    /// # Errors
    /// A run without a checkpoint; a damaged one: the file is named.
    pub fn open(&self, tokenizer: &Tokenizer) -> Result<(PathBuf, Stored)> {
        let folder = self.run.checkpoints();
        let checkpoints = Checkpoints::new(&RealFs, &folder);
        let step = self.step(&checkpoints)?;
        let hf = hf::Config {
            bos_token_id: tokenizer.bos_id(),
            eos_token_ids: self.meta.stop_ids.clone(),
            pad_token_id: tokenizer.pad_id(),
            ..self.config.to_hf()
        };
        let stored = Stored::of_weights_file(&RealFs, &checkpoints.weights_file(step)?, hf)?;
        Ok((checkpoints.path(step), stored))
    }

    /// The folder of the checkpoint, for a run that starts from it and needs it until its end.
    ///
    /// # Errors
    /// A run without a checkpoint; one that is in training, which may delete it.
    pub fn settled(&self) -> Result<PathBuf> {
        if self.run.lock().is_err() {
            return Err(Error::Argument {
                message: format!(
                    "train.init: run {} is in training, which deletes checkpoints: stop it first (`text2llm \
                     stop {}`), or wait for its end",
                    self.run.id(),
                    self.run.id()
                ),
            });
        }
        let folder = self.run.checkpoints();
        let checkpoints = Checkpoints::new(&RealFs, &folder);
        let path = checkpoints.path(self.step(&checkpoints)?);
        Ok(std::path::absolute(&path).unwrap_or(path))
    }

    fn step(&self, checkpoints: &Checkpoints<'_>) -> Result<u64> {
        match self.step {
            Some(step) => Ok(step),
            None => checkpoints.best_step()?.ok_or_else(|| without_checkpoint(&self.run)),
        }
    }

    /// The run's tokenizer.
    ///
    /// # Errors
    /// A damaged tokenizer of which there is no other copy.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        record::tokenizer(&self.run, &self.meta)
    }
}

fn without_checkpoint(run: &RunDir) -> Error {
    Error::Argument {
        message: format!(
            "run {} has no checkpoint yet: wait for the first one (see `text2llm status`)",
            run.id()
        ),
    }
}
