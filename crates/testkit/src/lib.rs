//! Shared test support: a temporary project folder, small texts, running the built program in it, a browser,
//! object storage, long runs of one class of characters, and skipping tests that cannot run here.
//!
//! A dev-dependency only. Reading order: [`Sandbox`], [`Finished`], [`text`], [`skip`], [`browser`],
//! [`objects`], [`runs`].

#[cfg(unix)]
pub mod browser;
pub mod objects;
pub mod runs;
mod skips;

pub use skips::{has_program, skip, skip_without_hardware};

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// A temporary folder with the program to run in it; removed at the end.
pub struct Sandbox {
    folder: tempfile::TempDir,
    program: PathBuf,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; minus the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// The last line of stdout.
    pub fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or("")
    }

    /// Panics with everything it wrote, unless it ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Finished {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Sandbox {
    /// A fresh folder for `program`, which a test names as `env!("CARGO_BIN_EXE_…")`.
    ///
    /// # Panics
    /// When the system has no room for a temporary folder.
    pub fn new(program: &str) -> Sandbox {
        Sandbox { folder: tempfile::tempdir().expect("a temporary folder"), program: PathBuf::from(program) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file's bytes.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path().join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes a file, making its folders.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        let parent = path.parent().expect("a file has a folder");
        std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, bytes)).expect("writable");
    }

    /// The program, ready to run in the folder: none of the caller's settings, no colors, a fixed width.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TEXT2LLM_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(self.path()).env("NO_COLOR", "1").env("COLUMNS", "100");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program with arguments separated by spaces.
    pub fn run(&self, arguments: &str) -> Finished {
        self.run_with(arguments.split_whitespace(), |_| {})
    }

    /// Runs the program with arguments of any form, after `adjust`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        adjust: impl FnOnce(&mut Command),
    ) -> Finished {
        let mut command = self.command(arguments);
        adjust(&mut command);
        let output = command.output().expect("the program starts");
        Finished {
            code: code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs the program and kills it (SIGKILL) as soon as a line of stdout satisfies `when`. Returns whether
    /// that came before it ended by itself.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run_and_kill(&self, arguments: &str, mut when: impl FnMut(&str) -> bool) -> bool {
        let mut command = self.command(arguments.split_whitespace());
        command.stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let killed = BufReader::new(stdout).lines().map_while(Result::ok).any(|line| when(&line));
        if killed {
            child.kill().expect("still there");
        }
        child.wait().expect("a child of ours");
        killed
    }
}

#[cfg(unix)]
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| -signal)).unwrap_or(i32::MIN)
}

#[cfg(not(unix))]
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(i32::MIN)
}

/// About `bytes` of English-like prose, different for each `seed`, in lines.
pub fn text(bytes: usize, seed: u64) -> String {
    const WORDS: [&str; 24] = [
        "the", "river", "runs", "over", "stones", "and", "under", "a", "bridge", "where", "children",
        "count", "boats", "at", "noon", "while", "old", "men", "mend", "nets", "in", "silence", "until",
        "evening",
    ];
    let mut out = String::with_capacity(bytes + 16);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while out.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
        out.push(if (state >> 20).is_multiple_of(12) { '\n' } else { ' ' });
    }
    out
}
