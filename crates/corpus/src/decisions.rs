//! All items of the sources as one stream of filter decisions, in order.
//!
//! A decision depends on its document and the options alone, so where it is reached, and beside which others,
//! changes nothing: threads here, and ranks on other machines, are ways to the same stream. What depends on
//! order (duplicates, the split, the report) is [`crate::document_writer`]'s.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use runs::report::{Phase, Reporter};
use serde::{Deserialize, Serialize};
use store::fs::Fs;

use crate::document_filter::{DocumentFilter, FilteredDocument};
use crate::read::{self, Article, Content, Found, Position, RawDocument, ReadCounts, Sink};
use crate::rules::Rules;
use crate::sources::{Source, SourceData};
use crate::{CorpusOptions, Quarantined, Result};

/// So many documents or bytes of them are under way at once: with the threads, or waiting for one before
/// them.
const MOST_UNDER_WAY: usize = 4096;
const MOST_BYTES_UNDER_WAY: usize = 16 << 20;
/// Short documents are handed to a thread in batches: handing one over takes longer than filtering it.
const MOST_AT_ONCE: usize = 32;
const MOST_BYTES_AT_ONCE: usize = 16 << 10;
/// Minimum interval of progress reports.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// The decision for one item of a source.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterDecision {
    Document(Box<FilteredDocument>),
    PassedOver(Quarantined),
    /// The end of a source.
    End(SourceEnd),
}

/// How reading a source ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEnd {
    pub source: String,
    /// Size of the file.
    pub bytes: u64,
    /// Why it could not be read, or not to its end.
    pub unusable: Option<String>,
    pub counts: ReadCounts,
}

/// Reads `sources` in order and passes their decisions to `deliver`, in order. This thread reads and
/// delivers; the others filter.
pub fn filter_sources(
    fs: &dyn Fs,
    sources: &[Source],
    rules: &Rules<'_>,
    reporter: &mut dyn Reporter,
    deliver: &mut dyn FnMut(FilterDecision) -> Result<()>,
) -> Result<()> {
    let threads = match rules.options.threads {
        0 => store::system::available_threads(),
        threads => threads,
    };
    if threads < 2 {
        return alone(fs, sources, rules, reporter, deliver);
    }
    // Documents differ in length a hundredfold: each thread takes the next ones that are left.
    let (jobs, waiting) = mpsc::channel();
    let (done, decisions) = mpsc::channel();
    let waiting = &Mutex::new(waiting);
    std::thread::scope(|scope| {
        let start = |_: &usize| {
            let done = done.clone();
            let filter = std::thread::Builder::new().name("filter".to_owned());
            filter.spawn_scoped(scope, move || work(waiting, &done, rules)).is_ok()
        };
        // If a thread cannot be started, the work continues without it.
        if (0..threads).take_while(start).count() == 0 {
            return alone(fs, sources, rules, reporter, deliver);
        }
        drop(done);
        let (next, slots) = (Job::default(), VecDeque::new());
        let mut buffer = ReorderBuffer { jobs, decisions, next, slots, first: 0, bytes: 0, deliver };
        read_all(fs, sources, rules.options, reporter, &mut |pending| buffer.push(pending))?;
        buffer.finish()
    })
}

/// All by the calling thread.
fn alone(
    fs: &dyn Fs,
    sources: &[Source],
    rules: &Rules<'_>,
    reporter: &mut dyn Reporter,
    deliver: &mut dyn FnMut(FilterDecision) -> Result<()>,
) -> Result<()> {
    let mut filter = DocumentFilter::new(rules);
    read_all(fs, sources, rules.options, reporter, &mut |found| deliver(found.settled(&mut filter)))
}

/// A thread's work: the next documents that wait, until no more will come.
fn work(waiting: &Mutex<Receiver<Job>>, done: &Sender<Done>, rules: &Rules<'_>) {
    let mut filter = DocumentFilter::new(rules);
    loop {
        let Ok(Ok(job)) = waiting.lock().map(|waiting| waiting.recv()) else { return };
        let filtered = |(number, raw)| (number, FilterDecision::Document(Box::new(filter.filter(raw))));
        if done.send(job.documents.into_iter().map(filtered).collect()).is_err() {
            return;
        }
    }
}

/// Reads all sources, in order.
fn read_all(
    fs: &dyn Fs,
    sources: &[Source],
    options: &CorpusOptions,
    reporter: &mut dyn Reporter,
    take: &mut dyn FnMut(Pending) -> Result<()>,
) -> Result<()> {
    let sizes: Vec<u64> = sources.iter().map(|source| bytes_of(fs, source)).collect();
    let total = sizes.iter().sum();
    let position = Position::default();
    let (mut done, mut told_at) = (0, Instant::now());
    for (source, bytes) in sources.iter().zip(sizes) {
        let mut take_found = |found| {
            if told_at.elapsed() > TOLD_EVERY {
                told_at = Instant::now();
                reporter.progress(Phase::Corpus, position.load(Relaxed).min(total), total, "bytes");
            }
            take(match found {
                Found::Document(raw) => Pending::Document(raw),
                Found::PassedOver(quarantined) => Pending::Settled(FilterDecision::PassedOver(quarantined)),
            })
        };
        let text_field = source.text_field.as_deref().unwrap_or(&options.text_field);
        let article = source.rows_are_lines.then(Article::default);
        let counts = ReadCounts::default();
        let mut sink =
            Sink { options, text_field, article, documents: 0, counts, budget: None, take: &mut take_found };
        let outcome = read::read(fs, source, &position, &mut sink)?;
        sink.end_article()?;
        let end = SourceEnd {
            source: source.name.clone(),
            bytes,
            unusable: outcome.err().map(|unusable| unusable.0),
            counts: sink.counts,
        };
        take(Pending::Settled(FilterDecision::End(end)))?;
        // What was read twice, or not to its end, counts once.
        done += bytes;
        position.store(done, Relaxed);
        reporter.progress(Phase::Corpus, done, total, "bytes");
    }
    Ok(())
}

/// Size of a file, for progress and shares. Errors are reported when it is read.
pub fn bytes_of(fs: &dyn Fs, source: &Source) -> u64 {
    match (&source.place, source.known_bytes) {
        (SourceData::Bundled, _) => crate::sample::BYTES.len() as u64,
        (SourceData::File(_), Some(bytes)) => bytes,
        (SourceData::File(path), None) => fs.file_bytes(path).unwrap_or(0),
    }
}

/// An item that waits for its decision, or for its turn.
enum Pending {
    Document(RawDocument),
    Settled(FilterDecision),
}

impl Pending {
    fn settled(self, filter: &mut DocumentFilter<'_>) -> FilterDecision {
        match self {
            Pending::Document(raw) => FilterDecision::Document(Box::new(filter.filter(raw))),
            Pending::Settled(decision) => decision,
        }
    }
}

/// A batch of documents for a thread.
#[derive(Default)]
struct Job {
    /// With their numbers among all that was read.
    documents: Vec<(usize, RawDocument)>,
    bytes: usize,
}

/// The decisions of a batch, with their documents' numbers.
type Done = Vec<(usize, FilterDecision)>;

/// All that is under way, in the order in which it was read.
struct ReorderBuffer<'a> {
    jobs: Sender<Job>,
    decisions: Receiver<Done>,
    /// The current batch, which is not full yet.
    next: Job,
    /// What is known of each, and the bytes it was; the first is the next to be delivered.
    slots: VecDeque<(Option<FilterDecision>, usize)>,
    /// The number of the first slot.
    first: usize,
    bytes: usize,
    deliver: &'a mut dyn FnMut(FilterDecision) -> Result<()>,
}

impl ReorderBuffer<'_> {
    fn push(&mut self, pending: Pending) -> Result<()> {
        match pending {
            Pending::Settled(decision) => self.slots.push_back((Some(decision), 0)),
            Pending::Document(raw) => {
                let bytes = bytes_held(&raw);
                self.bytes += bytes;
                self.slots.push_back((None, bytes));
                self.next.documents.push((self.first + self.slots.len() - 1, raw));
                self.next.bytes += bytes;
                if self.next.documents.len() >= MOST_AT_ONCE || self.next.bytes >= MOST_BYTES_AT_ONCE {
                    self.hand_over();
                }
            }
        }
        while let Ok(done) = self.decisions.try_recv() {
            self.place(done);
        }
        self.deliver_settled()?;
        while self.slots.len() > MOST_UNDER_WAY || self.bytes > MOST_BYTES_UNDER_WAY {
            self.wait()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        if !self.next.documents.is_empty() {
            // Nobody takes it when all threads have died.
            let _ = self.jobs.send(std::mem::take(&mut self.next));
        }
    }

    fn finish(mut self) -> Result<()> {
        while !self.slots.is_empty() {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits for the next decisions, whichever they are.
    fn wait(&mut self) -> Result<()> {
        self.deliver_settled()?;
        if self.slots.is_empty() {
            return Ok(());
        }
        self.hand_over();
        match self.decisions.recv() {
            Ok(done) => self.place(done),
            // All threads have died, which is told where they are waited for.
            Err(_) => {
                self.slots.clear();
                self.bytes = 0;
            }
        }
        self.deliver_settled()
    }

    fn place(&mut self, done: Done) {
        for (number, decision) in done {
            if let Some((slot, _)) = self.slots.get_mut(number - self.first) {
                *slot = Some(decision);
            }
        }
    }

    fn deliver_settled(&mut self) -> Result<()> {
        while let Some((Some(_), _)) = self.slots.front() {
            if let Some((Some(decision), bytes)) = self.slots.pop_front() {
                self.first += 1;
                self.bytes -= bytes;
                (self.deliver)(decision)?;
            }
        }
        Ok(())
    }
}

/// Memory of a document until it is filtered.
fn bytes_held(raw: &RawDocument) -> usize {
    let content = match &raw.content {
        Content::Text(text) => text.len(),
        Content::Html(page, _) => page.len(),
        #[cfg(feature = "pdf")]
        Content::Pdf(pdf) => pdf.len(),
    };
    content + raw.source.len() + raw.url.as_ref().map_or(0, String::len)
}
