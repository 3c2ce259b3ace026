//! Checks the folders that a command will write: each must be free, or contain output of the same stage only.

use std::path::PathBuf;

use corpus::Rank;
use store::fs::RealFs;
use store::ownership;

use super::request::Request;
use super::stage::DataStage;
use super::{export, validation};
use crate::meta::Until;
use crate::{Result, ours};

/// Returns an error if a stage folder of the project contains the user's own files, before any work is done.
///
/// # Errors
/// Names the folder, the files and the remedy.
pub(super) fn check(request: &Request<'_>) -> Result<()> {
    ours::check_metrics(request.project)?;
    let mut folders = data_folders(request)?;
    if request.until >= Until::Export {
        folders.extend(results(request));
    }
    check_all(&folders)
}

/// The same check for a command that prepares data.
pub(super) fn check_data(request: &Request<'_>) -> Result<()> {
    check_all(&data_folders(request)?)
}

/// The same check for a stage that runs in one process.
pub(super) fn check_stage(request: &Request<'_>, stage: DataStage) -> Result<()> {
    if stage.is_shared() { Ok(()) } else { check_all(&of_stage(request, stage)?) }
}

/// The same check for a command that continues a run, and validates and exports if `until` says so.
pub(super) fn check_results(request: &Request<'_>) -> Result<()> {
    ours::check_metrics(request.project)?;
    if request.until >= Until::Export { check_all(&results(request)) } else { Ok(()) }
}

fn check_all(folders: &[(PathBuf, &str)]) -> Result<()> {
    for (folder, stage) in folders {
        store::stage::repair(&RealFs, folder)?;
        ownership::check(&RealFs, folder, stage)?;
    }
    Ok(())
}

fn data_folders(request: &Request<'_>) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut folders = Vec::new();
    for stage in DataStage::ALL {
        if !stage.is_shared() && !(stage.0.is_left_out)(request) {
            folders.extend(of_stage(request, stage)?);
        }
    }
    Ok(folders)
}

/// The folders of a stage of one process.
fn of_stage(request: &Request<'_>, stage: DataStage) -> Result<Vec<(PathBuf, &'static str)>> {
    let folders = stage.folders(request, Rank::new(0, 1)?).into_iter();
    Ok(folders.map(|folder| (folder, stage.name())).collect())
}

fn results(request: &Request<'_>) -> Vec<(PathBuf, &'static str)> {
    let mut folders = vec![(request.project.evals(), validation::STAGE)];
    if request.recipe.export.enabled {
        folders.push((request.project.model(), export::STAGE));
    }
    folders
}
