//! The data stages one by one, as many machines run them over a shared folder, or over object storage
//! (`crate::share`).
//!
//! Together they leave what `prepare_data` leaves, byte for byte. Each is skipped where it is done already.
//! Starting them is `executor`'s.

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

/// How long a rank waits for another process that works on the same share: a cluster may begin a task again
/// before the first one is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbered as in a whole run.
const PHASES: usize = 4;

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageDone {
    /// Which.
    pub stage: DataStage,
    /// Which share of it; 0 of the number of ranks, where it is not shared.
    pub rank: usize,
    /// Of how many.
    pub of: usize,
    /// Whether it was done before.
    pub reused: bool,
    /// What came of it, in words.
    pub summary: String,
}

/// Runs one stage: a shared one for `rank`, another one over what `rank.of()` ranks left. With a share, what
/// it needs is brought from there, and what it makes is pushed there; where that is there already, nothing is
/// done.
///
/// # Errors
/// A stage before this one that is not done; whatever the stage itself or the share may meet.
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
                "--rank {}: the stage `{stage}` is one process; leave --rank out",
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
        return Ok(Done::Reused(format!("{rank}: done already, in {}", share.address())));
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

/// The ranks of a shared stage that have left no mark; for other stages, rank 0 where there is no result.
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

/// What the stages have left; what is in a share is brought, so that a run goes on from it.
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

/// What the recipe asks of the corpus, with all that it names at hand: fetched, or kept from standard input.
/// Objects are listed.
pub(crate) fn gathered(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<corpus::CorpusOptions> {
    let data = data::corpus_sources(request, reporter)?.options;
    corpus::text_bytes(&RealFs, &data, &request.base_dir)?;
    Ok(data)
}

/// One process a share: two would write the same folder.
fn lock_rank(request: &Request<'_>, stage: DataStage, rank: Rank) -> Result<RunLock> {
    Ok(RunLock::wait(&stage.lock_folder(request, rank), Some(PATIENCE))?)
}
