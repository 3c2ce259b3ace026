//! The data stage: the recipe's files become cleaned documents, split for training and validation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::atomic;
use store::fs::Fs;
use store::manifest::{self, Manifest};
use store::report::{Phase, Reporter};
use store::stage::{self, StagedFolder};

use crate::classifier::Classifier;
use crate::contamination::EvaluationItems;
use crate::filter::UrlFilter;
use crate::judge::Rules;
use crate::keeper::Keeper;
use crate::read::{self, Article, Position, Sink};
use crate::sources::{self, Place, Resolved, Source};
use crate::{CorpusOptions, CorpusSummary, Error, Result, report_page, split};

/// The stage's name in its manifest.
pub const DOCUMENTS_STAGE: &str = "documents";

const REPORT_FILE: &str = "report.json";
const REPORT_PAGE: &str = "report.html";
/// Raised when the same options and files would give other documents.
const STAGE_VERSION: u32 = 1;
/// How many quarantined files and lines are told one by one.
const TOLD: usize = 5;
/// Progress is told no more often.
const TOLD_EVERY: Duration = Duration::from_millis(200);
/// More repairs than one in so many bytes: probably another encoding.
const BYTES_PER_REPAIR: u64 = 200;

/// Reads, cleans, filters, deduplicates and splits the text that `options` names into `out`, a folder with
/// `train.jsonl.zst`, `validation.jsonl.zst`, `report.json`, `report.html` and a manifest. Where the folder is already of these options and files, it is left
/// as it is.
///
/// # Errors
/// Options that cannot be; a path that leads nowhere, or to nothing that can be read; no text at all; more that cannot be read
/// than `quarantine_limit` allows (what can be is prepared all the same); the disk.
pub fn prepare(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusSummary> {
    options.validate()?;
    let resolved = sources::resolve(options, project)?;
    let mut inputs = sources::hashes(fs, &resolved.sources)?;
    let lists = block_lists(options, project)?;
    inputs.extend(
        lists
            .iter()
            .map(|(name, text)| (format!("url_block_lists:{name}"), manifest::hash_bytes(text.as_bytes()))),
    );
    inputs.extend(evaluation_hashes(fs, options, project)?);
    if let Some(classifier) = &options.classifier {
        let hash = manifest::hash_file(fs, &project.join(&classifier.model))?;
        inputs.insert(format!("classifier:{}", classifier.model), hash);
    }
    let stage_options = stage_options(options);
    if stage::current(fs, out, DOCUMENTS_STAGE, &stage_options, &inputs)?.is_some() {
        let summary: CorpusSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
        check_quarantine(&summary, options, out)?;
        return Ok(CorpusSummary { reused: true, ..summary });
    }

    let staged = StagedFolder::begin(fs, out)?;
    let mut summary = CorpusSummary { ignored_files: resolved.ignored_files, ..CorpusSummary::default() };
    let urls = UrlFilter::new(&options.filters, lists.values().flat_map(|text| text.lines()));
    let evaluations =
        options.decontaminate.as_ref().map(|options| EvaluationItems::read(options, project)).transpose()?;
    let classifier = options
        .classifier
        .as_ref()
        .map(|options| Classifier::open(fs, &project.join(&options.model)))
        .transpose()?;
    let mut keeper = Keeper::new(fs, staged.path(), Rules { options, urls, evaluations, classifier })?;
    read_all(fs, &resolved, options, &mut keeper, &mut summary, reporter)?;
    let borderline = keeper.finish(&mut summary)?;
    if summary.documents() == 0 {
        return Err(Error::Data { message: nothing_left(&summary, options) });
    }
    split::settle(fs, staged.path(), options.validation_fraction, &borderline, &mut summary)?;
    tell(&summary, options, reporter);
    atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
    let page = report_page::html(&summary);
    atomic::write(fs, &staged.path().join(REPORT_PAGE), page.as_bytes())?;
    staged.commit(Manifest::new(DOCUMENTS_STAGE, stage_options, inputs))?;
    check_quarantine(&summary, options, out)?;
    Ok(summary)
}

fn stage_options(options: &CorpusOptions) -> Value {
    // The limit decides on going on, not on what is prepared. A mix is made of the tokens; the documents only say where they came from.
    let quarantine_limit = CorpusOptions::default().quarantine_limit;
    let documents = CorpusOptions { quarantine_limit, mix: None, ..options.clone() };
    match options.mix {
        Some(_) => json!({ "stage_version": STAGE_VERSION, "data": documents, "domains": true }),
        None => json!({ "stage_version": STAGE_VERSION, "data": documents }),
    }
}

/// The block lists' names and texts.
fn block_lists(options: &CorpusOptions, project: &Path) -> Result<BTreeMap<String, String>> {
    let read = |name: &String| {
        let path = project.join(name);
        let text = std::fs::read_to_string(&path).map_err(|error| Error::Options {
            key: "filters.url_block_lists",
            message: format!("`{name}` cannot be read ({error}; looked for `{}`)", path.display()),
        })?;
        Ok((name.clone(), text))
    };
    options.filters.url_block_lists.iter().map(read).collect()
}

fn evaluation_hashes(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
) -> Result<BTreeMap<String, String>> {
    let hash = |name: &String| {
        let hash = manifest::hash_file(fs, &project.join(name)).map_err(|error| Error::Options {
            key: "decontaminate.against",
            message: format!("`{name}` cannot be read: {error}"),
        })?;
        Ok((format!("decontaminate:{name}"), hash))
    };
    options.decontaminate.iter().flat_map(|options| &options.against).map(hash).collect()
}

fn read_all(
    fs: &dyn Fs,
    resolved: &Resolved,
    options: &CorpusOptions,
    keeper: &mut Keeper<'_>,
    summary: &mut CorpusSummary,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let sources = &resolved.sources;
    let sizes: Vec<u64> = sources.iter().map(|source| bytes_of(fs, source)).collect();
    let total = sizes.iter().sum();
    let position = Position::default();
    let (mut done, mut told_at) = (0, Instant::now());
    let mut entry = EntryRead::default();
    for (index, (source, bytes)) in sources.iter().zip(sizes).enumerate() {
        keeper.entry(options.mix.as_ref().and(options.paths.get(source.entry)));
        let before = summary.repaired_sequences;
        let mut take = |raw, summary: &mut CorpusSummary| {
            entry.documents += 1;
            if told_at.elapsed() > TOLD_EVERY {
                told_at = Instant::now();
                reporter.progress(Phase::Corpus, position.load(Relaxed).min(total), total, "bytes");
            }
            keeper.take(raw, summary)
        };
        let text_field = source.text_field.as_deref().unwrap_or(&options.text_field);
        let article = source.rows_are_lines.then(Article::default);
        let mut sink = Sink { options, text_field, article, summary, take: &mut take };
        let outcome = read::read(fs, source, &position, &mut sink)?;
        sink.end_article()?;
        match outcome {
            Ok(()) => summary.files += 1,
            Err(reason) => {
                summary.quarantine(&source.name, &reason.0);
                entry.unusable.get_or_insert((source.name.clone(), reason.0));
            }
        }
        let repaired = summary.repaired_sequences - before;
        if repaired * BYTES_PER_REPAIR > bytes {
            let message = format!(
                "`{}` has {repaired} invalid UTF-8 sequences in {bytes} bytes, each replaced by U+FFFD: it may be Latin-1 or \
                 Windows-1252; convert it with `iconv -f WINDOWS-1252 -t UTF-8`",
                source.name
            );
            reporter.warning(Phase::Corpus, &message);
        }
        // What was read twice, or not to its end, counts once.
        done += bytes;
        position.store(done, Relaxed);
        reporter.progress(Phase::Corpus, done, total, "bytes");
        entry.files += 1;
        if sources.get(index + 1).is_none_or(|next| next.entry != source.entry) {
            std::mem::take(&mut entry).check(&options.paths[source.entry], summary)?;
        }
    }
    Ok(())
}

/// What one entry of `data.paths` gave.
#[derive(Default)]
struct EntryRead {
    files: u64,
    documents: u64,
    unusable: Option<(String, String)>,
}

impl EntryRead {
    /// An entry that gives nothing is a mistake, or a loss that nobody would notice among others.
    fn check(self, entry: &str, summary: &CorpusSummary) -> Result<()> {
        if self.documents > 0 {
            return Ok(());
        }
        match self.unusable {
            Some((name, reason)) if self.files == 1 => Err(Error::source(&name, reason)),
            Some((name, reason)) => {
                let message = format!(
                    "no text is left of `{entry}`: `{name}` {reason}, and none of its {} files gives a document: check data.paths",
                    self.files
                );
                Err(Error::Data { message })
            }
            None => {
                let why = summary.quarantine.last().map_or(String::new(), |last| {
                    format!(" (the last one passed over: `{}` {})", last.source, last.reason)
                });
                Err(Error::source(entry, format!("gives no document{why}: check data.paths")))
            }
        }
    }
}

/// Refuses to go on where too much could not be read. What could is prepared by then, and stays.
fn check_quarantine(summary: &CorpusSummary, options: &CorpusOptions, out: &Path) -> Result<()> {
    let share = summary.quarantined as f64 / (summary.documents_read + summary.quarantined).max(1) as f64;
    if share <= options.quarantine_limit {
        return Ok(());
    }
    let first = summary
        .quarantine
        .first()
        .map_or(String::new(), |first| format!(" (the first: `{}` {})", first.source, first.reason));
    let message = format!(
        "{} of {} documents and files could not be read{first}: {:.1} %, more than data.quarantine_limit = {}. The others are \
         prepared in `{}`, whose {REPORT_PAGE} lists what is missing. Repair or take out those files, or raise \
         data.quarantine_limit to go on with the others",
        summary.quarantined,
        summary.documents_read + summary.quarantined,
        100.0 * share,
        options.quarantine_limit,
        out.display()
    );
    Err(Error::Data { message })
}

fn bytes_of(fs: &dyn Fs, source: &Source) -> u64 {
    match &source.place {
        Place::Bundled => crate::sample::BYTES.len() as u64,
        // Reading the file tells its error; a size is for the progress alone.
        Place::File(path) => fs.file_bytes(path).unwrap_or(0),
    }
}

fn nothing_left(summary: &CorpusSummary, options: &CorpusOptions) -> String {
    let mut message = format!(
        "no text is left: {} documents in {} files, {} of them empty or shorter than data.minimum_characters = {}",
        summary.documents_read, summary.files, summary.too_short, options.minimum_characters
    );
    if let Some(first) = summary.quarantine.first() {
        let rest = summary.quarantined - 1;
        message += &format!("; `{}` {}", first.source, first.reason);
        if rest > 0 {
            message += &format!(", and {rest} more like it");
        }
    }
    if let Some((filter, drops)) = summary.drops.iter().max_by_key(|(_, drops)| drops.documents) {
        message += &format!("; the filter {filter} dropped {} of them", drops.documents);
        return message + ": check data.paths and data.filters";
    }
    message + ": check data.paths"
}

/// What a user should know beyond the counts.
fn tell(summary: &CorpusSummary, options: &CorpusOptions, reporter: &mut dyn Reporter) {
    for quarantined in summary.quarantine.iter().take(TOLD) {
        reporter
            .warning(Phase::Corpus, &format!("passed over `{}`: {}", quarantined.source, quarantined.reason));
    }
    if summary.quarantined > TOLD as u64 {
        let message = format!(
            "passed over {} files and lines in all: the first {} are in {REPORT_FILE}",
            summary.quarantined,
            summary.quarantine.len()
        );
        reporter.warning(Phase::Corpus, &message);
    }
    let share = summary.validation.bytes as f64 / summary.bytes().max(1) as f64;
    let asked = options.validation_fraction;
    if asked > 0.0 && (share > 3.0 * asked || share < asked / 3.0) {
        let message = format!(
            "validation holds {:.1} % of the text where data.validation_fraction asks for {:.1} %: {} documents are few; \
             data.document_separator or data.maximum_document_bytes makes more of them",
            share * 100.0,
            asked * 100.0,
            summary.documents()
        );
        reporter.warning(Phase::Corpus, &message);
    }
}
