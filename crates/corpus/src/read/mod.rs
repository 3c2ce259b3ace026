//! A file's bytes to raw documents: unpacked, recognized as text, repaired and normalized. Memory stays
//! within a few times `maximum_document_bytes` whatever the size of a file, and whatever the file claims.
//!
//! What cannot be read is quarantined, and the rest goes on: a file, an archive's member, a line, a record.
//! What came whole before a break is kept. Only the disk's own errors end the stage; what too much quarantine
//! means is `prepare`'s to say.
//!
//! Reading order: `sink`, `outcome`, here, `unpack` (packed streams and bombs), `text`, `json_lines`,
//! `pages`, then the others.

mod archive;
mod csv;
mod cut;
mod docx;
mod json;
mod json_lines;
mod outcome;
mod pages;
pub mod parquet;
#[cfg(feature = "pdf")]
mod pdf;
mod sink;
mod text;
pub mod unpack;
mod warc;
mod watch;
mod xml;

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use store::fs::{Fs, FsReader};

use crate::kind::{Format, Kind, Packing};
use crate::sources::{Source, SourceData};
use crate::zstandard::shortage;
use crate::{Result, clean, sample};
use outcome::{Failure, Level, Outcome, unusable};
pub use outcome::{Readable, Unusable};
pub use sink::{Article, Content, Found, LONGEST_ADDRESS_BYTES, RawDocument, ReadCounts, Sink};
pub use unpack::Budget;
use unpack::SNIFFED_BYTES;
pub use watch::Position;
use watch::Watch;

/// Size limit of files that must be held in memory (an archive within an archive).
const LARGEST_HELD_BYTES: u64 = 256 << 20;

/// Reads one file. The inner error is for files of which nothing, or not all, could be read.
pub fn read(fs: &dyn Fs, source: &Source, position: &Position, sink: &mut Sink<'_>) -> Result<Readable> {
    let before = sink.documents;
    let (file, bytes): (Box<dyn FsReader>, u64) = match &source.place {
        SourceData::Bundled => (Box::new(Cursor::new(sample::BYTES)), sample::BYTES.len() as u64),
        SourceData::File(path) => {
            let io = store::Error::io("read", path);
            let open = || Ok((fs.open(path)?, fs.file_bytes(path)?));
            open().map_err(io)?
        }
    };
    if bytes == 0 {
        return Ok(Err(Unusable("is empty".to_owned())));
    }
    let (mut file, watch) = Watch::over(file, position);
    let level = Level { depth: 0, budget: Budget::of(bytes), read_member: stream };
    sink.budget = Some(Arc::clone(&level.budget));
    let Kind { format, packing } = source.kind;
    let outcome = if packing == Packing::None && format.needs_seeking() {
        seekable(format, Box::new(file), bytes, &source.name, &level, sink)
    } else {
        stream(source.kind, &mut file, &source.name, &level, sink)
    };
    // Readers of damaged archives go on past errors; the disk's own must not be taken for damage.
    if let (Some(error), SourceData::File(path)) = (watch.failure(), &source.place) {
        return Err(store::Error::io("read", path)(error).into());
    }
    // Nor must a system that gives no memory: what is prepared does not depend on the machine.
    if level.budget.is_short_of_memory() {
        let path = match &source.place {
            SourceData::File(path) => path.as_path(),
            SourceData::Bundled => Path::new(&source.name),
        };
        return Err(store::Error::io("unpack", path)(shortage("the decompression library")).into());
    }
    match outcome {
        Ok(Ok(())) if level.budget.is_crowded() => Ok(Err(Unusable(unpack::Crowd.to_string()))),
        Ok(decision) => Ok(decision),
        Err(Failure::Ours(error)) => Err(error),
        Err(Failure::Io(error)) => Ok(Err(Unusable(unpack::damage(&error, sink.documents - before)))),
    }
}

/// Reads a stream of bytes.
fn stream(
    kind: Kind,
    packed: &mut dyn Read,
    name: &str,
    level: &Level,
    sink: &mut Sink<'_>,
) -> Outcome<Readable> {
    let mut bytes = match (kind.format, kind.packing) {
        (Format::Warc, Packing::Gzip) => unpack::members(packed, &level.budget),
        _ => unpack::unpack(kind.packing, packed, &level.budget)?,
    };
    if kind.format.needs_seeking() {
        let mut held = Vec::new();
        bytes.by_ref().take(LARGEST_HELD_BYTES + 1).read_to_end(&mut held)?;
        if held.len() as u64 > LARGEST_HELD_BYTES {
            return unusable(format!(
                "is larger than {} MB, the limit for files held in memory: unpack it first",
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
        Format::Parquet | Format::Docx | Format::Pdf | Format::Zip => unusable("needs random access"),
    }
}

/// Reads a format that needs random access.
fn seekable(
    format: Format,
    file: Box<dyn FsReader>,
    bytes: u64,
    name: &str,
    level: &Level,
    sink: &mut Sink<'_>,
) -> Outcome<Readable> {
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
