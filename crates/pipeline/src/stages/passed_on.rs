//! Defines the folders that a data stage reads and writes, and whether it is done, and moves folders into a
//! share and out of it.

use std::path::Path;

use corpus::Rank;
use runs::report::Reporter;

use super::before::Before;
use super::prepare::{PreparedData, prepare_data};
use super::request::Request;
use super::stage::DataStage;
use super::{folders, history};
use crate::Result;
use crate::share::{Folder, Share};

/// The folders that a stage, or a rank of it, writes.
pub(super) fn makes(request: &Request<'_>, stage: DataStage, rank: Rank) -> Vec<Folder> {
    let folder = |path: &Path| match stage.is_shared() {
        true => Folder {
            maker: Some((rank, stage.lock_folder(request, rank))),
            ..Folder::new(
                request.project,
                path,
                format!("{stage} --rank {} --of {}", rank.number(), rank.of()),
            )
        },
        false => Folder::new(request.project, path, format!("{stage} --of {}", rank.of())),
    };
    stage.folders(request, rank).iter().map(|path| folder(path)).collect()
}

/// The folders that a stage reads.
pub(super) fn needs(request: &Request<'_>, stage: DataStage, of: usize) -> Vec<Folder> {
    let left = |&input: &DataStage| {
        let ranks = if input.is_shared() { of } else { 1 };
        let ranks = (0..ranks).flat_map(move |number| Rank::new(number, of));
        ranks.flat_map(move |rank| makes(request, input, rank)).collect::<Vec<_>>()
    };
    stage.0.inputs.iter().flat_map(left).collect()
}

/// Whether the output of a stage, or of a rank of it, exists already, judging by manifests alone.
pub(super) fn is_done(stage: DataStage, rank: Rank, before: &mut Before<'_>) -> Result<bool> {
    let mut marks = Vec::new();
    for folder in stage.folders(before.request, rank) {
        let Some(mark) = before.mark(&folder)? else { return Ok(false) };
        marks.push(mark);
    }
    let expected = (stage.0.expected)(before, rank)?;
    Ok(expected.is_some_and(|expected| expected.iter().zip(&marks).all(|(expected, mark)| expected.is(mark))))
}

/// Prepares token shards in this process, downloading what the share has and uploading the rest: for one
/// machine among many, and for the one that trains.
///
/// # Errors
/// Errors of [`prepare_data`] and of the share.
pub fn prepare(request: &Request<'_>, share: &Share, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    let folders = bring_results(request, share, reporter)?;
    let done = prepare_data(request, reporter)?;
    for folder in &folders {
        share.push(request.project, folder, reporter)?;
    }
    Ok(done)
}

/// Downloads the output of stages that run in one process; returns the folders, including those that the
/// share does not have.
pub(super) fn bring_results(
    request: &Request<'_>,
    share: &Share,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Folder>> {
    let _busy = history::lock_project(request.project)?;
    folders::check_data(request)?;
    let whole = Rank::new(0, 1)?;
    let stages = DataStage::ALL.into_iter().filter(|stage| !stage.is_shared());
    let folders: Vec<Folder> = stages.flat_map(|stage| makes(request, stage, whole)).collect();
    for folder in &folders {
        share.bring(request.project, folder, reporter)?;
    }
    Ok(folders)
}
