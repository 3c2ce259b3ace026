//! Stopping from outside: SIGINT and SIGTERM set a flag that the loop looks at; a second Ctrl-C quits at once. A request by
//! file is obeyed as SIGTERM is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use store::fs::regular;

use crate::{Error, Result};

/// A file whose content changes while the loop goes round: a process that lives and does nothing is told by it.
pub const HEARTBEAT_FILE: &str = "heartbeat";
/// Between two looks for a request.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks between two heartbeats.
const HEARTBEAT_EVERY: u64 = 5;
/// Looks at flags of this process: as long as they come, its loop goes round.
static LOOKS: AtomicU64 = AtomicU64::new(0);

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
        LOOKS.fetch_add(1, Ordering::Relaxed);
        if let Some(looks) = &self.looks
            && looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
        {
            self.raise();
        }
        self.raised.load(Ordering::SeqCst)
    }
}

/// While it lives, a request to stop in its folder (`store::stop`) reaches this process as SIGTERM would: a loop that listens
/// saves first, anything else ends at once. Tells of the loop by [`HEARTBEAT_FILE`].
#[derive(Debug)]
pub struct Obeying {
    folder: PathBuf,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Obeying {
    /// Looks for requests in `folder` from now on; one that is older was meant for somebody who is gone. The caller holds the folder's lock.
    pub fn requests_in(folder: &Path) -> Obeying {
        store::stop::clear(folder);
        let done = Arc::new(AtomicBool::new(false));
        let (looked_in, flag) = (folder.to_owned(), Arc::clone(&done));
        // Without the thread, which only a machine out of threads refuses, signals still stop it.
        let thread = std::thread::Builder::new()
            .name("stop requests".into())
            .spawn(move || obey(&looked_in, &flag))
            .ok();
        Obeying { folder: folder.to_owned(), done, thread }
    }
}

impl Drop for Obeying {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has not panicked: it only reads and writes files.
            let _ = thread.join();
        }
        store::stop::clear(&self.folder);
    }
}

fn obey(folder: &Path, done: &AtomicBool) {
    let mut told = LOOKS.load(Ordering::Relaxed);
    for count in 1.. {
        std::thread::park_timeout(LOOK_EVERY);
        if done.load(Ordering::Relaxed) {
            return;
        }
        // Again until it is obeyed: the first process of a container hears only what it listens for, and it may not listen yet.
        if store::stop::is_requested(folder) {
            let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
        }
        let looks = LOOKS.load(Ordering::Relaxed);
        if count % HEARTBEAT_EVERY == 0 && looks != told {
            told = looks;
            // Missed on a full disk; the loop then tells that it waits.
            let _ = regular::create(&folder.join(HEARTBEAT_FILE))
                .and_then(|mut file| file.write_all(looks.to_string().as_bytes()));
        }
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

        // By file, too; and the looks below are the heartbeat.
        let flag = StopFlag::on_signals().unwrap();
        let folder = tempfile::tempdir().unwrap();
        store::stop::request(folder.path()).unwrap();
        let obeying = Obeying::requests_in(folder.path());
        std::thread::sleep(2 * LOOK_EVERY);
        assert!(!flag.is_raised(), "a request from before its time");
        store::stop::request(folder.path()).unwrap();
        let started = std::time::Instant::now();
        while !flag.is_raised() || !folder.path().join(HEARTBEAT_FILE).exists() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(LOOK_EVERY / 10);
        }
        drop(obeying);
        assert!(!store::stop::is_requested(folder.path()));
    }
}
