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

/// Delete a run with its checkpoints, metrics and log. Asks first; a run that works now is refused. What was
/// exported stays.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, or its unique beginning or end
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// Deletes.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    if let Some(who) = pipeline::supervise::responsible(&project, &run) {
        let process = who.process().map(|process| format!(" (process {process})")).unwrap_or_default();
        return Err(Failure::message(format!(
            "run {} is at work{process}: stop it first with `{}`",
            run.id(),
            project.command(&format!("stop {}", run.id()))
        )));
    }
    pipeline::record::check_removable(&run)?;
    let lock = run.lock()?;
    let size = bytes_below(run.path());
    let step = pipeline::record::state(&run).map_or(0, |state| state.step);
    let question = format!("Delete run {} (step {step}, {}) for good?", run.id(), bytes(size));
    if !console.confirm(&question)? {
        return Err(Failure::message(format!("run {} was not deleted: say --yes to delete it", run.id())));
    }
    // What has come while the question stood there.
    pipeline::record::check_removable(&run)?;
    let id = run.id();
    runs::run::remove(&RealFs, &run, lock)?;
    if !console.is_human() {
        return console.result("removed", &json!({ "run_id": id, "bytes": size }));
    }
    console.prose(&format!("run {id} is deleted; {} are free again", bytes(size)));
    Ok(())
}
