//! `text2llm list`: all runs of the project, newest last.

use clap::Args;
use pipeline::project::Project;
use pipeline::stages;
use runs::run::{RunDir, RunStatus, RunSummary};
use serde_json::json;
use store::fs::RealFs;
use store::lock::RunLock;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, short_duration};
use crate::select;

/// List the runs of the project and their state
#[derive(Debug, Args)]
pub struct Arguments {}

/// Prints one line per run.
pub fn run(global: &GlobalArguments, _arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let mut runs = runs::run::list(&RealFs, &project.runs())?;
    for run in runs.iter_mut().filter(|run| run.state.is_none()) {
        let folder = RunDir::open(&RealFs, &run.path)?;
        if let Some(damage) = pipeline::record::state_damage(&folder) {
            run.state = pipeline::record::state(&folder).ok();
            console.warning(&damage);
        }
    }
    if !console.is_human() {
        for run in &runs {
            let mut value = serde_json::to_value(run)?;
            value["missing"] = json!(missing(&project, run));
            console.result("run", &value)?;
        }
        return console.result("list", &json!({ "runs": runs.len() }));
    }
    if runs.is_empty() {
        console.prose(&format!("No runs in {}. Start one with `text2llm run`.", project.runs().display()));
        return Ok(());
    }
    let width = runs.iter().map(|run| run.run_id.len()).max().unwrap_or(0).max(3);
    console.data(&format!(
        "{:width$}  {:11}  {:>15}  {:>7}  {:>7}  {:>7}  {:>8}",
        "RUN", "STATUS", "STEP", "EPOCH", "LOSS", "VALID", "ETA"
    ))?;
    for run in &runs {
        let Some(state) = &run.state else {
            console.data(&format!("{:width$}  {:11}  its records are unreadable", run.run_id, "unknown"))?;
            continue;
        };
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let eta = if state.eta_s > 0.0 { short_duration(state.eta_s) } else { "–".to_owned() };
        console.data(&format!(
            "{:width$}  {:11}  {:>15}  {:>7.2}  {:>7}  {:>7}  {:>8}",
            run.run_id,
            match missing(&project, run).is_empty() {
                false if state.status == RunStatus::Completed => "trained".to_owned(),
                _ => state.status_in_words(),
            },
            format!("{}/{}", state.step, state.total_steps),
            state.epoch,
            number(state.train_loss),
            number(state.validation_loss),
            eta,
        ))?;
        if let Some(why) = &state.paused {
            console.data(&format!("{:width$}  {why}", ""))?;
        }
    }
    Ok(())
}

/// Stages after training that have not run; none while a process works on the run.
fn missing(project: &Project, run: &RunSummary) -> Vec<&'static str> {
    let (Some(state), Ok(folder)) = (&run.state, RunDir::open(&RealFs, &run.path)) else { return Vec::new() };
    // The lock is only looked at for the few runs that are trained and not finished.
    let stages = stages::missing(project, &folder, state).stages;
    if !stages.is_empty() && RunLock::is_held(&run.path) { Vec::new() } else { stages }
}
