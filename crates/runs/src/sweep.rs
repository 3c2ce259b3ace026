//! Removes runs that killed processes left before they were started.

use std::fs::{self, Metadata};
use std::path::Path;

use store::fs::RealFs;
use store::lock::{self, RunLock};
use store::sealed;
use store::sweep::{each, of_a_write};

use crate::id::is_run_id;
use crate::run::{RunState, RunStatus};

/// Removes runs that were killed before their recipe was written: folders with a run's name that contain at
/// most a first state and nothing else. The caller prevents new runs from being created in the meantime.
pub fn unbegun(runs: &Path) -> usize {
    each(runs, |name, path, found| {
        found.is_dir() && is_run_id(name) && !RunLock::is_held(path) && remove_unbegun(path)
    })
}

fn remove_unbegun(run: &Path) -> bool {
    let (state, checkpoints) = (run.join("state.json"), run.join("checkpoints"));
    let is_first = || {
        let state = sealed::read::<RunState>(&RealFs, &state);
        state.is_ok_and(|state| state.status == RunStatus::Queued && state.step == 0)
    };
    let known = |name: &str, found: &Metadata| match name {
        "checkpoints" => found.is_dir(),
        "state.json" => found.is_file() && is_first(),
        lock::FILE_NAME => found.is_file(),
        _ => found.is_file() && of_a_write(name, &["state.json", "meta.json"]).is_some(),
    };
    let mut files = Vec::new();
    let mut entries = 0;
    each(run, |name, path, found| {
        entries += 1;
        let is_known = known(name, found);
        if is_known && found.is_file() {
            files.push(path.to_owned());
        }
        is_known
    });
    // Created first; it is empty, or this fails.
    let all = fs::read_dir(run).map_or(0, Iterator::count);
    entries == all
        && checkpoints.is_dir()
        && entries == files.len() + 1
        && fs::remove_dir(&checkpoints).is_ok()
        && files.iter().all(|file| fs::remove_file(file).is_ok())
        && fs::remove_dir(run).is_ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_never_began_is_swept_and_any_other_stays() {
        use crate::run::RunDir;
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path();
        let begin = |name: &str| RunDir::create(&RealFs, runs, name).unwrap();
        let gone = begin("gone");
        fs::write(gone.path().join(lock::FILE_NAME), "1\n").unwrap();
        fs::create_dir_all(runs.join("20200101-000000-no-state/checkpoints")).unwrap();
        let kept = ["with-meta", "with-notes", "with-checkpoint", "with-steps", "held"].map(begin);
        fs::write(kept[0].path().join("meta.json"), "damaged").unwrap();
        fs::write(kept[1].path().join("notes.txt"), "mine").unwrap();
        fs::create_dir(kept[2].checkpoints().join("step-00000001")).unwrap();
        kept[3].write_state(&RealFs, RunState { step: 3, ..RunState::default() }).unwrap();
        let _lock = kept[4].lock().unwrap();
        fs::create_dir_all(runs.join("mine/checkpoints")).unwrap();
        fs::create_dir_all(runs.join("20200101-000000-empty")).unwrap();
        assert_eq!(unbegun(runs), 2);
        assert!(!gone.path().exists() && kept.iter().all(|run| run.path().join("state.json").exists()));
        assert!(runs.join("mine/checkpoints").exists() && runs.join("20200101-000000-empty").exists());
    }
}
