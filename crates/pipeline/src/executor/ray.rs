//! Ranks as Ray tasks, submitted by a small Python driver that runs next to this process.
//!
//! The driver starts commands and reports how they exited; Ray schedules them, and retries those whose worker
//! is lost. One driver serves all stages, since Ray takes seconds to start. Its output goes to
//! `data/ranks/logs/ray.log`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use runs::report::{Phase, Reporter};
use serde::{Deserialize, Serialize};

use super::{Executor, Failed, Launch, Work, cannot_start, last_lines, rank_environment, stopped};
use crate::{Error, Result};

const DRIVER: &str = include_str!("ray_driver.py");
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOG: &str = "ray.log";

/// Runs ranks through a driver.
pub struct Ray {
    /// Python interpreter that has Ray.
    pub python: String,
    /// CPUs per rank.
    pub cpus: usize,
    driver: Option<Driver>,
}

struct Driver {
    child: Child,
    /// Requests to the driver; `None` after the last one.
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Whether ranks are running.
    is_busy: bool,
}

#[derive(Serialize)]
struct Request<'a> {
    command: Vec<String>,
    ranks: &'a [usize],
    logs: Vec<String>,
    cpus: usize,
    retries: usize,
    environment: BTreeMap<String, String>,
    folder: String,
}

#[derive(Deserialize)]
struct Answer {
    rank: Option<usize>,
    #[serde(default)]
    failed: Option<String>,
    #[serde(default)]
    fatal: Option<String>,
}

impl Ray {
    /// An executor with this Python interpreter.
    pub fn new(python: String, cpus: usize) -> Ray {
        Ray { python, cpus, driver: None }
    }

    fn driver(&mut self, launch: &Launch<'_>) -> Result<&mut Driver> {
        if self.driver.is_none() {
            let path = launch.logs().join(LOG);
            let log = store::fs::regular::create(&path).map_err(store::Error::io("write", &path))?;
            let mut child = Command::new(&self.python)
                .args(["-c", DRIVER])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log)
                .spawn()
                .map_err(|error| {
                    cannot_start(
                        &self.python,
                        &error,
                        "pass a Python interpreter that has Ray installed with --python",
                    )
                })?;
            let requests = child.stdin.take();
            let output = child.stdout.take();
            let (send, answers) = channel();
            // Ends when the pipe closes, that is when the driver exits.
            let heard = std::thread::Builder::new().spawn(move || {
                for line in output
                    .into_iter()
                    .flat_map(|output| BufReader::new(output).lines())
                    .map_while(std::result::Result::ok)
                {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
            heard.map_err(|error| crate::error::no_thread(&error))?;
            self.driver = Some(Driver { child, requests, answers, is_busy: false });
        }
        self.driver.as_mut().ok_or_else(|| lost(launch))
    }
}

impl Executor for Ray {
    fn name(&self) -> &'static str {
        "ray"
    }

    fn run(&mut self, work: &Work<'_>, reporter: &mut dyn Reporter) -> Result<Vec<Failed>> {
        let launch = work.launch;
        // It polls the flag itself, since it must stop the driver first.
        let _hold = launch.stop.hold();
        let program = std::iter::once(launch.program.display().to_string());
        let cpus = self.cpus;
        let request = Request {
            command: program.chain(launch.command(work.stage, "@RANK@")).collect(),
            ranks: &work.ranks,
            logs: work.ranks.iter().map(|&rank| launch.log(work.stage, rank).display().to_string()).collect(),
            cpus,
            retries: launch.retries,
            environment: rank_environment(launch, cpus),
            folder: launch.request.project.root().display().to_string(),
        };
        let driver = self.driver(launch)?;
        driver.is_busy = true;
        // If the driver has exited, its output ends.
        let _asked = serde_json::to_string(&request).map_err(std::io::Error::other).and_then(|mut line| {
            line.push('\n');
            driver.requests.as_mut().map_or(Ok(()), |requests| requests.write_all(line.as_bytes()))
        });
        let mut failed = Vec::new();
        let mut done = 0;
        loop {
            let line = match driver.answers.recv_timeout(LOOK_EVERY) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) if launch.stop.is_raised() => {
                    // When the driver exits, so do its tasks.
                    self.driver = None;
                    return Err(stopped());
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    self.driver = None;
                    return Err(lost(launch));
                }
            };
            let Ok(answer) = serde_json::from_str::<Answer>(&line) else { continue };
            if let Some(message) = answer.fatal {
                self.driver = None;
                return Err(Error::Environment { message });
            }
            let Some(rank) = answer.rank else {
                driver.is_busy = false;
                return Ok(failed);
            };
            done += 1;
            reporter.progress(Phase::Corpus, done, work.ranks.len() as u64, "ranks");
            if let Some(why) = answer.failed {
                let words = launch.last_words(work.stage, rank);
                failed.push(Failed { rank, why: format!("{why}; {words}") });
            }
        }
    }
}

fn lost(launch: &Launch<'_>) -> Error {
    let log = launch.logs().join(LOG);
    Error::Environment {
        message: format!("the Ray driver failed: {} (full output in `{}`)", last_lines(&log), log.display()),
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        /// The driver stops Ray's processes when its standard input closes.
        const GRACE: Duration = Duration::from_secs(10);
        drop(self.requests.take());
        if self.is_busy {
            // Stopped by closing its input, so that Ray stops its workers.
            let _ = store::process::terminate(&self.child);
        }
        let end = std::time::Instant::now() + GRACE;
        while std::time::Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
