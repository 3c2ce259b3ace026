//! `meta.json` of a run: everything that was asked and of what, so that the run can be continued and
//! understood alone.

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

/// Version of this file's form.
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

/// Where a run was forked from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    /// The other run.
    pub run_id: String,
    /// The step of its checkpoint.
    pub step: u64,
}

/// What `meta.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunMeta {
    /// Version of the form.
    pub format: u32,
    /// The program that began the run.
    pub program_version: String,
    /// When it began (UTC, RFC 3339).
    pub created_at: String,
    /// Where the recipe came from: a path, or an embedded example.
    pub recipe_source: String,
    /// The folder that relative corpus paths start from.
    pub base_dir: PathBuf,
    /// The whole recipe, every default written out.
    pub recipe: Recipe,
    /// The shape; known once the text is tokenized.
    pub model: Option<ModelConfig>,
    /// Parameters in all.
    pub parameters: Option<u64>,
    /// What it was made from, by hash.
    #[serde(default)]
    pub inputs: RunInputs,
    /// The machine.
    pub environment: Value,
    /// How far the job is meant to go.
    pub until: Until,
    /// `[train]` as the run began with it, where `resume --more-…` has changed it since.
    #[serde(default)]
    pub began_with: Option<train::TrainOptions>,
    /// The run and step that this one was forked from, if it was.
    #[serde(default)]
    pub forked_from: Option<ForkedFrom>,
    /// How far the job has come that the run belongs to; training alone leaves validation and export to do.
    #[serde(default)]
    pub finished: Option<Until>,
    /// [`train::TrainOptions::hash`] of all options that the run has trained with: its own, and those after
    /// `--more-…` and `--accept-changes`. A checkpoint of other options is not one of this record.
    #[serde(default)]
    pub trained_with: Vec<String>,
}

/// Hashes of what a run is trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInputs {
    /// Manifest of `data/documents/`.
    pub documents: String,
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// Manifest of `data/tokens/`.
    pub tokens: String,
}

/// Whether a record that does not have its seal is of a form that had none: what it says of itself counts
/// only for the message.
fn is_of_another_version(fs: &dyn Fs, run: &RunDir) -> bool {
    let value = store::atomic::read_json::<Value>(fs, &run.path().join("meta.json")).unwrap_or_default();
    value.get("recipe").is_some()
        && value.get("blake3").is_none()
        && value.get("format") != Some(&json!(FORMAT))
}

fn of_another_version(run: &RunDir, version: &str) -> Error {
    Error::Argument {
        message: format!(
            "run {} was made by another version of text2llm ({version}) and cannot be continued by this one",
            run.id()
        ),
    }
}

/// The arguments that go on with a run that is not done: by its name once its training has begun; before that
/// it is found as the newest one that is unfinished.
pub fn go_on(run: &RunDir) -> String {
    match RunMeta::read(&store::fs::RealFs, run) {
        Ok(meta) if meta.model.is_some() => format!("resume {}", run.id()),
        Ok(meta) if meta.until == Until::Training => "train --resume".to_owned(),
        _ => "run --resume".to_owned(),
    }
}

impl RunMeta {
    /// The record of a run that begins now.
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
    /// A missing or damaged file whose copy is no better, or one of another version of the program.
    pub fn read(fs: &dyn Fs, run: &RunDir) -> Result<RunMeta> {
        let value = run.read_meta(fs).map_err(|error| match error.kind() {
            ErrorKind::Corrupt | ErrorKind::NotFound if is_of_another_version(fs, run) => {
                of_another_version(run, "an older one")
            }
            ErrorKind::Corrupt | ErrorKind::NotFound => Error::Argument {
                message: format!(
                    "the record of run {} cannot be used: {error}, and its copy meta.copy.json is no better. Restore one of \
                     them from a backup, or begin a new run with `text2llm run --fresh`; nothing of this one is touched",
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
            message: format!("the record of run {} cannot be read: {error}", run.id()),
        })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, fs: &dyn Fs, run: &RunDir) -> Result<()> {
        let value = serde_json::to_value(self)
            .map_err(|error| Error::Environment { message: format!("cannot write meta.json: {error}") })?;
        Ok(run.write_meta(fs, &value)?)
    }

    /// Writes down that the run trains with its recipe's options.
    ///
    /// # Errors
    /// What the disk says.
    pub fn note_options(&mut self, fs: &dyn Fs, run: &RunDir) -> Result<()> {
        let hash = self.recipe.train.hash();
        if self.trained_with.contains(&hash) {
            return Ok(());
        }
        self.trained_with.push(hash);
        self.write(fs, run)
    }

    /// `[train]` as the run began with it.
    pub fn began_with(&self) -> &train::TrainOptions {
        self.began_with.as_ref().unwrap_or(&self.recipe.train)
    }

    /// Names everything that decided the weights when the run began: equal fingerprints train to equal bits,
    /// and a run that was continued beyond its end is still the run of its recipe.
    pub fn fingerprint(&self) -> String {
        store::manifest::hash_json(&json!({
            "train": self.began_with().deciding(),
            "model": self.model,
            "tokens": self.inputs.tokens,
            "tokenizer": self.inputs.tokenizer,
        }))
    }
}
