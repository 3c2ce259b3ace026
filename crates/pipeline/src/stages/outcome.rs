//! What a job has come to, and what it left where.

use std::path::PathBuf;

use runs::report::{Event, Reporter};
use runs::run::RunDir;
use serde::Serialize;
use store::walk::bytes_below;

use super::history;
use super::request::Request;
use super::trained::Trained;
use crate::Result;
use crate::meta::Until;
use crate::project::Project;

/// A result of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// Description.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
    /// Size in bytes, including everything below.
    pub bytes: u64,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunOutcome {
    /// Id of the run.
    pub run_id: String,
    /// Its folder.
    pub run_dir: PathBuf,
    /// Steps done.
    pub step: u64,
    /// Loss of the last step.
    pub train_loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// Whether a finished training was reused.
    pub training_reused: bool,
    /// Seconds of all phases.
    pub seconds: f64,
    /// The results with their paths.
    pub artifacts: Vec<Artifact>,
    /// Suggested next commands.
    pub next: Vec<String>,
}

impl RunOutcome {
    pub(super) fn of(trained: &Trained) -> RunOutcome {
        RunOutcome {
            run_id: trained.run.id(),
            run_dir: trained.run.path().to_owned(),
            step: trained.step,
            train_loss: trained.train_loss,
            validation_loss: trained.validation_loss,
            best_validation_loss: trained.best_validation_loss,
            training_reused: trained.reused,
            seconds: 0.0,
            artifacts: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Marks the job as done and lists its results.
    pub(super) fn close(
        &mut self,
        request: &Request<'_>,
        trained: &Trained,
        reporter: &mut dyn Reporter,
    ) -> Result<()> {
        history::note_finished(trained, request.until)?;
        let generate = match trained.meta.recipe.finetune.is_some() {
            true => "generate --chat",
            false => "generate --prompt \"The \"",
        };
        let commands = match request.until {
            // The remaining phases of this training: validation and export.
            Until::Training => {
                let rest = format!("resume {}", self.run_id);
                [
                    "generate --run latest --prompt \"The \"".to_owned(),
                    rest,
                    "resume --more-epochs 2".to_owned(),
                ]
            }
            Until::Export => [generate, "resume --more-epochs 2", "list"].map(str::to_owned),
        };
        self.next = commands.map(|command| request.project.command(&command)).to_vec();
        self.artifacts = artifacts(request.project, &trained.run);
        for Artifact { name, path, bytes } in self.artifacts.clone() {
            reporter.event(&Event::Artifact { name, path, bytes });
        }
        Ok(())
    }
}

fn artifacts(project: &Project, run: &RunDir) -> Vec<Artifact> {
    let wanted = [
        ("cleaned text and token shards", project.data()),
        ("tokenizer", project.tokenizer()),
        ("run: checkpoints, metrics, log", run.path().to_owned()),
        ("loss curve (also loss.png)", run.path().join("loss.svg")),
        ("training history in one file", project.training_metrics()),
        ("evaluation", project.evals()),
        ("model, for transformers and others", project.model()),
    ];
    wanted
        .into_iter()
        .filter(|(_, path)| path.exists())
        .map(|(name, path)| Artifact { name: name.to_owned(), bytes: bytes_below(&path), path })
        .collect()
}
