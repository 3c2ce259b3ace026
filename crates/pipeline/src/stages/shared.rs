//! Runs single data stages, on many machines with a shared file system or object storage (`crate::share`).
//! Together they write byte-identical output to `prepare_data`. Each is skipped if it is done already.
//! `executor` starts them.

use std::time::Duration;

use corpus::{Rank, Ranks};
use runs::report::{Phase, Reporter};
use serde::Serialize;
use store::fs::RealFs;
use store::lock::RunLock;

use super::before::Before;
use super::phase::{Done, phase};
use super::prepare::PreparedData;
use super::request::Request;
use super::stage::{DataStage, Making};
use super::{data, folders, history, passed_on};
use crate::remedy;
use crate::share::Share;
use crate::stop::Working;
use crate::{Error, Result};

/// How long a rank waits for another process that works on the same share: a cluster may restart a task
/// before the first one is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Phases are numbered as in a whole run.
const PHASES: usize = 4;

/// The result of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageDone {
    /// The stage.
    pub stage: DataStage,
    /// The rank; 0 for a stage that runs in one process.
    pub rank: usize,
    /// Number of ranks.
    pub of: usize,
    /// Whether it had been done before.
    pub reused: bool,
    /// Summary.
    pub summary: String,
}

/// Runs one stage: a split one for `rank`, another one over the output of `rank.of()` ranks. With a share,
/// inputs are downloaded and outputs uploaded; if the outputs are there already, nothing is done.
///
/// # Errors
/// An earlier stage that is not done; errors of the stage or the share.
pub fn run_stage(
    request: &Request<'_>,
    stage: DataStage,
    rank: Rank,
    share: Option<&Share>,
    reporter: &mut dyn Reporter,
) -> Result<StageDone> {
    let folder = request.project.ranks();
    let again = share.map_or_else(String::new, |share| format!(" --share {}", share.address()));
    let ranks = &Ranks { folder: &folder, of: rank.of() };
    if !stage.is_shared() && rank.number() > 0 {
        return Err(Error::Argument {
            message: format!(
                "--rank {}: the stage `{stage}` runs in one process; omit --rank",
                rank.number()
            ),
        });
    }
    let _busy_rank = stage.is_shared().then(|| lock_rank(request, stage, rank)).transpose()?;
    let _busy_project = (!stage.is_shared()).then(|| history::lock_project(request.project)).transpose()?;
    folders::check_stage(request, stage)?;
    let _working = Working::begin(None);
    let (reused, summary) = phase(stage.0.phase, PHASES, reporter, |reporter| {
        let done = make(&Making { request, rank, ranks, again: &again }, stage, share, reporter)?;
        let told = match &done {
            Done::Worked(words) => (false, words.clone()),
            Done::Reused(words) => (true, words.clone()),
        };
        Ok((told, done))
    })?;
    Ok(StageDone { stage, rank: rank.number(), of: rank.of(), reused, summary })
}

/// Makes a stage's folders out of what the share has, and pushes them there.
fn make(
    making: &Making<'_>,
    stage: DataStage,
    share: Option<&Share>,
    reporter: &mut dyn Reporter,
) -> Result<Done> {
    let &Making { request, rank, .. } = making;
    let Some(share) = share else { return made(making, stage, reporter) };
    if passed_on::is_done(stage, rank, &mut Before::of_files(request, Some(share), reporter))? {
        return Ok(Done::Reused(format!("{rank}: already done, in {}", share.address())));
    }
    for folder in passed_on::needs(request, stage, rank.of()) {
        share.bring(request.project, &folder, reporter)?;
    }
    let done = made(making, stage, reporter)?;
    for folder in passed_on::makes(request, stage, rank) {
        share.push(request.project, &folder, reporter)?;
    }
    Ok(done)
}

/// Makes them, and says how ranks that are missing for it are run.
fn made(making: &Making<'_>, stage: DataStage, reporter: &mut dyn Reporter) -> Result<Done> {
    (stage.0.make)(making, reporter).map_err(|error| {
        let Error::Corpus(missing) = &error else { return error };
        match remedy::of_ranks(missing, making.again) {
            Some(remedy) => Error::Data { message: format!("{missing}. {remedy}") },
            None => error,
        }
    })
}

/// The ranks of a split stage without a manifest; for other stages, rank 0 if there is no result.
/// Sources are not read: the ranks themselves have compared them.
pub(crate) fn unmarked(
    request: &Request<'_>,
    options: &corpus::CorpusOptions,
    stage: DataStage,
    of: usize,
    share: Option<&Share>,
    reporter: &mut dyn Reporter,
) -> Result<Vec<usize>> {
    let mut before = Before::by_options(request, options, share, reporter);
    let mut missing = Vec::new();
    for number in 0..if stage.is_shared() { of } else { 1 } {
        if !passed_on::is_done(stage, Rank::new(number, of)?, &mut before)? {
            missing.push(number);
        }
    }
    Ok(missing)
}

/// The output of the stages, downloaded from a share if needed, so that a run can continue from it.
pub(crate) fn prepared(
    request: &Request<'_>,
    share: Option<&Share>,
    reporter: &mut dyn Reporter,
) -> Result<PreparedData> {
    if let Some(share) = share {
        passed_on::bring_results(request, share, reporter)?;
    }
    let folder = request.project.documents();
    let disk = Error::disk(Phase::Corpus);
    let read = |folder: &std::path::Path| folder.join("report.json");
    Ok(PreparedData {
        summary: store::atomic::read_json(&RealFs, &read(&folder)).map_err(&disk)?,
        tokens: store::atomic::read_json(&RealFs, &read(&request.project.tokens())).map_err(&disk)?,
        report: folder.join("report.html"),
    })
}

/// The recipe's corpus options with all inputs available: downloaded, or stored from standard input. Objects
/// are listed.
pub(crate) fn gathered(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<corpus::CorpusOptions> {
    let data = data::corpus_sources(request, reporter)?.options;
    corpus::text_bytes(&RealFs, &data, &request.base_dir)?;
    Ok(data)
}

/// One process per share: two would write the same folder.
fn lock_rank(request: &Request<'_>, stage: DataStage, rank: Rank) -> Result<RunLock> {
    Ok(RunLock::wait(&stage.lock_folder(request, rank), Some(PATIENCE))?)
}
