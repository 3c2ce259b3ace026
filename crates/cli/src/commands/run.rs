//! `text2llm run`: the main job, from text to a model folder.

use clap::Args;
use pipeline::project::Project;
use pipeline::stages::{self, Request, Until};
use pipeline::supervise;
use recipe::{NotifyOptions, Override};
use runs::run::{RunDir, RunStatus, RunSummary};
use store::fs::RealFs;

use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::detach::{self, Detached};
use crate::failure::Outcome;
use crate::output::Console;
use crate::{select, summary};

/// Train a model from text: data preparation, tokenizer, training, validation, export
///
/// Stages whose output is complete and up to date are skipped.
#[derive(Debug, Args)]
#[command(
    after_help = "Running again with the same recipe and text reuses finished stages and finished training\n\
                  (--fresh trains again). Continue an interrupted run with --resume."
)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Use the prepared text in data/ even if the corpus or [data] changed
    #[arg(long)]
    pub skip_corpus: bool,
    /// Use the tokenizer in tokenizer/ even if [tokenizer] changed
    #[arg(long)]
    pub skip_tokenizer: bool,
    /// Continue the latest unfinished run, with the recipe it was started with
    #[arg(long)]
    pub resume: bool,
    /// With --resume, apply changed recipe keys that may change within a run (schedule, checkpoints,
    /// validation, export)
    #[arg(long, requires = "resume")]
    pub accept_changes: bool,
    /// Train a new run even if a finished run has this recipe and text
    #[arg(long, conflicts_with = "resume")]
    pub fresh: bool,
    /// Run in the background under a supervisor that resumes after a crash; returns once training has started
    #[arg(long)]
    pub detach: bool,
}

/// Runs all stages.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    run_until(global, arguments, &[], Until::Export, console)
}

/// Runs the stages up to `until`; `overrides` of the recipe come from the command's own flags.
pub fn run_until(
    global: &GlobalArguments,
    arguments: Arguments,
    overrides: &[Override],
    until: Until,
    console: &mut Console,
) -> Outcome {
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    let mut selected = select::recipe(global, &arguments.recipe, overrides, &project)?;
    if arguments.detach {
        let first = detach::arguments_without(&detach::OUTPUT_FLAGS);
        let mut again: Vec<String> =
            first.iter().filter(|flag| !matches!(flag.as_str(), "--fresh" | "--resume")).cloned().collect();
        again.push("--resume".to_owned());
        let notify = match resumed_notify(&project, arguments.resume && !selected.explicit) {
            Some(recorded) => (recorded, false),
            None => (selected.recipe.notify, selected.notify_is_said),
        };
        let detached = Detached { project: &project, first, again, run_id: None, notify };
        return detach::launch(global, detached, console);
    }
    crate::stopping::listen(console)?;
    console.heading(&selected, &project);
    pipeline::hub::localize(&mut selected.recipe, &selected.base_dir, console.reporter().as_mut())?;
    let request = Request {
        project: &project,
        recipe: selected.recipe,
        base_dir: selected.base_dir,
        recipe_source: selected.source,
        recipe_is_explicit: selected.explicit,
        skip_corpus: arguments.skip_corpus,
        skip_tokenizer: arguments.skip_tokenizer,
        resume: arguments.resume,
        accept_changes: arguments.accept_changes,
        fresh: arguments.fresh,
        until,
        target: global.target(),
        accept_risks: global.yes,
        generator: std::env::current_exe().ok(),
    };
    let outcome = stages::run(request, console.reporter().as_mut())?;
    summary::print(&outcome, &project, console)
}

/// Notification options for a job that resumes: those of the unfinished run's own recipe.
fn resumed_notify(project: &Project, resume: bool) -> Option<NotifyOptions> {
    let runs = runs::run::list(&RealFs, &project.runs()).ok().filter(|_| resume)?;
    let is_unfinished =
        |run: &&RunSummary| run.state.as_ref().is_some_and(|state| state.status != RunStatus::Completed);
    let run = runs.iter().rev().find(is_unfinished).or(runs.last())?;
    supervise::recorded_notify(&RunDir::open(&RealFs, &run.path).ok()?).ok()
}
