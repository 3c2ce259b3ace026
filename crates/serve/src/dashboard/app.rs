//! What requests are answered from.

use std::path::PathBuf;
use std::sync::Arc;

use super::hub::Hub;
use crate::http::guard::Guard;

/// Shared state of request handlers: the guard, the runs, and what was read of them.
pub(crate) struct App {
    pub guard: Guard,
    pub hub: Arc<Hub>,
    pub runs: PathBuf,
}
