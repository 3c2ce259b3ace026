//! PDF files: read whole; their text is found later, on all threads (`crate::pdf`).

use std::io::Read;

use store::fs::FsReader;

use super::outcome::{Outcome, Readable, unusable};
use super::sink::{Content, RawDocument, Sink};

/// How far into a file its mark may stand: some begin with other bytes.
const MARK_WITHIN_BYTES: usize = 1024;

/// Reads a file whole; one larger than a document may be is passed over.
pub fn read(file: Box<dyn FsReader>, bytes: u64, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let limit = sink.options.maximum_document_bytes as u64;
    if bytes > limit {
        return unusable("is a PDF larger than data.maximum_document_bytes");
    }
    let mut pdf = Vec::with_capacity(bytes as usize);
    file.take(limit).read_to_end(&mut pdf)?;
    if memchr::memmem::find(&pdf[..pdf.len().min(MARK_WITHIN_BYTES)], b"%PDF").is_none() {
        return unusable("is not a PDF");
    }
    let content = Content::Pdf(pdf);
    sink.raw(RawDocument { content, source: name.to_owned(), language: None, url: None })?;
    Ok(Ok(()))
}
