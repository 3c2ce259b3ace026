//! Compares N uninterrupted steps with N/2 steps, SIGKILL, and the rest.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use store::fs::RealFs;
use train::Checkpoints;

use super::{Compared, Scratch, Trial, compare, each_line};
use crate::{Error, Result};

/// The result of the test.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedResume {
    /// Steps per run.
    pub steps: u64,
    /// The last step reported before the kill.
    pub killed_at: u64,
    /// Step of the checkpoint of the resume; 0 if there was none yet.
    pub resumed_from: u64,
    /// The comparisons.
    pub compared: Vec<Compared>,
    /// Whether everything is equal.
    pub equal: bool,
    /// Total seconds.
    pub seconds: f64,
    /// Path of both runs, kept only if they differ.
    pub kept: Option<PathBuf>,
}

/// Trains twice, once with a kill in the middle, and compares.
///
/// # Errors
/// A run that fails without being killed.
pub fn verify_resume(trial: &Trial<'_>) -> Result<VerifiedResume> {
    let started = Instant::now();
    // Not a divisor of the middle, so that some steps are lost and repeated.
    let mut scratch = Scratch::new(trial, (trial.steps / 5).max(1))?;
    scratch.finish(&["train"])?;
    let whole = scratch.newest_run()?;

    let mut killed_at = 0;
    let mut child = scratch.start(&["train"])?;
    each_line(&mut child, |event| {
        if event["event"] == "step" {
            killed_at = event["step"].as_u64().unwrap_or(0);
        }
        killed_at < trial.steps.div_ceil(2) && !trial.stop.is_raised()
    });
    // SIGKILL, which no process can handle. A child that has exited by itself has failed.
    let killed = child.kill();
    let status = child.wait().map_err(|error| Error::Environment { message: error.to_string() })?;
    scratch.check_stop()?;
    if killed.is_err() || status.code().is_some() || killed_at == 0 {
        return Err(Error::Environment {
            message: format!("the run that should have been killed exited by itself: {status}"),
        });
    }
    let resumed = scratch.newest_run()?;
    let resumed_from =
        Checkpoints::new(&RealFs, &resumed.checkpoints()).steps()?.last().copied().unwrap_or(0);
    scratch.finish(&["resume"])?;
    let compared = compare(&whole, &resumed, trial.steps)?;
    let equal = compared.iter().all(|part| part.equal);
    scratch.keep = !equal;
    Ok(VerifiedResume {
        steps: trial.steps,
        killed_at,
        resumed_from,
        compared,
        equal,
        seconds: started.elapsed().as_secs_f64(),
        kept: (!equal).then(|| scratch.project.root().to_owned()),
    })
}
