//! The summary of a finished job: its artifacts and the next commands.

use pipeline::project::Project;
use pipeline::stages::RunOutcome;

use crate::failure::Outcome;
use crate::output::{Console, bytes, short_duration};

/// Prints the artifacts with their sizes and the next commands.
pub fn print(outcome: &RunOutcome, project: &Project, console: &mut Console) -> Outcome {
    if !console.is_human() {
        console.tell("run_complete", &serde_json::to_value(outcome)?);
        return Ok(());
    }
    console.prose("");
    console.prose(&format!(
        "Done in {}. Output in {}:",
        short_duration(outcome.seconds),
        project.root().display()
    ));
    let shown =
        |path: &std::path::Path| path.strip_prefix(project.root()).unwrap_or(path).display().to_string();
    let width = outcome.artifacts.iter().map(|artifact| shown(&artifact.path).len()).max().unwrap_or(0);
    for artifact in &outcome.artifacts {
        console.prose(&format!(
            "  {:width$}  {:>8}  {}",
            shown(&artifact.path),
            bytes(artifact.bytes),
            artifact.name
        ));
    }
    if !outcome.next.is_empty() {
        console.prose("Next:");
        for command in &outcome.next {
            console.prose(&format!("  {command}"));
        }
    }
    Ok(())
}
