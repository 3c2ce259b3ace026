//! HTML files: a file is a page.

use std::io::Read;

use super::outcome::{Outcome, Readable, unusable};
use super::sink::{Content, RawDocument, Sink};
use crate::extract;

/// Reads a page whole; one larger than a document may be is passed over.
pub fn read(bytes: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let limit = sink.options.maximum_document_bytes as u64;
    let mut page = Vec::new();
    bytes.take(limit + 1).read_to_end(&mut page)?;
    if page.len() as u64 > limit {
        return unusable("is a page larger than data.maximum_document_bytes");
    }
    if extract::is_binary(&page) {
        return unusable("is binary, not HTML");
    }
    sink.raw(RawDocument {
        content: Content::Html(page, None),
        source: name.to_owned(),
        language: None,
        url: None,
    })?;
    Ok(Ok(()))
}
