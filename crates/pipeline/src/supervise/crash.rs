//! Classifies a worker's exit: completed, stopped, hopeless, or a crash that is worth a resume.

use std::fmt;
use std::process::ExitStatus;

use runs::run::RunState;
use serde::{Deserialize, Serialize};

/// Kinds of crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CrashKind {
    /// Killed by the system for lack of memory, or a failed allocation.
    OutOfMemory,
    /// A full or failing disk.
    Disk,
    /// Killed by a signal: by a user, or because the machine failed.
    Signal,
    /// It hung, and was killed for it.
    Hang,
    /// A bug in the program.
    Bug,
}

impl fmt::Display for CrashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CrashKind::OutOfMemory => "out of memory",
            CrashKind::Disk => "disk",
            CrashKind::Signal => "signal",
            CrashKind::Hang => "hang",
            CrashKind::Bug => "bug",
        })
    }
}

impl CrashKind {
    /// A remedy for the user.
    pub fn remedy(self) -> &'static str {
        match self {
            CrashKind::OutOfMemory => {
                "close other programs that use memory, or use less of it: --set train.recompute=true keeps \
                 the run bit-identical; a smaller train.micro_batch_size, train.sequence_length or \
                 model.size needs a new run"
            }
            CrashKind::Disk => {
                "free space on the disk of the run, or keep fewer checkpoints (train.keep_last)"
            }
            CrashKind::Signal => {
                "see the system's log (`dmesg`, `journalctl`) for what killed it; processes that use too \
                 much memory are killed this way too"
            }
            CrashKind::Hang => {
                "check that the project's disk and the GPU respond (`df`, `nvidia-smi`), and see the \
                 system's log (`dmesg`)"
            }
            CrashKind::Bug => {
                "this is a bug in text2llm or faulty memory: report it with job/console.log and train.log of \
                 the run"
            }
        }
    }
}

/// A classified exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The job is completed.
    Completed,
    /// A requested stop, in any phase.
    Stopped,
    /// The error would repeat, since training is exact: the exit code and the reason.
    Hopeless(u8, String),
    /// A crash that is worth a resume.
    Crashed(CrashKind, String),
}

/// The supervisor's observations of a worker.
#[derive(Clone, Debug)]
pub struct Witness<'a> {
    /// Exit status of the process.
    pub status: ExitStatus,
    /// The run's `state.json` after the exit, if there is a run.
    pub state: Option<&'a RunState>,
    /// Its last output.
    pub console_tail: &'a str,
    /// Whether the system killed a process for lack of memory at that moment.
    pub killed_for_memory: bool,
    /// Why the supervisor killed it, if it did.
    pub hung: Option<&'a str>,
    /// Whether the supervisor forwarded a stop request.
    pub asked_to_stop: bool,
}

/// Classifies an exit.
pub fn classify(witness: &Witness<'_>) -> End {
    let Witness { status, state, console_tail, killed_for_memory, hung, asked_to_stop } = witness;
    let last_words = last_error(console_tail);
    if status.success() {
        return End::Completed;
    }
    let code = status.code();
    let failed = state.is_some_and(|state| state.failure.is_some());
    if *asked_to_stop && !failed {
        return End::Stopped;
    }
    if let Some(why) = hung {
        return End::Crashed(CrashKind::Hang, (*why).to_owned());
    }
    // By the signal itself: it arrived before the handler was installed.
    if matches!(code, Some(130 | 143)) || matches!(signal(status), Some(2 | 15)) {
        return End::Stopped;
    }
    match (code, signal(status)) {
        (_, Some(9)) if *killed_for_memory => {
            End::Crashed(CrashKind::OutOfMemory, "killed by the system: out of memory".to_owned())
        }
        (_, Some(6)) if last_words.contains("memory allocation of") => {
            End::Crashed(CrashKind::OutOfMemory, last_words)
        }
        (_, Some(number @ (4 | 6 | 7 | 8 | 11))) => {
            End::Crashed(CrashKind::Bug, format!("crashed with signal {number}: {last_words}"))
        }
        (_, Some(number)) => End::Crashed(CrashKind::Signal, format!("killed by signal {number}")),
        (Some(4), _) => match state.and_then(|state| state.failure.as_deref()) {
            Some("storage_full" | "io") => End::Crashed(CrashKind::Disk, last_words),
            Some("bug") => End::Crashed(CrashKind::Bug, last_words),
            Some("out_of_memory") => End::Crashed(CrashKind::OutOfMemory, last_words),
            _ => End::Hopeless(4, last_words),
        },
        (Some(code @ (1 | 3 | 5)), _) => End::Hopeless(code as u8, last_words),
        (code, _) => {
            let code = code.map_or_else(|| "without a code".to_owned(), |code| format!("with code {code}"));
            End::Crashed(CrashKind::Bug, format!("exited {code}: {last_words}"))
        }
    }
}

/// The output from the last line that reports an error.
fn last_error(console: &str) -> String {
    let lines: Vec<&str> = console.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tells = |line: &&str| {
        line.starts_with("error") || line.contains("panicked at") || line.contains("memory allocation")
    };
    let from = lines.iter().rposition(tells).unwrap_or(lines.len().saturating_sub(1));
    let text = lines[from..].join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    if text.is_empty() { "it printed nothing".to_owned() } else { text.chars().take(600).collect() }
}

#[cfg(unix)]
fn signal(status: &ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(status)
}

#[cfg(not(unix))]
fn signal(_status: &ExitStatus) -> Option<i32> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use runs::run::RunStatus;
    use std::os::unix::process::ExitStatusExt;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn end(status: ExitStatus, state: Option<RunState>, console_tail: &str, killed_for_memory: bool) -> End {
        classify(&Witness {
            status,
            state: state.as_ref(),
            console_tail,
            killed_for_memory,
            hung: None,
            asked_to_stop: false,
        })
    }

    fn failed(failure: &str) -> Option<RunState> {
        Some(RunState { status: RunStatus::Failed, failure: Some(failure.into()), ..RunState::default() })
    }

    #[test]
    fn each_end_is_what_it_is() {
        assert_eq!(end(exited(0), None, "", false), End::Completed);
        // In any phase, so with any state: training, validating, no run yet.
        for status in [RunStatus::Stopped, RunStatus::Completed, RunStatus::Queued] {
            let state = Some(RunState { status, ..RunState::default() });
            assert_eq!(end(exited(130), state.clone(), "", false), End::Stopped);
            assert_eq!(end(exited(143), state, "", false), End::Stopped);
        }
        assert_eq!(end(exited(143), None, "", false), End::Stopped);
        assert_eq!(end(ExitStatus::from_raw(15), None, "", false), End::Stopped);
        let kind = |end: End| match end {
            End::Crashed(kind, _) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(end(ExitStatus::from_raw(9), None, "", false)), CrashKind::Signal);
        assert_eq!(kind(end(ExitStatus::from_raw(9), None, "", true)), CrashKind::OutOfMemory);
        let refused = "memory allocation of 4000000000 bytes failed";
        assert_eq!(kind(end(ExitStatus::from_raw(6), None, refused, false)), CrashKind::OutOfMemory);
        // Another process was killed, or the output is older.
        assert_eq!(kind(end(ExitStatus::from_raw(11), None, "", true)), CrashKind::Bug);
        let long_ago = "memory allocation of 7 bytes failed\nthread 'main' panicked at x.rs:1";
        assert_eq!(kind(end(ExitStatus::from_raw(6), None, long_ago, false)), CrashKind::Bug);
        assert_eq!(kind(end(ExitStatus::from_raw(11), None, "", false)), CrashKind::Bug);
        assert_eq!(kind(end(exited(101), None, "thread 'main' panicked at x.rs:1", false)), CrashKind::Bug);
        assert_eq!(kind(end(exited(4), failed("storage_full"), "", false)), CrashKind::Disk);
        assert_eq!(kind(end(exited(4), failed("bug"), "", false)), CrashKind::Bug);
        assert_eq!(kind(end(exited(4), failed("out_of_memory"), "", false)), CrashKind::OutOfMemory);
        // A limit does not go away by itself.
        assert!(matches!(end(exited(4), failed("limit"), "", false), End::Hopeless(4, _)));
    }

    #[test]
    fn a_hang_is_a_hang_however_it_ends_unless_it_was_asked_to_stop() {
        let stopped = RunState { status: RunStatus::Stopped, ..RunState::default() };
        for (status, state) in [(ExitStatus::from_raw(9), None), (exited(143), Some(&stopped))] {
            let mut witness = Witness {
                status,
                state,
                console_tail: "",
                killed_for_memory: false,
                hung: Some("silent"),
                asked_to_stop: false,
            };
            assert_eq!(classify(&witness), End::Crashed(CrashKind::Hang, "silent".into()));
            witness.asked_to_stop = true;
            assert_eq!(classify(&witness), End::Stopped);
        }
    }

    #[test]
    fn what_would_happen_again_is_not_tried_again() {
        let console = "step 7\nerror: loss or gradient was not finite\n  and more";
        let ended = end(exited(4), failed("diverged"), console, false);
        assert_eq!(ended, End::Hopeless(4, "loss or gradient was not finite and more".into()));
        assert!(matches!(end(exited(3), None, "error: no text", false), End::Hopeless(3, _)));
        assert!(matches!(end(exited(5), None, "", false), End::Hopeless(5, _)));
    }
}
