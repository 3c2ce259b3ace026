//! Text to token shards by one process, without a model.

use std::path::PathBuf;

use runs::report::{Phase, Reporter};

use super::phase::phase;
use super::request::Request;
use super::{data, folders, history};
use crate::Result;
use crate::stop::{self, Working};

/// The result of preparing data.
#[derive(Clone, Debug)]
pub struct PreparedData {
    /// Summary of the documents.
    pub summary: corpus::CorpusSummary,
    /// Summary of the tokens.
    pub tokens: corpus::TokenSummary,
    /// Path of the report.
    pub report: PathBuf,
}

/// Prepares text as token shards, without a model.
///
/// # Errors
/// See [`Error`]. Whatever was finished before is kept and used by the next call.
pub fn prepare_data(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    let _busy = history::lock_project(request.project)?;
    let _working = Working::begin(Some(request.project.command("data prepare")));
    stop::settle(prepare_locked(request, reporter))
}

fn prepare_locked(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    folders::check_data(request)?;
    // Phases are numbered as in a whole run.
    let of = 4;
    let documents = phase(Phase::Corpus, of, reporter, |reporter| data::documents(request, None, reporter))?;
    let tokenizer =
        phase(Phase::Tokenizer, of, reporter, |reporter| data::tokenizer(request, &documents, reporter))?;
    let tokens =
        phase(Phase::Model, of, reporter, |reporter| data::tokens(request, &tokenizer, None, reporter))?;
    let report = request.project.documents().join("report.html");
    Ok(PreparedData { summary: documents.summary, tokens, report })
}
