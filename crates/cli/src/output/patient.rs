//! Writes to readers that may not read: a full pipe, a terminal held with Ctrl-S. Work waits for its reader
//! until this process is asked to stop; then it waits [`GRACE`] longer, and output that is not read by then
//! is dropped, so that the stop takes effect.

use std::io::{self, Write};

/// Writes bytes to stdout and flushes.
pub fn stdout(bytes: &[u8]) -> io::Result<()> {
    write(io::stdout().lock(), bytes)
}

/// Writes bytes to stderr.
pub fn stderr(bytes: &[u8]) -> io::Result<()> {
    write(io::stderr().lock(), bytes)
}

/// Writes a line to stderr. Errors are ignored, since there is nowhere to report them.
pub fn stderr_line(line: &str) {
    let _ = stderr(format!("{line}\n").as_bytes());
}

/// Stderr as a patient writer.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stderr(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn write(mut out: impl Write + std::os::fd::AsFd, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::io::Errno;

    /// Bytes that a ready pipe takes at once: PIPE_BUF, at least 512 by POSIX.
    const PIECE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
    // Flushes what is in the buffer; the bytes below bypass it.
    out.flush()?;
    while !bytes.is_empty() {
        if !is_ready(&out) {
            return Ok(());
        }
        match rustix::io::write(&out, &bytes[..bytes.len().min(PIECE)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until the file can be written; false if the grace period ended first.
#[cfg(unix)]
fn is_ready(out: &impl std::os::fd::AsFd) -> bool {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// How long to wait for a reader after a stop was requested.
    const GRACE: Duration = Duration::from_secs(1);
    const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    /// Set once the grace period has ended: output is dropped from then on.
    static GIVEN_UP: AtomicBool = AtomicBool::new(false);
    let mut ending_since = None;
    loop {
        let mut asked = [PollFd::new(out, PollFlags::OUT)];
        let given_up = GIVEN_UP.load(Ordering::Relaxed);
        let wait = if given_up { Timespec { tv_sec: 0, tv_nsec: 0 } } else { LOOK_EVERY };
        match poll(&mut asked, Some(&wait)) {
            Ok(0) => {}
            Err(rustix::io::Errno::INTR) => continue,
            // The write reports a closed reader or an error.
            _ => return true,
        }
        if given_up {
            return false;
        }
        if store::ending::is_ending() && ending_since.get_or_insert_with(Instant::now).elapsed() >= GRACE {
            GIVEN_UP.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(not(unix))]
fn write(mut out: impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}
