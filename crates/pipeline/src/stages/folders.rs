//! The folders that a command will fill: each must be free, or what the same stage made before.

use std::path::PathBuf;

use store::fs::RealFs;
use store::ownership;

use super::shared::DataStage;
use super::{Request, Until, data, export, validation};
use crate::{Result, ours};

/// Refuses a project in whose stage folders somebody keeps files of their own, before any work is done.
///
/// # Errors
/// Names the folder, the files and the remedy.
pub(super) fn check(request: &Request<'_>) -> Result<()> {
    ours::check_metrics(request.project)?;
    let mut folders = data_folders(request);
    if request.until >= Until::Export {
        folders.extend(results(request));
    }
    check_all(&folders)
}

/// The same for a command that prepares data.
pub(super) fn check_data(request: &Request<'_>) -> Result<()> {
    check_all(&data_folders(request))
}

/// The same for a stage of one process.
pub(super) fn check_stage(request: &Request<'_>, stage: DataStage) -> Result<()> {
    let made = match stage {
        DataStage::Judge | DataStage::Encode => return Ok(()),
        DataStage::Documents => corpus::DOCUMENTS_STAGE,
        DataStage::Tokenizer => data::TOKENIZER_STAGE,
        DataStage::Tokens => tokens::TOKENS_STAGE,
    };
    let mut folders = data_folders(request);
    folders.retain(|(_, stage)| *stage == made);
    check_all(&folders)
}

/// The same for a command that goes on with a run, and validates and exports where `until` says so.
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

fn data_folders(request: &Request<'_>) -> Vec<(PathBuf, &'static str)> {
    let project = request.project;
    let mut folders = Vec::new();
    if !request.skip_corpus {
        folders.push((project.documents(), corpus::DOCUMENTS_STAGE));
    }
    if !request.skip_tokenizer {
        folders.push((project.tokenizer(), data::TOKENIZER_STAGE));
    }
    let tokens = data::token_folders(request).into_iter();
    folders.extend(tokens.map(|(folder, _)| (folder, tokens::TOKENS_STAGE)));
    folders
}

fn results(request: &Request<'_>) -> Vec<(PathBuf, &'static str)> {
    let mut folders = vec![(request.project.evals(), validation::STAGE)];
    if request.recipe.export.enabled {
        folders.push((request.project.model(), export::STAGE));
    }
    folders
}
