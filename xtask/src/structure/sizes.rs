//! Lines and files that are no longer than a reader can take in: 110 columns of comments, 600 lines a file.
//!
//! rustfmt holds code to its columns, and a test of `cli` Markdown.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const COLUMNS: usize = 110;
const LINES: usize = 600;

/// Files that may be longer, each with the reason.
const LONG: [(&str, &str); 1] =
    [("crates/compute/src/cuda/device.rs", "one method a kernel of the device, and what it launches")];

/// Folders that hold no source of ours.
const PASSED_OVER: [&str; 3] = ["target", ".git", "assets"];

/// What is too long.
///
/// # Errors
/// A file that cannot be read.
pub fn problems(repository: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    list(repository, &mut files)?;
    files.sort();
    let mut problems = Vec::new();
    for file in files {
        let name = file.strip_prefix(repository).unwrap_or(&file).display().to_string();
        let text = std::fs::read_to_string(&file).with_context(|| name.clone())?;
        let wide = text.lines().enumerate().filter(|(_, line)| is_wide(&name, line));
        problems.extend(wide.map(|(at, _)| format!("{name}:{}: more than {COLUMNS} columns", at + 1)));
        let lines = text.lines().count();
        let may_be_long = LONG.iter().any(|(long, _)| *long == name);
        if is_source(&name) && lines > LINES && !may_be_long {
            problems.push(format!("{name}: {lines} lines, more than {LINES}"));
        }
        if may_be_long && lines <= LINES {
            problems
                .push(format!("{name}: is no longer an exception to {LINES} lines: strike it from the list"));
        }
    }
    for (long, _) in LONG.iter().filter(|(long, _)| !repository.join(long).exists()) {
        problems.push(format!("{long}: is not there: strike it from the list of exceptions"));
    }
    Ok(problems)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && !PASSED_OVER.contains(&name.as_str()) {
            list(&path, files)?;
        } else if kind.is_file() && (is_source(&name) || name.ends_with(".toml") || path.ends_with(".ci/run"))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn is_source(name: &str) -> bool {
    [".rs", ".py", ".sh", ".cpp", ".h", ".cu", ".js"].iter().any(|end| name.ends_with(end))
}

/// Whether a line is a comment that is too wide. A long address cannot be broken.
fn is_wide(name: &str, line: &str) -> bool {
    let comment =
        if name.ends_with(".py") || name.ends_with(".toml") || name.ends_with(".sh") || name.ends_with("run")
        {
            "#"
        } else {
            "//"
        };
    let text = line.trim_start();
    let can_break = text.trim_start_matches(['/', '#', '!', ' ']).contains(' ');
    text.starts_with(comment) && can_break && line.chars().count() > COLUMNS
}
