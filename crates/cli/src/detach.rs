//! Starting a job in the background, and watching its first minutes: a run left alone should have been seen to train.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipeline::project::Project;
use pipeline::supervise::{self, JobRecord};
use serde_json::json;
use store::fs::RealFs;
use store::run::{RunDir, RunState, RunStatus};
use store::tail::lines_from;

use crate::failure::{Failure, Outcome};
use crate::output::{Console, short_duration};

/// Steps after which the time that is left is a fair estimate, and how long to wait for them.
const ESTIMATE_STEPS: u64 = 100;
const ESTIMATE_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is started in the background.
pub struct Detached<'a> {
    /// Where.
    pub project: &'a Project,
    /// The command's arguments without `--detach`.
    pub first: Vec<String>,
    /// The arguments that go on with it after a crash.
    pub again: Vec<String>,
    /// The run, where it is an existing one.
    pub run_id: Option<String>,
}

/// This process's arguments without those flags; the number says how many values follow each.
pub fn arguments_without(flags: &[(&str, usize)]) -> Vec<String> {
    without(std::env::args().skip(1), flags)
}

fn without(arguments: impl Iterator<Item = String>, flags: &[(&str, usize)]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut skip = 0;
    for argument in arguments {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let (name, inline) =
            argument.split_once('=').map_or((argument.as_str(), false), |(name, _)| (name, true));
        match flags.iter().find(|(flag, _)| *flag == name) {
            Some((_, values)) => skip = if inline { 0 } else { *values },
            None => kept.push(argument),
        }
    }
    kept
}

/// How a person's own flags reach the worker: its words go to a file that people read.
pub const OUTPUT_FLAGS: [(&str, usize); 3] = [("--detach", 0), ("--json", 0), ("--output", 1)];

/// Starts the job and watches it until it trains or fails.
pub fn launch(detached: Detached<'_>, console: &mut Console) -> Outcome {
    let project = detached.project;
    if let Some(pid) = supervise::living_supervisor(project) {
        return Err(Failure::message(format!(
            "a job is at work in the background of this project (supervisor {pid}): see `{}`, or end it with `{}`",
            project.command("status"),
            project.command("stop")
        )));
    }
    std::fs::create_dir_all(project.job()).map_err(|error| {
        Failure::message(format!("cannot write into `{}`: {error}", project.job().display()))
    })?;
    let log = supervise::console_path(project);
    let file = File::create(&log)?;
    drop(file);
    let append = || std::fs::OpenOptions::new().append(true).open(&log);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("supervise")
        .args(["--first", &json!(detached.first).to_string(), "--again", &json!(detached.again).to_string()])
        .args(["--project".as_ref(), project.root().as_os_str()])
        .env_remove("TEXT2LLM_JSON")
        .env_remove("TEXT2LLM_OUTPUT")
        .stdin(Stdio::null())
        .stdout(append()?)
        .stderr(append()?);
    if let Some(run_id) = &detached.run_id {
        command.args(["--run", run_id]);
    }
    #[cfg(windows)]
    {
        // DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
        std::os::windows::process::CommandExt::creation_flags(&mut command, 0x0000_0008 | 0x0000_0200);
    }
    let mut supervisor = command.spawn()?;
    console
        .prose(&format!("In the background as process {}; Ctrl-C ends only this watching.", supervisor.id()));
    let watched = Watch { project, log: &log, echoed: 0 }.until_it_trains(&mut supervisor, console)?;
    let state = watched.state.unwrap_or_default();
    if !console.is_human() {
        return console.result(
            "detached",
            &json!({
                "run_id": watched.run_id, "supervisor_pid": supervisor.id(), "worker_pid": state.pid, "status": state.status,
                "step": state.step, "total_steps": state.total_steps, "train_loss": state.train_loss, "eta_s": state.eta_s,
                "log": log,
            }),
        );
    }
    let run_id = watched.run_id.unwrap_or_default();
    if watched.over {
        let which =
            if run_id.is_empty() { String::new() } else { format!(": run {run_id} is {}", state.status) };
        console.prose(&format!("Done already{which}. See `{}`", project.command("list")));
        return Ok(());
    }
    let loss = state.train_loss.map(|loss| format!(", loss {loss:.3}")).unwrap_or_default();
    let left = if state.eta_s > 0.0 {
        format!("; about {} left", short_duration(state.eta_s))
    } else {
        String::new()
    };
    console.prose(&format!(
        "\nIt trains: run {run_id}, step {} of {}{loss}{left}.",
        state.step, state.total_steps
    ));
    console.prose("You can close this terminal. To come back:");
    for (arguments, what) in [
        ("status --watch", "where it stands"),
        ("logs -f", "what happens"),
        ("tui", "curves and samples"),
        ("stop", "save and stop; `resume --detach` goes on"),
    ] {
        console.prose(&format!("  {:<40} {what}", project.command(arguments)));
    }
    Ok(())
}

struct Watched {
    run_id: Option<String>,
    state: Option<RunState>,
    /// The job has ended, and well.
    over: bool,
}

struct Watch<'a> {
    project: &'a Project,
    log: &'a Path,
    echoed: u64,
}

impl Watch<'_> {
    fn until_it_trains(&mut self, supervisor: &mut Child, console: &mut Console) -> Outcome<Watched> {
        let mut trains_since = None;
        loop {
            let ended = supervisor.try_wait()?;
            self.echo(console)?;
            let record = JobRecord::read(self.project).filter(|record| record.pid == supervisor.id());
            let why = record.as_ref().map(|record| record.message.clone());
            let run_id = record.and_then(|record| record.run_id);
            let state = run_id.as_ref().and_then(|id| {
                RunDir::open(&RealFs, &self.project.runs().join(id)).and_then(|run| run.state(&RealFs)).ok()
            });
            if let Some(status) = ended {
                if status.success() {
                    return Ok(Watched { run_id, state, over: true });
                }
                let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
                return Err(Failure::Child(
                    code,
                    why.unwrap_or_else(|| "the job could not be started".to_owned()),
                ));
            }
            // A speed is known only of steps that this worker has done.
            if let Some(state) =
                state.filter(|state| state.status == RunStatus::Running && state.tokens_per_s > 0.0)
            {
                let (since, first) = *trains_since.get_or_insert((Instant::now(), state.step));
                // Either the estimate is fair, or the steps are so long that a person should not wait for a hundred.
                if state.step >= first + ESTIMATE_STEPS || since.elapsed() >= ESTIMATE_PATIENCE {
                    return Ok(Watched { run_id, state: Some(state), over: false });
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Shows what the job has written since the last look.
    fn echo(&mut self, console: &mut Console) -> Outcome {
        let text = lines_from(self.log, self.echoed)?;
        self.echoed += text.len() as u64;
        if !text.is_empty() {
            console.prose(text.trim_end_matches('\n'));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn flags_are_taken_out_with_their_values() {
        let given = "resume x --detach --more-steps 5 --set a=b --checkpoint=3 --threads 2 --json";
        let kept = without(
            given.split(' ').map(str::to_owned),
            &[("--detach", 0), ("--more-steps", 1), ("--checkpoint", 1), ("--json", 0)],
        );
        assert_eq!(kept.join(" "), "resume x --set a=b --threads 2");
    }
}
