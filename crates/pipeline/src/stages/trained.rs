//! A training that is done, whose run this process holds.

use runs::run::RunDir;
use store::lock::RunLock;
use train::StopFlag;

use crate::meta::RunMeta;
use crate::{Result, stop};

/// A finished training.
pub(super) struct Trained {
    pub run: RunDir,
    pub meta: RunMeta,
    pub step: u64,
    pub train_loss: Option<f64>,
    pub validation_loss: Option<f64>,
    pub best_validation_loss: Option<f64>,
    pub reused: bool,
    /// The stop flag of this process.
    pub stop: StopFlag,
    /// Held until the job ends, so that nobody prunes or moves what is being validated, and stop requests
    /// reach this process.
    pub _lock: RunLock,
}

impl Trained {
    /// Whether a stop was requested since training started.
    pub fn check_stop(&self) -> Result<()> {
        if self.stop.is_raised() { Err(stop::stopped().into()) } else { Ok(()) }
    }
}
