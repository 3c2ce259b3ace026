//! What must hold before work begins: a readable corpus, a writable project, disk and memory for what is planned.

use store::fs::{Fs, RealFs};
use store::report::{Phase, Reporter};

use super::{Done, Request};
use crate::{Error, Result, plan};

pub(super) fn check(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<((), Done)> {
    let root = request.project.root();
    request.recipe.train.check_precision(request.target)?;
    let plan = if request.skip_corpus {
        // The text may be gone; what was made of it is checked when it is opened.
        plan::of_prepared(&request.recipe, request.project, request.target)?
    } else {
        plan::plan(&request.recipe, request.project, &request.base_dir, request.target)?
    };
    for warning in &plan.warnings {
        reporter.warning(Phase::Prerequisites, warning);
    }
    let free = RealFs.free_space_bytes(root).unwrap_or(u64::MAX);
    if free < plan.disk_bytes {
        let message = format!(
            "the job needs about {} MB on the disk of `{}` and {} MB are free: make room, choose another place with --output-dir, \
             or keep fewer checkpoints (train.keep_last)",
            plan.disk_bytes / 1_000_000,
            root.display(),
            free / 1_000_000
        );
        accept(request, message, reporter)?;
    }
    if let Some(message) = plan.memory_shortage() {
        accept(request, message, reporter)?;
    }
    let summary = format!(
        "{:.1} GB of disk free; training needs {} MB of memory{}",
        free as f64 / 1e9,
        plan.memory.total_bytes / 1_000_000,
        plan.memory
            .available_bytes
            .map(|available| format!(" of {:.1} GB free", available as f64 / 1e9))
            .unwrap_or_default()
    );
    Ok(((), Done::Worked(summary)))
}

fn accept(request: &Request<'_>, message: String, reporter: &mut dyn Reporter) -> Result<()> {
    if request.accept_risks {
        reporter.warning(Phase::Prerequisites, &format!("{message}. Going on because of --yes"));
        return Ok(());
    }
    Err(Error::Environment { message: format!("{message}. --yes goes on all the same") })
}

/// Makes the project folder and tries a file in it.
pub(super) fn writable(request: &Request<'_>) -> Result<()> {
    let root = request.project.root();
    let refuse = |error: std::io::Error| Error::Environment {
        message: format!(
            "cannot write into the project folder `{}`: {error}. Choose another one with --output-dir or --project",
            root.display()
        ),
    };
    RealFs.create_dir_all(root).map_err(refuse)?;
    let trial = root.join(format!("{}{}", crate::sweep::WRITE_TEST, std::process::id()));
    RealFs.create(&trial).map_err(refuse)?;
    RealFs.remove_file(&trial).map_err(refuse)
}
