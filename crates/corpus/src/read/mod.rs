//! A file's bytes to raw documents: unpacked, recognised as text, repaired and normalised. Memory stays within a few
//! times `maximum_document_bytes` whatever the size of a file.
//!
//! What a damaged file means depends on what it is: a packed file that breaks off is an error always, since how much is
//! missing is not known; an empty or binary one is an error when the recipe names it, and otherwise passed over with a
//! word in the report.

mod json_lines;
mod pages;
mod text;
mod warc;

use std::io::{self, BufReader, Cursor, Read};

use store::fs::Fs;

use crate::sources::{Format, Packing, Place, Source};
use crate::{CorpusOptions, CorpusSummary, Error, Result, clean, sample};

/// How much of a file is looked at to tell text from other things.
const SNIFFED_BYTES: u64 = 64 << 10;

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
    /// A page as it was sent, and the encoding that the server named. Its text is found later, on all threads.
    Html(Vec<u8>, Option<String>),
}

/// Takes raw documents as they are found, and counts what reading did to them.
pub struct Sink<'a> {
    pub options: &'a CorpusOptions,
    pub summary: &'a mut CorpusSummary,
    pub take: &'a mut dyn FnMut(RawDocument, &mut CorpusSummary) -> Result<()>,
}

impl Sink<'_> {
    fn take(&mut self, text: String, source: String, language: Option<String>) -> Result<()> {
        self.raw(RawDocument { content: Content::Text(text), source, language, url: None })
    }

    fn raw(&mut self, raw: RawDocument) -> Result<()> {
        self.summary.documents_read += 1;
        (self.take)(raw, self.summary)
    }

    /// Repairs and normalises.
    fn clean(&mut self, bytes: Vec<u8>) -> String {
        let (text, repaired) = clean::repair(bytes);
        self.summary.repaired_sequences += repaired;
        self.normalize(text)
    }

    fn normalize(&mut self, text: String) -> String {
        let (text, changed) = clean::normalize(text, self.options.normalize);
        self.summary.normalized_documents += u64::from(changed);
        text
    }
}

/// Why a file gave nothing; the caller decides what that means.
pub struct Unusable(pub String);

/// Reads one file. The inner error is for files that may be passed over.
pub fn read(fs: &dyn Fs, source: &Source, sink: &mut Sink<'_>) -> Result<std::result::Result<(), Unusable>> {
    let taken_before = sink.summary.documents_read;
    let outcome = open(fs, source).and_then(|opened| match opened {
        Ok(mut bytes) => match source.format {
            Format::Text => text::read(&mut bytes, &source.name, sink),
            Format::JsonLines => json_lines::read(&mut bytes, &source.name, sink),
            Format::Html => pages::read(&mut bytes, &source.name, sink),
            Format::Warc => warc::read(bytes, &source.name, sink),
        },
        Err(unusable) => Ok(Err(unusable)),
    });
    outcome.map_err(|failure| match failure {
        Failure::Ours(error) => error,
        Failure::Io(error) if source.packing == Packing::None => match &source.place {
            Place::File(path) => store::Error::io("read", path)(error).into(),
            Place::Bundled => Error::source(&source.name, error.to_string()),
        },
        Failure::Io(error) => {
            let read = sink.summary.documents_read - taken_before;
            let message = format!(
                "the packed file is damaged or cut off after {read} documents ({error}): fetch it again, or take it out of \
                 data.paths"
            );
            Error::source(&source.name, message)
        }
    })
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
type Bytes = io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

fn open(fs: &dyn Fs, source: &Source) -> Outcome<std::result::Result<Bytes, Unusable>> {
    let empty = || Ok(Err(Unusable("is empty".to_owned())));
    let packed: Box<dyn Read + Send> = match &source.place {
        Place::Bundled => Box::new(Cursor::new(sample::BYTES)),
        Place::File(path) => {
            let io = |error| Failure::Ours(store::Error::io("read", path)(error).into());
            if fs.file_bytes(path).map_err(io)? == 0 {
                return empty();
            }
            fs.open(path).map_err(io)?
        }
    };
    let packed = BufReader::with_capacity(256 << 10, packed);
    let mut bytes: Box<dyn Read + Send> = match source.packing {
        Packing::None => Box::new(packed),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
    };
    let mut start = Vec::new();
    (&mut bytes).take(SNIFFED_BYTES).read_to_end(&mut start)?;
    if source.format != Format::Html {
        clean::strip_byte_order_mark(&mut start);
    }
    if start.is_empty() {
        return empty();
    }
    // Pages may be in any encoding, and an archive may begin with an image.
    let is_text = matches!(source.format, Format::Text | Format::JsonLines);
    if let Some(reason) = clean::not_text(&start).filter(|_| is_text) {
        return Ok(Err(Unusable(reason.to_owned())));
    }
    Ok(Ok(Cursor::new(start).chain(bytes)))
}
