//! All that sources hold, as one stream of verdicts in their order.
//!
//! A verdict depends on its document and the options alone, so where it is reached, and beside which others, changes nothing:
//! threads here, and ranks on other machines, are ways to the same stream. What depends on order (duplicates, the split, the report) is
//! [`crate::keeper`]'s.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use store::fs::Fs;
use store::report::{Phase, Reporter};

use crate::judge::{Judge, Judged};
use crate::read::{self, Article, Content, Found, Position, RawDocument, ReadCounts, Sink};
use crate::rules::Rules;
use crate::sources::{Place, Source};
use crate::{Quarantined, Result};

/// A batch goes to the threads at so many documents or bytes.
const BATCH_DOCUMENTS: usize = 512;
const BATCH_BYTES: usize = 16 << 20;
/// Progress is told no more often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What comes of one thing that a source holds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Document(Box<Judged>),
    PassedOver(Quarantined),
    /// The source holds no more.
    End(SourceEnd),
}

/// How reading a source ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEnd {
    pub source: String,
    /// The file's size.
    pub bytes: u64,
    /// Why it could not be read, or not to its end.
    pub unusable: Option<String>,
    pub counts: ReadCounts,
}

/// Reads `sources` one after another and hands their verdicts to `deliver`, in order.
pub fn judge_sources(
    fs: &dyn Fs,
    sources: &[Source],
    rules: &Rules<'_>,
    reporter: &mut dyn Reporter,
    deliver: &mut dyn FnMut(Verdict) -> Result<()>,
) -> Result<()> {
    let options = rules.options;
    let sizes: Vec<u64> = sources.iter().map(|source| bytes_of(fs, source)).collect();
    let total = sizes.iter().sum();
    let position = Position::default();
    let (mut done, mut told_at) = (0, Instant::now());
    let mut batch = Batch::new(rules, deliver);
    for (source, bytes) in sources.iter().zip(sizes) {
        let mut take = |found| {
            if told_at.elapsed() > TOLD_EVERY {
                told_at = Instant::now();
                reporter.progress(Phase::Corpus, position.load(Relaxed).min(total), total, "bytes");
            }
            batch.push(match found {
                Found::Document(raw) => Pending::Document(raw),
                Found::PassedOver(quarantined) => Pending::Settled(Verdict::PassedOver(quarantined)),
            })
        };
        let text_field = source.text_field.as_deref().unwrap_or(&options.text_field);
        let article = source.rows_are_lines.then(Article::default);
        let counts = ReadCounts::default();
        let mut sink = Sink { options, text_field, article, documents: 0, counts, take: &mut take };
        let outcome = read::read(fs, source, &position, &mut sink)?;
        sink.end_article()?;
        let end = SourceEnd {
            source: source.name.clone(),
            bytes,
            unusable: outcome.err().map(|unusable| unusable.0),
            counts: sink.counts,
        };
        batch.push(Pending::Settled(Verdict::End(end)))?;
        // What was read twice, or not to its end, counts once.
        done += bytes;
        position.store(done, Relaxed);
        reporter.progress(Phase::Corpus, done, total, "bytes");
    }
    batch.judge()
}

/// A file's size, for progress and shares. Reading the file tells its error.
pub fn bytes_of(fs: &dyn Fs, source: &Source) -> u64 {
    match (&source.place, source.known_bytes) {
        (Place::Bundled, _) => crate::sample::BYTES.len() as u64,
        (Place::File(_), Some(bytes)) => bytes,
        (Place::File(path), None) => fs.file_bytes(path).unwrap_or(0),
    }
}

/// What waits for its verdict, or for its turn.
enum Pending {
    Document(RawDocument),
    Settled(Verdict),
}

struct Batch<'a> {
    rules: &'a Rules<'a>,
    threads: usize,
    pending: Vec<Pending>,
    bytes: usize,
    deliver: &'a mut dyn FnMut(Verdict) -> Result<()>,
}

impl<'a> Batch<'a> {
    fn new(rules: &'a Rules<'a>, deliver: &'a mut dyn FnMut(Verdict) -> Result<()>) -> Batch<'a> {
        let threads = match rules.options.threads {
            0 => store::system::available_threads(),
            threads => threads,
        };
        Batch { rules, threads, pending: Vec::new(), bytes: 0, deliver }
    }

    fn push(&mut self, pending: Pending) -> Result<()> {
        if let Pending::Document(raw) = &pending {
            self.bytes += match &raw.content {
                Content::Text(text) => text.len(),
                Content::Html(page, _) => page.len(),
                #[cfg(feature = "pdf")]
                Content::Pdf(pdf) => pdf.len(),
            };
            self.bytes += raw.source.len() + raw.url.as_ref().map_or(0, String::len);
        }
        self.pending.push(pending);
        let is_full = self.pending.len() >= BATCH_DOCUMENTS || self.bytes >= BATCH_BYTES;
        if is_full { self.judge() } else { Ok(()) }
    }

    /// Judges what is there, and delivers it in its order.
    fn judge(&mut self) -> Result<()> {
        self.bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        judge_all(pending, self.rules, self.threads).into_iter().try_for_each(&mut *self.deliver)
    }
}

/// The verdicts of a batch, in its order.
fn judge_all(batch: Vec<Pending>, rules: &Rules<'_>, threads: usize) -> Vec<Verdict> {
    let settle = |judge: &mut Judge<'_>, pending| match pending {
        Pending::Document(raw) => Verdict::Document(Box::new(judge.judge(raw))),
        Pending::Settled(verdict) => verdict,
    };
    let threads = threads.min(batch.len());
    if threads < 2 {
        let mut judge = Judge::new(rules);
        return batch.into_iter().map(|pending| settle(&mut judge, pending)).collect();
    }
    // Documents differ in length a hundredfold: each thread takes the next one that is left.
    let waiting = std::sync::Mutex::new(batch.into_iter().enumerate());
    let mut judged: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let work = || {
            let mut judge = Judge::new(rules);
            let mut done = Vec::new();
            loop {
                let next = waiting.lock().map(|mut waiting| waiting.next());
                let Ok(Some((index, pending))) = next else { return done };
                done.push((index, settle(&mut judge, pending)));
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    judged.sort_by_key(|&(index, _)| index);
    judged.into_iter().map(|(_, verdict)| verdict).collect()
}
