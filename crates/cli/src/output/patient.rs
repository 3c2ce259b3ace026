//! Writing to somebody who may not read: a full pipe, a terminal that is held with Ctrl-S. Work waits for its
//! reader as long as nobody asks this process to stop; then it waits [`GRACE`] longer, and what is not read
//! by then is dropped, so that the stop takes effect.

use std::io::{self, Write};

/// Bytes to stdout, at once.
pub fn stdout(bytes: &[u8]) -> io::Result<()> {
    write(io::stdout().lock(), bytes)
}

/// Bytes to stderr.
pub fn stderr(bytes: &[u8]) -> io::Result<()> {
    write(io::stderr().lock(), bytes)
}

/// A line to stderr. It is the last resort; there is nowhere to report that it is gone.
pub fn stderr_line(line: &str) {
    let _ = stderr(format!("{line}\n").as_bytes());
}

/// Stderr as a writer.
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

    /// What a pipe takes at once that is ready at all: PIPE_BUF, by POSIX at least 512.
    const PIECE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
    // What others left in its buffer; what follows passes it by.
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

/// Waits until something can be written; whether that came.
#[cfg(unix)]
fn is_ready(out: &impl std::os::fd::AsFd) -> bool {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// For a reader, once this process is to end.
    const GRACE: Duration = Duration::from_secs(1);
    const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    /// Nobody reads any more, and nobody is waited for.
    static GIVEN_UP: AtomicBool = AtomicBool::new(false);
    let mut ending_since = None;
    loop {
        let mut asked = [PollFd::new(out, PollFlags::OUT)];
        let given_up = GIVEN_UP.load(Ordering::Relaxed);
        let wait = if given_up { Timespec { tv_sec: 0, tv_nsec: 0 } } else { LOOK_EVERY };
        match poll(&mut asked, Some(&wait)) {
            Ok(0) => {}
            Err(rustix::io::Errno::INTR) => continue,
            // A reader that is gone, or an error, is told by the write.
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
