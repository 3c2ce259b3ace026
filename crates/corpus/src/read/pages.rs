//! HTML files: a file is a page.

use std::io::Read;

use super::{Content, Outcome, RawDocument, Sink, Unusable};

/// Reads a page whole; one larger than a document may be is passed over.
pub fn read(bytes: &mut impl Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Result<(), Unusable>> {
    let limit = sink.options.maximum_document_bytes as u64;
    let mut page = Vec::new();
    bytes.take(limit + 1).read_to_end(&mut page)?;
    if page.len() as u64 > limit {
        return Ok(Err(Unusable("is a page larger than data.maximum_document_bytes".to_owned())));
    }
    if page.starts_with(b"%PDF") || looks_binary(&page) {
        return Ok(Err(Unusable("is binary, not HTML".to_owned())));
    }
    sink.raw(RawDocument {
        content: Content::Html(page, None),
        source: name.to_owned(),
        language: None,
        url: None,
    })?;
    Ok(Ok(()))
}

/// Zero bytes stand in UTF-16 alone, which begins with a mark.
fn looks_binary(page: &[u8]) -> bool {
    let is_utf16 = page.starts_with(&[0xff, 0xfe]) || page.starts_with(&[0xfe, 0xff]);
    !is_utf16 && page[..page.len().min(4096)].contains(&0)
}
