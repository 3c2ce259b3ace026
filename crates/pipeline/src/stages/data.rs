//! The corpus, tokenizer and model phases. Each is skipped if nothing has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corpus::dedup::Repeated;
use corpus::{CorpusOptions, CorpusSummary, Rank, Ranks, TokenSummary};
use model::ModelConfig;
use runs::report::{Phase, Reporter};
use serde_json::json;
use store::fs::RealFs;
use store::manifest::Manifest;
use store::stage::{self, Stage};
use tokenizer::Tokenizer;
use tokens::Split;
use train::RunLength;

use super::examples;
use super::phase::Done;
use super::request::Request;
use super::trained::Trained;
use crate::base::BaseModel;
use crate::{Error, Result, plan, record, remote};

/// Name of the tokenizer stage; its number is raised when the same options and text give another vocabulary.
pub(super) const TOKENIZER_STAGE: &str = "tokenizer";
const TOKENIZER_STAGE_VERSION: u32 = 2;
/// Number of words of a validation document used as a prompt.
const OPENING_WORDS: usize = 4;
/// Maximum number of languages with a sample.
const OPENINGS: usize = 4;
/// Maximum number of documents searched for prompts.
const LOOKED_AT: usize = 20_000;

/// Prepared documents.
pub(super) struct DocumentsReady {
    pub summary: CorpusSummary,
    pub hash: String,
}

/// The inputs of training.
pub(super) struct Prepared {
    pub tokenizer: Tokenizer,
    pub model: ModelConfig,
    pub documents_hash: String,
    pub tokens_hash: String,
    /// Of the model that the run starts from.
    pub base_hash: Option<String>,
    /// Ids that end a text.
    pub stop_ids: Vec<u32>,
    pub validation_bytes: u64,
    /// ISO 639-1, most text first.
    pub languages: Vec<String>,
    /// Language and first words of one validation document per language.
    pub openings: Vec<(Option<String>, String)>,
    /// Description of the amount of text.
    pub text_in_words: String,
}

/// The recipe's corpus options, with hub files downloaded and objects listed.
pub(super) fn corpus_sources(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<remote::Sources> {
    let mut sources = remote::gathered(&with_mix(request), &request.base_dir, reporter)?;
    let data = &mut sources.options;
    data.output = Some(request.project.root().to_owned());
    data.threads = request.target.threads;
    Ok(sources)
}

/// The recipe's corpus options; if a phase has a mix, documents record their entry.
fn with_mix(request: &Request<'_>) -> CorpusOptions {
    let mut data = request.recipe.data.clone();
    if request.recipe.train.phase.iter().any(|phase| phase.mix.is_some()) {
        data.mix.get_or_insert_default();
    }
    data
}

/// The manifest of prepared text of this recipe, without checking its bytes.
pub(super) fn documents_manifest(request: &Request<'_>) -> Option<Manifest> {
    let manifest = Manifest::read(&RealFs, &request.project.documents()).ok()?;
    corpus::documents_by(&with_mix(request)).has_options_of(&manifest).then_some(manifest)
}

/// Prepared text with every byte verified; `None` if there is none. The caller holds the project's lock.
pub(super) fn documents_at_hand(request: &Request<'_>) -> Result<Option<DocumentsReady>> {
    let folder = request.project.documents();
    if !stage::repair(&RealFs, &folder)? {
        return Ok(None);
    }
    let manifest = Manifest::read(&RealFs, &folder).map_err(Error::disk(Phase::Corpus))?;
    manifest.verify(&RealFs, &folder).map_err(Error::disk(Phase::Corpus))?;
    let summary: CorpusSummary =
        store::atomic::read_json(&RealFs, &folder.join("report.json")).map_err(Error::disk(Phase::Corpus))?;
    Ok(Some(DocumentsReady { summary, hash: manifest.hash() }))
}

/// The corpus phase, from the output of `ranks` if given.
pub(super) fn documents(
    request: &Request<'_>,
    ranks: Option<&Ranks<'_>>,
    reporter: &mut dyn Reporter,
) -> Result<(DocumentsReady, Done)> {
    if let Some(options) = &request.recipe.finetune {
        let (hash, done) = examples::found(request, options)?;
        return Ok((DocumentsReady { summary: corpus::CorpusSummary::default(), hash }, done));
    }
    let folder = request.project.documents();
    if request.skip_corpus {
        let ready = documents_at_hand(request)?.ok_or_else(|| Error::Data {
            message: format!(
                "--skip-corpus: there is no prepared text in `{}`; run once without --skip-corpus",
                folder.display()
            ),
        })?;
        let reason = format!("used as it is (--skip-corpus): {}", in_words(&ready.summary));
        return Ok((ready, Done::Reused(reason)));
    }
    let sources = corpus_sources(request, reporter)?;
    let (data, base_dir) = (&sources.options, &request.base_dir);
    let summary = match ranks {
        None => {
            let wanted = || corpus::documents_stage(&RealFs, data, base_dir);
            if sources.has_objects() && !is_whole(&folder, wanted)? {
                sources.fetch(base_dir, Rank::new(0, 1)?, reporter)?;
            }
            corpus::prepare(&RealFs, data, base_dir, &folder, reporter)?
        }
        Some(ranks) => corpus::prepare_filtered(&RealFs, data, base_dir, ranks, &folder, reporter)?,
    };
    let manifest = Manifest::read(&RealFs, &folder).map_err(Error::disk(Phase::Corpus))?;
    let mut words = in_words(&summary);
    for (number, what) in [
        (summary.drops.values().map(|drops| drops.documents).sum(), "dropped by filters"),
        (summary.duplicates, "duplicates dropped"),
        (summary.near_duplicates, "near-duplicates dropped"),
        (summary.too_short, "too short"),
        (removed(&summary.repeated_spans), "repeated spans removed"),
        (removed(&summary.repeated_lines), "repeated lines removed"),
        (summary.repaired_sequences, "invalid UTF-8 sequences repaired"),
        (summary.quarantined, "unreadable files or lines skipped"),
    ] {
        if number > 0 {
            words.push_str(&format!(", {number} {what}"));
        }
    }
    let done = Done::of(summary.reused, words);
    Ok((DocumentsReady { summary, hash: manifest.hash() }, done))
}

/// Whether a folder is exactly the output of its stage: then no object needs to be downloaded.
pub(super) fn is_whole(folder: &Path, wanted: impl FnOnce() -> corpus::Result<Stage>) -> Result<bool> {
    let Ok(manifest) = Manifest::read(&RealFs, folder) else { return Ok(false) };
    Ok(wanted()?.is_of(&manifest) && manifest.verify(&RealFs, folder).is_ok())
}

fn removed(repeated: &Option<Repeated>) -> u64 {
    repeated.as_ref().map_or(0, |repeated| repeated.removed)
}

fn in_words(summary: &CorpusSummary) -> String {
    let total = summary.bytes().max(1) as f64;
    let languages: Vec<String> = summary
        .languages()
        .iter()
        .take(OPENINGS)
        .map(|(language, bytes)| format!("{language} {:.0} %", 100.0 * *bytes as f64 / total))
        .collect();
    format!(
        "{} documents, {:.1} MB ({}), {} of them for validation",
        summary.documents(),
        summary.bytes() as f64 / 1e6,
        languages.join(", "),
        summary.validation.documents
    )
}

/// The tokenizer phase.
pub(super) fn tokenizer(
    request: &Request<'_>,
    documents: &DocumentsReady,
    reporter: &mut dyn Reporter,
) -> Result<(Tokenizer, Done)> {
    let folder = request.project.tokenizer();
    let disk = Error::disk(Phase::Tokenizer);
    if request.skip_tokenizer {
        if !stage::repair(&RealFs, &folder)? {
            return Err(Error::Data {
                message: format!(
                    "--skip-tokenizer: there is no tokenizer in `{}`; run once without --skip-tokenizer",
                    folder.display()
                ),
            });
        }
        let manifest = folder.join(store::manifest::FILE_NAME);
        if manifest.exists() {
            let verified = Manifest::read(&RealFs, &folder).and_then(|known| known.verify(&RealFs, &folder));
            verified.map_err(|error| Error::Data {
                message: format!(
                    "--skip-tokenizer: {error}. If you replaced the tokenizer on purpose, remove `{}`",
                    manifest.display()
                ),
            })?;
        }
        let tokenizer = Tokenizer::open(&RealFs, &folder)?;
        let reason = format!("used as it is (--skip-tokenizer): {} tokens", tokenizer.vocab_size());
        return Ok((tokenizer, Done::Reused(reason)));
    }
    stage::repair(&RealFs, &folder).map_err(&disk)?;
    if let Some(tokenizer) = tokenizer_at_hand(request, &documents.hash)? {
        let reason = format!("unchanged: {} tokens", tokenizer.vocab_size());
        return Ok((tokenizer, Done::Reused(reason)));
    }
    let tokenizer = match BaseModel::of_recipe(&request.recipe, &request.base_dir)? {
        Some(base) => base.tokenizer().clone(),
        None => corpus::texts(&RealFs, &request.project.documents(), Split::Train, |texts| {
            let normalizer = request.recipe.data.normalize.normalizer();
            tokenizer::train(texts, &request.recipe.tokenizer, &normalizer, reporter)
        })??,
    };
    let stage = tokenizer_stage(request, &documents.hash);
    let staged = stage.begin(&RealFs, &folder).map_err(&disk)?;
    tokenizer.save(staged.fs(), staged.path(), None)?;
    reporter.kept(Phase::Tokenizer, &staged.commit(stage.manifest()).map_err(&disk)?);
    let summary = format!("{} tokens", tokenizer.vocab_size());
    Ok((tokenizer, Done::Worked(summary)))
}

/// The folders of token shards, each with its mix.
pub(super) fn token_folders<'a>(request: &'a Request<'_>) -> Vec<(PathBuf, Option<&'a tokens::MixOptions>)> {
    let phases = request.recipe.train.phase.iter().filter(|phase| phase.mix.is_some());
    let phases = phases.map(|phase| (request.project.phase_tokens(&phase.name), phase.mix.as_ref()));
    let whole = (request.project.tokens(), request.recipe.data.mix.as_ref());
    std::iter::once(whole).chain(phases).collect()
}

/// The tokenizer of these documents and this recipe, as its manifest has it.
pub(super) fn tokenizer_stage(request: &Request<'_>, documents_hash: &str) -> Stage {
    let options = match &request.recipe.train.init {
        None => {
            json!({ "stage_version": TOKENIZER_STAGE_VERSION, "tokenizer": request.recipe.tokenizer })
        }
        Some(init) => json!({ "stage_version": TOKENIZER_STAGE_VERSION, "init": init }),
    };
    let inputs = BTreeMap::from([("documents".to_owned(), documents_hash.to_owned())]);
    Stage { name: TOKENIZER_STAGE, options, inputs }
}

/// The tokenizer of these documents and this recipe, if it exists and verifies. Nothing is repaired: another
/// process may be making it.
pub(super) fn tokenizer_at_hand(request: &Request<'_>, documents_hash: &str) -> Result<Option<Tokenizer>> {
    let folder = request.project.tokenizer();
    let stage = tokenizer_stage(request, documents_hash);
    let found = stage.found(&RealFs, &folder).map_err(Error::disk(Phase::Tokenizer))?;
    found.map(|_| Ok(Tokenizer::open(&RealFs, &folder)?)).transpose()
}

/// Encodes and mixes the documents for the recipe and its phases; the ids come from `ranks` if given.
fn shards(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    mix: Option<&tokens::MixOptions>,
    ranks: Option<&Ranks<'_>>,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<TokenSummary> {
    let documents = request.project.documents();
    let mix = mix.map(|options| corpus::Mix { options, seed: request.recipe.data.seed });
    Ok(match (ranks, mix) {
        (Some(ranks), mix) => {
            corpus::tokenize_encoded(&RealFs, &documents, tokenizer, mix, ranks, out, reporter)?
        }
        (None, Some(mix)) => corpus::tokenize_mixed(&RealFs, &documents, tokenizer, mix, out, reporter)?,
        (None, None) => corpus::tokenize(&RealFs, &documents, tokenizer, out, reporter)?,
    })
}

/// The shards of phases with their own mix.
fn phase_shards(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    ranks: Option<&Ranks<'_>>,
    reporter: &mut dyn Reporter,
) -> Result<Vec<TokenSummary>> {
    let mut made = Vec::new();
    for phase in &request.recipe.train.phase {
        let Some(mix) = &phase.mix else { continue };
        let out = request.project.phase_tokens(&phase.name);
        let tokens = shards(request, tokenizer, Some(mix), ranks, &out, reporter)?;
        let message = format!("phase \"{}\": {} training tokens in its mix", phase.name, tokens.train.tokens);
        reporter.note(Phase::Model, &message);
        made.push(tokens);
    }
    Ok(made)
}

/// The token shards, including those of phases' mixes.
pub(super) fn tokens(
    request: &Request<'_>,
    tokenizer: &Tokenizer,
    ranks: Option<&Ranks<'_>>,
    reporter: &mut dyn Reporter,
) -> Result<(TokenSummary, Done)> {
    let out = request.project.tokens();
    let tokens = shards(request, tokenizer, request.recipe.data.mix.as_ref(), ranks, &out, reporter)?;
    tell_usage(&tokens, reporter);
    let phases = phase_shards(request, tokenizer, ranks, reporter)?;
    let words =
        format!("{} training tokens, {} for validation", tokens.train.tokens, tokens.validation.tokens);
    let reused = tokens.reused && phases.iter().all(|tokens| tokens.reused);
    Ok((tokens, Done::of(reused, words)))
}

/// The model phase: token shards, the shape, and the amount of training.
pub(super) fn model(
    request: &Request<'_>,
    documents: &DocumentsReady,
    tokenizer: Tokenizer,
    reporter: &mut dyn Reporter,
) -> Result<(Prepared, Done)> {
    let project = request.project;
    let base = BaseModel::of_recipe(&request.recipe, &request.base_dir)?;
    if let (Some(options), Some(base)) = (&request.recipe.finetune, &base) {
        return finetuned(request, options, documents, tokenizer, base, reporter);
    }
    let mix = request.recipe.data.mix.as_ref();
    let tokens = shards(request, &tokenizer, mix, None, &project.tokens(), reporter)?;
    let manifest = Manifest::read(&RealFs, &project.tokens()).map_err(Error::disk(Phase::Corpus))?;
    tell_usage(&tokens, reporter);
    RunLength::new(&request.recipe.train, tokens.train.tokens).check()?;
    for tokens in phase_shards(request, &tokenizer, None, reporter)? {
        RunLength::new(&request.recipe.train, tokens.train.tokens).check()?;
    }
    let shape = base.as_ref().map(|base| base.config().clone());
    let vocab_size = tokenizer.vocab_size();
    let (recipe, target) = (&request.recipe, request.target);
    let plan = plan::of_tokens(recipe, vocab_size, tokens.train.tokens, false, shape, target)?;
    let summary = format!(
        "{:.1}M parameters ({} layers, width {}, {} heads, vocabulary {}), {} training tokens, {} steps, \
         {:.1} tokens per parameter",
        plan.parameters.total as f64 / 1e6,
        plan.model.num_hidden_layers,
        plan.model.hidden_size,
        plan.model.num_attention_heads,
        plan.model.vocab_size,
        tokens.train.tokens,
        plan.tokens.steps,
        plan.tokens.per_parameter
    );
    let prepared = Prepared {
        documents_hash: documents.hash.clone(),
        tokens_hash: manifest.hash(),
        stop_ids: match &base {
            Some(base) => base.stop_ids().to_vec(),
            None => tokenizer.eos_id().into_iter().collect(),
        },
        base_hash: base.map(|base| train::Base::hash(&base).to_owned()),
        validation_bytes: documents.summary.validation.bytes,
        languages: languages(&documents.summary),
        openings: openings(request, &documents.summary)?,
        text_in_words: in_words(&documents.summary),
        model: plan.model,
        tokenizer,
    };
    Ok((prepared, Done::Worked(summary)))
}

/// The model phase of fine-tuning.
fn finetuned(
    request: &Request<'_>,
    options: &corpus::examples::FinetuneOptions,
    documents: &DocumentsReady,
    tokenizer: Tokenizer,
    base: &BaseModel,
    reporter: &mut dyn Reporter,
) -> Result<(Prepared, Done)> {
    let summary = examples::encoded(request, options, &tokenizer, base, reporter)?;
    let manifest = Manifest::read(&RealFs, &request.project.tokens()).map_err(Error::disk(Phase::Corpus))?;
    let model = base.config().clone();
    let counts = &summary.train;
    let length = RunLength::of_sequences(&request.recipe.train, counts.tokens, counts.sequences);
    let words = format!(
        "{} training examples, {} for validation; {:.1}M parameters, {} steps",
        counts.examples,
        summary.validation.examples,
        model.parameter_count().total as f64 / 1e6,
        length.steps
    );
    let mut stop_ids = base.stop_ids().to_vec();
    stop_ids.extend(summary.end_ids.iter().filter(|id| !base.stop_ids().contains(id)));
    let prepared = Prepared {
        documents_hash: documents.hash.clone(),
        tokens_hash: manifest.hash(),
        base_hash: Some(train::Base::hash(base).to_owned()),
        stop_ids,
        validation_bytes: 0,
        languages: Vec::new(),
        openings: Vec::new(),
        text_in_words: format!("{} examples with {} trained tokens", counts.examples, counts.trained_tokens),
        model,
        tokenizer,
    };
    Ok((prepared, Done::of(summary.reused, words)))
}

/// The inputs of a trained run; no stage is run.
pub(super) fn existing(request: &Request<'_>, trained: &Trained) -> Result<Prepared> {
    let inputs = &trained.meta.inputs;
    let folder = request.project.documents();
    // Text that has changed or is missing says nothing about this run.
    let is_same = Manifest::read(&RealFs, &folder).is_ok_and(|manifest| manifest.hash() == inputs.documents);
    let summary: Option<CorpusSummary> =
        is_same.then(|| store::atomic::read_json(&RealFs, &folder.join("report.json")).ok()).flatten();
    let (openings, text_in_words) = match &summary {
        Some(known) => (openings(request, known)?, in_words(known)),
        None => (vec![(None, String::new())], "no longer available".to_owned()),
    };
    let known = summary.unwrap_or_default();
    Ok(Prepared {
        tokenizer: record::tokenizer(&trained.run, &trained.meta)?,
        model: trained
            .meta
            .model
            .clone()
            .ok_or_else(|| Error::Data { message: format!("run {} has no model shape", trained.run.id()) })?,
        documents_hash: inputs.documents.clone(),
        tokens_hash: inputs.tokens.clone(),
        base_hash: inputs.base.clone(),
        stop_ids: trained.meta.stop_ids.clone(),
        validation_bytes: known.validation.bytes,
        languages: languages(&known),
        openings,
        text_in_words,
    })
}

fn languages(summary: &CorpusSummary) -> Vec<String> {
    summary
        .languages()
        .into_iter()
        .map(|(language, _)| language)
        .filter(|language| language != "und")
        .collect()
}

fn tell_usage(tokens: &TokenSummary, reporter: &mut dyn Reporter) {
    let languages: Vec<String> = tokens
        .usage
        .languages
        .iter()
        .map(|(language, usage)| format!("{language} {:.2}", usage.bytes_per_token))
        .collect();
    let message = format!(
        "{:.2} bytes per token ({}), {} ids unused",
        tokens.usage.total.bytes_per_token,
        languages.join(", "),
        tokens.usage.unused_ids.len()
    );
    reporter.note(Phase::Model, &message);
}

/// The first words of a document per language, from the validation text or else the training text.
fn openings(request: &Request<'_>, summary: &CorpusSummary) -> Result<Vec<(Option<String>, String)>> {
    let folder = request.project.documents();
    let wanted: Vec<Option<String>> = summary
        .languages()
        .into_iter()
        .take(OPENINGS)
        .map(|(language, _)| Some(language).filter(|language| language != "und"))
        .collect();
    let mut found: BTreeMap<Option<String>, String> = BTreeMap::new();
    for split in [Split::Validation, Split::Train] {
        for document in corpus::documents(&RealFs, &folder, split)?.take(LOOKED_AT) {
            let document = document?;
            if found.len() == wanted.len() {
                break;
            }
            if !wanted.contains(&document.language) || found.contains_key(&document.language) {
                continue;
            }
            let words: Vec<&str> = document.text.split_whitespace().take(OPENING_WORDS).collect();
            if !words.is_empty() {
                found.insert(document.language, words.join(" ") + " ");
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    Ok(found.into_iter().collect())
}
