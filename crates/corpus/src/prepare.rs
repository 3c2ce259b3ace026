//! The data stage: the recipe's files become cleaned documents, split for training and validation.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use store::atomic;
use store::fs::Fs;
use store::manifest::Manifest;
use store::report::{Phase, Reporter};
use store::stage::{self, StagedFolder};

use crate::document::DocumentWriter;
use crate::read::{self, RawDocument, Sink};
use crate::sources::{self, Place, Source};
use crate::split::{self, Borderline};
use crate::{CorpusOptions, CorpusSummary, Document, Error, Result, Split, language};

/// The stage's name in its manifest.
pub const DOCUMENTS_STAGE: &str = "documents";

const REPORT_FILE: &str = "report.json";
/// Raised when the same options and files would give other documents.
const STAGE_VERSION: u32 = 1;
/// How many quarantined files and lines are told one by one.
const TOLD: usize = 5;
/// More repairs than one in so many bytes: probably another encoding.
const BYTES_PER_REPAIR: u64 = 200;

/// Reads, cleans, deduplicates and splits the text that `options` names into `out`, a folder with `train.jsonl.zst`,
/// `validation.jsonl.zst`, `report.json` and a manifest. Where the folder is already of these options and files, it is left
/// as it is.
///
/// # Errors
/// Options that cannot be; a path that leads nowhere; a named file that is not text; damaged packed files; no text at all;
/// the disk.
pub fn prepare(
    fs: &dyn Fs,
    options: &CorpusOptions,
    project: &Path,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<CorpusSummary> {
    options.validate()?;
    let resolved = sources::resolve(options, project)?;
    let inputs = sources::hashes(fs, &resolved.sources)?;
    let stage_options = stage_options(options);
    if stage::current(fs, out, DOCUMENTS_STAGE, &stage_options, &inputs)?.is_some() {
        let summary: CorpusSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
        return Ok(CorpusSummary { reused: true, ..summary });
    }

    let staged = StagedFolder::begin(fs, out)?;
    let mut summary = CorpusSummary { ignored_files: resolved.ignored_files, ..CorpusSummary::default() };
    let mut keeper = Keeper::new(fs, staged.path(), options)?;
    read_all(fs, &resolved.sources, options, &mut keeper, &mut summary, reporter)?;
    let borderline = keeper.finish()?;
    if summary.documents() == 0 {
        return Err(Error::Data { message: nothing_left(&summary, options) });
    }
    split::settle(fs, staged.path(), options.validation_fraction, &borderline, &mut summary)?;
    tell(&summary, options, reporter);
    atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
    staged.commit(Manifest::new(DOCUMENTS_STAGE, stage_options, inputs))?;
    Ok(summary)
}

fn stage_options(options: &CorpusOptions) -> Value {
    json!({ "stage_version": STAGE_VERSION, "data": options })
}

fn read_all(
    fs: &dyn Fs,
    sources: &[Source],
    options: &CorpusOptions,
    keeper: &mut Keeper<'_>,
    summary: &mut CorpusSummary,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let sizes: Vec<u64> = sources.iter().map(|source| bytes_of(fs, source)).collect();
    let total = sizes.iter().sum();
    let mut done = 0;
    for (source, bytes) in sources.iter().zip(sizes) {
        let before = summary.repaired_sequences;
        let mut take = |raw, summary: &mut CorpusSummary| keeper.take(raw, summary);
        let outcome = read::read(fs, source, &mut Sink { options, summary, take: &mut take })?;
        match outcome {
            Ok(()) => summary.files += 1,
            Err(reason) if source.explicit => return Err(Error::source(&source.name, reason.0)),
            Err(reason) => summary.quarantine(&source.name, &reason.0),
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
        done += bytes;
        reporter.progress(Phase::Corpus, done, total, "bytes");
    }
    Ok(())
}

fn bytes_of(fs: &dyn Fs, source: &Source) -> u64 {
    match &source.place {
        Place::Bundled => crate::sample::BYTES.len() as u64,
        // Reading the file tells its error; a size is for the progress alone.
        Place::File(path) => fs.file_bytes(path).unwrap_or(0),
    }
}

/// Filters documents and writes those that stay.
struct Keeper<'a> {
    options: &'a CorpusOptions,
    writers: [DocumentWriter; 2],
    /// 128 bits of each text's hash: 16 bytes a document is what deduplication costs.
    seen: HashSet<u128>,
    borderline: Borderline,
}

impl<'a> Keeper<'a> {
    fn new(fs: &dyn Fs, folder: &Path, options: &'a CorpusOptions) -> Result<Keeper<'a>> {
        let [train, validation] =
            Split::ALL.map(|split| DocumentWriter::create(fs, &folder.join(split.documents_file())));
        let writers = [train?, validation?];
        Ok(Keeper { options, writers, seen: HashSet::new(), borderline: Borderline::default() })
    }

    fn take(&mut self, raw: RawDocument, summary: &mut CorpusSummary) -> Result<()> {
        let length = raw.text.trim().chars().count();
        if length < self.options.minimum_characters.max(1) {
            summary.too_short += 1;
            return Ok(());
        }
        let mut document = Document::new(raw.text, raw.source, raw.language);
        let hash = u128::from_str_radix(&document.hash, 16).unwrap_or_default();
        if self.options.deduplicate && !self.seen.insert(hash) {
            summary.duplicates += 1;
            return Ok(());
        }
        if document.language.is_none() {
            document.language = language::detect(&document.text);
        }
        let place = split::place(self.options.seed, &document);
        let split = if place < self.options.validation_fraction { Split::Validation } else { Split::Train };
        let counts = split::counts(summary, split);
        self.borderline.see(split, place, counts.documents);
        counts.add(&document);
        self.writers[split as usize].write(&document)
    }

    fn finish(self) -> Result<Borderline> {
        for writer in self.writers {
            writer.finish()?;
        }
        Ok(self.borderline)
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
