//! What of a trained run's job is still to do, as its folders tell.

use runs::run::{RunDir, RunState};
use serde::Serialize;
use store::fs::RealFs;
use store::manifest::Manifest;

use super::validation::Evaluation;
use crate::meta::{RunMeta, Until};
use crate::project::Project;

/// Stages after training without a result, and what makes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// "validation", "export", in their order; empty where all is there.
    pub stages: Vec<&'static str>,
    /// The arguments of the command that makes them: "resume RUN".
    pub arguments: String,
}

impl Missing {
    /// In a sentence, the command included; `None` where nothing is missing.
    pub fn in_words(&self, project: &Project) -> Option<String> {
        let command = project.command(&self.arguments);
        match self.stages.as_slice() {
            [] => None,
            [one] => Some(format!("{one} is missing: `{command}`")),
            several => Some(format!("{} are missing: `{command}`", several.join(" and "))),
        }
    }
}

/// What is missing of a run. Of one that is not trained all is, which its state tells; of one whose record
/// cannot be read nothing is known.
pub fn missing(project: &Project, run: &RunDir, state: &RunState) -> Missing {
    let Some(meta) = state.is_trained().then(|| RunMeta::read(&RealFs, run).ok()).flatten() else {
        return Missing::default();
    };
    let evaluation =
        store::atomic::read_json::<Evaluation>(&RealFs, &project.evals().join("results.json")).ok();
    let own = evaluation.as_ref().filter(|found| found.run_id == run.id() && found.unmet.is_empty());
    // A run that came to its end once is done, whichever run's results are there by now.
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
    // By its name: with its own recipe, wherever that came from, and however many runs there are since.
    Missing { stages, arguments: format!("resume {}", run.id()) }
}
