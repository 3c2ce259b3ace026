//! Ranks as processes on this machine.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use runs::report::{Phase, Reporter};

use super::{Executor, Failed, Work, cannot_start, rank_environment, stopped};
use crate::Result;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts processes of this program.
pub struct Local {
    /// Maximum number at once; 0: the number of threads.
    pub parallel: usize,
}

impl Executor for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn stays_here(&self) -> bool {
        true
    }

    fn run(&mut self, work: &Work<'_>, reporter: &mut dyn Reporter) -> Result<Vec<Failed>> {
        // It polls the flag itself, since it must stop its children first.
        let _hold = work.launch.stop.hold();
        let threads = match work.launch.request.target.threads {
            0 => store::system::available_threads(),
            threads => threads,
        };
        let parallel = if self.parallel == 0 { threads } else { self.parallel };
        let slots = parallel.clamp(1, work.ranks.len().max(1));
        let threads_each = (threads / slots).max(1);
        let mut waiting = work.ranks.iter().rev().copied().collect::<Vec<_>>();
        let mut children = Children::default();
        let (mut failed, mut done) = (Vec::new(), 0);
        while !(waiting.is_empty() && children.running.is_empty()) {
            while children.running.len() < slots
                && let Some(rank) = waiting.pop()
            {
                children.running.push((rank, start(work, rank, threads_each)?));
            }
            for (rank, status) in children.ended() {
                done += 1;
                if let Some(why) = why(status) {
                    let words = work.launch.last_words(work.stage, rank);
                    failed.push(Failed { rank, why: format!("{why}; {words}") });
                }
                reporter.progress(Phase::Corpus, done, work.ranks.len() as u64, "ranks");
            }
            if work.launch.stop.is_raised() {
                // Dropping them stops them.
                return Err(stopped());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(failed)
    }
}

/// Processes that are stopped when this value is dropped.
#[derive(Default)]
struct Children {
    running: Vec<(usize, Child)>,
}

impl Children {
    /// Removes and returns those that have exited.
    fn ended(&mut self) -> Vec<(usize, Option<ExitStatus>)> {
        let mut ended = Vec::new();
        self.running.retain_mut(|(rank, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                ended.push((*rank, Some(status)));
                false
            }
            Err(_) => {
                ended.push((*rank, None));
                false
            }
        });
        ended
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // A killed rank leaves no manifest and is run again.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(work: &Work<'_>, rank: usize, threads: usize) -> Result<Child> {
    let launch = work.launch;
    let (output, errors) = log(&launch.log(work.stage, rank))?;
    Command::new(&launch.program)
        .args(launch.command(work.stage, &rank.to_string()))
        .envs(rank_environment(launch, threads))
        .env_remove("TEXT2LLM_JSON")
        .env_remove("TEXT2LLM_OUTPUT")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| {
            cannot_start(&launch.program.display().to_string(), &error, "the program may have been moved")
        })
}

fn log(path: &Path) -> Result<(File, File)> {
    let open = || {
        let file = store::fs::regular::append(path)?;
        Ok((file.try_clone()?, file))
    };
    Ok(open().map_err(store::Error::io("write", path))?)
}

/// Why a process failed; `None` if it succeeded.
fn why(status: Option<ExitStatus>) -> Option<String> {
    match status {
        Some(status) if status.success() => None,
        Some(status) => Some(format!("failed ({status})")),
        None => Some("was lost".to_owned()),
    }
}
