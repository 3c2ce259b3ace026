//! What killed processes have left in a project, removed by the next one that holds its lock. What counts as ours is `store::sweep`'s;
//! staged folders and checkpoints are brought back to a whole state by their own rules.

use std::path::{Path, PathBuf};

use store::fs::RealFs;
use store::lock::RunLock;
use store::{stage, sweep};
use train::Checkpoints;

use crate::project::Project;

/// Before a process's number, in the names of scratch projects.
pub(crate) const TRIAL: &str = ".text2llm-trial-";
/// The same, of the file that tries whether a project can be written to.
pub(crate) const WRITE_TEST: &str = ".text2llm-write-test-";

/// Sweeps. Whoever calls holds the project's lock. What cannot be removed stays, and is nobody's failure.
pub(crate) fn project(project: &Project) {
    let root = project.root();
    sweep::numbered(root, WRITE_TEST);
    sweep::numbered(root, TRIAL);
    sweep::writes(root, &["training_metrics.json"]);
    sweep::writes(&project.job(), &["job.json"]);
    for target in staged(project) {
        // What is not as a stage leaves it is told by the stage itself.
        let _ = stage::repair(&RealFs, &target);
    }
    sweep::deleting(&project.runs(), sweep::is_run_id);
    for run in folders(&project.runs()).filter(|(name, _)| sweep::is_run_id(name)).map(|(_, path)| path) {
        sweep::writes(&run, &[]);
        sweep::writes(&run.join("tokenizer"), &[]);
        let checkpoints = run.join("checkpoints");
        if is_folder(&checkpoints) && !RunLock::is_held(&run) {
            let _ = Checkpoints::new(&RealFs, &checkpoints).repair();
        }
    }
}

/// Folders that stages make, of which something is left beside: `.NAME.partial`, `.NAME.old`.
fn staged(project: &Project) -> Vec<PathBuf> {
    let known =
        [project.documents(), project.tokens(), project.tokenizer(), project.evals(), project.model()];
    let average = project.root().join("model-average");
    let phases = folders(&project.data()).filter_map(|(name, _)| {
        let stem = name.strip_prefix('.')?;
        let phase =
            stem.strip_suffix(".partial").or_else(|| stem.strip_suffix(".old"))?.strip_prefix("tokens-")?;
        Some(project.phase_tokens(phase))
    });
    let left = |target: &PathBuf| {
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ["partial", "old"].iter().any(|end| is_folder(&target.with_file_name(format!(".{name}.{end}"))))
    };
    known.into_iter().chain([average]).chain(phases).filter(left).collect()
}

fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Folders in a folder, links left out.
fn folders(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = is_folder(folder).then(|| std::fs::read_dir(folder).ok()).flatten();
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_dir.then(|| Some((entry.file_name().into_string().ok()?, entry.path()))).flatten()
    })
}
