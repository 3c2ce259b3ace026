//! `text2llm stop`: save a checkpoint, then stop.

use std::time::{Duration, Instant};

use clap::Args;
use pipeline::{stages, supervise};
use runs::run::RunDir;
use serde_json::json;
use store::fs::RealFs;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::{Console, short_duration};
use crate::select;

/// Expected time to save a checkpoint. If it takes longer, a message is printed and the wait goes on.
const SOON: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Stop a run after saving a checkpoint
///
/// A run can be stopped in any stage. Training saves a checkpoint first; `resume` continues from it bit for
/// bit.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, a unique prefix or suffix of it, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
}

/// Asks the run's process to stop, waits for it, and prints what was saved.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    let started = Instant::now();
    let Some(mut asked) = supervise::ask_to_stop(&project, &run)? else {
        let state = run.state(&RealFs)?;
        return Err(Failure::message(format!(
            "run {} is not running (it is {}): nothing to stop. List all runs with `{}`",
            run.id(),
            state.status,
            project.command("list")
        )));
    };
    let mut told = false;
    while let Some(now) = supervise::responsible(&project, &run) {
        // The supervisor has exited and left its worker, or another process has taken over.
        if now != asked {
            supervise::ask_to_stop(&project, &run)?;
            asked = now;
        }
        if !told && started.elapsed() > SOON {
            told = true;
            let who = now.process().map(|process| format!(" (process {process})")).unwrap_or_default();
            console.prose(&format!(
                "run {}{who} is still saving or preparing text and will stop when it is done (Ctrl-C only \
                 ends this wait)",
                run.id()
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let seconds = started.elapsed().as_secs_f64();
    let state = run.state(&RealFs)?;
    if !console.is_human() {
        return console.result(
            "stopped",
            &json!({
                "run_id": run.id(), "status": state.status, "step": state.step, "total_steps": state.total_steps,
                "checkpoint_step": state.checkpoint_step, "seconds": seconds,
            }),
        );
    }
    let saved = state
        .checkpoint_step
        .map_or("no checkpoint yet".to_owned(), |step| format!("checkpoint of step {step}"));
    console.data(&format!(
        "run {} is {} at step {} of {}, {saved}, after {}",
        run.id(),
        state.status,
        state.step,
        state.total_steps,
        short_duration(seconds)
    ))?;
    let go_on = format!("{} --detach", stages::go_on(&run));
    console.prose(&format!("Resume with: {}", project.command(&go_on)));
    Ok(())
}
