//! Consumes filter decisions in order and writes the documents that are kept.
//!
//! Here is what depends on order: duplicates, spans and lines that came before, the split, the report. Where
//! near-duplicates are looked for, documents wait in a file until all signatures are known; where spans are,
//! those that stay wait in another.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use runs::report::{Phase, Reporter};
use store::fs::Fs;
use tokens::Split;

use crate::contamination::{EvaluationItems, Overlap};
use crate::decisions::{FilterDecision, SourceEnd};
use crate::dedup::NearDuplicates;
use crate::dedup::lines::LineFilter;
use crate::dedup::spans::DuplicateSpans;
use crate::document::{
    DROPPED_FILE, DroppedDocument, JsonLinesWriter, PASSING_LEVEL, documents_file, read_documents,
};
use crate::document_filter::{Cause, FilteredDocument};
use crate::filter::{Dropped, names};
use crate::sources::Resolved;
use crate::split::{self, Borderline};
use crate::{CorpusOptions, CorpusSummary, Document, Error, Quarantined, Result};

const WAITING_FILE: &str = "waiting.tmp";
const WAITING_FOR_SPANS_FILE: &str = "waiting-for-spans.tmp";
/// Overlaps with evaluation sets that are listed.
const LISTED_OVERLAPS: usize = 1000;
/// More repairs than one in so many bytes: probably another encoding.
const BYTES_PER_REPAIR: u64 = 200;

/// Consumes filter decisions and writes the kept documents.
pub struct DocumentWriter<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    options: &'a CorpusOptions,
    evaluations: Option<&'a EvaluationItems>,
    resolved: &'a Resolved,
    summary: CorpusSummary,
    warnings: Vec<String>,
    /// Number of the current source.
    at: usize,
    source_repairs: u64,
    entry: EntryRead,
    writers: [JsonLinesWriter; 2],
    dropped: Option<JsonLinesWriter>,
    /// Evaluation items found in any document.
    items_found: HashSet<u32>,
    /// 128 bits of each text's hash: 16 bytes a document is what deduplication costs.
    seen: HashSet<u128>,
    near: Option<(NearDuplicates<'a>, JsonLinesWriter)>,
    spans: Option<(DuplicateSpans<'a>, JsonLinesWriter)>,
    lines: Option<LineFilter>,
    borderline: Borderline,
}

/// Results that are known when everything is written.
pub struct Kept {
    pub summary: CorpusSummary,
    pub borderline: Borderline,
    pub warnings: Vec<String>,
}

impl<'a> DocumentWriter<'a> {
    pub fn new(
        fs: &'a dyn Fs,
        folder: &Path,
        options: &'a CorpusOptions,
        evaluations: Option<&'a EvaluationItems>,
        resolved: &'a Resolved,
    ) -> Result<DocumentWriter<'a>> {
        let [train, validation] =
            Split::ALL.map(|split| JsonLinesWriter::create(fs, &folder.join(documents_file(split))));
        let near = match &options.near_duplicates {
            Some(near) => Some((
                NearDuplicates::new(fs, folder, near),
                JsonLinesWriter::create(fs, &folder.join(WAITING_FILE))?,
            )),
            None => None,
        };
        let spans = match &options.duplicate_spans {
            Some(spans) => Some((
                DuplicateSpans::new(fs, folder, spans),
                JsonLinesWriter::create_at(PASSING_LEVEL, fs, &folder.join(WAITING_FOR_SPANS_FILE))?,
            )),
            None => None,
        };
        let dropped = match options.keep_dropped {
            true => Some(JsonLinesWriter::create(fs, &folder.join(DROPPED_FILE))?),
            false => None,
        };
        Ok(DocumentWriter {
            fs,
            folder: folder.to_owned(),
            options,
            evaluations,
            resolved,
            summary: CorpusSummary {
                ignored_files: resolved.ignored_files,
                not_followed: resolved.not_followed.clone(),
                ..CorpusSummary::default()
            },
            warnings: Vec::new(),
            at: 0,
            source_repairs: 0,
            entry: EntryRead::default(),
            dropped,
            items_found: HashSet::new(),
            writers: [train?, validation?],
            seen: HashSet::new(),
            near,
            spans,
            lines: options.duplicate_lines.as_ref().map(LineFilter::new),
            borderline: Borderline::default(),
        })
    }

    /// Adds the next decision. All decisions of a source come before those of the next.
    pub fn take(&mut self, decision: FilterDecision) -> Result<()> {
        match decision {
            FilterDecision::Document(filtered) => {
                self.entry.documents += u64::from(filtered.unreadable.is_none());
                self.source_repairs += filtered.repaired;
                self.admit(*filtered)
            }
            FilterDecision::PassedOver(quarantined) => {
                self.summary.quarantine(&quarantined.source, &quarantined.reason);
                self.entry.last_passed_over = Some(quarantined);
                Ok(())
            }
            FilterDecision::End(end) => self.end_source(end),
        }
    }

    /// Work that needs all documents. `reporter` gets the number of waiting documents that are done.
    pub fn finish(mut self, reporter: &mut dyn Reporter) -> Result<Kept> {
        if let Some((near, waiting)) = self.near.take() {
            waiting.finish()?;
            self.drop_near_duplicates(near, reporter)?;
        }
        if let Some((spans, waiting)) = self.spans.take() {
            waiting.finish()?;
            self.cut_spans(spans, reporter)?;
        }
        for writer in self.writers.into_iter().chain(self.dropped) {
            writer.finish()?;
        }
        let mut summary = self.summary;
        if let Some(lines) = self.lines {
            summary.repeated_lines = Some(lines.report());
        }
        if let Some(items) = self.evaluations {
            summary.evaluation_sets = items.report(&self.items_found);
        }
        Ok(Kept { summary, borderline: self.borderline, warnings: self.warnings })
    }

    fn end_source(&mut self, end: SourceEnd) -> Result<()> {
        let counts = &end.counts;
        self.summary.repaired_sequences += counts.repaired_sequences;
        self.summary.normalized_documents += counts.normalized_documents;
        self.summary.cuts += counts.cuts;
        self.summary.ignored_files += counts.ignored_files;
        for (what, count) in &counts.passed_over {
            *self.summary.passed_over.entry(what.clone()).or_default() += count;
        }
        let repaired = std::mem::take(&mut self.source_repairs) + counts.repaired_sequences;
        if repaired * BYTES_PER_REPAIR > end.bytes {
            self.warnings.push(format!(
                "`{}` has {repaired} invalid UTF-8 sequences in {} bytes, each replaced by U+FFFD: it may be \
                 Latin-1 or Windows-1252; convert it with `iconv -f WINDOWS-1252 -t UTF-8`",
                end.source, end.bytes
            ));
        }
        match end.unusable {
            None => self.summary.files += 1,
            // Trees of files have empty ones: nothing is missing. An entry of nothing else is told.
            Some(reason) if end.bytes == 0 => {
                *self.summary.passed_over.entry("empty file".to_owned()).or_default() += 1;
                self.entry.unusable.get_or_insert((end.source, reason));
            }
            Some(reason) => {
                self.summary.quarantine(&end.source, &reason);
                self.entry.unusable.get_or_insert((end.source, reason));
            }
        }
        self.entry.files += 1;
        let entry = |at: usize| self.resolved.sources.get(at).map(|source| source.entry);
        let (ended, next) = (entry(self.at), entry(self.at + 1));
        self.at += 1;
        if ended != next
            && let Some(name) = ended.and_then(|entry| self.options.paths.get(entry))
        {
            std::mem::take(&mut self.entry).check(name)?;
        }
        Ok(())
    }

    /// The entry of the paths that the source belongs to, where that is of interest.
    fn domain(&self) -> Option<String> {
        let entry = self.options.mix.as_ref().and(self.resolved.sources.get(self.at))?.entry;
        self.options.paths.get(entry).cloned()
    }

    fn admit(&mut self, filtered: FilteredDocument) -> Result<()> {
        let summary = &mut self.summary;
        summary.repaired_sequences += filtered.repaired;
        summary.normalized_documents += u64::from(filtered.normalized);
        if let Some(reason) = filtered.unreadable {
            summary.quarantine(&filtered.source, &reason);
            return Ok(());
        }
        summary.documents_read += 1;
        summary.see_score(filtered.score);
        summary.see_perplexity(filtered.perplexity);
        summary.see_repairs(&filtered.source, &filtered.repairs);
        let mut document = match filtered.outcome {
            Ok(document) => document,
            Err(cause) => {
                self.see_overlaps(&filtered.source, filtered.overlaps);
                return self.drop(cause, filtered.source, filtered.start);
            }
        };
        document.domain = self.domain();
        let hash = u128::from_str_radix(&document.hash, 16).unwrap_or_default();
        if self.options.deduplicate && !self.seen.insert(hash) {
            self.summary.duplicates += 1;
            let dropped = Dropped { filter: names::EXACT_DUPLICATE, reason: "same_text" };
            return self.write_dropped(dropped.into(), document.source, document.text);
        }
        self.summary.see_redactions(&document.source, filtered.redacted);
        match &mut self.near {
            Some((near, waiting)) => {
                near.push(filtered.bands.as_deref())?;
                waiting.write(&document)
            }
            None => self.keep(&document),
        }
    }

    fn drop(&mut self, cause: Cause, source: String, text: String) -> Result<()> {
        if cause.filter == names::TOO_SHORT {
            self.summary.too_short += 1;
        }
        self.summary.drop(&cause.filter, &cause.reason, &source, &text);
        self.write_dropped(cause, source, text)
    }

    fn write_dropped(&mut self, cause: Cause, source: String, text: String) -> Result<()> {
        let Some(writer) = &mut self.dropped else { return Ok(()) };
        let (filter, reason) = (cause.filter.into_owned(), cause.reason.into_owned());
        writer.write_line(&DroppedDocument { filter, reason, source, text })
    }

    fn see_overlaps(&mut self, document: &str, overlaps: Vec<(u32, String)>) {
        let Some(items) = self.evaluations else { return };
        for (item, words) in overlaps {
            self.items_found.insert(item);
            if self.summary.overlaps.len() < LISTED_OVERLAPS {
                self.summary.overlaps.push(Overlap {
                    document: document.to_owned(),
                    item: items.name(item),
                    words,
                });
            }
        }
    }

    fn keep(&mut self, document: &Document) -> Result<()> {
        match &mut self.spans {
            Some((spans, waiting)) => {
                spans.push(&document.text)?;
                waiting.write(document)
            }
            None => self.clean_lines(document),
        }
    }

    /// Whole passages go before lines do: short lines within them go too, where the lines alone would leave
    /// them.
    fn cut_spans(&mut self, spans: DuplicateSpans<'_>, reporter: &mut dyn Reporter) -> Result<()> {
        let mut through = Through::of(spans.documents(), reporter);
        let path = self.folder.join(WAITING_FOR_SPANS_FILE);
        let mut waiting = read_documents(self.fs, &path)?;
        let mut cutter = spans.find(|passed_over| Ok(waiting.after(passed_over)?.text))?;
        for document in read_documents(self.fs, &path)? {
            let document = document?;
            through.one();
            match cutter.clean(&document.text)? {
                Some(Cow::Borrowed(_)) => self.clean_lines(&document)?,
                Some(Cow::Owned(text)) => self.clean_lines(&document.with_text(text))?,
                None => {
                    let dropped = Dropped { filter: names::DUPLICATE_SPANS, reason: "minimum_fraction_left" };
                    self.drop(dropped.into(), document.source, document.text)?;
                }
            }
        }
        self.summary.repeated_spans = Some(cutter.report());
        Ok(self.fs.remove_file(&path).map_err(store::Error::io("remove", &path))?)
    }

    fn clean_lines(&mut self, document: &Document) -> Result<()> {
        let Some(lines) = &mut self.lines else { return self.write(document) };
        match lines.clean(&document.text) {
            Some(Cow::Borrowed(_)) => self.write(document),
            Some(Cow::Owned(text)) => self.write(&document.with_text(text)),
            None => {
                let dropped = Dropped { filter: names::DUPLICATE_LINES, reason: "minimum_fraction_left" };
                self.drop(dropped.into(), document.source.clone(), document.text.clone())
            }
        }
    }

    fn write(&mut self, document: &Document) -> Result<()> {
        let place = split::place(self.options.seed, document);
        let split = if place < self.options.validation_fraction { Split::Validation } else { Split::Train };
        let counts = split::counts(&mut self.summary, split);
        self.borderline.see(split, place, counts.documents);
        counts.add(document);
        self.writers[split as usize].write(document)
    }

    fn drop_near_duplicates(&mut self, near: NearDuplicates<'_>, reporter: &mut dyn Reporter) -> Result<()> {
        let survivors = near.finish()?;
        let mut through = Through::of(survivors.len() as u64, reporter);
        let path = self.folder.join(WAITING_FILE);
        let mut clusters = self.summary.begin_clusters(&survivors);
        for (index, document) in (0u32..).zip(read_documents(self.fs, &path)?) {
            let document = document?;
            through.one();
            clusters.see(index, survivors[index as usize], &document);
            if survivors[index as usize] == index {
                self.keep(&document)?;
            } else {
                let dropped = Dropped { filter: names::NEAR_DUPLICATE, reason: "minhash" };
                self.write_dropped(dropped.into(), document.source, document.text)?;
            }
        }
        self.summary.end_clusters(clusters);
        Ok(self.fs.remove_file(&path).map_err(store::Error::io("remove", &path))?)
    }
}

/// Tells how many of the documents that waited are through.
struct Through<'a> {
    done: u64,
    total: u64,
    reporter: &'a mut dyn Reporter,
}

impl<'a> Through<'a> {
    const TOLD_EVERY: u64 = 4096;

    fn of(total: u64, reporter: &'a mut dyn Reporter) -> Through<'a> {
        Through { done: 0, total, reporter }
    }

    fn one(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(Self::TOLD_EVERY) {
            self.reporter.progress(Phase::Corpus, self.done, self.total, "documents");
        }
    }
}

/// Counts of one entry of `data.paths`.
#[derive(Default)]
struct EntryRead {
    files: u64,
    documents: u64,
    /// The first of its files that could not be read, or not to its end.
    unusable: Option<(String, String)>,
    last_passed_over: Option<Quarantined>,
}

impl EntryRead {
    /// An entry without documents is a mistake, or a loss that nobody would notice among others.
    fn check(self, entry: &str) -> Result<()> {
        if self.documents > 0 {
            return Ok(());
        }
        match self.unusable {
            Some((name, reason)) if self.files == 1 => Err(Error::source(&name, reason)),
            Some((source, reason)) => {
                let first = Quarantined { source, reason };
                Err(Error::NothingOfEntry { entry: entry.to_owned(), first, files: self.files })
            }
            None => {
                let why = self.last_passed_over.map_or(String::new(), |last| {
                    format!(" (last file skipped: `{}` {})", last.source, last.reason)
                });
                Err(Error::source(entry, format!("contains no document{why}: check data.paths")))
            }
        }
    }
}
