//! Creates a run from a checkpoint of another run, which stays unchanged.

use runs::report::NoReport;
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::{Fs, RealFs};
use train::checkpoint::Part;
use train::{Checkpoints, Which};

use crate::meta::{ForkedFrom, RunMeta};
use crate::project::Project;
use crate::{Error, Result, record};

/// Creates a run with the recipe, the tokenizer and one checkpoint of `run`; `resume` continues it.
///
/// # Errors
/// A missing or damaged checkpoint; an unusable record; I/O errors.
pub fn fork(project: &Project, run: &RunDir, which: Which) -> Result<(RunDir, ForkedFrom)> {
    let meta = RunMeta::read(&RealFs, run)?;
    let tokenizer = record::tokenizer(run, &meta)?;
    let folder = run.checkpoints();
    let checkpoints = Checkpoints::new(&RealFs, &folder);
    let step = match which {
        Which::Step(step) => step,
        Which::Latest | Which::Best => {
            let missing = || Error::Argument {
                message: format!("run {} has no checkpoint to fork from yet", run.id()),
            };
            let state = checkpoints.latest_state(Part::All, &mut NoReport)?.ok_or_else(missing)?;
            match (which, state.best) {
                (Which::Best, Some(best)) => best.step,
                (Which::Best, None) => {
                    let message = format!(
                        "run {} has no best checkpoint, since it was never validated: pass a step, or \
                         `latest`",
                        run.id()
                    );
                    return Err(Error::Argument { message });
                }
                _ => state.step,
            }
        }
    };
    let forked_from = ForkedFrom { run_id: run.id(), step };
    let there = checkpoints.steps()?;
    if !there.contains(&step) {
        return Err(no_checkpoint(run, step, &there));
    }
    let fork = RunDir::create(&RealFs, &project.runs(), &meta.recipe.name)?;
    let made = fill(&fork, meta, &forked_from, run, &checkpoints, &tokenizer);
    if made.is_err() {
        // It contains nothing of the user's yet; the error to report is that of creating it.
        let _ = RealFs.remove_dir_all(fork.path());
    }
    made.map(|()| (fork, forked_from))
}

fn fill(
    fork: &RunDir,
    mut meta: RunMeta,
    from: &ForkedFrom,
    run: &RunDir,
    checkpoints: &Checkpoints<'_>,
    tokenizer: &tokenizer::Tokenizer,
) -> Result<()> {
    let _lock = fork.lock()?;
    let folder = fork.checkpoints();
    checkpoints.copy_to(from.step, &Checkpoints::new(&RealFs, &folder))?;
    record::write_tokenizer(tokenizer, fork, &meta)?;
    // Metrics up to the step; a resume truncates the rest.
    let metrics = run.path().join(runs::metrics::FILE_NAME);
    if RealFs.exists(&metrics) {
        let bytes = RealFs.read(&metrics).map_err(store::Error::io("read", &metrics))?;
        store::atomic::write(&RealFs, &fork.path().join(runs::metrics::FILE_NAME), &bytes)?;
    }
    meta.created_at = store::time::Timestamp::now().rfc3339();
    meta.forked_from = Some(from.clone());
    meta.finished = None;
    meta.write(&RealFs, fork)?;
    let state = RunState {
        status: RunStatus::Stopped,
        step: from.step,
        checkpoint_step: Some(from.step),
        message: format!("forked from run {} at step {}", from.run_id, from.step),
        ..run.read_state(&RealFs).unwrap_or_default()
    };
    Ok(fork.write_state(&RealFs, state)?)
}

fn no_checkpoint(run: &RunDir, step: u64, there: &[u64]) -> Error {
    let there: Vec<String> = there.iter().map(u64::to_string).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Error::Argument { message: format!("run {} has no checkpoint of step {step}; it has {there}", run.id()) }
}
