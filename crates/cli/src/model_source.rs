//! Flags that select a model, and models of the hub.

use std::path::{Path, PathBuf};

use clap::Args;
use pipeline::generate::Source;

use crate::failure::Outcome;
use crate::output::Console;

/// Longest chat in tokens, its answer included.
pub const LONGEST_CHAT_TOKENS: usize = 8192;

/// Flags that select a model.
#[derive(Clone, Debug, Args)]
pub struct SourceArguments {
    /// Run to load the model from: id, a unique prefix or suffix of it, or `latest`
    #[arg(long, value_name = "RUN", conflicts_with = "model")]
    pub run: Option<String>,
    /// Checkpoint of --run: best, latest, or a step
    #[arg(long, value_name = "CHECKPOINT", default_value = "best")]
    pub checkpoint: String,
    /// Model folder in Hugging Face format, a GGUF file, the folder of a run or of its checkpoint, or
    /// hf://OWNER/NAME[@REVISION][/FILE.gguf]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Adapter folder in PEFT format; its base is loaded too
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "run"])]
    pub adapter: Option<PathBuf>,
    /// Base of the adapter: a path or hf://OWNER/NAME [default: the one that it names]
    #[arg(long, value_name = "MODEL", requires = "adapter")]
    pub base: Option<PathBuf>,
}

impl SourceArguments {
    /// The model; without a flag, that of the project.
    pub fn source(&self, console: &Console) -> Outcome<Source> {
        if let Some(model) = &self.model {
            return Ok(Source::Folder(model_path(model, console)?));
        }
        Ok(match (&self.adapter, &self.run) {
            (Some(folder), _) => {
                let folder = std::path::absolute(folder)?;
                match &self.base {
                    Some(base) => Source::Adapter { folder, base: model_path(base, console)? },
                    None => Source::Folder(folder),
                }
            }
            (None, Some(run)) => Source::Run { run: run.clone(), checkpoint: self.checkpoint.clone() },
            (None, None) => Source::Default,
        })
    }
}

/// The absolute path of a model; one of the hub is downloaded.
pub fn model_path(model: &Path, console: &Console) -> Outcome<PathBuf> {
    let named = model.to_str().unwrap_or_default();
    match pipeline::hub::model(named, console.reporter().as_mut())? {
        Some(path) => Ok(path),
        None => Ok(std::path::absolute(model)?),
    }
}
