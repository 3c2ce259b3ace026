//! Stop requests: SIGINT and SIGTERM set a flag that the loop polls; a second Ctrl-C exits at once. A request
//! by file acts like SIGTERM. Work that has something to save holds the flag, so that nobody ends the process
//! before it is saved.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use store::fs::regular;

use crate::{Error, Result};

/// A file whose content changes while the loop makes progress; it distinguishes a live process that hangs.
pub const HEARTBEAT_FILE: &str = "heartbeat";
/// Time between two checks for a request.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Number of checks between two heartbeats.
const HEARTBEAT_EVERY: u64 = 5;
/// Number of times that flags of this process were polled: while it grows, the loop makes progress.
static LOOKS: AtomicU64 = AtomicU64::new(0);

/// Exit code after SIGINT: 128 plus the signal's number, as in shells.
pub const EXIT_AFTER_SIGINT: u8 = 130;
/// Exit code after SIGTERM or a request by file.
pub const EXIT_AFTER_SIGTERM: u8 = 143;

/// A request to stop after saving. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopFlag {
    raised: Arc<AtomicBool>,
    /// The signal that raised it; 0 if none did.
    signal: Arc<AtomicUsize>,
    /// Number of live [`Hold`] values.
    holds: Arc<AtomicUsize>,
    /// Remaining polls until it raises itself, for tests that stop at every polling place.
    looks: Option<Arc<AtomicU64>>,
}

impl StopFlag {
    /// A flag that is not raised and not tied to signals.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// The flag of this process. From the first call on, SIGINT (Ctrl-C) and SIGTERM raise it. A second
    /// Ctrl-C ends the process with 130, since a person who asks twice does not want to wait. A second
    /// SIGTERM does not: two senders that ask at the same time want the checkpoint.
    ///
    /// # Errors
    /// Signal handlers cannot be installed.
    pub fn of_process() -> Result<StopFlag> {
        static OF_PROCESS: OnceLock<StopFlag> = OnceLock::new();
        if let Some(flag) = OF_PROCESS.get() {
            return Ok(flag.clone());
        }
        let flag = StopFlag::on_signals()?;
        // If two threads make the first call at once, one flag is kept, and it gets the signals of both.
        Ok(OF_PROCESS.get_or_init(|| flag).clone())
    }

    fn on_signals() -> Result<StopFlag> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let flag = StopFlag::new();
        let named =
            |signal| signal_hook::flag::register_usize(signal, Arc::clone(&flag.signal), signal as usize);
        // In this order: the check runs before the same signal sets the flag.
        signal_hook::flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&flag.raised))
            .and_then(|_| named(SIGINT))
            .and_then(|_| named(SIGTERM))
            .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(&flag.raised)))
            .and_then(|_| signal_hook::flag::register(SIGTERM, Arc::clone(&flag.raised)))
            .map_err(|source| Error::Signals { source })?;
        Ok(flag)
    }

    /// A flag that raises itself at poll number `looks` (from 0): stops at a place rather than at a time.
    pub fn at_look(looks: u64) -> StopFlag {
        StopFlag { looks: Some(Arc::new(AtomicU64::new(looks))), ..StopFlag::default() }
    }

    /// Requests a stop.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    /// Takes a request back, where what it ended was all that was to stop.
    pub fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
        self.signal.store(0, Ordering::SeqCst);
    }

    /// Whether a stop was requested, for callers that are not a loop of work: it does not count as progress.
    pub fn was_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// The exit code of a process that was stopped by this flag.
    pub fn exit_code(&self) -> u8 {
        match self.signal.load(Ordering::SeqCst) as i32 {
            signal_hook::consts::SIGINT => EXIT_AFTER_SIGINT,
            _ => EXIT_AFTER_SIGTERM,
        }
    }

    /// While the value lives, its holder has something to save and ends by itself once it sees the flag;
    /// nobody else may end the process.
    pub fn hold(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(&self.holds))
    }

    /// Whether it is held.
    pub fn is_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }

    /// Whether a stop was requested.
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

/// Makes a write beyond the file-size limit fail with an error instead of ending the process (SIGXFSZ).
///
/// # Errors
/// Signal handlers cannot be installed.
#[cfg(unix)]
pub fn survive_file_size_limit() -> Result<()> {
    /// The number is the same on all supported systems.
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

/// While it lives, a stop request in its folder (`runs::stop`) acts on this process like SIGTERM: a loop that
/// polls saves first, anything else ends at once. Also writes the loop's [`HEARTBEAT_FILE`].
#[derive(Debug)]
pub struct Obeying {
    folder: PathBuf,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Obeying {
    /// Watches `folder` for requests from now on; an older request was meant for another process. The caller
    /// holds the folder's lock.
    pub fn requests_in(folder: &Path) -> Obeying {
        runs::stop::clear(folder);
        let done = Arc::new(AtomicBool::new(false));
        let (looked_in, flag) = (folder.to_owned(), Arc::clone(&done));
        // Without the thread, which only a machine out of threads denies, signals still work.
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
            // It cannot have panicked: it only reads and writes files.
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
        // Repeated until it has an effect: the first process of a container only gets signals that it
        // handles, and it may not handle them yet.
        if runs::stop::is_requested(folder) {
            let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
        }
        let looks = LOOKS.load(Ordering::Relaxed);
        if count % HEARTBEAT_EVERY == 0 && looks != told {
            told = looks;
            // Missed on a full disk; the loop then reports that it waits.
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
