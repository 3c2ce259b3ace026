//! Which folders a data stage reads and leaves, and whether a share holds them already.

use std::path::{Path, PathBuf};

use corpus::{Rank, Ranks};
use store::fs::RealFs;
use store::report::Reporter;

use super::shared::{DataStage, not_before};
use super::{PreparedData, Request, data};
use crate::Result;
use crate::share::{Folder, Share};

/// A folder of the project, and what makes it.
fn folder(request: &Request<'_>, path: &Path, made_by: String) -> Folder {
    let name = path.strip_prefix(request.project.root()).unwrap_or(path);
    let parts: Vec<_> = name.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    Folder { name: parts.join("/"), made_by }
}

fn folder_of_rank(request: &Request<'_>, stage: DataStage, number: usize, of: usize) -> Folder {
    let path = Ranks { folder: &request.project.ranks(), of }.of_rank(stage.name(), number);
    folder(request, &path, format!("{stage} --rank {number} --of {of}"))
}

/// The folders that a stage reads.
pub(super) fn needs(request: &Request<'_>, stage: DataStage, of: usize) -> Vec<Folder> {
    let ranks = |stage| (0..of).map(move |number| folder_of_rank(request, stage, number, of));
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
            vec![folder_of_rank(request, stage, rank.number(), rank.of())]
        }
        DataStage::Documents => vec![one(&request.project.documents())],
        DataStage::Tokenizer => vec![one(&request.project.tokenizer())],
        DataStage::Tokens => data::token_folders(request).iter().map(|(path, _)| one(path)).collect(),
    }
}

/// Whether what a stage would leave is in the share already, by a look at marks alone; `known` is what the recipe asks of the corpus, where that
/// was gathered already.
pub(super) fn is_in_share(
    request: &Request<'_>,
    stage: DataStage,
    rank: Rank,
    share: &Share,
    known: Option<&corpus::CorpusOptions>,
    reporter: &mut dyn Reporter,
) -> Result<bool> {
    let mut marks = Vec::new();
    for folder in makes(request, stage, rank) {
        let Some(mark) = share.mark(&folder.name)? else { return Ok(false) };
        marks.push(mark);
    }
    let mark = &marks[0];
    if matches!(stage, DataStage::Judge | DataStage::Documents) {
        let data = match known {
            Some(known) => known,
            None => &data::corpus_sources(request, reporter)?.options,
        };
        return Ok(match stage {
            DataStage::Judge => corpus::is_judged(&RealFs, data, &request.base_dir, rank, mark)?,
            _ => corpus::is_prepared(&RealFs, data, &request.base_dir, mark)?,
        });
    }
    let needed = needs(request, stage, rank.of());
    let Some(documents) = share.mark(&needed[0].name)? else { return Ok(false) };
    let documents = documents.hash();
    if stage == DataStage::Tokenizer {
        return Ok(data::is_tokenizer_of(request, &documents, mark));
    }
    // Small, and the vocabulary's hash is in it.
    share.bring(request.project, &needed[1], reporter)?;
    let Some(tokenizer) = data::tokenizer_at_hand(request, &documents)? else { return Ok(false) };
    if stage == DataStage::Encode {
        return Ok(corpus::is_encoded(&documents, &tokenizer, rank, mark));
    }
    let seed = request.recipe.data.seed;
    Ok(data::token_folders(request).into_iter().zip(&marks).all(|((_, mix), mark)| {
        let mix = mix.map(|options| corpus::Mix { options, seed });
        corpus::is_tokenized(&documents, &tokenizer, mix, mark)
    }))
}

/// Text to token shards by this process, with what the share has of it taken from there, and the rest passed on: for one machine among many, and
/// for the one that trains.
///
/// # Errors
/// What [`super::prepare_data`] and the share may meet.
pub fn prepare(request: &Request<'_>, share: &Share, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    let whole = Rank::new(0, 1)?;
    let stages = [DataStage::Documents, DataStage::Tokenizer, DataStage::Tokens];
    let folders: Vec<Folder> = stages.iter().flat_map(|&stage| makes(request, stage, whole)).collect();
    for folder in &folders {
        share.bring(request.project, folder, reporter)?;
    }
    let done = super::prepare_data(request, reporter)?;
    for folder in &folders {
        share.push(request.project, folder, reporter)?;
    }
    Ok(done)
}

/// What the stages have left in a share.
pub(super) fn prepared(request: &Request<'_>, share: &Share) -> Result<PreparedData> {
    let of = |path: &Path| folder(request, path, String::new()).name;
    let documents = of(&request.project.documents());
    Ok(PreparedData {
        summary: report(share, &documents)?,
        tokens: report(share, &of(&request.project.tokens()))?,
        report: PathBuf::from(share.place(&format!("{documents}/report.html"))),
    })
}

fn report<T: serde::de::DeserializeOwned>(share: &Share, folder: &str) -> Result<T> {
    const FILE: &str = "report.json";
    let bytes = share.read(folder, FILE)?.ok_or_else(not_before)?;
    let place = share.place(&format!("{folder}/{FILE}"));
    Ok(serde_json::from_slice(&bytes)
        .map_err(|error| store::Error::corrupt(Path::new(&place), error.to_string()))?)
}
