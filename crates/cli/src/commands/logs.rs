//! `text2llm logs`: show and follow the log of a run.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use pipeline::supervise;
use runs::run::RunDir;
use serde_json::json;
use store::fs::RealFs;
use store::lock::RunLock;
use store::tail;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;
use crate::select;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Show the log of a run
///
/// The log contains steps (not every one), validations, samples, checkpoints, warnings, and actions of the
/// supervisor.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, a unique prefix or suffix of it, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// Follow the log until the run ends
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Number of last lines to show; 0 shows all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200)]
    pub lines: usize,
    /// Show the background job's console output (data preparation, tokenizer training, errors) instead of the
    /// run's log
    #[arg(long)]
    pub console: bool,
}

/// Prints the log.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let (path, holder) = if arguments.console {
        (supervise::console_path(&project), project.job())
    } else {
        let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
        (run.log(), run.path().to_owned())
    };
    if !path.exists() {
        return Err(Failure::message(format!(
            "there is no log `{}` yet: the run has not started training. `{}` shows the output of a \
             background job",
            path.display(),
            project.command("logs --console -f")
        )));
    }
    let mut text = lines_from(&path, 0)?;
    let mut at = text.len() as u64;
    if arguments.lines > 0 {
        let starts: Vec<usize> = text.match_indices('\n').map(|(i, _)| i + 1).collect();
        // No line begins after the last newline.
        if let Some(cut) = starts.len().checked_sub(arguments.lines + 1) {
            text = text.split_off(starts[cut]);
        }
    }
    show(&text, console)?;
    if !arguments.follow {
        return Ok(());
    }
    loop {
        // Checked before the last read, so that the last lines of a run are not missed.
        let lives = RunLock::is_held(&holder);
        std::thread::sleep(LOOK_EVERY);
        let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if length < at {
            at = 0;
        }
        let added = lines_from(&path, at)?;
        at += added.len() as u64;
        show(&added, console)?;
        if !lives {
            return Ok(());
        }
    }
}

fn show(text: &str, console: &mut Console) -> Outcome {
    if console.is_human() {
        return if text.is_empty() { Ok(()) } else { console.stream_text(text) };
    }
    text.lines().try_for_each(|line| console.result("log", &json!({ "line": line })))
}

/// Whole lines from byte `at` on; none if the file is gone, since a run may be deleted while its log is
/// followed.
fn lines_from(path: &Path, at: u64) -> Outcome<String> {
    match tail::lines_from(path, at) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read?),
    }
}
