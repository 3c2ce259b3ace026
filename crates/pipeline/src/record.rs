//! Reads and repairs a run's records: `meta.json`, `state.json` and the run's copy of its tokenizer.
//!
//! Each has a hash and is refused if it does not match. What can be reconstructed with certainty is restored:
//! meta.json from its copy, the state from verified checkpoints, the tokenizer from one with the recorded
//! hash. A damaged record is never treated as missing, since then a run with intact checkpoints would start
//! again at step 0.

use std::path::{Path, PathBuf};

use runs::report::{NoReport, Phase, Reporter};
use runs::run::{RunDir, RunState, RunStatus};
use store::ErrorKind;
use store::fs::{FileKind, Fs, RealFs};
use store::manifest::Manifest;
use store::stage::StagedFolder;
use tokenizer::Tokenizer;
use train::Checkpoints;
use train::checkpoint::{Part, TrainerState};

use crate::meta::RunMeta;
use crate::project::Project;
use crate::{Error, Result};

/// The folder of a run's tokenizer.
const TOKENIZER_FOLDER: &str = "tokenizer";
/// The stage's name in that folder's manifest.
const TOKENIZER_STAGE: &str = "run-tokenizer";

/// The run's state for display. If `state.json` is damaged or missing, it comes from the records of its
/// checkpoints; gigabytes of weights are not read for a list. Writes nothing.
///
/// # Errors
/// I/O errors.
pub fn state(run: &RunDir) -> Result<RunState> {
    match run.state(&RealFs) {
        Err(error) if is_unusable(&error) && run.has_meta(&RealFs) => {
            state_of(run, newest_recorded(&Checkpoints::new(&RealFs, &run.checkpoints()))?)
        }
        state => Ok(state?),
    }
}

/// The state in the newest checkpoint with an intact record.
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

/// The problem of `state.json`, if [`state`] has to use checkpoints instead.
pub fn state_damage(run: &RunDir) -> Option<String> {
    let error = run.read_state(&RealFs).err().filter(|error| is_unusable(error) && run.has_meta(&RealFs))?;
    Some(format!(
        "run {}: {error}. The state shown comes from its checkpoints; the next command that continues the \
         run restores it",
        run.id()
    ))
}

/// Repairs damaged or missing records that can be reconstructed, and reports it. The caller holds the run's
/// lock.
///
/// # Errors
/// A record that cannot be reconstructed; I/O errors.
pub fn heal(run: &RunDir, reporter: &mut dyn Reporter) -> Result<()> {
    let mut warn = |message: String| reporter.warning(Phase::Prerequisites, &message);
    let meta = RunMeta::read(&RealFs, run)?;
    if run.heal_meta(&RealFs)? {
        warn(format!("run {}: meta.json was damaged; restored it from its copy", run.id()));
    }
    match run.read_state(&RealFs) {
        Err(error) if is_unusable(&error) => {
            let state = rebuilt_state(run)?;
            let message = format!(
                "run {}: state.json was damaged ({error}); rebuilt it from the checkpoints: step {} of {}",
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
            "run {}: its tokenizer was damaged; restored it from `{}`, which has the recorded hash",
            run.id(),
            from.display()
        ));
    }
    Ok(())
}

/// The tokenizer of a run: its own copy, or if that is damaged an equal one in the project.
///
/// # Errors
/// No copy has the recorded hash.
pub fn tokenizer(run: &RunDir, meta: &RunMeta) -> Result<Tokenizer> {
    own_tokenizer(run, meta).or_else(|_| Ok(equal_tokenizer(run, meta)?.0))
}

/// Copies a tokenizer into the run.
///
/// # Errors
/// I/O errors.
pub fn write_tokenizer(tokenizer: &Tokenizer, run: &RunDir, meta: &RunMeta) -> Result<()> {
    let folder = run.path().join(TOKENIZER_FOLDER);
    let context = meta.model.as_ref().map(|model| model.max_position_embeddings);
    let staged = StagedFolder::begin(&RealFs, &folder, TOKENIZER_STAGE)?;
    tokenizer.save(staged.fs(), staged.path(), context)?;
    let options = serde_json::json!({ "tokenizer": tokenizer.hash() });
    staged.commit(Manifest::new(TOKENIZER_STAGE, options, Default::default()))?;
    Ok(())
}

fn own_tokenizer(run: &RunDir, meta: &RunMeta) -> Result<Tokenizer> {
    verified_tokenizer(&run.path().join(TOKENIZER_FOLDER), meta)
}

/// Opens a tokenizer if every file matches its folder's manifest and it is the run's.
fn verified_tokenizer(folder: &Path, meta: &RunMeta) -> Result<Tokenizer> {
    Manifest::read(&RealFs, folder)?.verify_outputs(&RealFs, folder)?;
    let tokenizer = Tokenizer::open(&RealFs, folder)?;
    if tokenizer.hash() == meta.inputs.tokenizer {
        return Ok(tokenizer);
    }
    Err(Error::Data { message: format!("`{}` is not the run's tokenizer", folder.display()) })
}

/// A tokenizer in the project with the recorded hash, and its folder.
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
                "the tokenizer of run {} is unusable ({why}), and neither tokenizer/ nor model/ of the \
                 project has a copy of it (BLAKE3 {}): restore `{}` from a backup, or train the tokenizer \
                 again from the same text with `text2llm run`, which starts a new run",
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

/// The state from the newest intact checkpoint, with every byte verified.
fn rebuilt_state(run: &RunDir) -> Result<RunState> {
    state_of(run, Checkpoints::new(&RealFs, &run.checkpoints()).latest_state(Part::All, &mut NoReport)?)
}

/// The run state that follows from a trainer's state.
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
        true => (RunStatus::Completed, "all steps done".to_owned()),
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

/// Files in a run's folder.
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

/// Files of the run's tokenizer.
const TOKENIZER_FILES: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", store::manifest::FILE_NAME];

/// Whether a file in a run's folder is the backtrace of an internal error.
fn is_trace(name: &str) -> bool {
    name.starts_with("panic-") && name.ends_with(".log")
}

/// Removes a run in which nothing was done, and returns whether it did. A run with files of the user or
/// backtraces is kept.
pub(crate) fn remove_unused(run: &RunDir) -> bool {
    let has_trace = || {
        let names = RealFs.names(run.path()).unwrap_or_default();
        names.iter().any(|(name, _)| name.to_str().is_some_and(is_trace))
    };
    check_removable(run).is_ok() && !has_trace() && RealFs.remove_dir_all(run.path()).is_ok()
}

/// Checks that a folder in `runs/` is a run and contains nothing else, so that all of it may be deleted.
///
/// # Errors
/// Names the files in the way.
pub fn check_removable(run: &RunDir) -> Result<()> {
    let refuse = |message: String| {
        Err(Error::Argument {
            message: format!(
                "`{}` {message}. Nothing was deleted. Move it elsewhere, or delete the folder yourself",
                run.path().display()
            ),
        })
    };
    let list = |folder: &Path| RealFs.names(folder).map_err(store::Error::io("list", folder));
    if RealFs.kind(run.path()) != Some(FileKind::Folder) {
        return refuse("is a link, not the folder of a run".to_owned());
    }
    // A run that was killed at its start has no meta.json yet.
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
            // Leftovers of a kill: only files of a tokenizer.
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
        [first] => refuse(format!("contains files that are not part of a run: `{}`", first.display())),
        [first, rest @ ..] => refuse(format!(
            "contains files that are not part of a run: `{}` and {} more",
            first.display(),
            rest.len()
        )),
    }
}
