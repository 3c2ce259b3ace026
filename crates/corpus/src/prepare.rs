//! The data stage: the recipe's files become cleaned documents, split for training and validation.

use std::collections::BTreeMap;
use std::path::Path;

use runs::report::{Phase, Reporter};
use serde_json::{Value, json};
use store::atomic;
use store::fs::Fs;
use store::stage::Stage;

use crate::DOCUMENTS_STAGE;
use crate::decisions::filter_sources;
use crate::dedup::DuplicateOptions;
use crate::dedup::spans::SpanOptions;
use crate::document_writer::{DocumentWriter, Kept};
use crate::ranks::Ranks;
use crate::ranks::filter::{FilteredRanks, Inputs};
use crate::rules::{self, Rules};
use crate::sources::Resolved;
use crate::{CorpusOptions, CorpusSummary, Error, NothingLeft, Result, report_page, sources, split};

const REPORT_FILE: &str = "report.json";
const REPORT_PAGE: &str = "report.html";
/// Raised when the same options and files would give other documents.
const STAGE_VERSION: u32 = 5;
/// Number of quarantined files and lines that are reported one by one.
const TOLD: usize = 5;

/// Reads, cleans, filters, deduplicates and splits the text that `options` names into `out`, a folder with
/// `train.jsonl.zst`, `validation.jsonl.zst`, `report.json`, `report.html` and a manifest. Where the folder
/// is already of these options and files, it is left as it is.
///
/// # Errors
/// Options that cannot be; a path that leads nowhere, or to nothing that can be read; no text at all; more
/// that cannot be read than `quarantine_limit` allows (what can be is prepared all the same); the disk.
pub fn prepare(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusSummary> {
    prepare_by(fs, options, project, None, out, reporter)
}

/// Prepares the byte-identical folder from the decisions of ranks ([`crate::filter_rank`]).
///
/// # Errors
/// Errors of [`prepare`]; ranks that are missing, or that processed other files or options.
pub fn prepare_filtered(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    ranks: &Ranks<'_>,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusSummary> {
    prepare_by(fs, options, project, Some(ranks), out, reporter)
}

/// The stage of documents with these options from the current files.
///
/// # Errors
/// Invalid options; a missing path; I/O errors.
pub fn documents_stage(fs: &dyn Fs, options: &CorpusOptions, project: &Path) -> Result<Stage> {
    let (.., inputs) = stage_inputs(fs, options, project)?;
    Ok(Stage { inputs, ..documents_by(options) })
}

/// The stage of documents with these options, whatever the files.
pub fn documents_by(options: &CorpusOptions) -> Stage {
    Stage { name: DOCUMENTS_STAGE, options: stage_options(options), inputs: BTreeMap::new() }
}

/// The sources, their hashes and those of the rules, and both together as recorded in a manifest.
fn stage_inputs(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
) -> Result<(Resolved, Inputs, BTreeMap<String, String>)> {
    options.validate()?;
    let resolved = sources::resolve(options, project)?;
    let inputs = Inputs {
        sources: sources::hashes(fs, &resolved.sources)?,
        rules: rules::hashes(fs, options, project)?,
    };
    let all = inputs.of(&resolved.sources);
    Ok((resolved, inputs, all))
}

fn prepare_by(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    ranks: Option<&Ranks<'_>>,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusSummary> {
    let (resolved, inputs, all_inputs) = stage_inputs(fs, options, project)?;
    let stage = Stage { inputs: all_inputs, ..documents_by(options) };
    if stage.current(fs, out)?.is_some() {
        let summary: CorpusSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
        check_quarantine(&summary, options, out)?;
        return Ok(CorpusSummary { reused: true, ..summary });
    }

    let (staged, kept);
    match ranks {
        None => {
            let rules = Rules::open(fs, options, project)?;
            staged = stage.begin(fs, out)?;
            let mut writer =
                DocumentWriter::new(fs, staged.path(), options, rules.evaluations.as_ref(), &resolved)?;
            filter_sources(fs, &resolved.sources, &rules, reporter, &mut |decision| writer.take(decision))?;
            kept = writer.finish(reporter)?;
        }
        Some(ranks) => {
            let filtered = FilteredRanks::verify(fs, options, ranks, &resolved.sources, &inputs)?;
            let evaluations = rules::evaluations(options, project)?;
            staged = stage.begin(fs, out)?;
            let mut writer =
                DocumentWriter::new(fs, staged.path(), options, evaluations.as_ref(), &resolved)?;
            filtered.read(fs, reporter, &mut |decision| writer.take(decision))?;
            kept = writer.finish(reporter)?;
        }
    }
    let Kept { mut summary, borderline, warnings } = kept;
    if summary.documents() == 0 {
        return Err(Error::NothingLeft(Box::new(nothing_left(&summary, options))));
    }
    split::settle(fs, staged.path(), options.validation_fraction, &borderline, &mut summary)?;
    for warning in &warnings {
        reporter.warning(Phase::Corpus, warning);
    }
    tell(&summary, options, reporter);
    atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
    let page = report_page::html(&summary);
    atomic::write(fs, &staged.path().join(REPORT_PAGE), page.as_bytes())?;
    let made = staged.commit(stage.manifest())?;
    reporter.kept(Phase::Corpus, &made);
    check_quarantine(&summary, options, out)?;
    Ok(summary)
}

fn stage_options(options: &CorpusOptions) -> Value {
    // The limit decides on going on, memory on how fast, neither on what is prepared. A mix is made of the
    // tokens; the documents only say where they came from.
    let quarantine_limit = CorpusOptions::default().quarantine_limit;
    let near_duplicates = options.near_duplicates.as_ref().map(DuplicateOptions::without_memory);
    let duplicate_spans = options.duplicate_spans.as_ref().map(SpanOptions::without_memory);
    let documents =
        CorpusOptions { quarantine_limit, near_duplicates, duplicate_spans, mix: None, ..options.clone() };
    match options.mix {
        Some(_) => json!({ "stage_version": STAGE_VERSION, "data": documents, "domains": true }),
        None => json!({ "stage_version": STAGE_VERSION, "data": documents }),
    }
}

/// Returns an error if too much could not be read. The rest is prepared by then, and kept.
fn check_quarantine(summary: &CorpusSummary, options: &CorpusOptions, out: &Path) -> Result<()> {
    let share = summary.quarantined as f64 / (summary.documents_read + summary.quarantined).max(1) as f64;
    if share <= options.quarantine_limit {
        return Ok(());
    }
    Err(Error::TooMuchQuarantined {
        quarantined: summary.quarantined,
        of: summary.documents_read + summary.quarantined,
        limit: options.quarantine_limit,
        first: summary.quarantine.first().cloned(),
        folder: out.to_owned(),
        page: REPORT_PAGE,
    })
}

fn nothing_left(summary: &CorpusSummary, options: &CorpusOptions) -> NothingLeft {
    let most = summary.drops.iter().max_by_key(|(_, drops)| drops.documents);
    NothingLeft {
        documents: summary.documents_read,
        files: summary.files,
        too_short: summary.too_short,
        minimum_characters: options.minimum_characters,
        first: summary.quarantine.first().cloned(),
        more: summary.quarantined.saturating_sub(1),
        dropped: most.map(|(filter, drops)| (filter.to_string(), drops.documents)),
    }
}

/// Warnings beyond the counts.
fn tell(summary: &CorpusSummary, options: &CorpusOptions, reporter: &mut dyn Reporter) {
    for quarantined in summary.quarantine.iter().take(TOLD) {
        reporter.warning(Phase::Corpus, &format!("skipped `{}`: {}", quarantined.source, quarantined.reason));
    }
    if summary.quarantined > TOLD as u64 {
        let message = format!(
            "skipped {} files and lines in total: the first {} are listed in {REPORT_FILE}",
            summary.quarantined,
            summary.quarantine.len()
        );
        reporter.warning(Phase::Corpus, &message);
    }
    for entry in summary.not_followed.first.iter().take(TOLD) {
        reporter.warning(Phase::Corpus, &format!("`{}` {}", entry.source, entry.reason));
    }
    if summary.not_followed.count > TOLD as u64 {
        let message = format!(
            "{} links and folders were not followed: the first {} are listed in {REPORT_FILE}",
            summary.not_followed.count,
            summary.not_followed.first.len()
        );
        reporter.warning(Phase::Corpus, &message);
    }
    let share = summary.validation.bytes as f64 / summary.bytes().max(1) as f64;
    let asked = options.validation_fraction;
    if asked > 0.0 && (share > 3.0 * asked || share < asked / 3.0) {
        let message = format!(
            "the validation split has {:.1} % of the text instead of the {:.1} % of \
             data.validation_fraction, since there are only {} documents; data.document_separator or \
             data.maximum_document_bytes can split them",
            share * 100.0,
            asked * 100.0,
            summary.documents()
        );
        reporter.warning(Phase::Corpus, &message);
    }
}
