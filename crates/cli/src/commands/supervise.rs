//! `text2llm supervise` (hidden): what `--detach` starts; see `pipeline::supervise`.

use clap::Args;
use pipeline::supervise::{self, Job};
use std::time::Duration;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;
use crate::select;

/// Run as the supervisor that --detach starts: resume a worker process after a crash
#[derive(Debug, Args)]
pub struct Arguments {
    /// Arguments of the first worker, as a JSON list
    #[arg(long, value_name = "JSON")]
    pub first: String,
    /// Arguments of a resumed worker, as a JSON list
    #[arg(long, value_name = "JSON")]
    pub again: String,
    /// Id of the run, if it exists already
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Milliseconds before the first resume
    #[arg(long, value_name = "MS", env = "TEXT2LLM_RESUME_PAUSE_MS", default_value_t = 2000)]
    pub pause_ms: u64,
    /// Minimum milliseconds without activity before the worker counts as hung
    #[arg(long, value_name = "MS", env = "TEXT2LLM_HANG_AFTER_MS", default_value_t = 300_000)]
    pub hang_after_ms: u64,
    /// Notification options, as JSON
    #[arg(long, value_name = "JSON")]
    pub notify: String,
}

/// Supervises until the job has ended.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    // Fails only if this process is already a session leader.
    let _ = store::process::leave_session();
    let project = select::existing_project(global)?;
    let job = Job {
        project: &project,
        program: std::env::current_exe()?,
        first: serde_json::from_str(&arguments.first)?,
        again: serde_json::from_str(&arguments.again)?,
        run_id: arguments.run,
        pause: Duration::from_millis(arguments.pause_ms),
        hang_after: Duration::from_millis(arguments.hang_after_ms),
        target: global.target(),
        notify: serde_json::from_str(&arguments.notify)?,
    };
    let stop = train::StopFlag::of_process().map_err(pipeline::Error::from)?;
    match supervise::supervise(&job, &stop, console.reporter().as_mut()) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Child(code, String::new())),
        // The console file belongs to the running job; the process that started this one sees the lock too.
        Err(pipeline::Error::Store(error)) if error.kind() == store::ErrorKind::Locked => {
            Err(Failure::Child(crate::failure::USAGE, String::new()))
        }
        Err(error) => Err(error.into()),
    }
}
