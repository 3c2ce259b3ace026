//! Stopping from outside: SIGINT and SIGTERM set a flag that the loop looks at; a second Ctrl-C quits at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Error, Result};

/// "Please stop after saving." Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopFlag {
    raised: Arc<AtomicBool>,
    /// Looks left until it raises itself, for tests that stop at every place where the loop looks.
    looks: Option<Arc<AtomicU64>>,
}

impl StopFlag {
    /// A flag that nobody has raised, tied to no signal.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// A flag that SIGINT (Ctrl-C) and SIGTERM raise. Ctrl-C once more ends the process with 130: a person who asks twice does not want
    /// to wait. SIGTERM once more does not: two who ask for a stop at the same time want the checkpoint. Install it once a process.
    pub fn on_signals() -> Result<StopFlag> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let flag = StopFlag::new();
        // In this order: the check runs before the flag is set by the same signal.
        signal_hook::flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&flag.raised))
            .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&flag.raised)))
            .and_then(|_| signal_hook::flag::register(SIGTERM, Arc::clone(&flag.raised)))
            .map_err(|source| Error::Signals { source })?;
        Ok(flag)
    }

    /// A flag that raises itself at the look number `looks` (from 0): a way to stop at a place rather than at a time.
    pub fn at_look(looks: u64) -> StopFlag {
        StopFlag { looks: Some(Arc::new(AtomicU64::new(looks))), ..StopFlag::default() }
    }

    /// Asks the loop to stop.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn is_raised(&self) -> bool {
        if let Some(looks) = &self.looks
            && looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
        {
            self.raise();
        }
        self.raised.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_can_raise_itself() {
        let flag = StopFlag::at_look(2);
        assert_eq!([0; 4].map(|_| flag.is_raised()), [false, false, true, true]);
    }

    #[cfg(unix)]
    #[test]
    fn one_signal_raises_the_flag() {
        let flag = StopFlag::on_signals().unwrap();
        assert!(!flag.is_raised());
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        assert!(flag.is_raised() && flag.clone().is_raised());
        // Somebody else asks too: this process would be gone if that ended it.
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    }
}
