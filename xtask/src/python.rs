//! Where things lie, and a Python environment of our own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The repository's root.
pub fn repository() -> PathBuf {
    // Asked when it runs: a build folder shared between checkouts keeps the path of the first.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    own.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Where build products and this tool's own files go.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Builds the release binary and returns its path.
pub fn text2llm_binary() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--package", "cli"]).current_dir(repository());
    run(&mut build)?;
    Ok(target_folder().join("release").join(format!("text2llm{}", std::env::consts::EXE_SUFFIX)))
}

/// The Python of the environment named by TEXT2LLM_PARITY_VENV, or of one made under the target folder, with
/// `packages` in it.
pub fn interpreter(packages: &[&str]) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TEXT2LLM_PARITY_VENV") {
        let python = python_of(Path::new(&folder));
        if !python.is_file() {
            bail!("TEXT2LLM_PARITY_VENV: there is no Python at `{}`", python.display());
        }
        return Ok(python);
    }
    let folder = target_folder().join("parity-venv");
    let python = python_of(&folder);
    let stamp = folder.join("installed.txt");
    let wanted = packages.join(" ");
    if std::fs::read_to_string(&stamp).ok().as_deref() == Some(&wanted) {
        return Ok(python);
    }
    eprintln!("making a Python environment in {} (once; torch is large)", folder.display());
    let system = if cfg!(windows) { "python" } else { "python3" };
    run(Command::new(system).args(["-m", "venv"]).arg(&folder)).context(
        "python3 with its venv module is needed, or TEXT2LLM_PARITY_VENV with torch and transformers in it",
    )?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    // Last: an environment without it was not finished.
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}

fn python_of(environment: &Path) -> PathBuf {
    if cfg!(windows) { environment.join("Scripts/python.exe") } else { environment.join("bin/python") }
}

/// Runs to the end; its output goes to ours.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Runs to the end and returns what it wrote to stdout.
pub fn output(command: &mut Command) -> Result<String> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} wrote what is not text"))
}
