//! The record of one run, `runs/<run_id>/`: the recipe (`meta.json`), the state (`state.json`), metrics, log
//! and checkpoints.
//!
//! Listing reads one small file per run, so that a list of a thousand runs is immediate.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use store::fs::Fs;
use store::lock::RunLock;
use store::time::Timestamp;
use store::{Error, ErrorKind, Result, sealed, secret};

use crate::{id, metrics, pause};

/// File name of the recipe and inputs.
const META_FILE: &str = "meta.json";
/// File name of its copy, for when the first is damaged: without it no checkpoint could be used.
const META_COPY_FILE: &str = "meta.copy.json";
/// File name of the state, which can be rebuilt from checkpoints.
const STATE_FILE: &str = "state.json";

/// The status of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Created, not started.
    #[default]
    Queued,
    /// A process works on it.
    Running,
    /// All steps are done.
    Completed,
    /// It stopped with an error.
    Failed,
    /// Stopped on request, in any phase; it can be resumed.
    Stopped,
    /// Its process vanished: killed, out of memory, power failure. It can be resumed.
    Interrupted,
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            RunStatus::Queued => "queued",
            RunStatus::Running => "running",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Stopped => "stopped",
            RunStatus::Interrupted => "interrupted",
        })
    }
}

/// The content of `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// The status.
    pub status: RunStatus,
    /// Steps done.
    pub step: u64,
    /// Total steps.
    pub total_steps: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// Process id of the current or last worker.
    pub pid: u32,
    /// Loss of the last step, in nats per token.
    pub train_loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// The lowest validation loss so far.
    pub best_validation_loss: Option<f64>,
    /// Learning rate of the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Recent speed in tokens per second.
    pub tokens_per_s: f64,
    /// Device: "cpu".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// Estimated remaining seconds.
    pub eta_s: f64,
    /// Step of the newest verified checkpoint.
    pub checkpoint_step: Option<u64>,
    /// Why it failed or stopped, or what it does now.
    pub message: String,
    /// Kind of failure, for programs: "diverged", "storage_full".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether all steps are done although the status is that of a later stop; see [`RunState::is_trained`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trained: bool,
    /// What the run waits for: "disk full: 12 MB needed on …". Set by [`RunDir::state`], never stored here,
    /// since a full disk takes no new `state.json`.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Time of writing (UTC, RFC 3339).
    pub updated_at: String,
}

impl RunState {
    /// Whether all steps are done: only phases after training are left.
    pub fn is_trained(&self) -> bool {
        self.status == RunStatus::Completed || (self.status == RunStatus::Stopped && self.trained)
    }

    /// The status for display: a running run that waits for its disk is shown as paused.
    pub fn status_in_words(&self) -> String {
        if self.paused.is_some() { "paused".to_owned() } else { self.status.to_string() }
    }
}

/// The folder of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// Name of the folder.
    pub run_id: String,
    /// The folder.
    pub path: PathBuf,
    /// The state, with a vanished process shown as interrupted; `None` if it cannot be read.
    pub state: Option<RunState>,
}

impl RunDir {
    /// Creates `runs/<time>-<name>/`. Two runs started in the same second get different ids.
    pub fn create(fs: &dyn Fs, runs: &Path, name: &str) -> Result<RunDir> {
        // Ids sort by time: a clock that was set back must not put a new run before older ones.
        let ids = ids(fs, runs)?;
        let newest = newest(&ids).and_then(|id| Timestamp::from_compact(id.get(..15)?));
        let now = Timestamp::now();
        let time = match newest {
            Some(newest) if newest > now => Timestamp::from_unix(newest.unix_s() + 1),
            _ => now,
        };
        RunDir::create_at(fs, runs, name, time)
    }

    fn create_at(fs: &dyn Fs, runs: &Path, name: &str, time: Timestamp) -> Result<RunDir> {
        let stem = match slug(name).as_str() {
            "" => time.compact(),
            slug => format!("{}-{slug}", time.compact()),
        };
        let mut path = runs.join(&stem);
        let mut count = 1;
        while fs.exists(&path) {
            count += 1;
            path = runs.join(format!("{stem}-{count}"));
        }
        let run = RunDir { path };
        // Its files contain prompts, texts and addresses; files for others are in `model/` and `evals/`.
        fs.create_private_dir_all(&run.checkpoints()).map_err(Error::io("create the folder", &run.path))?;
        run.write_state(fs, RunState::default())?;
        fs.sync_dir(runs).map_err(Error::io("flush the folder", runs))?;
        Ok(run)
    }

    /// Finds a run: `name` is an id in `runs`, a unique prefix or suffix of one, or `latest`.
    ///
    /// # Errors
    /// None, or several that fit; what the disk says.
    pub fn find(fs: &dyn Fs, runs: &Path, name: &str) -> crate::Result<RunDir> {
        if name.is_empty() {
            return Err(crate::Error::NoName);
        }
        let ids = ids(fs, runs)?;
        let matching: Vec<&String> = match name {
            "latest" => newest(&ids).into_iter().collect(),
            _ if ids.iter().any(|id| id == name) => ids.iter().filter(|id| *id == name).collect(),
            _ => ids.iter().filter(|id| id.starts_with(name) || id.ends_with(name)).collect(),
        };
        match matching.as_slice() {
            [id] => Ok(RunDir { path: runs.join(id) }),
            [] if ids.is_empty() => Err(crate::Error::NoRuns { folder: runs.to_owned() }),
            [] => Err(crate::Error::NoSuchRun { name: name.to_owned(), folder: runs.to_owned() }),
            [first, second, ..] => Err(crate::Error::Ambiguous {
                name: name.to_owned(),
                first: (*first).clone(),
                second: (*second).clone(),
            }),
        }
    }

    /// Opens a run by its folder, which must exist.
    pub fn open(fs: &dyn Fs, path: &Path) -> crate::Result<RunDir> {
        if fs.exists(path) {
            Ok(RunDir { path: path.to_owned() })
        } else {
            Err(crate::Error::NoFolder { path: path.to_owned() })
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the folder.
    pub fn id(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(metrics::FILE_NAME)
    }

    /// `resume_metadata.json`: the supervisor's record of crashes and resumes.
    pub fn resume_metadata(&self) -> PathBuf {
        self.path.join("resume_metadata.json")
    }

    /// `train.log`, for people.
    pub fn log(&self) -> PathBuf {
        self.path.join("train.log")
    }

    /// Locks the run for this process.
    pub fn lock(&self) -> Result<RunLock> {
        RunLock::acquire(&self.path)
    }

    /// Writes `meta.json`: the whole recipe with defaults, environment, versions, hashes; and its copy.
    pub fn write_meta(&self, fs: &dyn Fs, meta: &Value) -> Result<()> {
        sealed::write(fs, &self.path.join(META_FILE), meta)?;
        sealed::write(fs, &self.path.join(META_COPY_FILE), meta)
    }

    /// Reads `meta.json`, or its copy if that is damaged or missing.
    ///
    /// # Errors
    /// The problem of `meta.json`, if the copy is unusable too.
    pub fn read_meta(&self, fs: &dyn Fs) -> Result<Value> {
        let unusable = |error: &Error| matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound);
        match sealed::read(fs, &self.path.join(META_FILE)) {
            Err(error) if unusable(&error) => {
                sealed::read(fs, &self.path.join(META_COPY_FILE)).map_err(|_| error)
            }
            read => read,
        }
    }

    /// Whether `meta.json` or its copy exists, damaged or not.
    pub fn has_meta(&self, fs: &dyn Fs) -> bool {
        [META_FILE, META_COPY_FILE].iter().any(|name| fs.exists(&self.path.join(name)))
    }

    /// Restores `meta.json` and its copy from each other if one is damaged or missing. Returns whether it was
    /// `meta.json`. The caller holds the run's lock.
    ///
    /// # Errors
    /// Both are damaged; I/O errors.
    pub fn heal_meta(&self, fs: &dyn Fs) -> Result<bool> {
        let read = |name| sealed::read::<Value>(fs, &self.path.join(name)).ok();
        let (meta, copy) = (read(META_FILE), read(META_COPY_FILE));
        // A kill between the two writes leaves an older copy.
        if meta.is_none() || meta != copy {
            let value = self.read_meta(fs)?;
            self.write_meta(fs, &value)?;
        }
        Ok(meta.is_none())
    }

    /// Writes `state.json` with the time and the id of this process.
    pub fn write_state(&self, fs: &dyn Fs, mut state: RunState) -> Result<()> {
        state.updated_at = Timestamp::now().rfc3339();
        state.pid = std::process::id();
        state.message = secret::hidden(&state.message).into_owned();
        sealed::write(fs, &self.path.join(STATE_FILE), &state)
    }

    /// Reads `state.json` unchanged.
    pub fn read_state(&self, fs: &dyn Fs) -> Result<RunState> {
        sealed::read(fs, &self.path.join(STATE_FILE))
    }

    /// Reads `state.json`, with a running run that no process locks shown as interrupted, and with what a
    /// running run waits for.
    pub fn state(&self, fs: &dyn Fs) -> Result<RunState> {
        let mut state = self.read_state(fs)?;
        if state.status == RunStatus::Running {
            if RunLock::is_held(&self.path) {
                state.paused = pause::read(fs, &self.path);
            } else {
                state.status = RunStatus::Interrupted;
                state.message = format!("process {} exited without reporting a result", state.pid);
                state.eta_s = 0.0;
            }
        }
        Ok(state)
    }
}

/// Deletes a run's folder. `lock` proves that no process works on it.
///
/// # Errors
/// I/O errors; the folder is then either hidden from lists or unchanged.
pub fn remove(fs: &dyn Fs, run: &RunDir, _lock: RunLock) -> Result<()> {
    // Renamed first: an interrupted removal leaves no run.
    let aside = run.path.with_file_name(format!(".{}.deleting", run.id()));
    if fs.exists(&aside) {
        fs.remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
    }
    fs.rename(&run.path, &aside).map_err(Error::io("remove", &run.path))?;
    fs.remove_dir_all(&aside).map_err(Error::io("remove", &aside))
}

/// The run that `process` has locked.
pub fn held_by(fs: &dyn Fs, runs: &Path, process: u32) -> Option<RunDir> {
    let held = |id: &String| RunLock::holder(&runs.join(id)) == Some(process);
    ids(fs, runs).ok()?.into_iter().rev().find(held).map(|id| RunDir { path: runs.join(id) })
}

/// All runs, oldest first.
pub fn list(fs: &dyn Fs, runs: &Path) -> Result<Vec<RunSummary>> {
    Ok(ids(fs, runs)?
        .into_iter()
        .map(|run_id| {
            let run = RunDir { path: runs.join(&run_id) };
            RunSummary { state: run.state(fs).ok(), path: run.path, run_id }
        })
        .collect())
}

/// The newest run, if any.
pub fn latest(fs: &dyn Fs, runs: &Path) -> Result<Option<RunDir>> {
    Ok(newest(&ids(fs, runs)?).map(|id| RunDir { path: runs.join(id) }))
}

/// The last folder with a run's name; one with another name, for example the user's, only if there is nothing
/// else.
fn newest(ids: &[String]) -> Option<&String> {
    ids.iter().rfind(|id| id::is_run_id(id)).or(ids.last())
}

fn ids(fs: &dyn Fs, runs: &Path) -> Result<Vec<String>> {
    let entries = match fs.list(runs).map_err(Error::io("list", runs)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // A folder of the user is not a run.
    let is_run = |name: &str| {
        let folder = runs.join(name);
        [STATE_FILE, META_FILE, META_COPY_FILE].iter().any(|file| fs.exists(&folder.join(file)))
    };
    let mut ids: Vec<String> = entries
        .into_iter()
        .filter(|entry| entry.is_dir && !entry.name.starts_with('.') && is_run(&entry.name))
        .map(|entry| entry.name)
        .collect();
    ids.sort_by_key(|id| order(id));
    Ok(ids)
}

/// Sorts `…-name-10` after `…-name-9`.
fn order(id: &str) -> (String, u64) {
    match id.rsplit_once('-').and_then(|(stem, count)| Some((stem, count.parse::<u64>().ok()?))) {
        // The time ends in digits too.
        Some((stem, count)) if stem.len() > 15 => (stem.to_owned(), count),
        _ => (id.to_owned(), 1),
    }
}

/// Converts a name to one that is safe on every file system: lower-case ASCII letters, digits and single
/// dashes, at most 40.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars() {
        match character.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => slug.push(letter),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.truncate(40);
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::fs::RealFs;
    use store::fs::faulty::MemoryFs;

    #[test]
    fn ids_sort_by_time_and_never_clash() {
        let disk = MemoryFs::new();
        let runs = Path::new("/runs");
        let noon = Timestamp::from_unix(1_795_361_412);
        for _ in 0..11 {
            RunDir::create_at(&disk, runs, "My Recipe.toml/../x", noon).unwrap();
        }
        RunDir::create_at(&disk, runs, "é", Timestamp::from_unix(1_795_361_411)).unwrap();
        let ids = ids(&disk, runs).unwrap();
        assert_eq!(ids[0], "20261122-153011");
        assert_eq!(ids[1], "20261122-153012-my-recipe-toml-x");
        assert_eq!(ids[2], "20261122-153012-my-recipe-toml-x-2");
        assert_eq!(ids[11], "20261122-153012-my-recipe-toml-x-11");
        assert_eq!(latest(&disk, runs).unwrap().unwrap().id(), ids[11]);
        assert_eq!(RunDir::find(&disk, runs, "latest").unwrap().id(), ids[11]);
        assert_eq!(RunDir::find(&disk, runs, "153011").unwrap().id(), ids[0]);
        assert_eq!(RunDir::find(&disk, runs, &ids[1]).unwrap().id(), ids[1]);
        assert!(matches!(RunDir::find(&disk, runs, "2026"), Err(crate::Error::Ambiguous { .. })));
        assert!(matches!(RunDir::find(&disk, runs, "nothing"), Err(crate::Error::NoSuchRun { .. })));
        assert!(latest(&disk, Path::new("/none")).unwrap().is_none());
    }

    #[test]
    fn a_vanished_process_is_told_as_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&RealFs, folder.path(), "x").unwrap();
        assert_eq!(run.state(&RealFs).unwrap().status, RunStatus::Queued);
        let lock = run.lock().unwrap();
        run.write_state(&RealFs, RunState { status: RunStatus::Running, step: 7, ..RunState::default() })
            .unwrap();
        assert_eq!(run.state(&RealFs).unwrap().status, RunStatus::Running);
        crate::pause::tell(&RealFs, run.path(), Some("disk full, needs 12.0 MB")).unwrap();
        let state = run.state(&RealFs).unwrap();
        assert_eq!(
            (state.paused.as_deref(), state.status_in_words().as_str()),
            (Some("disk full, needs 12.0 MB"), "paused")
        );
        assert!(serde_json::to_string(&state).unwrap().contains("\"paused\":\"disk full"));
        drop(lock);
        let state = run.state(&RealFs).unwrap();
        assert_eq!((state.status, state.step, state.paused), (RunStatus::Interrupted, 7, None));
    }

    #[test]
    fn a_copy_of_the_record_that_a_kill_left_behind_is_brought_up_to_date() {
        let disk = MemoryFs::new();
        let run = RunDir::create(&disk, Path::new("/runs"), "x").unwrap();
        let copy = run.path().join(META_COPY_FILE);
        let meta = |step: u64| serde_json::json!({ "step": step });
        run.write_meta(&disk, &meta(1)).unwrap();
        let old = disk.read(&copy).unwrap();
        run.write_meta(&disk, &meta(2)).unwrap();
        disk.mutate(&copy, |bytes| *bytes = old.clone());
        assert!(!run.heal_meta(&disk).unwrap());
        disk.mutate(&run.path().join(META_FILE), |bytes| bytes[0] ^= 1);
        assert!(run.heal_meta(&disk).unwrap());
        assert_eq!(run.read_meta(&disk).unwrap(), meta(2));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_hide_the_newest_run() {
        let disk = MemoryFs::new();
        let runs = Path::new("/runs");
        let tomorrow = Timestamp::from_unix(Timestamp::now().unix_s() + 86_400);
        RunDir::create_at(&disk, runs, "z", tomorrow).unwrap();
        let next = RunDir::create(&disk, runs, "a").unwrap();
        assert_eq!(latest(&disk, runs).unwrap().unwrap(), next);
        // Nor does a folder of another name, which sorts after all of them.
        disk.create_dir_all(&runs.join("mine")).unwrap();
        disk.create(&runs.join("mine/meta.json")).unwrap();
        assert_eq!(latest(&disk, runs).unwrap().unwrap(), next);
        assert_eq!(RunDir::find(&disk, runs, "latest").unwrap(), next);
        let after = RunDir::create(&disk, runs, "a").unwrap();
        assert!(after.id() > next.id());
    }

    #[test]
    fn a_run_is_found_by_its_process_and_removed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, gone) = (
            RunDir::create(&RealFs, folder.path(), "kept").unwrap(),
            RunDir::create(&RealFs, folder.path(), "gone").unwrap(),
        );
        assert_eq!(held_by(&RealFs, folder.path(), std::process::id()), None);
        let lock = gone.lock().unwrap();
        assert_eq!(held_by(&RealFs, folder.path(), std::process::id()), Some(gone.clone()));
        remove(&RealFs, &gone, lock).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [kept.path()]);
    }

    #[test]
    fn a_thousand_runs_list_quickly() {
        let folder = tempfile::tempdir().unwrap();
        let running = RunState { status: RunStatus::Running, ..RunState::default() };
        sealed::write(&RealFs, &folder.path().join("state.json"), &running).unwrap();
        let json = std::fs::read(folder.path().join("state.json")).unwrap();
        for i in 0..1000 {
            let run = folder.path().join(format!("20260101-{i:06}-x"));
            std::fs::create_dir(&run).unwrap();
            std::fs::write(run.join("state.json"), &json).unwrap();
        }
        std::fs::write(folder.path().join("20260101-000003-x/state.json"), "{").unwrap();
        let start = std::time::Instant::now();
        let runs = list(&RealFs, folder.path()).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert_eq!(runs.len(), 1000);
        assert_eq!(runs.iter().filter(|run| run.state.is_none()).count(), 1);
        assert!(seconds < 1.0, "{seconds} s");
    }
}
