//! A child process with a time limit and its output.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

/// A process without progress for longer than this hangs.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Exit codes of a program that was stopped by Ctrl-C and by SIGTERM.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It ran longer than its limit and was killed.
    pub timed_out: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The events of `--json`.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = Value> + '_ {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok())
    }

    /// Its warnings and errors: such events, and all lines of stderr.
    pub fn warnings(&self) -> Vec<String> {
        let told = |event: &Value| event["event"] == "warning" || event["event"] == "error";
        let mut all: Vec<String> = self.events().filter(told).map(|event| event.to_string()).collect();
        all.extend(self.stderr.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
        all
    }

    /// The first training step that it reports.
    pub fn first_step(&self) -> Option<u64> {
        self.events().find(|event| event["event"] == "step")?["step"].as_u64()
    }

    /// A hang, panic, signal or undocumented exit code, in words: never allowed, whatever was done to the
    /// program.
    pub fn crash(&self) -> Option<String> {
        let words = [&self.stdout, &self.stderr];
        if self.timed_out {
            return Some(format!("it hung; {}", self.last_words()));
        }
        // How the program itself and Rust name a panic.
        let is_panic = |text: &&String| text.contains("internal error") || text.contains("panicked at");
        if self.code == Some(101) || words.iter().any(is_panic) {
            return Some(format!("it panicked: {}", self.last_words()));
        }
        if let Some(signal) = self.signal {
            return Some(format!("killed by signal {signal}; {}", self.last_words()));
        }
        let documented = |code: &i32| matches!(*code, 0..=5 | INTERRUPTED | TERMINATED);
        let code = self.code.filter(|code| !documented(code))?;
        Some(format!("undocumented exit code {code}; {}", self.last_words()))
    }

    /// The last three lines of stderr, or of stdout where stderr is empty.
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        let words = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
        words.chars().take(600).collect()
    }
}

/// A process that was started.
pub struct Watched {
    child: Child,
    stdout: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    stderr: Arc<Mutex<String>>,
    begun: Instant,
}

impl Watched {
    /// Starts it, in a process group of its own.
    pub fn start(command: &mut Command) -> Result<Watched> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            follow(child.stdout.take().context("piped")?, &stdout),
            follow(child.stderr.take().context("piped")?, &stderr),
        ];
        Ok(Watched { child, stdout, stderr, readers, begun: Instant::now() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stdout so far, whole lines.
    pub fn said(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `done` holds, it ends, or `limit` has passed since its start. Whether it still runs.
    pub fn wait_until(&mut self, limit: Duration, mut done: impl FnMut(&str) -> bool) -> Result<bool> {
        loop {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if self.begun.elapsed() > limit {
                return Ok(true);
            }
            if done(&self.stdout.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// SIGKILL to it and all that it started.
    pub fn kill(&mut self) {
        signal("KILL", &format!("-{}", self.child.id()));
        // Where there is no kill(1).
        let _ = self.child.kill();
    }

    /// Waits for its exit and kills it `limit` after its start. Time that it waited for a processor does not
    /// count: on a busy machine that is no hang.
    pub fn end(mut self, limit: Duration) -> Result<Ended> {
        let mut allowed = limit;
        let timed_out = loop {
            if !self.wait_until(allowed, |_| false)? {
                break false;
            }
            allowed = limit + starved(self.child.id());
            if allowed <= self.begun.elapsed() {
                break true;
            }
        };
        if timed_out {
            self.kill();
        }
        let status = self.child.wait()?;
        for reader in self.readers {
            // A reader ends with the pipe.
            let _ = reader.join();
        }
        let text = |text: Arc<Mutex<String>>| text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ended {
            code: status.code(),
            signal: status.signal(),
            timed_out,
            stdout: text(self.stdout),
            stderr: text(self.stderr),
        })
    }
}

/// How long a process and what it started have waited for a processor: of each, its thread that waited
/// longest. Zero where the system does not tell.
fn starved(id: u32) -> Duration {
    let mut all = Duration::ZERO;
    let mut processes = vec![id.to_string()];
    while let Some(process) = processes.pop() {
        let mut longest = 0;
        let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads.flatten() {
            let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let waited = read("schedstat").split_whitespace().nth(1).and_then(|word| word.parse().ok());
            longest = longest.max(waited.unwrap_or(0));
            processes.extend(read("children").split_whitespace().map(str::to_owned));
        }
        all += Duration::from_nanos(longest);
    }
    all
}

/// Sends a signal by kill(1): to a process, or to a group where `to` begins with a minus.
pub fn signal(name: &str, to: &str) {
    let mut kill = Command::new("kill");
    // A process that has ended meanwhile needs none.
    let _ = kill.args(["-s", name, "--", to]).stderr(Stdio::null()).status();
}

fn follow(pipe: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
