//! Starts a job in the background and watches it until training has started, so that errors at the start are
//! seen.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipeline::project::Project;
use pipeline::supervise::{self, JobRecord};
use recipe::NotifyOptions;
use runs::run::{RunDir, RunState, RunStatus};
use serde_json::json;
use store::fs::{Fs, RealFs, regular};
use store::lock::RunLock;
use store::tail::lines_from;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::{Console, short_duration};

/// Steps after which the remaining time is a fair estimate, and how long to wait for them.
const ESTIMATE_STEPS: u64 = 100;
const ESTIMATE_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest command that a question shows, in characters: it fits on a screen of any size.
const LONGEST_QUESTION: usize = 500;

/// A job to start in the background.
pub struct Detached<'a> {
    /// The project that the job works on.
    pub project: &'a Project,
    /// The command's arguments without `--detach`.
    pub first: Vec<String>,
    /// The arguments that resume it after a crash.
    pub again: Vec<String>,
    /// Id of the run, if it exists already.
    pub run_id: Option<String>,
    /// Notification options, and whether the user gave the command just now, rather than a file.
    pub notify: (NotifyOptions, bool),
}

/// This process's arguments without the given flags; each flag comes with its number of values.
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

/// The user's flags for the worker, whose output goes to a file that people read.
pub const OUTPUT_FLAGS: [(&str, usize); 3] = [("--detach", 0), ("--json", 0), ("--output", 1)];

/// A command as a recipe writes it, on one line: each argument is quoted, and characters that could be
/// mistaken for others are escaped.
fn quoted(command: &[String]) -> String {
    let arguments: Vec<String> = command
        .iter()
        .map(|argument| {
            let mut out = String::new();
            for c in json!(argument).to_string().chars() {
                // Unusual spaces and look-alike letters are escaped, since they could hide something.
                if c.is_ascii_graphic() || c == ' ' { out.push(c) } else { out.extend(c.escape_unicode()) }
            }
            out
        })
        .collect();
    format!("[{}]", arguments.join(", "))
}

/// Asks for consent to the recipe's notification command, after showing it: a recipe or a run may come from
/// someone else. Without consent the command is removed.
fn approved(notify: (NotifyOptions, bool), console: &mut Console) -> Outcome<NotifyOptions> {
    let (mut notify, said_just_now) = notify;
    if notify.command.is_empty() {
        return Ok(notify);
    }
    let command = quoted(&notify.command);
    let length = command.chars().count();
    if said_just_now {
        console.prose(&format!(
            "When the job is resumed, stopped, failed or completed, this command runs: \
             {command}"
        ));
    } else if length > LONGEST_QUESTION && !console.says_yes() {
        console.warning(&format!(
            "notify.command will not run: it has {length} characters, and a command of more than \
             {LONGEST_QUESTION} is too long to show for consent. Put it into a script and name the script, \
             or pass it with --set notify.command=… or in TEXT2LLM_NOTIFY_COMMAND"
        ));
        notify.command.clear();
    } else if !console.confirm(&format!(
        "The recipe runs this command when the job is resumed, stopped, failed or completed: {command}. \
         Allow it?"
    ))? {
        console.warning(&format!(
            "{command} (notify.command) will not run: you have not allowed it. Pass --yes, or pass the \
             command with --set notify.command=… or in TEXT2LLM_NOTIFY_COMMAND"
        ));
        notify.command.clear();
    }
    Ok(notify)
}

/// The error if another process works on the project already.
fn at_work(project: &Project) -> Option<Failure> {
    let number = |pid: Option<u32>| pid.map_or_else(String::new, |pid| format!(" {pid}"));
    if RunLock::is_held(&project.job()) {
        return Some(Failure::message(format!(
            "a background job is already running in this project (supervisor{}): see `{}`, or stop it with \
             `{}`",
            number(RunLock::holder(&project.job())),
            project.command("status"),
            project.command("stop")
        )));
    }
    RunLock::is_held(&project.data()).then(|| {
        Failure::message(format!(
            "process{} already works on this project without a supervisor: see `{}`, or stop it with `{}`; \
             then start again",
            number(RunLock::holder(&project.data())),
            project.command("status"),
            project.command("stop")
        ))
    })
}

/// Starts the job and watches it until it trains or fails.
pub fn launch(global: &GlobalArguments, detached: Detached<'_>, console: &mut Console) -> Outcome {
    let project = detached.project;
    if let Some(failure) = at_work(project) {
        return Err(failure);
    }
    supervise::check_folder(project)?;
    let notify = approved(detached.notify, console)?;
    RealFs
        .create_private_dir_all(&project.job())
        .map_err(store::Error::io("create the folder", &project.job()))?;
    let log = supervise::console_path(project);
    // Only appended to here: if another start was quicker, the file belongs to that job.
    let append = || regular::append(&log).map_err(store::Error::io("write", &log));
    let echoed = append()?.metadata()?.len();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("supervise")
        .args(["--first", &json!(detached.first).to_string(), "--again", &json!(detached.again).to_string()])
        .args(["--notify", &json!(notify).to_string()])
        .args(["--project".as_ref(), project.root().as_os_str()])
        .args(["--device", global.target().word(), "--threads", &global.threads.to_string()])
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
    console.prose(&format!(
        "Started in the background as process {}. Ctrl-C does not stop it.",
        supervisor.id()
    ));
    let watched = Watch { project, log: &log, echoed }.until_it_trains(&mut supervisor, console)?;
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
        console.prose(&format!("Already done{which}. See `{}`", project.command("list")));
        return Ok(());
    }
    let loss = state.train_loss.map(|loss| format!(", loss {loss:.3}")).unwrap_or_default();
    let left = if state.eta_s > 0.0 {
        format!("; about {} left", short_duration(state.eta_s))
    } else {
        String::new()
    };
    console.prose("");
    console.prose(&format!(
        "Training has started: run {run_id}, step {} of {}{loss}{left}.",
        state.step, state.total_steps
    ));
    console.prose("You can close this terminal. Later, from any terminal:");
    for (arguments, what) in [
        ("status --watch", "show the state"),
        ("logs -f", "follow the log"),
        ("tui", "show curves and samples"),
        ("stop", "save a checkpoint and stop; `resume --detach` continues"),
    ] {
        console.prose(&format!("  {:<40} {what}", project.command(arguments)));
    }
    Ok(())
}

struct Watched {
    run_id: Option<String>,
    state: Option<RunState>,
    /// Whether the job has ended successfully.
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
            let worker = record.as_ref().and_then(|record| record.worker_pid);
            let run_id = record.and_then(|record| record.run_id);
            let state = run_id.as_ref().and_then(|id| {
                RunDir::open(&RealFs, &self.project.runs().join(id)).ok()?.state(&RealFs).ok()
            });
            if let Some(status) = ended {
                if status.success() {
                    return Ok(Watched { run_id, state, over: true });
                }
                let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
                return Err(match why {
                    Some(why) => Failure::Child(code, why),
                    // No record: another start was quicker.
                    None => at_work(self.project)
                        .unwrap_or_else(|| Failure::Child(code, "the job could not be started".to_owned())),
                });
            }
            // The state may still be that of the worker before this one, whose speed does not count.
            if let Some(state) = state.filter(|state| {
                state.status == RunStatus::Running && state.tokens_per_s > 0.0 && Some(state.pid) == worker
            }) {
                let (since, first) = *trains_since.get_or_insert((Instant::now(), state.step));
                // Either the estimate is fair, or steps take too long to wait for a hundred of them.
                if state.step >= first + ESTIMATE_STEPS || since.elapsed() >= ESTIMATE_PATIENCE {
                    return Ok(Watched { run_id, state: Some(state), over: false });
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Prints what the job has written since the last call.
    fn echo(&mut self, console: &mut Console) -> Outcome {
        if std::fs::metadata(self.log)?.len() < self.echoed {
            self.echoed = 0;
        }
        let text = lines_from(self.log, self.echoed)?;
        self.echoed += text.len() as u64;
        if !text.is_empty() {
            text.lines().for_each(|line| console.prose(line));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{quoted, without};

    #[test]
    fn a_command_is_shown_whole_on_one_line() {
        let command = ["sh", "-c", "echo 'a b'\n\u{1b}[2J\u{202e}x", "\u{a0}é", ""].map(str::to_owned);
        assert_eq!(quoted(&command), r#"["sh", "-c", "echo 'a b'\n\u001b[2J\u{202e}x", "\u{a0}\u{e9}", ""]"#);
    }

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
