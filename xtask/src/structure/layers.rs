//! The order of crates: each imports only crates below it in ARCHITECTURE.md's table of rooms.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Stands above the table's order: a task may use every crate.
const TASKS: &str = "xtask";
/// Shared support of tests: no crate links it, and it is below all.
const TESTKIT: &str = "testkit";

/// What contradicts the order.
///
/// # Errors
/// A file that cannot be read, and a crate that the table leaves out.
pub fn problems(repository: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let order = order(&read(&repository.join("ARCHITECTURE.md"))?);
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(repository.join("crates"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(place) = order.iter().position(|known| *known == name) else {
            bail!("crates/{name} is not in ARCHITECTURE.md's table \"The rooms\"");
        };
        let is_above = |dependency: &String| order.iter().position(|known| known == dependency) < Some(place);
        for dependency in dependencies(&read(&entry.path().join("Cargo.toml"))?, "dependencies") {
            if order.contains(&dependency) && (is_above(&dependency) || dependency == TESTKIT) {
                problems.push(format!("{name} imports {dependency}, which is not below it"));
            }
        }
        for dependency in dependencies(&read(&entry.path().join("Cargo.toml"))?, "dev-dependencies") {
            if order.contains(&dependency) && is_above(&dependency) {
                problems.push(format!("tests of {name} import {dependency}, which is not below it"));
            }
        }
    }
    Ok(problems)
}

/// The crates of the table, top to bottom.
fn order(architecture: &str) -> Vec<String> {
    let section = architecture.split("\n## The rooms\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.filter(|name| *name != TASKS).map(str::to_owned).collect()
}

/// The names in a section of a Cargo.toml, those for single systems included.
fn dependencies(manifest: &str, section: &str) -> Vec<String> {
    let mut is_inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            is_inside = header == section || header.ends_with(&format!(".{section}"));
        } else if is_inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_what_is_imported_are_read() {
        let text = "# A\n\n## The rooms\n| crate |\n|---|\n| `cli` | x |\n| `store` | `y` |\n| `xtask` | z |\n\n## B\n| `no` |\n";
        assert_eq!(order(text), ["cli", "store"]);
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = { path = \"c\" }\n\n\
                        [target.'cfg(unix)'.dependencies]\nd = \"1\"\n[dev-dependencies]\ne.workspace = true\n";
        assert_eq!(dependencies(manifest, "dependencies"), ["b", "c", "d"]);
        assert_eq!(dependencies(manifest, "dev-dependencies"), ["e"]);
    }
}
