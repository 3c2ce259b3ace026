//! `text2llm rm`: delete a run.

use clap::Args;
use runs::run::RunDir;
use serde_json::json;
use store::fs::RealFs;
use store::walk::bytes_below;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::{Console, bytes};
use crate::select;

/// Delete a run with its checkpoints, metrics and log
///
/// Asks first. A running run is not deleted. Exported models are kept.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, or a unique prefix or suffix of it
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// Deletes the run after asking.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    if let Some(who) = pipeline::supervise::responsible(&project, &run) {
        let process = who.process().map(|process| format!(" (process {process})")).unwrap_or_default();
        return Err(Failure::message(format!(
            "run {} is running{process}: stop it first with `{}`",
            run.id(),
            project.command(&format!("stop {}", run.id()))
        )));
    }
    pipeline::record::check_removable(&run)?;
    let lock = run.lock()?;
    let size = bytes_below(run.path());
    let step = pipeline::record::state(&run).map_or(0, |state| state.step);
    let question = format!("Permanently delete run {} (step {step}, {})?", run.id(), bytes(size));
    if !console.confirm(&question)? {
        return Err(Failure::message(format!("run {} was not deleted; pass --yes to delete it", run.id())));
    }
    // Files may have been added while the question was open.
    pipeline::record::check_removable(&run)?;
    let id = run.id();
    runs::run::remove(&RealFs, &run, lock)?;
    if !console.is_human() {
        return console.result("removed", &json!({ "run_id": id, "bytes": size }));
    }
    console.prose(&format!("deleted run {id}; freed {}", bytes(size)));
    Ok(())
}
