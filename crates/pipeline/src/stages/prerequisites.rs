//! Checks before work starts: a readable corpus, a writable project, disk space and memory for the plan.

use compute::Target;
use runs::report::{Phase, Reporter};
use store::fs::{Fs, RealFs};
use train::TrainOptions;

use super::phase::Done;
use super::request::Request;
use crate::plan::{self, Plan};
use crate::{Error, Result};

pub(super) fn check(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<((), Done)> {
    let root = request.project.root();
    check_device(&request.recipe.train, request.target)?;
    let plan = if request.skip_corpus {
        // The text may be missing; prepared data are checked when they are opened.
        plan::of_prepared(&request.recipe, request.project, &request.base_dir, request.target)?
    } else {
        plan::plan(&request.recipe, request.project, &request.base_dir, request.target)?
    };
    for warning in &plan.warnings {
        reporter.warning(Phase::Prerequisites, warning);
    }
    let free = RealFs.free_space_bytes(root).unwrap_or(u64::MAX);
    if free < plan.disk_bytes {
        let message = format!(
            "the job needs about {} MB on the disk of `{}`, and {} MB are free: free some space, choose \
             another folder with --output-dir, or keep fewer checkpoints (train.keep_last)",
            plan.disk_bytes / 1_000_000,
            root.display(),
            free / 1_000_000
        );
        accept(request.accept_risks, message, reporter)?;
    }
    check_memory(&plan, request.accept_risks, reporter)?;
    let summary = format!(
        "{:.1} GB of disk space free; training needs {} MB of memory{}",
        free as f64 / 1e9,
        plan.memory.total_bytes / 1_000_000,
        plan.memory
            .available_bytes
            .map(|available| format!(" of {:.1} GB free", available as f64 / 1e9))
            .unwrap_or_default()
    );
    Ok(((), Done::Worked(summary)))
}

/// Checks that the device exists and supports the precision: before anything is prepared, and at the start of
/// any training.
pub(super) fn check_device(options: &TrainOptions, target: Target) -> Result<()> {
    target.check()?;
    Ok(options.check_precision(target)?)
}

/// Checks that training fits into memory, unless risks are accepted.
pub(super) fn check_memory(plan: &Plan, accept_risks: bool, reporter: &mut dyn Reporter) -> Result<()> {
    plan.memory_shortage().map_or(Ok(()), |message| accept(accept_risks, message, reporter))
}

fn accept(accept_risks: bool, message: String, reporter: &mut dyn Reporter) -> Result<()> {
    if accept_risks {
        reporter.warning(Phase::Prerequisites, &format!("{message}. Continuing because of --yes"));
        return Ok(());
    }
    Err(Error::Environment { message: format!("{message}. Pass --yes to continue anyway") })
}

/// Creates the project folder and a test file in it.
pub(super) fn writable(request: &Request<'_>) -> Result<()> {
    let root = request.project.root();
    let refuse = |error: std::io::Error| Error::Environment {
        message: format!(
            "cannot write to the project folder `{}`: {error}. Choose another one with --output-dir or \
             --project",
            root.display()
        ),
    };
    RealFs.create_dir_all(root).map_err(refuse)?;
    let trial = root.join(format!("{}{}", crate::sweep::WRITE_TEST, std::process::id()));
    RealFs.create(&trial).map_err(refuse)?;
    RealFs.remove_file(&trial).map_err(refuse)
}
