//! `text2llm fork`: create a run from a checkpoint of another run.

use clap::Args;
use runs::run::RunDir;
use serde_json::json;
use store::fs::RealFs;
use train::Which;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;
use crate::select;

/// Create a new run from a checkpoint of another run
///
/// The other run stays unchanged. Train the new run with `text2llm resume`: to its end, beyond it
/// (`--more-steps`), or with the learning-rate decay starting at once (`--decay-now`).
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, a unique prefix or suffix of it, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// Checkpoint to start from: latest, best, or a step
    #[arg(long, value_name = "CHECKPOINT", default_value = "latest")]
    pub from: String,
}

/// Creates the fork and prints its id.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    let which: Which =
        arguments.from.parse().map_err(|message| Failure::message(format!("--from: {message}")))?;
    let (fork, from) = pipeline::fork::fork(&project, &run, which)?;
    let is_done = fork.read_state(&RealFs).is_ok_and(|state| state.step >= state.total_steps);
    let more = if is_done { " --more-steps N" } else { "" };
    let next = project.command(&format!("resume {}{more}", fork.id()));
    if !console.is_human() {
        let value = json!({
            "run_id": fork.id(), "forked_from": from, "path": fork.path().display().to_string(), "next": next,
        });
        return console.result("forked", &value);
    }
    console.data(&fork.id())?;
    console.prose(&format!("forked from run {} at step {}. Next: {next}", from.run_id, from.step));
    Ok(())
}
