//! The data stages: each a value, with the function that runs it.
//! `filter` and `encode` are split among ranks; the others run in one process each.

use std::str::FromStr;

use corpus::Rank;
use runs::report::{Phase, Reporter};
use store::fs::RealFs;
use store::stage::Stage;
use tokenizer::Tokenizer;

use super::before::Before;
use super::data;
use super::expected::Expected;
use super::phase::Done;
use super::request::Request;
use super::stage::{DataStage, Definition, Making, OutputFolder};
use crate::{Error, Result};

impl DataStage {
    /// In their order.
    pub const ALL: [DataStage; 5] = [
        DataStage(&FILTER),
        DataStage(&DOCUMENTS),
        DataStage(&TOKENIZER),
        DataStage(&ENCODE),
        DataStage(&TOKENS),
    ];
}

impl FromStr for DataStage {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<DataStage, String> {
        let found = DataStage::ALL.into_iter().find(|stage| stage.name() == text);
        found.ok_or_else(|| {
            let names = DataStage::ALL.map(DataStage::name).join(", ");
            format!("there is no stage `{text}`; the stages are {names}")
        })
    }
}

/// Sources to filter decisions.
static FILTER: Definition = Definition {
    name: corpus::FILTER_STAGE,
    phase: Phase::Corpus,
    place: OutputFolder::Ranks,
    inputs: &[],
    is_left_out: |_| false,
    expected: |before, rank| {
        let by = |options: &corpus::CorpusOptions| corpus::filter_by(options, rank);
        before
            .of_text(by, |options, base_dir| corpus::filter_stage(&RealFs, options, base_dir, rank))
            .map(|expected| Some(vec![expected]))
    },
    make: |making, reporter| filter(making.request, making.rank, reporter),
};

/// Filter decisions to documents.
static DOCUMENTS: Definition = Definition {
    name: corpus::DOCUMENTS_STAGE,
    phase: Phase::Corpus,
    place: OutputFolder::Project(|request| vec![request.project.documents()]),
    inputs: &[DataStage(&FILTER)],
    is_left_out: |request| request.skip_corpus,
    expected: |before, _| {
        before
            .of_text(corpus::documents_by, |options, base_dir| {
                corpus::documents_stage(&RealFs, options, base_dir)
            })
            .map(|expected| Some(vec![expected]))
    },
    make: |making, reporter| Ok(data::documents(making.request, Some(making.ranks), reporter)?.1),
};

/// Documents to a tokenizer.
static TOKENIZER: Definition = Definition {
    name: data::TOKENIZER_STAGE,
    phase: Phase::Tokenizer,
    place: OutputFolder::Project(|request| vec![request.project.tokenizer()]),
    inputs: &[DataStage(&DOCUMENTS)],
    is_left_out: |request| request.skip_tokenizer,
    expected: |before, _| {
        let stage = |documents: String| data::tokenizer_stage(before.request, &documents);
        Ok(before.documents()?.map(|documents| vec![Expected::exactly(stage(documents))]))
    },
    make: |making, reporter| {
        let not_before = || not_before(making.again);
        data::documents_manifest(making.request).ok_or_else(not_before)?;
        let documents = data::documents_at_hand(making.request)?.ok_or_else(not_before)?;
        Ok(data::tokenizer(making.request, &documents, reporter)?.1)
    },
};

/// Documents to ids.
static ENCODE: Definition = Definition {
    name: corpus::ENCODE_STAGE,
    phase: Phase::Model,
    place: OutputFolder::Ranks,
    inputs: &[DataStage(&DOCUMENTS), DataStage(&TOKENIZER)],
    is_left_out: |_| false,
    expected: |before, rank| {
        let stage = |documents: &str, tokenizer: &Tokenizer| corpus::encode_stage(documents, tokenizer, rank);
        of_ids(before, |_, documents, tokenizer| vec![stage(documents, tokenizer)])
    },
    make: |making, reporter| encode(making, reporter),
};

/// Ids to shards.
static TOKENS: Definition = Definition {
    name: tokens::TOKENS_STAGE,
    phase: Phase::Model,
    place: OutputFolder::Project(|request| {
        data::token_folders(request).into_iter().map(|(folder, _)| folder).collect()
    }),
    inputs: &[DataStage(&DOCUMENTS), DataStage(&TOKENIZER), DataStage(&ENCODE)],
    is_left_out: |_| false,
    expected: |before, _| {
        of_ids(before, |request, documents, tokenizer| {
            let seed = request.recipe.data.seed;
            let stage = |mix: Option<&tokens::MixOptions>| {
                let mix = mix.map(|options| corpus::Mix { options, seed });
                corpus::tokens_stage(documents, tokenizer, mix)
            };
            data::token_folders(request).into_iter().map(|(_, mix)| stage(mix)).collect()
        })
    },
    make: |making, reporter| {
        let (_, tokenizer) = tokenizer_before(making)?;
        Ok(data::tokens(making.request, &tokenizer, Some(making.ranks), reporter)?.1)
    },
};

/// What a stage must be made of that turns documents into ids.
fn of_ids(
    before: &mut Before<'_>,
    stages: impl FnOnce(&Request<'_>, &str, &Tokenizer) -> Vec<Stage>,
) -> Result<Option<Vec<Expected>>> {
    let request = before.request;
    let Some((documents, tokenizer)) = before.tokenizer()? else { return Ok(None) };
    let stages = stages(request, documents, tokenizer).into_iter();
    Ok(Some(stages.map(Expected::exactly).collect()))
}

fn filter(request: &Request<'_>, rank: Rank, reporter: &mut dyn Reporter) -> Result<Done> {
    let sources = data::corpus_sources(request, reporter)?;
    let folder = request.project.ranks();
    let out = &DataStage(&FILTER).folders(request, rank)[0];
    let wanted = || corpus::filter_stage(&RealFs, &sources.options, &request.base_dir, rank);
    if sources.has_objects() && !data::is_whole(out, wanted)? {
        sources.fetch(&request.base_dir, rank, reporter)?;
    }
    let done = corpus::filter_rank(&RealFs, &sources.options, &request.base_dir, &folder, rank, reporter)?;
    let words = format!(
        "{rank}: {} documents from {} files, {:.1} MB",
        done.documents,
        done.files,
        done.bytes as f64 / 1e6
    );
    Ok(Done::of(done.reused, words))
}

fn encode(making: &Making<'_>, reporter: &mut dyn Reporter) -> Result<Done> {
    let &Making { request, rank, .. } = making;
    let (_, tokenizer) = tokenizer_before(making)?;
    let (documents, folder) = (request.project.documents(), request.project.ranks());
    let done = corpus::encode_rank(&RealFs, &documents, &tokenizer, &folder, rank, reporter)?;
    let words = format!("{rank}: {} tokens from {} documents", done.tokens, done.documents);
    Ok(Done::of(done.reused, words))
}

/// The documents' hash, and the tokenizer made from them. The documents' bytes are verified by their readers.
fn tokenizer_before(making: &Making<'_>) -> Result<(String, Tokenizer)> {
    let not_before = || not_before(making.again);
    let documents = data::documents_manifest(making.request).ok_or_else(not_before)?.hash();
    let tokenizer = data::tokenizer_at_hand(making.request, &documents)?.ok_or_else(not_before)?;
    Ok((documents, tokenizer))
}

/// `again`: additional flags for the command in the message, as in [`Making`].
fn not_before(again: &str) -> Error {
    Error::Data {
        message: format!(
            "an earlier stage is not done, or was done with another recipe: run `text2llm data stage \
             NAME{again}` in the order {}",
            DataStage::ALL.map(DataStage::name).join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_reads_only_stages_before_it() {
        for (at, stage) in DataStage::ALL.into_iter().enumerate() {
            assert_eq!(stage.name().parse(), Ok(stage));
            assert!(stage.0.inputs.iter().all(|input| DataStage::ALL[..at].contains(input)), "{stage}");
        }
        assert!("nothing".parse::<DataStage>().is_err_and(|told| told.contains("filter, documents")));
    }
}
