//! Other processes of this machine: leaving a terminal's session, and asking a process to stop.
//!
//! Who lives is told by locks (`lock`), not by numbers: a number may be of another process by now.

use std::io;

/// Makes this process the leader of a session of its own, so that it outlives the terminal it was started from.
#[cfg(unix)]
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid().map(|_| ()).map_err(io::Error::from)
}

/// Asks a process to stop after saving (SIGTERM).
#[cfg(unix)]
pub fn terminate(process: u32) -> io::Result<()> {
    let pid = i32::try_from(process)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no process number"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(io::Error::from)
}

/// Windows: the caller starts the process detached instead.
#[cfg(not(unix))]
pub fn leave_session() -> io::Result<()> {
    Ok(())
}

/// Windows has no SIGTERM that a console program without a console could hear.
#[cfg(not(unix))]
pub fn terminate(_process: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
