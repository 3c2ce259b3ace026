//! Child processes: detaching from a terminal's session, asking a child to stop, and its resource use.
//!
//! Liveness is decided by locks (`lock`), and other processes are asked to stop by files: a process id may be
//! reused. The id of a child that was not waited for is valid.

use std::io;
use std::process::Child;

/// Resource use of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time of all its threads.
    pub cpu_s: f64,
    /// Bytes read and written, files and pipes.
    pub io_bytes: u64,
}

/// Makes this process a session leader, so that it outlives its terminal.
#[cfg(unix)]
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid().map(|_| ()).map_err(io::Error::from)
}

/// Asks a child to stop after saving (SIGTERM).
#[cfg(unix)]
pub fn terminate(child: &Child) -> io::Result<()> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no process number"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(io::Error::from)
}

/// Whether a process with this id exists, of any user. Only for files that are useless once it is gone, since
/// ids are reused.
#[cfg(unix)]
pub fn is_alive(process: u32) -> bool {
    let Some(pid) = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    // A process of another user cannot be signalled, but exists.
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

/// Unknown on this system: it may exist.
#[cfg(not(unix))]
pub fn is_alive(_process: u32) -> bool {
    true
}

/// Windows: the caller starts the process detached instead.
#[cfg(not(unix))]
pub fn leave_session() -> io::Result<()> {
    Ok(())
}

/// Windows has no SIGTERM for a console program without a console.
#[cfg(not(unix))]
pub fn terminate(_child: &Child) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Resource use of a child, if the system reports it.
#[cfg(target_os = "linux")]
pub fn usage(child: &Child) -> Option<Usage> {
    let folder = std::path::PathBuf::from(format!("/proc/{}", child.id()));
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The program's name, in parentheses, may contain anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let io = std::fs::read_to_string(folder.join("io")).unwrap_or_default();
    let io_bytes = io
        .lines()
        .filter(|line| {
            line.starts_with("rchar:") || line.starts_with("wchar:") || line.starts_with("read_bytes:")
        })
        .filter_map(|line| line.split_once(':')?.1.trim().parse::<u64>().ok())
        .sum();
    Some(Usage { cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64, io_bytes })
}

/// Resource use of a child, if the system reports it.
#[cfg(not(target_os = "linux"))]
pub fn usage(_child: &Child) -> Option<Usage> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_busy_child_is_told_from_an_idle_one() {
        let start = |script: &str| {
            Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().expect("sh is everywhere")
        };
        let (mut busy, mut idle) = (start("while :; do echo x; done"), start("exec sleep 60"));
        std::thread::sleep(std::time::Duration::from_millis(700));
        let (worked, slept) = (usage(&busy).unwrap(), usage(&idle).unwrap());
        for child in [&mut busy, &mut idle] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(worked.cpu_s > 0.05 && worked.io_bytes > 1000, "{worked:?}");
        assert!(slept.cpu_s < 0.05, "{slept:?}");
    }
}
