//! Documents in, in order; judged in batches on all threads; those that stay are written.
//!
//! Verdicts are taken in the order of the documents, so that nothing depends on threads. Where near-duplicates are looked for,
//! documents wait in a file until all signatures are known.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use store::fs::Fs;

use crate::dedup::NearDuplicates;
use crate::document::{DocumentWriter, read_documents};
use crate::filter::{UrlFilter, names};
use crate::judge::{Judge, Judged};
use crate::read::{Content, RawDocument};
use crate::split::{self, Borderline};
use crate::{CorpusOptions, CorpusSummary, Document, Result, Split};

/// A batch goes to the threads at so many documents or bytes.
const BATCH_DOCUMENTS: usize = 512;
const BATCH_BYTES: usize = 16 << 20;
const WAITING_FILE: &str = "waiting.tmp";

/// Filters documents and writes those that stay.
pub struct Keeper<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    options: &'a CorpusOptions,
    urls: UrlFilter,
    threads: usize,
    batch: Vec<RawDocument>,
    batch_bytes: usize,
    writers: [DocumentWriter; 2],
    /// 128 bits of each text's hash: 16 bytes a document is what deduplication costs.
    seen: HashSet<u128>,
    near: Option<(NearDuplicates<'a>, DocumentWriter)>,
    borderline: Borderline,
}

impl<'a> Keeper<'a> {
    pub fn new(
        fs: &'a dyn Fs,
        folder: &Path,
        options: &'a CorpusOptions,
        urls: UrlFilter,
    ) -> Result<Keeper<'a>> {
        let [train, validation] =
            Split::ALL.map(|split| DocumentWriter::create(fs, &folder.join(split.documents_file())));
        let near = match &options.near_duplicates {
            Some(near) => Some((
                NearDuplicates::new(fs, folder, near),
                DocumentWriter::create(fs, &folder.join(WAITING_FILE))?,
            )),
            None => None,
        };
        Ok(Keeper {
            fs,
            folder: folder.to_owned(),
            options,
            urls,
            threads: store::system::available_threads(),
            batch: Vec::new(),
            batch_bytes: 0,
            writers: [train?, validation?],
            seen: HashSet::new(),
            near,
            borderline: Borderline::default(),
        })
    }

    pub fn take(&mut self, raw: RawDocument, summary: &mut CorpusSummary) -> Result<()> {
        self.batch_bytes += match &raw.content {
            Content::Text(text) => text.len(),
            Content::Html(page, _) => page.len(),
            #[cfg(feature = "pdf")]
            Content::Pdf(pdf) => pdf.len(),
        };
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
        for writer in self.writers {
            writer.finish()?;
        }
        Ok(self.borderline)
    }

    fn judge_batch(&mut self, summary: &mut CorpusSummary) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        for judged in judge_all(batch, self.options, &self.urls, self.threads) {
            self.admit(judged, summary)?;
        }
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
        let document = match judged.outcome {
            Ok(document) => document,
            Err(dropped) => {
                if dropped.filter == names::TOO_SHORT {
                    summary.too_short += 1;
                }
                summary.drop(dropped.filter, dropped.reason, &judged.source, judged.start);
                return Ok(());
            }
        };
        let hash = u128::from_str_radix(&document.hash, 16).unwrap_or_default();
        if self.options.deduplicate && !self.seen.insert(hash) {
            summary.duplicates += 1;
            return Ok(());
        }
        match &mut self.near {
            Some((near, waiting)) => {
                near.push(judged.bands.as_deref())?;
                waiting.write(&document)
            }
            None => self.keep(&document, summary),
        }
    }

    fn keep(&mut self, document: &Document, summary: &mut CorpusSummary) -> Result<()> {
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
            }
        }
        summary.end_clusters(clusters);
        Ok(self.fs.remove_file(&path).map_err(store::Error::io("remove", &path))?)
    }
}

/// The verdicts of a batch, in its order.
fn judge_all(
    batch: Vec<RawDocument>,
    options: &CorpusOptions,
    urls: &UrlFilter,
    threads: usize,
) -> Vec<Judged> {
    let threads = threads.min(batch.len());
    if threads < 2 {
        let mut judge = Judge::new(options, urls);
        return batch.into_iter().map(|raw| judge.judge(raw)).collect();
    }
    // Documents differ in length a hundredfold: each thread takes the next one that is left.
    let waiting = std::sync::Mutex::new(batch.into_iter().enumerate());
    let mut judged: Vec<(usize, Judged)> = std::thread::scope(|scope| {
        let work = || {
            let mut judge = Judge::new(options, urls);
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
