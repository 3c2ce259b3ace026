//! The data stages one by one, as many machines run them over a shared folder, or over object storage (`crate::share`).
//!
//! `judge` and `encode` are shared among ranks; `documents`, `tokenizer` and `tokens` are one process each, between and after them, and
//! leave what `prepare_data` leaves, byte for byte. Each is skipped where it is done already. Starting them is `executor`'s.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use corpus::{Rank, Ranks};
use serde::Serialize;
use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use store::manifest::Manifest;
use store::report::{Phase, Reporter};
use tokenizer::Tokenizer;

use super::{Done, PreparedData, Request, data, history, phase};
use crate::share::{Folder, Share};
use crate::{Error, Result};

/// How long a rank waits for another process that works on the same share: a cluster may begin a task again before the first
/// one is gone.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
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

/// Runs one stage: a shared one for `rank`, another one over what `rank.of()` ranks left. With a share, what it needs is brought from
/// there, and what it makes is pushed there; where that is there already, nothing is done.
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
    let mut reused = false;
    let mut summary = String::new();
    let which = match stage {
        DataStage::Judge | DataStage::Documents => Phase::Corpus,
        DataStage::Tokenizer => Phase::Tokenizer,
        DataStage::Encode | DataStage::Tokens => Phase::Model,
    };
    phase(which, PHASES, reporter, |reporter| {
        if let Some(share) = share {
            if is_in_share(request, stage, rank, share, reporter)? {
                reused = true;
                summary = format!("{rank}: done already, in {}", share.address());
                return Ok(((), Done::Reused(summary.clone())));
            }
            for folder in needs(request, stage, rank.of()) {
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
            for folder in makes(request, stage, rank) {
                share.push(request.project, &folder, reporter)?;
            }
        }
        Ok(((), done))
    })?;
    Ok(StageDone { stage, rank: rank.number(), of: rank.of(), reused, summary })
}

/// A folder of the project, and what makes it.
fn folder(request: &Request<'_>, path: &Path, made_by: String) -> Folder {
    let name = path.strip_prefix(request.project.root()).unwrap_or(path);
    let parts: Vec<_> = name.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    Folder { name: parts.join("/"), made_by, maker: None }
}

fn folder_of_rank(request: &Request<'_>, stage: DataStage, rank: Rank) -> Folder {
    let folder_of_all = request.project.ranks();
    let ranks = Ranks { folder: &folder_of_all, of: rank.of(), again: "" };
    let made_by = format!("{stage} --rank {} --of {}", rank.number(), rank.of());
    let maker = Some((rank, lock_folder(&ranks, stage, rank)));
    Folder { maker, ..folder(request, &ranks.of_rank(stage.name(), rank.number()), made_by) }
}

/// The folders that a stage reads.
fn needs(request: &Request<'_>, stage: DataStage, of: usize) -> Vec<Folder> {
    let ranks = |stage| {
        (0..of)
            .flat_map(move |number| Rank::new(number, of))
            .map(move |rank| folder_of_rank(request, stage, rank))
    };
    let one = |path: PathBuf, stage| folder(request, &path, format!("{stage} --of {of}"));
    let documents = || one(request.project.documents(), DataStage::Documents);
    let tokenizer = || one(request.project.tokenizer(), DataStage::Tokenizer);
    match stage {
        DataStage::Judge => Vec::new(),
        DataStage::Documents => ranks(DataStage::Judge).collect(),
        DataStage::Tokenizer => vec![documents()],
        DataStage::Encode => vec![documents(), tokenizer()],
        DataStage::Tokens => [documents(), tokenizer()].into_iter().chain(ranks(DataStage::Encode)).collect(),
    }
}

/// The folders that a stage, or a rank of it, leaves.
fn makes(request: &Request<'_>, stage: DataStage, rank: Rank) -> Vec<Folder> {
    let one = |path: &Path| folder(request, path, format!("{stage} --of {}", rank.of()));
    match stage {
        DataStage::Judge | DataStage::Encode => {
            vec![folder_of_rank(request, stage, rank)]
        }
        DataStage::Documents => vec![one(&request.project.documents())],
        DataStage::Tokenizer => vec![one(&request.project.tokenizer())],
        DataStage::Tokens => data::token_folders(request).iter().map(|(path, _)| one(path)).collect(),
    }
}

/// Whether what a stage would leave is in the share already, by a look at marks alone.
fn is_in_share(
    request: &Request<'_>,
    stage: DataStage,
    rank: Rank,
    share: &Share,
    reporter: &mut dyn Reporter,
) -> Result<bool> {
    let mut marks = Vec::new();
    for folder in makes(request, stage, rank) {
        let Some(mark) = share.mark(&folder.name)? else { return Ok(false) };
        marks.push(mark);
    }
    let mark = &marks[0];
    if matches!(stage, DataStage::Judge | DataStage::Documents) {
        let data = data::corpus_sources(request, reporter)?.options;
        return Ok(match stage {
            DataStage::Judge => corpus::is_judged(&RealFs, &data, &request.base_dir, rank, mark)?,
            _ => corpus::is_prepared(&RealFs, &data, &request.base_dir, mark)?,
        });
    }
    if stage == DataStage::Tokenizer {
        let documents = share.mark(&needs(request, stage, rank.of())[0].name)?;
        return Ok(documents.is_some_and(|documents| data::is_tokenizer_of(request, &documents.hash(), mark)));
    }
    let Some((documents, tokenizer)) = tokenizer_in_share(request, rank.of(), share, reporter)? else {
        return Ok(false);
    };
    if stage == DataStage::Encode {
        return Ok(corpus::is_encoded(&documents, &tokenizer, rank, mark));
    }
    let seed = request.recipe.data.seed;
    Ok(data::token_folders(request).into_iter().zip(&marks).all(|((_, mix), mark)| {
        let mix = mix.map(|options| corpus::Mix { options, seed });
        corpus::is_tokenized(&documents, &tokenizer, mix, mark)
    }))
}

/// The hash of the share's documents, and the tokenizer that was made of them, which is brought: it is small, and the vocabulary's hash is in it.
fn tokenizer_in_share(
    request: &Request<'_>,
    of: usize,
    share: &Share,
    reporter: &mut dyn Reporter,
) -> Result<Option<(String, Tokenizer)>> {
    let needed = needs(request, DataStage::Encode, of);
    let Some(documents) = share.mark(&needed[0].name)? else { return Ok(None) };
    let documents = documents.hash();
    share.bring(request.project, &needed[1], reporter)?;
    Ok(data::tokenizer_at_hand(request, &documents)?.map(|tokenizer| (documents, tokenizer)))
}

/// The same as [`unmarked`], of marks in a share. Sources are not read: the ranks themselves have compared them.
fn unmarked_in_share(
    request: &Request<'_>,
    options: &corpus::CorpusOptions,
    stage: DataStage,
    of: usize,
    share: &Share,
    reporter: &mut dyn Reporter,
) -> Result<Vec<usize>> {
    let before = match stage {
        DataStage::Encode => tokenizer_in_share(request, of, share, reporter)?,
        _ => None,
    };
    let mut missing = Vec::new();
    for number in 0..if stage.is_shared() { of } else { 1 } {
        let rank = Rank::new(number, of)?;
        let mark = || share.mark(&makes(request, stage, rank)[0].name);
        let is_done = match stage {
            DataStage::Judge => mark()?.is_some_and(|mark| corpus::is_judged_by(options, rank, &mark)),
            DataStage::Documents => mark()?.is_some_and(|mark| corpus::is_of_options(&mark, options)),
            DataStage::Encode => match &before {
                Some((documents, tokenizer)) => {
                    mark()?.is_some_and(|mark| corpus::is_encoded(documents, tokenizer, rank, &mark))
                }
                None => false,
            },
            DataStage::Tokenizer | DataStage::Tokens => is_in_share(request, stage, rank, share, reporter)?,
        };
        if !is_done {
            missing.push(number);
        }
    }
    Ok(missing)
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
        return unmarked_in_share(request, options, stage, of, share, reporter);
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
    of: usize,
    share: Option<&Share>,
    reporter: &mut dyn Reporter,
) -> Result<PreparedData> {
    if let Some(share) = share {
        let _busy = history::lock_project(request.project)?;
        for stage in [DataStage::Documents, DataStage::Tokenizer, DataStage::Tokens] {
            for folder in makes(request, stage, Rank::new(0, of)?) {
                share.bring(request.project, &folder, reporter)?;
            }
        }
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

/// What the recipe asks of the corpus, with all that it names at hand: fetched, or kept from standard input. Objects are listed.
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

/// The documents' hash, and the tokenizer that was made of them. Every byte of the documents is checked by who reads them.
fn tokenizer_before(request: &Request<'_>, again: &str) -> Result<(String, Tokenizer)> {
    let documents = data::documents_manifest(request).ok_or_else(|| not_before(again))?.hash();
    let tokenizer = data::tokenizer_at_hand(request, &documents)?.ok_or_else(|| not_before(again))?;
    Ok((documents, tokenizer))
}

/// `again` is what the command has beside, as in [`Ranks`].
fn not_before(again: &str) -> Error {
    Error::Data {
        message: format!(
            "a stage before this one is not done, or not by this recipe: run `text2llm data stage NAME{again}` in the order {}",
            DataStage::ALL.map(DataStage::name).join(", ")
        ),
    }
}

fn lock_folder(ranks: &Ranks<'_>, stage: DataStage, rank: Rank) -> PathBuf {
    let share = ranks.of_rank(stage.name(), rank.number());
    ranks.folder.join("locks").join(share.file_name().unwrap_or_default())
}

/// One process a share: two would write the same folder.
fn lock_rank(ranks: &Ranks<'_>, stage: DataStage, rank: Rank) -> Result<RunLock> {
    let folder = lock_folder(ranks, stage, rank);
    RealFs.create_dir_all(&folder).map_err(store::Error::io("create the folder", &folder))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match RunLock::acquire(&folder) {
            Err(error) if error.kind() == store::ErrorKind::Locked && Instant::now() < end => {
                std::thread::sleep(LOOK_EVERY);
            }
            locked => return Ok(locked?),
        }
    }
}
