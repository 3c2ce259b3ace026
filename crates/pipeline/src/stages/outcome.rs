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

/// Something left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// What it is.
    pub name: String,
    /// Where.
    pub path: PathBuf,
    /// How large, everything below included.
    pub bytes: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunOutcome {
    /// The run.
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
    /// All phases together.
    pub seconds: f64,
    /// What lies where.
    pub artifacts: Vec<Artifact>,
    /// Commands worth trying next.
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

    /// Marks the job as done and lists what it left.
    pub(super) fn close(
        &mut self,
        request: &Request<'_>,
        trained: &Trained,
        reporter: &mut dyn Reporter,
    ) -> Result<()> {
        history::note_finished(trained, request.until)?;
        let commands = match request.until {
            // What is left of this training: validation and export.
            Until::Training => {
                let rest = format!("resume {}", self.run_id);
                [
                    "generate --run latest --prompt \"The \"".to_owned(),
                    rest,
                    "resume --more-epochs 2".to_owned(),
                ]
            }
            Until::Export => {
                ["generate --prompt \"The \"", "resume --more-epochs 2", "list"].map(str::to_owned)
            }
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
        ("the run: checkpoints, metrics, log", run.path().to_owned()),
        ("loss curve (and loss.png)", run.path().join("loss.svg")),
        ("training history in one file", project.training_metrics()),
        ("evaluation", project.evals()),
        ("the model, for transformers and others", project.model()),
    ];
    wanted
        .into_iter()
        .filter(|(_, path)| path.exists())
        .map(|(name, path)| Artifact { name: name.to_owned(), bytes: bytes_below(&path), path })
        .collect()
}
