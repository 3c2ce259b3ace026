//! Kills runs at random moments, over as many runs as needed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use compute::rng::Rng;
use runs::run::{RunDir, RunStatus};
use serde::Serialize;
use store::fs::RealFs;
use train::Checkpoints;

use super::{Compared, Scratch, Trial, compare};
use crate::{Error, Result};

/// The result of the test.
#[derive(Clone, Debug, Serialize)]
pub struct Chaos {
    /// Number of kills.
    pub kills: u64,
    /// Kills that left a half-written checkpoint.
    pub kills_in_a_save: u64,
    /// Number of runs; each was compared at its end.
    pub runs: u64,
    /// Steps per run.
    pub steps: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Maximum number of steps lost by a kill.
    pub most_steps_lost: u64,
    /// Comparison of the last run.
    pub compared: Vec<Compared>,
    /// Whether every run ended bit-identical to an uninterrupted one, every checkpoint verified, and no kill
    /// cost more than an interval.
    pub sound: bool,
    /// Violations, as messages.
    pub violations: Vec<String>,
    /// Total seconds.
    pub seconds: f64,
    /// Path of the runs, kept only after a violation.
    pub kept: Option<PathBuf>,
}

/// Kills training `kills` times. `progress` is called after each.
///
/// # Errors
/// A run that fails without being killed.
pub fn chaos(trial: &Trial<'_>, kills: u64, seed: u64, mut progress: impl FnMut(u64)) -> Result<Chaos> {
    let started = Instant::now();
    let checkpoint_every = (trial.steps / 40).max(2);
    let mut scratch = Scratch::new(trial, checkpoint_every)?;
    scratch.finish(&["train"])?;
    let whole = scratch.newest_run()?;
    let training_s = run_seconds(&whole);
    let mut rng = Rng::from_parts(seed, "chaos", &[]);
    let mut found = Chaos {
        kills: 0,
        kills_in_a_save: 0,
        runs: 0,
        steps: trial.steps,
        checkpoint_every,
        most_steps_lost: 0,
        compared: Vec::new(),
        sound: true,
        violations: Vec::new(),
        seconds: 0.0,
        kept: None,
    };
    while found.kills < kills {
        found.runs += 1;
        let mut arguments = vec!["train"];
        loop {
            let mut child = scratch.start(&arguments)?;
            // Some kills come before the first step, most during training and saving.
            let share = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let last_kill = found.kills == kills;
            let deadline = Instant::now() + Duration::from_secs_f64(0.6 * share * training_s);
            // Its output is not read: with the pipe closed it is dropped, and the run continues.
            drop(child.stdout.take());
            let status = loop {
                if let Some(status) =
                    child.try_wait().map_err(|error| Error::Environment { message: error.to_string() })?
                {
                    break Some(status);
                }
                if trial.stop.is_raised() || (!last_kill && Instant::now() >= deadline) {
                    break None;
                }
                std::thread::sleep(Duration::from_micros(300));
            };
            if trial.stop.is_raised() {
                let _ = child.kill();
                let _ = child.wait();
                scratch.check_stop()?;
            }
            match status {
                Some(status) if status.success() => break,
                Some(status) => {
                    scratch.keep = true;
                    return Err(Error::Environment {
                        message: format!(
                            "a run exited by itself ({status}) after {} kills; see {}",
                            found.kills,
                            scratch.project.root().display()
                        ),
                    });
                }
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    found.kills += 1;
                    progress(found.kills);
                    look(&scratch, &whole, &mut found)?;
                    // A run that was killed before it was created leaves nothing to resume; a new one is
                    // started.
                    arguments =
                        if begun(&scratch, &whole)? { vec!["train", "--resume"] } else { vec!["train"] };
                }
            }
        }
        let run = scratch.newest_run()?;
        found.compared = compare(&whole, &run, trial.steps)?;
        for part in found.compared.iter().filter(|part| !part.equal) {
            found.violations.push(format!("run {}: the {} differ", run.id(), part.what));
        }
        if !found.violations.is_empty() {
            break;
        }
        runs::run::remove(&RealFs, &run, run.lock()?)?;
    }
    found.sound = found.violations.is_empty();
    scratch.keep = !found.sound;
    found.kept = scratch.keep.then(|| scratch.project.root().to_owned());
    found.seconds = started.elapsed().as_secs_f64();
    Ok(found)
}

/// Whether the newest run can be resumed.
fn begun(scratch: &Scratch, whole: &RunDir) -> Result<bool> {
    let run = scratch.newest_run()?;
    Ok(run != *whole
        && run.path().join("meta.json").exists()
        && run.state(&RealFs)?.status != RunStatus::Completed)
}

/// Checks after a kill: every checkpoint must verify, and no more than one interval may be lost.
fn look(scratch: &Scratch, whole: &RunDir, found: &mut Chaos) -> Result<()> {
    let run = scratch.newest_run()?;
    if run == *whole {
        return Ok(());
    }
    let folder = run.checkpoints();
    if let Ok(entries) = std::fs::read_dir(&folder)
        && entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".partial"))
    {
        found.kills_in_a_save += 1;
    }
    let checkpoints = Checkpoints::new(&RealFs, &folder);
    let steps = checkpoints.steps()?;
    for &step in &steps {
        if let Err(error) = checkpoints.verify(step) {
            found.violations.push(format!("run {}: {error}", run.id()));
        }
    }
    let reached = runs::metrics::read(&RealFs, &run.metrics())?
        .iter()
        .map(runs::metrics::Metric::step)
        .max()
        .unwrap_or(0);
    let lost = reached.saturating_sub(steps.last().copied().unwrap_or(0));
    found.most_steps_lost = found.most_steps_lost.max(lost);
    if lost > found.checkpoint_every {
        found.violations.push(format!("run {}: {lost} steps before step {reached} were lost", run.id()));
    }
    Ok(())
}

/// Time of an uninterrupted run by its own clock, including its start.
fn run_seconds(run: &RunDir) -> f64 {
    let metrics = runs::metrics::read(&RealFs, &run.metrics()).unwrap_or_default();
    let trained = metrics.iter().rev().find_map(|metric| match metric {
        runs::metrics::Metric::Step(record) => Some(record.elapsed_s),
        _ => None,
    });
    trained.unwrap_or(1.0) + 0.1
}
