//! Stopping from outside: SIGINT and SIGTERM set a flag that the loop looks at; a second Ctrl-C quits at
//! once. A request by file is obeyed as SIGTERM is. Work that has something to save holds the flag, so that
//! nobody ends the process under it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use store::fs::regular;

use crate::{Error, Result};

/// A file whose content changes while the loop goes round: a process that lives and does nothing is told by
/// it.
pub const HEARTBEAT_FILE: &str = "heartbeat";
/// Between two looks for a request.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks between two heartbeats.
const HEARTBEAT_EVERY: u64 = 5;
/// Looks at flags of this process: as long as they come, its loop goes round.
static LOOKS: AtomicU64 = AtomicU64::new(0);

/// Exit codes of a process that was stopped, as shells have them: 128 and the signal's number.
pub const EXIT_AFTER_SIGINT: u8 = 130;
/// As above; also after a request by file.
pub const EXIT_AFTER_SIGTERM: u8 = 143;

/// "Please stop after saving." Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopFlag {
    raised: Arc<AtomicBool>,
    /// The signal that raised it; 0 where none did.
    signal: Arc<AtomicUsize>,
    /// Values of [`Hold`] that live.
    holds: Arc<AtomicUsize>,
    /// Looks left until it raises itself, for tests that stop at every place where the loop looks.
    looks: Option<Arc<AtomicU64>>,
}

impl StopFlag {
    /// A flag that nobody has raised, tied to no signal.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// The flag of this process, which SIGINT (Ctrl-C) and SIGTERM raise from the first call on. Ctrl-C once
    /// more ends the process with 130: a person who asks twice does not want to wait. SIGTERM once more does
    /// not: two who ask for a stop at the same time want the checkpoint.
    ///
    /// # Errors
    /// The system does not let this process listen.
    pub fn of_process() -> Result<StopFlag> {
        static OF_PROCESS: OnceLock<StopFlag> = OnceLock::new();
        if let Some(flag) = OF_PROCESS.get() {
            return Ok(flag.clone());
        }
        let flag = StopFlag::on_signals()?;
        // Of two first calls at once one flag is kept, and it hears its signals all the same.
        Ok(OF_PROCESS.get_or_init(|| flag).clone())
    }

    fn on_signals() -> Result<StopFlag> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let flag = StopFlag::new();
        let named =
            |signal| signal_hook::flag::register_usize(signal, Arc::clone(&flag.signal), signal as usize);
        // In this order: the check runs before the flag is set by the same signal.
        signal_hook::flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&flag.raised))
            .and_then(|_| named(SIGINT))
            .and_then(|_| named(SIGTERM))
            .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&flag.raised)))
            .and_then(|_| signal_hook::flag::register(SIGTERM, Arc::clone(&flag.raised)))
            .map_err(|source| Error::Signals { source })?;
        Ok(flag)
    }

    /// A flag that raises itself at the look number `looks` (from 0): a way to stop at a place rather than at
    /// a time.
    pub fn at_look(looks: u64) -> StopFlag {
        StopFlag { looks: Some(Arc::new(AtomicU64::new(looks))), ..StopFlag::default() }
    }

    /// Asks the loop to stop.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked, for who is no loop of work: the look is no heartbeat.
    pub fn was_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// What a process ends with that was stopped so.
    pub fn exit_code(&self) -> u8 {
        match self.signal.load(Ordering::SeqCst) as i32 {
            signal_hook::consts::SIGINT => EXIT_AFTER_SIGINT,
            _ => EXIT_AFTER_SIGTERM,
        }
    }

    /// While the value lives, its holder has something to save and ends by itself once it sees the flag:
    /// nobody may end the process.
    pub fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(&self.holds))
    }

    /// Whether somebody holds it.
    pub fn is_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
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

/// Lets a write beyond the limit on the size of a file fail with an error, rather than end the process
/// (SIGXFSZ).
///
/// # Errors
/// The system does not let this process listen.
#[cfg(unix)]
pub fn survive_file_size_limit() -> Result<()> {
    /// The same number on all systems that this program runs on.
    const SIGXFSZ: i32 = 25;
    let heard = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, heard).map(drop).map_err(|source| Error::Signals { source })
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub fn survive_file_size_limit() -> Result<()> {
    Ok(())
}

/// See [`StopFlag::hold`].
#[derive(Debug)]
pub struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// While it lives, a request to stop in its folder (`runs::stop`) reaches this process as SIGTERM would: a
/// loop that listens saves first, anything else ends at once. Tells of the loop by [`HEARTBEAT_FILE`].
#[derive(Debug)]
pub struct Obeying {
    folder: PathBuf,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Obeying {
    /// Looks for requests in `folder` from now on; one that is older was meant for somebody who is gone. The
    /// caller holds the folder's lock.
    pub fn requests_in(folder: &Path) -> Obeying {
        runs::stop::clear(folder);
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
        runs::stop::clear(&self.folder);
    }
}

fn obey(folder: &Path, done: &AtomicBool) {
    let mut told = LOOKS.load(Ordering::Relaxed);
    for count in 1.. {
        std::thread::park_timeout(LOOK_EVERY);
        if done.load(Ordering::Relaxed) {
            return;
        }
        // Again until it is obeyed: the first process of a container hears only what it listens for, and it
        // may not listen yet.
        if runs::stop::is_requested(folder) {
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

    #[test]
    fn a_flag_is_held_as_long_as_anybody_holds_it() {
        let flag = StopFlag::new();
        let (first, second) = (flag.hold(), flag.clone().hold());
        drop(first);
        assert!(flag.is_held());
        drop(second);
        assert!(!flag.is_held() && !flag.was_raised() && flag.exit_code() == EXIT_AFTER_SIGTERM);
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
        runs::stop::request(folder.path()).unwrap();
        let obeying = Obeying::requests_in(folder.path());
        std::thread::sleep(2 * LOOK_EVERY);
        assert!(!flag.is_raised(), "a request from before its time");
        runs::stop::request(folder.path()).unwrap();
        let started = std::time::Instant::now();
        while !flag.is_raised() || !folder.path().join(HEARTBEAT_FILE).exists() {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(LOOK_EVERY / 10);
        }
        drop(obeying);
        assert!(!runs::stop::is_requested(folder.path()));
    }
}
