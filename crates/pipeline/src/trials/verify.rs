//! N steps against N/2 steps, kill -9, and the rest.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use store::fs::RealFs;
use train::Checkpoints;

use super::{Compared, Scratch, Trial, compare, each_line};
use crate::{Error, Result};

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedResume {
    /// Steps of a run.
    pub steps: u64,
    /// The last step that was heard of before the kill.
    pub killed_at: u64,
    /// Step of the checkpoint that was resumed from; 0 where there was none yet.
    pub resumed_from: u64,
    /// What was compared.
    pub compared: Vec<Compared>,
    /// Whether all is equal.
    pub equal: bool,
    /// All of it.
    pub seconds: f64,
    /// Where both runs are, kept only where they differ.
    pub kept: Option<PathBuf>,
}

/// Trains twice, once killed in the middle, and compares.
///
/// # Errors
/// A run that fails for another reason.
pub fn verify_resume(trial: &Trial<'_>) -> Result<VerifiedResume> {
    let started = Instant::now();
    // Not a divisor of the middle, so that some steps are lost and done again.
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
    // SIGKILL: nothing in the process can prepare for it. It has ended itself only where its run failed.
    let killed = child.kill();
    let status = child.wait().map_err(|error| Error::Environment { message: error.to_string() })?;
    scratch.check_stop()?;
    if killed.is_err() || status.code().is_some() || killed_at == 0 {
        return Err(Error::Environment {
            message: format!("the run that was to be killed ended by itself: {status}"),
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
