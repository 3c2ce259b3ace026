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

/// Promised for a checkpoint; a slower disk is told of, not cut off.
const SOON: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Stop a run, whatever it does now: training saves a checkpoint first, and `resume` goes on from there bit
/// for bit.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, its unique beginning or end, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
}

/// Asks the run's process, waits, and tells what is on the disk.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    let started = Instant::now();
    let Some(mut asked) = supervise::ask_to_stop(&project, &run)? else {
        let state = run.state(&RealFs)?;
        return Err(Failure::message(format!(
            "run {} does not work now (it is {}): nothing to stop. All runs: `{}`",
            run.id(),
            state.status,
            project.command("list")
        )));
    };
    let mut told = false;
    while let Some(now) = supervise::responsible(&project, &run) {
        // The supervisor is gone and has left its worker, or another took over.
        if now != asked {
            supervise::ask_to_stop(&project, &run)?;
            asked = now;
        }
        if !told && started.elapsed() > SOON {
            told = true;
            let who = now.process().map(|process| format!(" (process {process})")).unwrap_or_default();
            console.prose(&format!(
                "run {}{who} is still saving, or preparing its text; it stops when the checkpoint is on the disk (Ctrl-C ends only this waiting)",
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
    console.prose(&format!("Go on with: {}", project.command(&go_on)));
    Ok(())
}
