//! Selects the run to work on: a new one, an unfinished one to continue, or a finished one with the same
//! recipe and data.

use std::path::Path;

use runs::report::{Phase, Reporter};
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use train::{Change, Obeying};

use super::request::Request;
use super::trained::Trained;
use crate::meta::{RunMeta, Until};
use crate::project::Project;
use crate::{Error, Result, ours, record};

/// A run that this process works on.
pub(super) struct Begun {
    pub run: RunDir,
    pub lock: RunLock,
    pub meta: RunMeta,
    /// Whether an earlier process started it.
    pub continued: bool,
}

/// What `--resume` continues.
pub(super) enum ToContinue {
    /// Nothing: a new run is started.
    Nothing,
    /// The training of a run.
    Training(Box<Begun>),
    /// The phases after the training of this run, which is found again by its recipe and data.
    AfterTraining(String),
}

/// With `--resume`: the latest unfinished run, whose recipe then replaces the request's. Reports if there is
/// none.
pub(super) fn to_continue(request: &mut Request<'_>, reporter: &mut dyn Reporter) -> Result<ToContinue> {
    let mut runs = runs::run::list(&RealFs, &request.project.runs())?;
    // A run that was killed before its recipe was written has nothing to continue. A folder with another name
    // is the user's.
    let has_meta = |path: &Path| RunDir::open(&RealFs, path).is_ok_and(|run| run.has_meta(&RealFs));
    runs.retain(|run| runs::id::is_run_id(&run.run_id) && has_meta(&run.path));
    let newest = runs.last().map(|run| run.run_id.clone());
    for run in runs.iter_mut().filter(|run| run.state.is_none()) {
        match healed(&run.path, reporter) {
            Ok(state) => run.state = Some(state),
            // Starting another run instead would ignore its progress.
            Err(error) if request.resume && newest.as_ref() == Some(&run.run_id) => return Err(error),
            Err(error) => {
                let message = format!("run {} is ignored: {error}", run.run_id);
                reporter.warning(Phase::Prerequisites, &message);
            }
        }
    }
    runs.retain(|run| run.state.is_some());
    let status = |run: &runs::run::RunSummary| run.state.as_ref().map(|state| state.status);
    let trained = |run: &runs::run::RunSummary| run.state.as_ref().is_some_and(RunState::is_trained);
    let unfinished = runs.iter().rev().find(|run| status(run).is_some_and(is_unfinished) && !trained(run));
    if !request.resume {
        if let Some(run) = unfinished
            && status(run) != Some(RunStatus::Queued)
        {
            let folder = RunDir::open(&RealFs, &run.path)?;
            let message = format!(
                "run {} is unfinished; starting a new run. To continue the unfinished run instead: {}",
                run.run_id,
                request.project.command(&crate::meta::go_on(&folder))
            );
            reporter.note(Phase::Prerequisites, &message);
        }
        return Ok(ToContinue::Nothing);
    }
    if let Some(busy) = runs.iter().find(|run| status(run) == Some(RunStatus::Running)) {
        // Taking the lock fails with the holder's process id, or succeeds because it has just exited.
        RunDir::open(&RealFs, &busy.path)?.lock()?;
    }
    if let Some(summary) = runs.last()
        && trained(summary)
        && let Ok(mut meta) = RunMeta::read(&RealFs, &RunDir::open(&RealFs, &summary.path)?)
        && meta.finished.is_none_or(|finished| finished < request.until)
    {
        let message = format!("run {} is trained; continuing with validation and export", summary.run_id);
        reporter.note(Phase::Prerequisites, &message);
        meta.recipe.train = meta.began_with().clone();
        adopt(request, &mut meta, &summary.run_id, reporter)?;
        return Ok(ToContinue::AfterTraining(summary.run_id.clone()));
    }
    let Some(summary) = unfinished else {
        let message = format!(
            "there is no unfinished run in `{}` to resume; starting {}",
            request.project.root().display(),
            request.recipe_source
        );
        reporter.warning(Phase::Prerequisites, &message);
        return Ok(ToContinue::Nothing);
    };
    let run = RunDir::open(&RealFs, &summary.path)?;
    let lock = run.lock()?;
    record::heal(&run, reporter)?;
    let mut meta = RunMeta::read(&RealFs, &run)?;
    let step = summary.state.as_ref().map_or(0, |state| state.step);
    reporter.note(Phase::Prerequisites, &format!("continuing run {} (it was at step {step})", run.id()));
    adopt(request, &mut meta, &run.id(), reporter)?;
    if request.accept_changes {
        meta.write(&RealFs, &run)?;
    }
    Ok(ToContinue::Training(Box::new(Begun { run, lock, meta, continued: true })))
}

/// Repairs the records of a run and returns its state. If its recipe cannot be read, nothing is written, not
/// even a lock.
fn healed(path: &Path, reporter: &mut dyn Reporter) -> Result<RunState> {
    let run = RunDir::open(&RealFs, path)?;
    RunMeta::read(&RealFs, &run)?;
    let _lock = run.lock()?;
    record::heal(&run, reporter)?;
    Ok(run.state(&RealFs)?)
}

/// A continued run keeps the recipe it was started with, except for options that do not affect its weights.
fn adopt(
    request: &mut Request<'_>,
    meta: &mut RunMeta,
    run_id: &str,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    if request.recipe_is_explicit {
        let reporting = |change| change == Change::Reporting;
        meta.recipe.train = meta.recipe.train.with(&request.recipe.train, reporting);
    }
    // A recipe that was not named is the project's file; if the run came from another one they are unrelated.
    let comparable = request.recipe_is_explicit || request.recipe_source == meta.recipe_source;
    let changed = if comparable { differing_keys(meta, request) } else { Vec::new() };
    let (taken, left): (Vec<String>, Vec<String>) =
        changed.into_iter().partition(|key| request.accept_changes && may_change(key));
    if !taken.is_empty() {
        let begun = meta.recipe.train.clone();
        let given = &request.recipe;
        (meta.recipe.validate, meta.recipe.export) = (given.validate.clone(), given.export.clone());
        meta.recipe.notify = given.notify.clone();
        meta.recipe.train = begun.with(&given.train, |change| change != Change::Fixed);
        meta.recipe.train.validate()?;
        meta.began_with.get_or_insert(begun);
        let message = format!("run {run_id} continues with changed keys: {}", taken.join(", "));
        reporter.warning(Phase::Prerequisites, &message);
    }
    if !left.is_empty() {
        let accept = match left.iter().any(|key| may_change(key)) {
            true => "To apply those that may change within a run, add --accept-changes; for the others",
            false => "To use them",
        };
        let message = format!(
            "run {run_id} continues with the recipe it was started with; these keys have changed since and \
             are ignored: {}. {accept} start a new run (without --resume); to train longer, use `{}`",
            left.join(", "),
            request.project.command("resume --more-epochs N")
        );
        reporter.warning(Phase::Prerequisites, &message);
    }
    request.recipe = meta.recipe.clone();
    request.base_dir.clone_from(&meta.base_dir);
    request.recipe_source.clone_from(&meta.recipe_source);
    Ok(())
}

/// Whether a key may change within a run: it affects neither model, data nor batches.
fn may_change(key: &str) -> bool {
    let mut parts = key.split('.');
    match (parts.next(), parts.next()) {
        (Some("train"), Some(key)) => Change::of(key) != Change::Fixed,
        (section, _) => matches!(section, Some("validate" | "export" | "notify")),
    }
}

/// Whether a finished run has this recipe. Its data are compared later, once they are known.
pub(super) fn has_finished_twin(request: &Request<'_>) -> Result<bool> {
    if request.fresh {
        return Ok(false);
    }
    Ok(finished(request)?
        .iter()
        .any(|(_, meta)| meta.began_with().deciding() == request.recipe.train.deciding()))
}

/// The newest finished run with the weights that this run would train.
pub(super) fn finished_twin(request: &Request<'_>, fingerprint: &str) -> Result<Option<(RunDir, RunMeta)>> {
    if request.fresh {
        return Ok(None);
    }
    Ok(finished(request)?.into_iter().rev().find(|(_, meta)| meta.fingerprint() == fingerprint))
}

fn finished(request: &Request<'_>) -> Result<Vec<(RunDir, RunMeta)>> {
    let mut found = Vec::new();
    for run in runs::run::list(&RealFs, &request.project.runs())? {
        if run.state.is_some_and(|state| state.is_trained()) {
            let run = RunDir::open(&RealFs, &run.path)?;
            // A run of another version or with a damaged record does not count.
            if let Ok(meta) = RunMeta::read(&RealFs, &run)
                // A fork is meant to differ.
                && meta.forked_from.is_none()
            {
                found.push((run, meta));
            }
        }
    }
    Ok(found)
}

/// Creates the folder of a new run with its recipe.
pub(super) fn begin(request: &Request<'_>) -> Result<Begun> {
    let run = RunDir::create(&RealFs, &request.project.runs(), &request.recipe.name)?;
    let lock = run.lock()?;
    let meta = RunMeta::new(
        request.recipe.clone(),
        request.recipe_source.clone(),
        request.base_dir.clone(),
        request.until,
        request.target,
    );
    meta.write(&RealFs, &run)?;
    Ok(Begun { run, lock, meta, continued: false })
}

/// The lock held while a project is worked on.
pub(super) struct Busy {
    _obeying: Obeying,
    // Taken after the lock: its holder may clear requests.
    _lock: RunLock,
}

/// Locks the project against a second `run` or `train`, and listens for stop requests.
pub(super) fn lock_project(project: &Project) -> Result<Busy> {
    let folder = project.data();
    RealFs.create_dir_all(&folder).map_err(store::Error::io("create the folder", &folder))?;
    let lock = RunLock::acquire(&folder)?;
    ours::check_request(&folder)?;
    ours::check_heartbeat(&folder)?;
    crate::sweep::project(project);
    Ok(Busy { _obeying: Obeying::requests_in(&folder), _lock: lock })
}

/// Handles a run whose job failed. Training records its own end; before it there is nothing in the run to
/// keep.
pub(super) fn note_failure(run: &RunDir, error: &Error) {
    if matches!(error, Error::Stopped(_)) {
        return;
    }
    let Ok(state) = run.read_state(&RealFs) else { return };
    let began = RunMeta::read(&RealFs, run).is_ok_and(|meta| meta.model.is_some());
    // The failure itself is reported; an error while recording it adds nothing.
    match state.status {
        RunStatus::Queued if !began && record::remove_unused(run) => {}
        RunStatus::Queued | RunStatus::Running => {
            let message = error.to_string();
            drop(run.write_state(&RealFs, RunState { status: RunStatus::Failed, message, ..state }));
        }
        _ => {}
    }
}

/// Marks a run's whole job as done, so that `--resume` has nothing left to do for it.
pub(super) fn note_finished(trained: &Trained, until: Until) -> Result<()> {
    let mut meta = trained.meta.clone();
    if meta.finished != Some(until) && meta.finished != Some(Until::Export) {
        meta.finished = Some(until);
        meta.write(&RealFs, &trained.run)?;
    }
    Ok(())
}

fn differing_keys(meta: &RunMeta, request: &Request<'_>) -> Vec<String> {
    let was = toml::Value::try_from(&meta.recipe).ok();
    let is = toml::Value::try_from(&request.recipe).ok();
    let mut keys = Vec::new();
    if let (Some(was), Some(is)) = (was, is) {
        differing("", &was, &is, &mut keys);
    }
    keys
}

fn differing(path: &str, was: &toml::Value, is: &toml::Value, keys: &mut Vec<String>) {
    match (was, is) {
        (toml::Value::Table(was), toml::Value::Table(is)) => {
            let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (was.get(name), is.get(name)) {
                    (Some(was), Some(is)) => differing(&path, was, is, keys),
                    _ => keys.push(path),
                }
            }
        }
        _ if was != is => keys.push(path.to_owned()),
        _ => {}
    }
}

/// Whether a run's training is unfinished.
fn is_unfinished(status: RunStatus) -> bool {
    matches!(status, RunStatus::Queued | RunStatus::Stopped | RunStatus::Interrupted | RunStatus::Failed)
}
