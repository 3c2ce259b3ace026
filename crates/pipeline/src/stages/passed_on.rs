//! Which folders a data stage reads and leaves, and whether a share holds them already.

use std::path::{Path, PathBuf};

use corpus::{Rank, Ranks};
use runs::report::Reporter;
use store::fs::RealFs;
use tokenizer::Tokenizer;

use super::shared::{DataStage, lock_folder};
use super::{PreparedData, Request, data, folders, history};
use crate::Result;
use crate::share::{Folder, Share};

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
pub(super) fn needs(request: &Request<'_>, stage: DataStage, of: usize) -> Vec<Folder> {
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
pub(super) fn makes(request: &Request<'_>, stage: DataStage, rank: Rank) -> Vec<Folder> {
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
pub(super) fn is_in_share(
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

/// The hash of the share's documents, and the tokenizer that was made of them, which is brought: it is small,
/// and the vocabulary's hash is in it.
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

/// The ranks that have left no mark in a share, as [`super::shared::unmarked`]. Sources are not read: the
/// ranks themselves have compared them.
pub(super) fn unmarked(
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

/// Text to token shards by this process, with what the share has of it taken from there, and the rest passed
/// on: for one machine among many, and for the one that trains.
///
/// # Errors
/// What [`super::prepare_data`] and the share may meet.
pub fn prepare(request: &Request<'_>, share: &Share, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    let folders = bring_results(request, share, reporter)?;
    let done = super::prepare_data(request, reporter)?;
    for folder in &folders {
        share.push(request.project, folder, reporter)?;
    }
    Ok(done)
}

/// Brings what the stages of one process have left in a share; returns the folders, those that the share has
/// not among them.
pub(super) fn bring_results(
    request: &Request<'_>,
    share: &Share,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Folder>> {
    let _busy = history::lock_project(request.project)?;
    folders::check_data(request)?;
    let whole = Rank::new(0, 1)?;
    let stages = [DataStage::Documents, DataStage::Tokenizer, DataStage::Tokens];
    let folders: Vec<Folder> = stages.iter().flat_map(|&stage| makes(request, stage, whole)).collect();
    for folder in &folders {
        share.bring(request.project, folder, reporter)?;
    }
    Ok(folders)
}
