//! Whether this process was asked to stop, for what waits on others: transfers, children.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, never reset.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Records a stop request: code that waits must stop waiting.
pub fn end() {
    ENDING.store(true, Ordering::SeqCst);
}

/// Whether a stop was requested.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}
