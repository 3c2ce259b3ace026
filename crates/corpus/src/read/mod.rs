//! A file's bytes to raw documents: unpacked, recognised as text, repaired and normalised. Memory stays
//! within a few times `maximum_document_bytes` whatever the size of a file, and whatever the file claims.
//!
//! What cannot be read is quarantined, and the rest goes on: a file, an archive's member, a line, a record.
//! What came whole before a break is kept. Only the disk's own errors end the stage; what too much quarantine
//! means is `prepare`'s to say.
//!
//! Reading order: here, `unpack` (packed streams and bombs), `text`, `json_lines`, `pages`, then the others.

mod archive;
mod csv;
mod docx;
mod json;
mod json_lines;
mod pages;
mod parquet;
#[cfg(feature = "pdf")]
mod pdf;
mod text;
mod unpack;
mod warc;
mod watch;
mod xml;

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use store::fs::{Fs, FsReader};

use crate::kind::{Format, Kind, Packing};
use crate::sources::{Place, Source};
use crate::zstandard::shortage;
use crate::{CorpusOptions, Error, Quarantined, Result, clean, language, sample};
pub use unpack::Budget;
pub use watch::Position;
use watch::Watch;

/// How much of a file is looked at to tell text from other things.
const SNIFFED_BYTES: u64 = 64 << 10;
/// A longer address is data.
pub const LONGEST_ADDRESS_BYTES: usize = 8 << 10;
/// What must be held in memory to be read at all (an archive within an archive) may be so large.
const LARGEST_HELD_BYTES: u64 = 256 << 20;

/// A document before filtering.
pub struct RawDocument {
    pub content: Content,
    pub source: String,
    pub language: Option<String>,
    pub url: Option<String>,
}

/// What a document is before filtering.
pub enum Content {
    /// Text, repaired and normalised.
    Text(String),
    /// A page as it was sent, and the encoding that the server named. Its text is found later, on all
    /// threads.
    Html(Vec<u8>, Option<String>),
    /// A PDF, likewise.
    #[cfg(feature = "pdf")]
    Pdf(Vec<u8>),
}

/// What a source holds, in its order.
pub enum Found {
    Document(RawDocument),
    /// A member, line or record that cannot be used.
    PassedOver(Quarantined),
}

/// What reading did to a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    pub repaired_sequences: u64,
    pub normalized_documents: u64,
    pub cuts: u64,
    /// Members of archives that were passed over for their extension.
    pub ignored_files: u64,
    /// Records of web archives that hold no page, by what they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, u64>,
}

impl ReadCounts {
    fn see_other(&mut self, what: &str) {
        *self.passed_over.entry(what.to_owned()).or_default() += 1;
    }
}

/// Takes what is found in a source, and counts what reading did to it.
pub struct Sink<'a> {
    pub options: &'a CorpusOptions,
    /// The field or column that holds the text of this source's rows.
    pub text_field: &'a str,
    /// The article that rows are joined to, where each is a line of one.
    pub article: Option<Article>,
    /// Documents found so far.
    pub documents: u64,
    pub counts: ReadCounts,
    /// What the file may still give; set when it is opened.
    pub budget: Option<Arc<Budget>>,
    pub take: &'a mut dyn FnMut(Found) -> Result<()>,
}

impl Sink<'_> {
    fn take(&mut self, text: String, source: String, language: Option<String>) -> Result<()> {
        self.raw(RawDocument { content: Content::Text(text), source, language, url: None })
    }

    fn raw(&mut self, raw: RawDocument) -> Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        self.documents += 1;
        (self.take)(Found::Document(raw))
    }

    /// Whether the file may give one more. What comes too much is not taken, and `read` says so.
    fn has_room(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.take_item())
    }

    fn pass_over(&mut self, source: &str, reason: impl Into<String>) -> Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        (self.take)(Found::PassedOver(Quarantined { source: source.to_owned(), reason: reason.into() }))
    }

    /// Takes a row: a document, or a line of an article that ends where the next one's title stands.
    fn row(&mut self, row: Row, place: &str) -> Result<()> {
        let Some(article) = &mut self.article else { return self.whole_row(row, place) };
        let is_full = article.text.len() + row.text.len() > self.options.maximum_document_bytes;
        if !article.text.is_empty() && (is_full || is_title(&row.text)) {
            self.end_article()?;
        }
        let Some(article) = &mut self.article else { return Ok(()) };
        if article.text.is_empty() {
            place.clone_into(&mut article.place);
        }
        article.text.push_str(&row.text);
        if !row.text.ends_with('\n') {
            article.text.push('\n');
        }
        Ok(())
    }

    /// Takes what is left of an article at a source's end.
    pub fn end_article(&mut self) -> Result<()> {
        let Some(article) = self.article.as_mut().map(std::mem::take) else { return Ok(()) };
        if article.text.is_empty() {
            return Ok(());
        }
        self.whole_row(Row::new(article.text, None, None), &article.place)
    }

    /// Takes a row's text, in parts where it is too long.
    fn whole_row(&mut self, row: Row, place: &str) -> Result<()> {
        let Row { text, language, url } = row;
        let text = self.normalize(text);
        let limit = self.options.maximum_document_bytes;
        let document = |text: String, source: String| {
            let content = Content::Text(text);
            RawDocument { content, source, language: language.clone(), url: url.clone() }
        };
        if text.len() <= limit {
            return self.raw(document(text, place.to_owned()));
        }
        let (mut rest, mut part) = (text.as_str(), 0);
        while !rest.is_empty() {
            let mut cut = rest.len();
            if cut > limit {
                cut = text::cut_place(&rest.as_bytes()[..limit], b"").0;
                self.counts.cuts += 1;
            }
            part += 1;
            let place = if part == 1 { place.to_owned() } else { format!("{place}#{part}") };
            self.raw(document(rest[..cut].to_owned(), place))?;
            rest = &rest[cut..];
        }
        Ok(())
    }

    /// Repairs and normalises.
    fn clean(&mut self, bytes: Vec<u8>) -> String {
        let (text, repaired) = clean::repair(bytes);
        self.counts.repaired_sequences += repaired;
        self.normalize(text)
    }

    fn normalize(&mut self, text: String) -> String {
        let (text, changed) = clean::normalize(text, self.options.normalize);
        self.counts.normalized_documents += u64::from(changed);
        text
    }
}

/// An article whose lines are rows.
#[derive(Default)]
pub struct Article {
    text: String,
    place: String,
}

/// WikiText's titles: ` = Title = `, where sections have more signs.
fn is_title(line: &str) -> bool {
    let inner = line.trim().strip_prefix("= ").and_then(|rest| rest.strip_suffix(" ="));
    inner.is_some_and(|inner| !inner.starts_with('=') && !inner.ends_with('='))
}

/// What a line or row of a table gives.
struct Row {
    text: String,
    language: Option<String>,
    url: Option<String>,
}

impl Row {
    /// Longer names of languages are no codes.
    const LONGEST_LANGUAGE: usize = 16;

    fn new(text: String, language: Option<&str>, url: Option<&str>) -> Row {
        let language =
            language.filter(|code| !code.trim().is_empty() && code.len() <= Self::LONGEST_LANGUAGE);
        let url = url.filter(|url| !url.is_empty() && url.len() <= LONGEST_ADDRESS_BYTES);
        Row { text, language: language.map(language::code), url: url.map(ToOwned::to_owned) }
    }
}

/// Why a file gave nothing, or no more; the caller decides what that means.
pub struct Unusable(pub String);

type Verdict = std::result::Result<(), Unusable>;

fn unusable(reason: impl Into<String>) -> Outcome<Verdict> {
    Ok(Err(Unusable(reason.into())))
}

/// Reading failed, or what is done with what was read.
pub enum Failure {
    Io(io::Error),
    Ours(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Ours(error)
    }
}

type Outcome<T> = std::result::Result<T, Failure>;

/// Where a stream lies: how many archives deep, and what its file may still unpack to.
struct Level {
    depth: u32,
    budget: Arc<Budget>,
}

/// Reads one file. The inner error is for files of which nothing, or not all, could be read.
pub fn read(fs: &dyn Fs, source: &Source, position: &Position, sink: &mut Sink<'_>) -> Result<Verdict> {
    let before = sink.documents;
    let (file, bytes): (Box<dyn FsReader>, u64) = match &source.place {
        Place::Bundled => (Box::new(Cursor::new(sample::BYTES)), sample::BYTES.len() as u64),
        Place::File(path) => {
            let io = store::Error::io("read", path);
            let open = || Ok((fs.open(path)?, fs.file_bytes(path)?));
            open().map_err(io)?
        }
    };
    if bytes == 0 {
        return Ok(Err(Unusable("is empty".to_owned())));
    }
    let (mut file, watch) = Watch::over(file, position);
    let level = Level { depth: 0, budget: Budget::of(bytes) };
    sink.budget = Some(Arc::clone(&level.budget));
    let Kind { format, packing } = source.kind;
    let outcome = if packing == Packing::None && format.needs_seeking() {
        seekable(format, Box::new(file), bytes, &source.name, &level, sink)
    } else {
        stream(source.kind, &mut file, &source.name, &level, sink)
    };
    // Readers of damaged archives go on past errors; the disk's own must not be taken for damage.
    if let (Some(error), Place::File(path)) = (watch.failure(), &source.place) {
        return Err(store::Error::io("read", path)(error).into());
    }
    // Nor must a system that gives no memory: what is prepared does not depend on the machine.
    if level.budget.is_short_of_memory() {
        let path = match &source.place {
            Place::File(path) => path.as_path(),
            Place::Bundled => Path::new(&source.name),
        };
        return Err(store::Error::io("unpack", path)(shortage("the program that unpacks it")).into());
    }
    match outcome {
        Ok(Ok(())) if level.budget.is_crowded() => Ok(Err(Unusable(unpack::Crowd.to_string()))),
        Ok(verdict) => Ok(verdict),
        Err(Failure::Ours(error)) => Err(error),
        Err(Failure::Io(error)) => Ok(Err(Unusable(unpack::damage(&error, sink.documents - before)))),
    }
}

/// How a packed stream begins once it is unpacked.
pub fn unpacked_start(packing: Packing, packed: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    unpack::unpack(packing, packed, &Budget::of(0))?.take(SNIFFED_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

/// Reads a stream of bytes.
fn stream(
    kind: Kind,
    packed: &mut dyn Read,
    name: &str,
    level: &Level,
    sink: &mut Sink<'_>,
) -> Outcome<Verdict> {
    let mut bytes = match (kind.format, kind.packing) {
        (Format::Warc, Packing::Gzip) => unpack::members(packed, &level.budget),
        _ => unpack::unpack(kind.packing, packed, &level.budget)?,
    };
    if kind.format.needs_seeking() {
        let mut held = Vec::new();
        bytes.by_ref().take(LARGEST_HELD_BYTES + 1).read_to_end(&mut held)?;
        if held.len() as u64 > LARGEST_HELD_BYTES {
            return unusable(format!(
                "is larger than {} MB, the most that is held in memory: unpack it first",
                LARGEST_HELD_BYTES >> 20
            ));
        }
        let length = held.len() as u64;
        return seekable(kind.format, Box::new(Cursor::new(held)), length, name, level, sink);
    }
    let mut start = Vec::new();
    let sniffed = bytes.by_ref().take(SNIFFED_BYTES).read_to_end(&mut start);
    let length = start.len();
    if !matches!(kind.format, Format::Html | Format::Xml) {
        clean::strip_byte_order_mark(&mut start);
    }
    if start.is_empty() {
        sniffed?;
        return unusable("is empty");
    }
    // Pages may be in any encoding, and an archive may begin with an image.
    let is_text =
        matches!(kind.format, Format::Text | Format::JsonLines | Format::Json | Format::Csv | Format::Tsv);
    if let Some(reason) = clean::not_text(&start).filter(|_| is_text) {
        return unusable(reason);
    }
    // What was read before an error is read on, up to it.
    let mut bytes: Box<dyn Read + '_> = match sniffed {
        Ok(_) if (length as u64) < SNIFFED_BYTES => Box::new(Cursor::new(start)),
        Ok(_) => Box::new(Cursor::new(start).chain(bytes)),
        Err(error) => Box::new(Cursor::new(start).chain(Failing(Some(error))).chain(bytes)),
    };
    let bytes = bytes.as_mut();
    match kind.format {
        Format::Text => text::read(bytes, name, sink),
        Format::JsonLines => json_lines::read(bytes, name, sink),
        Format::Json => json::read(bytes, name, sink),
        Format::Csv => csv::read(bytes, b',', name, sink),
        Format::Tsv => csv::read(bytes, b'\t', name, sink),
        Format::Html => pages::read(bytes, name, sink),
        Format::Xml => xml::read(bytes, name, sink),
        Format::Warc => warc::read(bytes, name, level, sink),
        Format::Tar => archive::tar(bytes, name, level, sink),
        Format::Parquet | Format::Docx | Format::Pdf | Format::Zip => unusable("needs jumps"),
    }
}

/// Reads what needs jumps.
fn seekable(
    format: Format,
    file: Box<dyn FsReader>,
    bytes: u64,
    name: &str,
    level: &Level,
    sink: &mut Sink<'_>,
) -> Outcome<Verdict> {
    match format {
        Format::Parquet => parquet::read(file, bytes, name, level, sink),
        Format::Docx => docx::read(file, name, level, sink),
        #[cfg(feature = "pdf")]
        Format::Pdf => pdf::read(file, bytes, name, sink),
        #[cfg(not(feature = "pdf"))]
        Format::Pdf => unusable("is a PDF, and this program was built without the feature `pdf`"),
        _ => archive::zip(file, name, level, sink),
    }
}

/// Gives an error once, at its place in a stream.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
