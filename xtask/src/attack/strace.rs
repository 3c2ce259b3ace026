//! strace, which injects signals and errors at single system calls.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::project::Project;
use super::watched::Watched;

/// What touches the disk. `rename` and others have several numbers; which one is used is the C library's
/// choice.
const CALLS: [&str; 13] = [
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "ftruncate",
];

/// A system call that a run makes.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// How often the busiest thread makes it; strace counts by thread.
    pub count: u64,
    /// The first of them that is the program's own, and not the dynamic loader's.
    pub first: u64,
}

/// Why it cannot be used here; `None` where it can.
pub fn missing() -> Option<String> {
    let traced = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", "trace=openat", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match traced {
        Ok(status) if status.success() => None,
        Ok(_) => Some("strace may not trace a process here".to_owned()),
        Err(_) => Some("there is no strace (Debian: apt-get install strace)".to_owned()),
    }
}

/// The calls of a run of `project`, which takes place.
pub fn calls(project: &Project, arguments: &[&str]) -> Result<Vec<Call>> {
    let log = tempfile::NamedTempFile::new()?;
    let options = [
        "-o".to_owned(),
        log.path().display().to_string(),
        "-e".to_owned(),
        format!("trace={}", CALLS.join(",")),
    ];
    let ended = Watched::start(&mut project.traced(&options, arguments))?.end(Duration::from_secs(60))?;
    ensure!(ended.code == Some(0), "a traced run failed: {}", ended.last_words());
    let mut counts: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    let text = std::fs::read_to_string(log.path())?;
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, told)) = rest.trim_start().split_once('(') else { continue };
        let Some(&call) = CALLS.iter().find(|&&name| name == call) else { continue };
        let count = counts.entry(call.to_owned()).or_default().entry(thread).or_default();
        *count += 1;
        if call == "openat" && (told.contains(".so.") || told.contains("ld.so.cache")) {
            first.insert(call, *count);
        }
    }
    let call = |(name, threads): (String, BTreeMap<&str, u64>)| {
        let first = first.get(name.as_str()).copied().unwrap_or(0) + 1;
        Call { count: threads.into_values().max().unwrap_or(0), name, first }
    };
    Ok(counts.into_iter().map(call).filter(|call| call.first <= call.count).collect())
}

/// The options of an injection: `what` ("signal=KILL", "error=EIO") at the calls that `when` counts ("7",
/// "7+").
pub fn inject(call: &str, what: &str, when: &str) -> Vec<String> {
    let injection = format!("inject={call}:{what}:when={when}");
    ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &injection].map(str::to_owned).to_vec()
}

/// The process that strace, process `id`, runs.
pub fn tracee(id: u32) -> Option<String> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next().map(str::to_owned)
}
