//! The data stages one by one, as many machines run them over a shared folder, or over object storage
//! (`crate::share`).
//!
//! `judge` and `encode` are shared among ranks; `documents`, `tokenizer` and `tokens` are one process each,
//! between and after them, and leave what `prepare_data` leaves, byte for byte. Each is skipped where it is
//! done already. Starting them is `executor`'s.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use corpus::{Rank, Ranks};
use runs::report::{Phase, Reporter};
use serde::Serialize;
use store::fs::RealFs;
use store::lock::RunLock;
use store::manifest::Manifest;
use tokenizer::Tokenizer;

use super::{Done, PreparedData, Request, data, folders, history, passed_on, phase};
use crate::share::Share;
use crate::stop::Working;
use crate::{Error, Result};

/// How long a rank waits for another process that works on the same share: a cluster may begin a task again
/// before the first one is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbered as in a whole run.
const PHASES: usize = 4;

/// A data stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataStage {
    /// Sources to verdicts; shared.
    Judge,
    /// Verdicts to documents.
    Documents,
    /// Documents to a tokenizer.
    Tokenizer,
    /// Documents to ids; shared.
    Encode,
    /// Ids to shards.
    Tokens,
}

impl DataStage {
    /// In their order.
    pub const ALL: [DataStage; 5] =
        [DataStage::Judge, DataStage::Documents, DataStage::Tokenizer, DataStage::Encode, DataStage::Tokens];

    /// As commands and folders have it.
    pub fn name(self) -> &'static str {
        match self {
            DataStage::Judge => "judge",
            DataStage::Documents => "documents",
            DataStage::Tokenizer => "tokenizer",
            DataStage::Encode => "encode",
            DataStage::Tokens => "tokens",
        }
    }

    /// Whether ranks share it.
    pub fn is_shared(self) -> bool {
        matches!(self, DataStage::Judge | DataStage::Encode)
    }
}

impl fmt::Display for DataStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DataStage {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<DataStage, String> {
        let found = DataStage::ALL.into_iter().find(|stage| stage.name() == text);
        found.ok_or_else(|| {
            let names = DataStage::ALL.map(DataStage::name).join(", ");
            format!("there is no stage `{text}`: they are {names}")
        })
    }
}

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
    let ranks = &Ranks { folder: &folder, of: rank.of(), again: &again };
    if !stage.is_shared() && rank.number() > 0 {
        return Err(Error::Argument {
            message: format!(
                "--rank {}: the stage `{stage}` is one process; leave --rank out",
                rank.number()
            ),
        });
    }
    let _busy_rank = stage.is_shared().then(|| lock_rank(ranks, stage, rank)).transpose()?;
    let _busy_project = (!stage.is_shared()).then(|| history::lock_project(request.project)).transpose()?;
    folders::check_stage(request, stage)?;
    let _working = Working::begin(None);
    let mut reused = false;
    let mut summary = String::new();
    let which = match stage {
        DataStage::Judge | DataStage::Documents => Phase::Corpus,
        DataStage::Tokenizer => Phase::Tokenizer,
        DataStage::Encode | DataStage::Tokens => Phase::Model,
    };
    phase(which, PHASES, reporter, |reporter| {
        if let Some(share) = share {
            if passed_on::is_in_share(request, stage, rank, share, reporter)? {
                reused = true;
                summary = format!("{rank}: done already, in {}", share.address());
                return Ok(((), Done::Reused(summary.clone())));
            }
            for folder in passed_on::needs(request, stage, rank.of()) {
                share.bring(request.project, &folder, reporter)?;
            }
        }
        let done = match stage {
            DataStage::Judge => judge(request, rank, reporter)?,
            DataStage::Documents => data::documents(request, Some(ranks), reporter)?.1,
            DataStage::Tokenizer => {
                data::documents_manifest(request).ok_or_else(|| not_before(&again))?;
                let documents = data::documents_at_hand(request)?.ok_or_else(|| not_before(&again))?;
                data::tokenizer(request, &documents, reporter)?.1
            }
            DataStage::Encode => encode(request, rank, &again, reporter)?,
            DataStage::Tokens => {
                let (_, tokenizer) = tokenizer_before(request, &again)?;
                data::tokens(request, &tokenizer, Some(ranks), reporter)?.1
            }
        };
        match &done {
            Done::Worked(words) => summary.clone_from(words),
            Done::Reused(words) => {
                reused = true;
                summary.clone_from(words);
            }
        }
        if let Some(share) = share {
            for folder in passed_on::makes(request, stage, rank) {
                share.push(request.project, &folder, reporter)?;
            }
        }
        Ok(((), done))
    })?;
    Ok(StageDone { stage, rank: rank.number(), of: rank.of(), reused, summary })
}

/// The ranks of a shared stage that have left no mark; for other stages, rank 0 where there is no result.
pub(crate) fn unmarked(
    request: &Request<'_>,
    options: &corpus::CorpusOptions,
    stage: DataStage,
    of: usize,
    share: Option<&Share>,
    reporter: &mut dyn Reporter,
) -> Result<Vec<usize>> {
    if let Some(share) = share {
        return passed_on::unmarked(request, options, stage, of, share, reporter);
    }
    let folder = request.project.ranks();
    let ranks = Ranks { folder: &folder, of, again: "" };
    let result = |folder: std::path::PathBuf| {
        Manifest::read(&RealFs, &folder).map_or_else(|_| vec![0], |_| Vec::new())
    };
    Ok(match stage {
        DataStage::Judge => corpus::unjudged(&RealFs, options, &ranks),
        DataStage::Documents => data::documents_manifest(request).map_or_else(|| vec![0], |_| Vec::new()),
        DataStage::Tokenizer => result(request.project.tokenizer()),
        DataStage::Encode => {
            let (documents_hash, tokenizer) = tokenizer_before(request, "")?;
            corpus::unencoded(&RealFs, &documents_hash, &tokenizer, &ranks)
        }
        DataStage::Tokens => result(request.project.tokens()),
    })
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

fn judge(request: &Request<'_>, rank: Rank, reporter: &mut dyn Reporter) -> Result<Done> {
    let sources = data::corpus_sources(request, reporter)?;
    let folder = request.project.ranks();
    let out =
        Ranks { folder: &folder, of: rank.of(), again: "" }.of_rank(DataStage::Judge.name(), rank.number());
    let is_done =
        |manifest: &Manifest| corpus::is_judged(&RealFs, &sources.options, &request.base_dir, rank, manifest);
    if sources.has_objects() && !data::is_whole(&out, is_done)? {
        sources.fetch(&request.base_dir, rank, reporter)?;
    }
    let data = sources.options;
    let done = corpus::judge_rank(&RealFs, &data, &request.base_dir, &folder, rank, reporter)?;
    let words = format!(
        "{rank}: {} documents of {} files, {:.1} MB",
        done.documents,
        done.files,
        done.bytes as f64 / 1e6
    );
    Ok(if done.reused { Done::Reused(format!("unchanged: {words}")) } else { Done::Worked(words) })
}

fn encode(request: &Request<'_>, rank: Rank, again: &str, reporter: &mut dyn Reporter) -> Result<Done> {
    let (_, tokenizer) = tokenizer_before(request, again)?;
    let (documents, folder) = (request.project.documents(), request.project.ranks());
    let done = corpus::encode_rank(&RealFs, &documents, &tokenizer, &folder, rank, reporter)?;
    let words = format!("{rank}: {} tokens of {} documents", done.tokens, done.documents);
    Ok(if done.reused { Done::Reused(format!("unchanged: {words}")) } else { Done::Worked(words) })
}

/// The documents' hash, and the tokenizer that was made of them. Every byte of the documents is checked by
/// who reads them.
fn tokenizer_before(request: &Request<'_>, again: &str) -> Result<(String, Tokenizer)> {
    let documents = data::documents_manifest(request).ok_or_else(|| not_before(again))?.hash();
    let tokenizer = data::tokenizer_at_hand(request, &documents)?.ok_or_else(|| not_before(again))?;
    Ok((documents, tokenizer))
}

/// `again` is what the command has beside, as in [`Ranks`].
pub(super) fn not_before(again: &str) -> Error {
    Error::Data {
        message: format!(
            "a stage before this one is not done, or not by this recipe: run `text2llm data stage NAME{again}` in the order {}",
            DataStage::ALL.map(DataStage::name).join(", ")
        ),
    }
}

pub(super) fn lock_folder(ranks: &Ranks<'_>, stage: DataStage, rank: Rank) -> PathBuf {
    let share = ranks.of_rank(stage.name(), rank.number());
    ranks.folder.join("locks").join(share.file_name().unwrap_or_default())
}

/// One process a share: two would write the same folder.
fn lock_rank(ranks: &Ranks<'_>, stage: DataStage, rank: Rank) -> Result<RunLock> {
    Ok(RunLock::wait(&lock_folder(ranks, stage, rank), Some(PATIENCE))?)
}
