//! A run's records when something happened to them: `meta.json`, `state.json` and the run's copy of its
//! tokenizer.
//!
//! Each carries a hash and is refused when it does not match. What can be told for certain from what else
//! there is, is put back: the meta's copy, the state that verified checkpoints hold, a tokenizer with the
//! recorded hash. A damaged record is never taken for a missing one, since then a run would begin again at
//! step 0 beside whole checkpoints.

use std::path::{Path, PathBuf};

use runs::report::{NoReport, Phase, Reporter};
use runs::run::{RunDir, RunState, RunStatus};
use store::ErrorKind;
use store::fs::{FileKind, Fs, RealFs};
use store::manifest::Manifest;
use store::stage::StagedFolder;
use tokenizer::Tokenizer;
use train::Checkpoints;
use train::checkpoint::TrainerState;

use crate::meta::RunMeta;
use crate::project::Project;
use crate::{Error, Result};

/// The folder of a run that holds its tokenizer.
const TOKENIZER_FOLDER: &str = "tokenizer";
/// The stage's name in that folder's manifest.
const TOKENIZER_STAGE: &str = "run-tokenizer";

/// The run's state, to be shown; where `state.json` is damaged or gone, what its checkpoints say. Of these
/// only the records are read and checked: gigabytes of weights are not for a list to read. Writes nothing.
///
/// # Errors
/// What the disk says.
pub fn state(run: &RunDir) -> Result<RunState> {
    match run.state(&RealFs) {
        Err(error) if is_unusable(&error) && run.has_meta(&RealFs) => {
            state_of(run, newest_recorded(&Checkpoints::new(&RealFs, &run.checkpoints()))?)
        }
        state => Ok(state?),
    }
}

/// What the newest checkpoint records whose record is whole.
fn newest_recorded(checkpoints: &Checkpoints<'_>) -> Result<Option<TrainerState>> {
    let read = |step: u64| {
        let (folder, name) = (checkpoints.path(step), "trainer.json");
        let wanted = Manifest::read(&RealFs, &folder).ok()?.outputs.remove(name)?;
        let bytes = RealFs.read(&folder.join(name)).ok()?;
        let is_whole = store::manifest::hash_bytes(&bytes) == wanted.blake3;
        serde_json::from_slice(&bytes).ok().filter(|state: &TrainerState| is_whole && state.step == step)
    };
    Ok(checkpoints.steps()?.into_iter().rev().find_map(read))
}

/// What is wrong with `state.json`, where [`state`] tells it from the checkpoints.
pub fn state_damage(run: &RunDir) -> Option<String> {
    let error = run.read_state(&RealFs).err().filter(|error| is_unusable(error) && run.has_meta(&RealFs))?;
    Some(format!(
        "run {}: {error}. What is shown is what its checkpoints say; the next command that continues the run restores it",
        run.id()
    ))
}

/// Puts right what of a run's records is damaged or gone and can be told from the rest, and says so. For who
/// holds the run's lock.
///
/// # Errors
/// A record that nothing else tells; what the disk says.
pub fn heal(run: &RunDir, reporter: &mut dyn Reporter) -> Result<()> {
    let mut warn = |message: String| reporter.warning(Phase::Prerequisites, &message);
    let meta = RunMeta::read(&RealFs, run)?;
    if run.heal_meta(&RealFs)? {
        warn(format!("run {}: meta.json was damaged and is restored from its copy", run.id()));
    }
    match run.read_state(&RealFs) {
        Err(error) if is_unusable(&error) => {
            let state = rebuilt_state(run)?;
            let message = format!(
                "run {}: state.json was damaged ({error}); it is rebuilt from the checkpoints: step {} of {}",
                run.id(),
                state.step,
                state.total_steps
            );
            run.write_state(&RealFs, state)?;
            warn(message);
        }
        state => drop(state?),
    }
    if meta.model.is_some() && own_tokenizer(run, &meta).is_err() {
        let (found, from) = equal_tokenizer(run, &meta)?;
        write_tokenizer(&found, run, &meta)?;
        warn(format!(
            "run {}: its tokenizer was damaged and is restored from `{}`, which has the recorded hash",
            run.id(),
            from.display()
        ));
    }
    Ok(())
}

/// The tokenizer that a run was trained with: its own copy, or an equal one in the project where that is
/// damaged.
///
/// # Errors
/// No copy has the recorded hash.
pub fn tokenizer(run: &RunDir, meta: &RunMeta) -> Result<Tokenizer> {
    own_tokenizer(run, meta).or_else(|_| Ok(equal_tokenizer(run, meta)?.0))
}

/// Gives a run a copy of its tokenizer.
///
/// # Errors
/// What the disk says.
pub fn write_tokenizer(tokenizer: &Tokenizer, run: &RunDir, meta: &RunMeta) -> Result<()> {
    let folder = run.path().join(TOKENIZER_FOLDER);
    let context = meta.model.as_ref().map(|model| model.max_position_embeddings);
    let staged = StagedFolder::begin(&RealFs, &folder, TOKENIZER_STAGE)?;
    tokenizer.save(&RealFs, staged.path(), context)?;
    let options = serde_json::json!({ "tokenizer": tokenizer.hash() });
    staged.commit(Manifest::new(TOKENIZER_STAGE, options, Default::default()))?;
    Ok(())
}

fn own_tokenizer(run: &RunDir, meta: &RunMeta) -> Result<Tokenizer> {
    verified_tokenizer(&run.path().join(TOKENIZER_FOLDER), meta)
}

/// A tokenizer whose every file is as its folder's manifest says, and which is the run's.
fn verified_tokenizer(folder: &Path, meta: &RunMeta) -> Result<Tokenizer> {
    Manifest::read(&RealFs, folder)?.verify_outputs(&RealFs, folder)?;
    let tokenizer = Tokenizer::open(&RealFs, folder)?;
    if tokenizer.hash() == meta.inputs.tokenizer {
        return Ok(tokenizer);
    }
    Err(Error::Data { message: format!("`{}` is another tokenizer than the run's", folder.display()) })
}

/// One in the project that has the recorded hash, and where it is.
fn equal_tokenizer(run: &RunDir, meta: &RunMeta) -> Result<(Tokenizer, PathBuf)> {
    let own = run.path().join(TOKENIZER_FOLDER);
    let project = run.path().parent().and_then(Path::parent).map(Project::new);
    let folders = project.map(|project| [project.tokenizer(), project.model()]);
    let found = folders.iter().flatten().find_map(|folder| {
        verified_tokenizer(folder, meta).ok().map(|tokenizer| (tokenizer, folder.clone()))
    });
    found.ok_or_else(|| {
        let why = verified_tokenizer(&own, meta).err().map(|error| error.to_string()).unwrap_or_default();
        Error::Data {
            message: format!(
                "the tokenizer of run {} cannot be used ({why}), and neither tokenizer/ nor model/ of the project has an equal one \
                 (BLAKE3 {}): restore `{}` from a backup, or make the tokenizer again from the same text with `text2llm run`, \
                 which begins a new run",
                run.id(),
                meta.inputs.tokenizer.chars().take(12).collect::<String>(),
                own.display()
            ),
        }
    })
}

fn is_unusable(error: &store::Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// What the newest whole checkpoint, every byte of it checked, says of where the run stands.
fn rebuilt_state(run: &RunDir) -> Result<RunState> {
    state_of(run, Checkpoints::new(&RealFs, &run.checkpoints()).latest_state(&mut NoReport)?)
}

/// Where a run stands that trained so far.
fn state_of(run: &RunDir, trained: Option<TrainerState>) -> Result<RunState> {
    let began = RunMeta::read(&RealFs, run)?.model.is_some();
    let Some(trained) = trained else {
        let status = if began { RunStatus::Interrupted } else { RunStatus::Queued };
        return Ok(RunState {
            status,
            message: "stopped before its first checkpoint".to_owned(),
            ..RunState::default()
        });
    };
    let done = (trained.step >= trained.total_steps || trained.stopped_early) && !trained.duties_due;
    let (status, message) = match done {
        true => (RunStatus::Completed, "all steps are done".to_owned()),
        false => (RunStatus::Interrupted, format!("stopped at step {}, or a little later", trained.step)),
    };
    Ok(RunState {
        status,
        step: trained.step,
        total_steps: trained.total_steps,
        epoch: trained.history.last().map_or(0.0, |epoch| epoch.epoch as f64),
        train_loss: trained.train_loss,
        validation_loss: trained.validation_loss,
        best_validation_loss: trained.best.map(|best| best.loss),
        checkpoint_step: Some(trained.step),
        message,
        ..RunState::default()
    })
}

/// Files of a run's folder.
const FILES: [&str; 13] = [
    "meta.json",
    "meta.copy.json",
    "state.json",
    "metrics.jsonl",
    "train.log",
    "training_metrics.json",
    "resume_metadata.json",
    "loss.svg",
    "loss.png",
    store::lock::FILE_NAME,
    runs::stop::FILE_NAME,
    runs::pause::FILE_NAME,
    train::HEARTBEAT_FILE,
];

/// Files that the run's tokenizer consists of.
const TOKENIZER_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", store::manifest::FILE_NAME];

/// Whether a file of a run's folder is the trace of an internal error.
fn is_trace(name: &str) -> bool {
    name.starts_with("panic-") && name.ends_with(".log")
}

/// Removes a run in which nothing was done. One that holds what somebody may miss, a file of his own or a
/// trace, stays. Returns whether it is gone.
pub(crate) fn remove_unused(run: &RunDir) -> bool {
    let has_trace = || {
        let names = RealFs.names(run.path()).unwrap_or_default();
        names.iter().any(|(name, _)| name.to_str().is_some_and(is_trace))
    };
    check_removable(run).is_ok() && !has_trace() && RealFs.remove_dir_all(run.path()).is_ok()
}

/// That a folder of `runs/` is a run and holds nothing else, so that all of it may be deleted.
///
/// # Errors
/// Names what is in the way.
pub fn check_removable(run: &RunDir) -> Result<()> {
    let refuse = |message: String| {
        Err(Error::Argument {
            message: format!(
                "`{}` {message}. Nothing was deleted. Move that elsewhere, or delete the folder yourself",
                run.path().display()
            ),
        })
    };
    let list = |folder: &Path| RealFs.names(folder).map_err(store::Error::io("list", folder));
    if RealFs.kind(run.path()) != Some(FileKind::Folder) {
        return refuse("is a link and not a run's folder".to_owned());
    }
    // One that was killed as it began has no meta.json yet.
    let is_run = runs::id::is_run_id(&run.id()) || run.has_meta(&RealFs);
    if !is_run || !run.path().join("state.json").is_file() {
        return refuse("is not a run: it has no meta.json or no state.json".to_owned());
    }
    let mut strays = Vec::new();
    for (name, kind) in list(run.path())? {
        let path = run.path().join(&name);
        match (name.to_str(), kind) {
            (Some("checkpoints"), FileKind::Folder) => {
                for (name, kind) in list(&path)? {
                    let folder = path.join(&name);
                    match kind {
                        FileKind::Folder if train::checkpoint::is_folder_name(&name) => {
                            strays.extend(Checkpoints::strays(&RealFs, &folder)?);
                        }
                        _ => strays.push(folder),
                    }
                }
            }
            (Some(TOKENIZER_FOLDER), FileKind::Folder) => {
                strays.extend(store::ownership::strays(&RealFs, &path)?);
            }
            // What a kill has left of it: only files that a tokenizer consists of.
            (Some(".tokenizer.partial" | ".tokenizer.old"), FileKind::Folder) => {
                for (name, kind) in list(&path)? {
                    let is_ours = kind == FileKind::File
                        && (TOKENIZER_FILES.iter().any(|known| *known == name)
                            || store::ownership::is_passing(&name));
                    if !is_ours {
                        strays.push(path.join(name));
                    }
                }
            }
            (Some(name), FileKind::File)
                if FILES.contains(&name) || store::ownership::is_passing(name.as_ref()) || is_trace(name) => {
            }
            _ => strays.push(path),
        }
    }
    match strays.as_slice() {
        [] => Ok(()),
        [first] => refuse(format!("holds what is no part of a run: `{}`", first.display())),
        [first, rest @ ..] => {
            refuse(format!("holds what is no part of a run: `{}` and {} more", first.display(), rest.len()))
        }
    }
}
