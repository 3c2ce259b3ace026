//! Removes leftovers of killed processes in a project; the next process that holds its lock does this.
//! `store::sweep` defines which files are the program's; staged folders and checkpoints are restored by their
//! own rules.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runs::id::is_run_id;
use store::fs::RealFs;
use store::lock::RunLock;
use store::{stage, sweep};
use train::Checkpoints;

use crate::project::Project;

/// Prefix of the names of scratch projects; the process id follows.
pub(crate) const TRIAL: &str = ".text2llm-trial-";
/// Prefix of the name of the file that tests whether a project is writable.
pub(crate) const WRITE_TEST: &str = ".text2llm-write-test-";

/// Sweeps the project. The caller holds its lock. Files that cannot be removed are ignored.
pub(crate) fn project(project: &Project) {
    let root = project.root();
    sweep::numbered(root, WRITE_TEST);
    sweep::numbered(root, TRIAL);
    sweep::writes(root, &["training_metrics.json"]);
    sweep::writes(&project.job(), &["job.json"]);
    sweep::writes(&project.data(), &["stdin"]);
    for target in staged(project) {
        // The stage itself reports folders that are not in its form.
        let _ = stage::repair(&RealFs, &target);
    }
    ranks(&project.ranks());
    sweep::deleting(&project.runs(), is_run_id);
    runs::sweep::unbegun(&project.runs());
    for run in folders(&project.runs()).filter(|(name, _)| is_run_id(name)).map(|(_, path)| path) {
        sweep::writes(&run, &[]);
        let (tokenizer, checkpoints) = (run.join("tokenizer"), run.join("checkpoints"));
        sweep::writes(&tokenizer, &[]);
        if RunLock::is_held(&run) {
            continue;
        }
        if is_left(&tokenizer) {
            let _ = stage::repair(&RealFs, &tokenizer);
        }
        if is_folder(&checkpoints) {
            let _ = Checkpoints::new(&RealFs, &checkpoints).repair();
        }
    }
}

/// Leftovers of ranks that will not run again, for example of another number of ranks. If the folder does not
/// exist yet, downloaded parts are kept: the next download continues from them.
fn ranks(folder: &Path) {
    for (name, path) in folders(folder) {
        let Some((target, end)) = name.strip_prefix('.').and_then(|name| name.rsplit_once('.')) else {
            continue;
        };
        if !is_rank(target) || !["partial", "old", "arriving"].contains(&end) {
            continue;
        }
        // Held by the process that makes or downloads the folder.
        let lock = |name: String| RunLock::wait(&folder.join("locks").join(name), Some(Duration::ZERO));
        let locks = [lock(format!("bring-data-ranks-{target}")), lock(target.to_owned())];
        let target = folder.join(target);
        match end {
            _ if locks.iter().any(Result::is_err) => {}
            "arriving" if is_folder(&target) => drop(std::fs::remove_dir_all(&path)),
            "arriving" => {}
            _ => drop(stage::repair(&RealFs, &target)),
        }
    }
}

/// Whether a folder's name is that of a rank: `filter-00000-of-00002`.
fn is_rank(name: &str) -> bool {
    let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("filter-").or(name.strip_prefix("encode-"));
    numbers
        .and_then(|numbers| numbers.split_once("-of-"))
        .is_some_and(|(number, of)| is_number(number) && is_number(of))
}

/// Whether there are leftovers next to a stage's folder.
fn is_left(target: &Path) -> bool {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ["partial", "old"].iter().any(|end| is_folder(&target.with_file_name(format!(".{name}.{end}"))))
}

/// Stage folders with leftovers next to them: `.NAME.partial`, `.NAME.old`. Not that of `average`, which may
/// run at the same time and cleans up itself.
fn staged(project: &Project) -> Vec<PathBuf> {
    let known =
        [project.documents(), project.tokens(), project.tokenizer(), project.evals(), project.model()];
    let phases = folders(&project.data()).filter_map(|(name, _)| {
        let stem = name.strip_prefix('.')?;
        let phase =
            stem.strip_suffix(".partial").or_else(|| stem.strip_suffix(".old"))?.strip_prefix("tokens-")?;
        Some(project.phase_tokens(phase))
    });
    known.into_iter().chain(phases).filter(|target| is_left(target)).collect()
}

fn is_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Folders in a folder, without links.
fn folders(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = is_folder(folder).then(|| std::fs::read_dir(folder).ok()).flatten();
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_dir.then(|| Some((entry.file_name().into_string().ok()?, entry.path()))).flatten()
    })
}
