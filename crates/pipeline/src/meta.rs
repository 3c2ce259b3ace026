//! `meta.json` of a run: the full recipe and the hashes of its inputs, so that the run can be continued and
//! understood on its own.

use std::path::PathBuf;

use compute::Target;
use model::ModelConfig;
use runs::run::RunDir;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::ErrorKind;
use store::fs::Fs;

use crate::{Error, Result};
use recipe::Recipe;

/// Version of the file format.
const FORMAT: u32 = 2;

/// How far a job is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Stop after training.
    Training,
    /// All phases.
    Export,
}

/// The origin of a forked run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    /// The other run.
    pub run_id: String,
    /// The step of its checkpoint.
    pub step: u64,
}

/// The content of `meta.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunMeta {
    /// Version of the format.
    pub format: u32,
    /// Version of the program that started the run.
    pub program_version: String,
    /// Start time (UTC, RFC 3339).
    pub created_at: String,
    /// Where the recipe came from: a path, or an embedded example.
    pub recipe_source: String,
    /// The folder that relative corpus paths start from.
    pub base_dir: PathBuf,
    /// The whole recipe, with all defaults.
    #[serde(with = "recipe::value")]
    pub recipe: Recipe,
    /// The shape; known once the text is tokenized.
    pub model: Option<ModelConfig>,
    /// Number of parameters.
    pub parameters: Option<u64>,
    /// Hashes of its inputs.
    #[serde(default)]
    pub inputs: RunInputs,
    /// Ids that end a text.
    #[serde(default)]
    pub stop_ids: Vec<u32>,
    /// Description of the machine.
    pub environment: Value,
    /// The last phase of the job.
    pub until: Until,
    /// `[train]` as the run was started, if `resume --more-…` has changed it since.
    #[serde(default)]
    pub began_with: Option<train::TrainOptions>,
    /// The run and step that this one was forked from, if it was.
    #[serde(default)]
    pub forked_from: Option<ForkedFrom>,
    /// The last finished phase of the run's job; training alone leaves validation and export to do.
    #[serde(default)]
    pub finished: Option<Until>,
    /// [`train::TrainOptions::hash`] of all options that the run has trained with: its own, and those after
    /// `--more-…` and `--accept-changes`. A checkpoint with other options does not belong to this record.
    #[serde(default)]
    pub trained_with: Vec<String>,
}

/// Hashes of the inputs of training.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInputs {
    /// Manifest of `data/documents/`.
    pub documents: String,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// Manifest of `data/tokens/`.
    pub tokens: String,
    /// The model that it started from, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Whether a record without its hash has a format that had none: its content is only used for the message.
fn is_of_another_version(fs: &dyn Fs, run: &RunDir) -> bool {
    let value = store::atomic::read_json::<Value>(fs, &run.path().join("meta.json")).unwrap_or_default();
    value.get("recipe").is_some()
        && value.get("blake3").is_none()
        && value.get("format") != Some(&json!(FORMAT))
}

fn of_another_version(run: &RunDir, version: &str) -> Error {
    Error::Argument {
        message: format!(
            "run {} was created by another version of text2llm ({version}) and cannot be continued by this \
             one",
            run.id()
        ),
    }
}

/// The arguments that continue an unfinished run: by name once its training has started; before that it is
/// found as the newest unfinished one.
pub fn go_on(run: &RunDir) -> String {
    match RunMeta::read(&store::fs::RealFs, run) {
        Ok(meta) if meta.model.is_some() => format!("resume {}", run.id()),
        Ok(meta) if meta.until == Until::Training => "train --resume".to_owned(),
        _ => "run --resume".to_owned(),
    }
}

impl RunMeta {
    /// The record of a run that starts now.
    pub fn new(
        recipe: Recipe,
        recipe_source: String,
        base_dir: PathBuf,
        until: Until,
        target: Target,
    ) -> RunMeta {
        RunMeta {
            format: FORMAT,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: store::time::Timestamp::now().rfc3339(),
            recipe_source,
            base_dir,
            recipe,
            model: None,
            parameters: None,
            inputs: RunInputs::default(),
            stop_ids: Vec::new(),
            environment: train::environment(target),
            until,
            began_with: None,
            forked_from: None,
            finished: None,
            trained_with: Vec::new(),
        }
    }

    /// Reads a run's record.
    ///
    /// # Errors
    /// A missing or damaged file whose copy is unusable too, or one of another version of the program.
    pub fn read(fs: &dyn Fs, run: &RunDir) -> Result<RunMeta> {
        let value = run.read_meta(fs).map_err(|error| match error.kind() {
            ErrorKind::Corrupt | ErrorKind::NotFound if is_of_another_version(fs, run) => {
                of_another_version(run, "an older one")
            }
            ErrorKind::Corrupt | ErrorKind::NotFound => Error::Argument {
                message: format!(
                    "the record of run {} is unusable: {error}, and so is its copy meta.copy.json. Restore \
                     one of them from a backup, or start a new run with `text2llm run --fresh`; this run was \
                     not changed",
                    run.id()
                ),
            },
            _ => error.into(),
        })?;
        if value.get("format") != Some(&json!(FORMAT)) {
            let version = value.get("program_version").and_then(Value::as_str).unwrap_or("unknown");
            return Err(of_another_version(run, version));
        }
        serde_json::from_value(value).map_err(|error| Error::Argument {
            message: format!("cannot read the record of run {}: {error}", run.id()),
        })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, fs: &dyn Fs, run: &RunDir) -> Result<()> {
        let value = serde_json::to_value(self)
            .map_err(|error| Error::Environment { message: format!("cannot write meta.json: {error}") })?;
        Ok(run.write_meta(fs, &value)?)
    }

    /// Records that the run trains with its recipe's options.
    ///
    /// # Errors
    /// I/O errors.
    pub fn note_options(&mut self, fs: &dyn Fs, run: &RunDir) -> Result<()> {
        let hash = self.recipe.train.hash();
        if self.trained_with.contains(&hash) {
            return Ok(());
        }
        self.trained_with.push(hash);
        self.write(fs, run)
    }

    /// `[train]` as the run was started.
    pub fn began_with(&self) -> &train::TrainOptions {
        self.began_with.as_ref().unwrap_or(&self.recipe.train)
    }

    /// Fingerprint of everything that determined the weights when the run started: equal fingerprints train
    /// to equal bits, and a run that was continued beyond its end is still the run of its recipe.
    pub fn fingerprint(&self) -> String {
        store::manifest::hash_json(&json!({
            "train": self.began_with().deciding(),
            "model": self.model,
            "tokens": self.inputs.tokens,
            "tokenizer": self.inputs.tokenizer,
            "base": self.inputs.base,
            "adapter": self.recipe.adapter,
        }))
    }
}
