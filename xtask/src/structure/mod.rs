//! What the source's structure promises: no circles of files within a crate, crates in their order, and no
//! line or file longer than a reader can take in.

mod circles;
mod layers;
mod lexer;
mod sizes;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use circles::Modules;

/// Checks the repository in a folder.
///
/// # Errors
/// What was found, and a file that cannot be read.
pub fn run(repository: &Path) -> Result<()> {
    let mut problems = layers::problems(repository)?;
    problems.extend(sizes::problems(repository)?);
    for root in roots(repository)? {
        for circle in Modules::read(&root)?.circles() {
            let mut told = String::from("a circle of files:");
            for (file, used) in circle {
                told += &format!("\n  {} uses {}", file.display(), used.join(", "));
            }
            problems.push(told.replace(&format!("{}/", repository.display()), ""));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.iter().for_each(|problem| println!("{problem}"));
    bail!("{} things to put right", problems.len())
}

/// The first file of each crate.
fn roots(repository: &Path) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<_> = std::fs::read_dir(repository.join("crates"))?
        .collect::<std::io::Result<Vec<_>>>()?
        .iter()
        .map(|e| e.path())
        .collect();
    folders.push(repository.join("xtask"));
    folders.sort();
    let root = |folder: &PathBuf| {
        ["src/lib.rs", "src/main.rs"].iter().map(|name| folder.join(name)).find(|file| file.exists())
    };
    Ok(folders.iter().filter_map(root).collect())
}
