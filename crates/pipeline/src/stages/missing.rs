//! Determines which stages of a trained run are still missing, from its folders.

use runs::run::{RunDir, RunState};
use serde::Serialize;
use store::fs::RealFs;
use store::manifest::Manifest;

use super::validation::Evaluation;
use crate::meta::{RunMeta, Until};
use crate::project::Project;

/// Stages after training without a result, and the command that runs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// "validation", "export", in order; empty if none is missing.
    pub stages: Vec<&'static str>,
    /// The arguments of that command: "resume RUN".
    pub arguments: String,
}

impl Missing {
    /// A description with the command; `None` if nothing is missing.
    pub fn in_words(&self, project: &Project) -> Option<String> {
        let command = project.command(&self.arguments);
        match self.stages.as_slice() {
            [] => None,
            [one] => Some(format!("{one} is missing: `{command}`")),
            several => Some(format!("{} are missing: `{command}`", several.join(" and "))),
        }
    }
}

/// The missing stages of a run. For an untrained run its state says so; for a run with an unreadable record
/// nothing is known.
pub fn missing(project: &Project, run: &RunDir, state: &RunState) -> Missing {
    let Some(meta) = state.is_trained().then(|| RunMeta::read(&RealFs, run).ok()).flatten() else {
        return Missing::default();
    };
    let evaluation =
        store::atomic::read_json::<Evaluation>(&RealFs, &project.evals().join("results.json")).ok();
    let own = evaluation.as_ref().filter(|found| found.run_id == run.id() && found.unmet.is_empty());
    // A run that was completed once is done, whichever run's results exist now.
    let was_done = meta.finished == Some(Until::Export);
    let model = Manifest::read(&RealFs, &project.model()).ok();
    let of_own = |model: &Manifest| {
        own.is_some_and(|own| model.inputs.get("checkpoint") == Some(&own.checkpoint_hash))
    };
    let is_exported =
        !meta.recipe.export.enabled || model.as_ref().is_some_and(|model| was_done || of_own(model));
    let mut stages = Vec::new();
    if own.is_none() && !(was_done && evaluation.is_some()) {
        stages.push("validation");
    }
    if !is_exported {
        stages.push("export");
    }
    // By name: with its own recipe, wherever it came from, and however many runs there are since.
    Missing { stages, arguments: format!("resume {}", run.id()) }
}
