//! Plain text: a file is a document, or several by a separator.

use std::io::Read;

use super::{Outcome, Sink, Unusable};

/// Reads a plain text file.
pub fn read(bytes: &mut impl Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Result<(), Unusable>> {
    let limit = sink.options.maximum_document_bytes;
    let mut found = 0;
    let mut buffer = Vec::new();
    loop {
        // One byte more than fits tells a file that ends here from one that goes on.
        bytes.by_ref().take((limit + 1 - buffer.len()) as u64).read_to_end(&mut buffer)?;
        if buffer.len() <= limit {
            take_section(buffer, name, &mut found, sink)?;
            return Ok(Ok(()));
        }
        let (cut, within_document) = cut_place(&buffer[..limit], sink.options.document_separator.as_bytes());
        sink.summary.cuts += u64::from(within_document);
        let rest = buffer.split_off(cut);
        take_section(buffer, name, &mut found, sink)?;
        buffer = rest;
    }
}

/// Takes the documents of a section that begins and ends with a document.
fn take_section(bytes: Vec<u8>, name: &str, found: &mut u64, sink: &mut Sink<'_>) -> Outcome<()> {
    let text = sink.clean(bytes);
    let separator = sink.options.document_separator.as_str();
    let mut take = |text: &str| {
        *found += 1;
        let source = if *found == 1 { name.to_owned() } else { format!("{name}#{found}") };
        sink.take(text.to_owned(), source, None)
    };
    if separator.is_empty() {
        take(&text)?;
        return Ok(());
    }
    // Of several separators in a row nothing lies between.
    for document in text.split(separator).map(|text| text.trim_matches('\n')).filter(|text| !text.is_empty())
    {
        take(document)?;
    }
    Ok(())
}

/// Where to cut a buffer that is full, and whether that is within a document: after the last separator, else after the
/// last line, else before the last whole character.
pub fn cut_place(buffer: &[u8], separator: &[u8]) -> (usize, bool) {
    if !separator.is_empty() {
        let found = buffer.windows(separator.len()).rposition(|window| window == separator);
        if let Some(at) = found {
            return (at + separator.len(), false);
        }
    }
    if let Some(at) = buffer.iter().rposition(|&byte| byte == b'\n') {
        return (at + 1, true);
    }
    let is_start = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    let start = (buffer.len().saturating_sub(4)..buffer.len()).rev().find(|&at| is_start(buffer[at]));
    (start.filter(|&at| at > 0).unwrap_or(buffer.len()), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_prefer_separators_then_lines_then_characters() {
        assert_eq!(cut_place(b"a\n\nb\nc", b"\n\n"), (3, false));
        assert_eq!(cut_place(b"a\n\nb\nc", b"--"), (5, true));
        assert_eq!(cut_place("abc€".as_bytes(), b""), (3, true));
        assert_eq!(cut_place(b"abc", b""), (2, true));
        assert_eq!(cut_place(b"a", b""), (1, true));
    }
}
