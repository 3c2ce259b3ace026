//! What requests are answered from.

use std::path::PathBuf;
use std::sync::Arc;

use super::hub::Hub;
use crate::http::guard::Guard;

/// The guard, the runs, and what is read of them.
pub(crate) struct App {
    pub guard: Guard,
    pub hub: Arc<Hub>,
    pub runs: PathBuf,
}
