//! Whether this process was asked to stop, for what waits on others: transfers, children.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, never taken back.
static ENDING: AtomicBool = AtomicBool::new(false);

/// This process was asked to stop: what it waits for is to be let go.
pub fn end() {
    ENDING.store(true, Ordering::SeqCst);
}

/// Whether this process was asked to stop.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}
