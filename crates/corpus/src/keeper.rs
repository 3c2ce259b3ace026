//! Documents in, in order; judged in batches on all threads; those that stay are written.
//!
//! Verdicts are taken in the order of the documents, so that nothing depends on threads. Where near-duplicates are looked for,
//! documents wait in a file until all signatures are known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use store::fs::Fs;

use crate::contamination::Overlap;
use crate::dedup::NearDuplicates;
use crate::dedup::lines::LineFilter;
use crate::document::{DROPPED_FILE, DocumentWriter, DroppedDocument, read_documents};
use crate::filter::{Dropped, names};
use crate::judge::{Judge, Judged, Rules};
use crate::read::{Content, RawDocument};
use crate::split::{self, Borderline};
use crate::{CorpusOptions, CorpusSummary, Document, Result, Split};

/// A batch goes to the threads at so many documents or bytes.
const BATCH_DOCUMENTS: usize = 512;
const BATCH_BYTES: usize = 16 << 20;
const WAITING_FILE: &str = "waiting.tmp";
/// Overlaps with evaluation sets that are listed.
const LISTED_OVERLAPS: usize = 1000;

/// Filters documents and writes those that stay.
pub struct Keeper<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    options: &'a CorpusOptions,
    rules: Rules<'a>,
    threads: usize,
    batch: Vec<RawDocument>,
    batch_bytes: usize,
    /// Of the batch's documents, from which one on each entry of the paths is read.
    entries: Vec<(usize, Option<String>)>,
    writers: [DocumentWriter; 2],
    dropped: Option<DocumentWriter>,
    /// Items of evaluation sets that some document holds.
    items_found: HashSet<u32>,
    /// 128 bits of each text's hash: 16 bytes a document is what deduplication costs.
    seen: HashSet<u128>,
    near: Option<(NearDuplicates<'a>, DocumentWriter)>,
    lines: Option<LineFilter>,
    borderline: Borderline,
}

impl<'a> Keeper<'a> {
    pub fn new(fs: &'a dyn Fs, folder: &Path, rules: Rules<'a>) -> Result<Keeper<'a>> {
        let options = rules.options;
        let [train, validation] =
            Split::ALL.map(|split| DocumentWriter::create(fs, &folder.join(split.documents_file())));
        let near = match &options.near_duplicates {
            Some(near) => Some((
                NearDuplicates::new(fs, folder, near),
                DocumentWriter::create(fs, &folder.join(WAITING_FILE))?,
            )),
            None => None,
        };
        let dropped = match options.keep_dropped {
            true => Some(DocumentWriter::create(fs, &folder.join(DROPPED_FILE))?),
            false => None,
        };
        Ok(Keeper {
            fs,
            folder: folder.to_owned(),
            options,
            rules,
            dropped,
            items_found: HashSet::new(),
            threads: store::system::available_threads(),
            batch: Vec::new(),
            batch_bytes: 0,
            entries: Vec::new(),
            writers: [train?, validation?],
            seen: HashSet::new(),
            near,
            lines: options.duplicate_lines.as_ref().map(LineFilter::new),
            borderline: Borderline::default(),
        })
    }

    /// Says by which entry of the paths the next documents are read, where that is of interest.
    pub fn entry(&mut self, entry: Option<&String>) {
        if self.entries.last().is_none_or(|(_, last)| last.as_ref() != entry) {
            self.entries.push((self.batch.len(), entry.cloned()));
        }
    }

    pub fn take(&mut self, raw: RawDocument, summary: &mut CorpusSummary) -> Result<()> {
        self.batch_bytes += match &raw.content {
            Content::Text(text) => text.len(),
            Content::Html(page, _) => page.len(),
            #[cfg(feature = "pdf")]
            Content::Pdf(pdf) => pdf.len(),
        };
        self.batch_bytes += raw.source.len() + raw.url.as_ref().map_or(0, String::len);
        self.batch.push(raw);
        if self.batch.len() >= BATCH_DOCUMENTS || self.batch_bytes >= BATCH_BYTES {
            self.judge_batch(summary)?;
        }
        Ok(())
    }

    pub fn finish(mut self, summary: &mut CorpusSummary) -> Result<Borderline> {
        self.judge_batch(summary)?;
        if let Some((near, waiting)) = self.near.take() {
            waiting.finish()?;
            self.drop_near_duplicates(near, summary)?;
        }
        for writer in self.writers.into_iter().chain(self.dropped) {
            writer.finish()?;
        }
        if let Some(lines) = self.lines {
            summary.repeated_lines = Some(lines.report());
        }
        if let Some(items) = &self.rules.evaluations {
            summary.evaluation_sets = items.report(&self.items_found);
        }
        Ok(self.borderline)
    }

    fn judge_batch(&mut self, summary: &mut CorpusSummary) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let mut entries = std::mem::take(&mut self.entries).into_iter().peekable();
        let mut entry = None;
        for (number, mut judged) in judge_all(batch, &self.rules, self.threads).into_iter().enumerate() {
            while let Some((_, next)) = entries.next_if(|&(from, _)| from <= number) {
                entry = next;
            }
            if let Ok(document) = &mut judged.outcome {
                document.domain.clone_from(&entry);
            }
            self.admit(judged, summary)?;
        }
        let last = entries.last().map_or(entry, |(_, entry)| entry);
        self.entries = vec![(0, last)];
        Ok(())
    }

    fn admit(&mut self, judged: Judged, summary: &mut CorpusSummary) -> Result<()> {
        summary.repaired_sequences += judged.repaired;
        summary.normalized_documents += u64::from(judged.normalized);
        if let Some(reason) = judged.unreadable {
            summary.quarantine(&judged.source, &reason);
            summary.documents_read -= 1;
            return Ok(());
        }
        summary.see_score(judged.score);
        summary.see_repairs(&judged.source, &judged.repairs);
        let document = match judged.outcome {
            Ok(document) => document,
            Err(dropped) => {
                self.see_overlaps(&judged.source, judged.overlaps, summary);
                return self.drop(dropped, judged.source, judged.start, summary);
            }
        };
        let hash = u128::from_str_radix(&document.hash, 16).unwrap_or_default();
        if self.options.deduplicate && !self.seen.insert(hash) {
            summary.duplicates += 1;
            let dropped = Dropped { filter: names::EXACT_DUPLICATE, reason: "same_text" };
            return self.write_dropped(dropped, document.source, document.text);
        }
        summary.see_redactions(&document.source, judged.redacted);
        match &mut self.near {
            Some((near, waiting)) => {
                near.push(judged.bands.as_deref())?;
                waiting.write(&document)
            }
            None => self.keep(&document, summary),
        }
    }

    fn drop(
        &mut self,
        dropped: Dropped,
        source: String,
        text: String,
        summary: &mut CorpusSummary,
    ) -> Result<()> {
        if dropped.filter == names::TOO_SHORT {
            summary.too_short += 1;
        }
        summary.drop(dropped.filter, dropped.reason, &source, &text);
        self.write_dropped(dropped, source, text)
    }

    fn write_dropped(&mut self, dropped: Dropped, source: String, text: String) -> Result<()> {
        let Some(writer) = &mut self.dropped else { return Ok(()) };
        let Dropped { filter, reason } = dropped;
        writer.write_line(&DroppedDocument { filter: filter.into(), reason: reason.into(), source, text })
    }

    fn see_overlaps(&mut self, document: &str, overlaps: Vec<(u32, String)>, summary: &mut CorpusSummary) {
        let Some(items) = &self.rules.evaluations else { return };
        for (item, words) in overlaps {
            self.items_found.insert(item);
            if summary.overlaps.len() < LISTED_OVERLAPS {
                summary.overlaps.push(Overlap {
                    document: document.to_owned(),
                    item: items.name(item),
                    words,
                });
            }
        }
    }

    fn keep(&mut self, document: &Document, summary: &mut CorpusSummary) -> Result<()> {
        let Some(lines) = &mut self.lines else { return self.write(document, summary) };
        match lines.clean(&document.text) {
            Some(Cow::Borrowed(_)) => self.write(document, summary),
            Some(Cow::Owned(text)) => self.write(&document.with_text(text), summary),
            None => {
                let dropped = Dropped { filter: names::DUPLICATE_LINES, reason: "minimum_fraction_left" };
                self.drop(dropped, document.source.clone(), document.text.clone(), summary)
            }
        }
    }

    fn write(&mut self, document: &Document, summary: &mut CorpusSummary) -> Result<()> {
        let place = split::place(self.options.seed, document);
        let split = if place < self.options.validation_fraction { Split::Validation } else { Split::Train };
        let counts = split::counts(summary, split);
        self.borderline.see(split, place, counts.documents);
        counts.add(document);
        self.writers[split as usize].write(document)
    }

    fn drop_near_duplicates(&mut self, near: NearDuplicates<'_>, summary: &mut CorpusSummary) -> Result<()> {
        let survivors = near.finish()?;
        let path = self.folder.join(WAITING_FILE);
        let mut clusters = summary.begin_clusters(&survivors);
        for (index, document) in (0u32..).zip(read_documents(self.fs, &path)?) {
            let document = document?;
            clusters.see(index, survivors[index as usize], &document);
            if survivors[index as usize] == index {
                self.keep(&document, summary)?;
            } else {
                let dropped = Dropped { filter: names::NEAR_DUPLICATE, reason: "minhash" };
                self.write_dropped(dropped, document.source, document.text)?;
            }
        }
        summary.end_clusters(clusters);
        Ok(self.fs.remove_file(&path).map_err(store::Error::io("remove", &path))?)
    }
}

/// The verdicts of a batch, in its order.
fn judge_all(batch: Vec<RawDocument>, rules: &Rules<'_>, threads: usize) -> Vec<Judged> {
    let threads = threads.min(batch.len());
    if threads < 2 {
        let mut judge = Judge::new(rules);
        return batch.into_iter().map(|raw| judge.judge(raw)).collect();
    }
    // Documents differ in length a hundredfold: each thread takes the next one that is left.
    let waiting = std::sync::Mutex::new(batch.into_iter().enumerate());
    let mut judged: Vec<(usize, Judged)> = std::thread::scope(|scope| {
        let work = || {
            let mut judge = Judge::new(rules);
            let mut done = Vec::new();
            loop {
                let next = waiting.lock().map(|mut waiting| waiting.next());
                let Ok(Some((index, raw))) = next else { return done };
                done.push((index, judge.judge(raw)));
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    judged.sort_by_key(|&(index, _)| index);
    judged.into_iter().map(|(_, judged)| judged).collect()
}
