//! Plain text: a file is a document, or several by a separator.

use std::io::{BufRead, BufReader, Read};

use super::cut::cut_place;
use super::outcome::{Outcome, Readable};
use super::sink::Sink;

/// Reads a plain text file. A line longer than a document may be is passed over and listed. Where the file
/// breaks off, the documents that end before are kept.
pub fn read(bytes: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let limit = sink.options.maximum_document_bytes;
    let separator = sink.options.document_separator.clone();
    let mut bytes = BufReader::with_capacity(256 << 10, bytes);
    let mut found = 0;
    let mut buffer = Vec::new();
    loop {
        // One byte more than fits tells a file that ends here from one that goes on.
        let read = bytes.by_ref().take((limit + 1 - buffer.len()) as u64).read_to_end(&mut buffer);
        if let Err(error) = read {
            if let (cut, false) = cut_place(&buffer, separator.as_bytes()) {
                buffer.truncate(cut);
                take_section(buffer, name, &mut found, sink)?;
            }
            return Err(error.into());
        }
        if buffer.len() <= limit {
            take_section(buffer, name, &mut found, sink)?;
            return Ok(Ok(()));
        }
        if memchr::memchr(b'\n', &buffer[..limit]).is_none()
            && (separator.is_empty()
                || memchr::memmem::find(&buffer[..limit], separator.as_bytes()).is_none())
        {
            let reason = "has a line longer than data.maximum_document_bytes: raise that, or break the line";
            sink.pass_over(name, reason)?;
            // What follows is a document of its own, if anything does.
            buffer = skip_part(buffer, &mut bytes, separator.as_bytes())?;
            if buffer.is_empty() && bytes.fill_buf()?.is_empty() {
                return Ok(Ok(()));
            }
            continue;
        }
        let (cut, within_document) = cut_place(&buffer[..limit], separator.as_bytes());
        sink.counts.cuts += u64::from(within_document);
        let rest = buffer.split_off(cut);
        take_section(buffer, name, &mut found, sink)?;
        buffer = rest;
    }
}

/// Passes over what is left of a line or of a document, whichever ends first; gives what was read of the
/// next. `buffer` is full, and one byte further: an end may lie across it.
fn skip_part(mut buffer: Vec<u8>, bytes: &mut impl BufRead, separator: &[u8]) -> std::io::Result<Vec<u8>> {
    let end_in = |bytes: &[u8]| {
        let line = memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let found = memchr::memmem::find(bytes, separator).filter(|_| !separator.is_empty());
        line.into_iter().chain(found.map(|at| at + separator.len())).min()
    };
    if let Some(end) = end_in(&buffer) {
        return Ok(buffer.split_off(end));
    }
    loop {
        let kept = separator.len().saturating_sub(1).min(buffer.len());
        buffer = buffer.split_off(buffer.len() - kept);
        let next = bytes.fill_buf()?;
        buffer.extend_from_slice(next);
        let (length, end) = (next.len(), end_in(&buffer));
        bytes.consume(end.map_or(length, |end| end - kept));
        if length == 0 || end.is_some() {
            return Ok(Vec::new());
        }
    }
}

/// Passes over what is left of a line.
pub fn skip_line(lines: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = lines.fill_buf()?;
        let (length, end) = match memchr::memchr(b'\n', buffer) {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        lines.consume(length);
        if end {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_at_a_line_or_a_separator() {
        let rest = |buffer: &[u8], next: &[u8]| {
            // Ends lie across small pieces too.
            let mut bytes = BufReader::with_capacity(3, next);
            let mut rest = skip_part(buffer.to_vec(), &mut bytes, b"<|end|>").unwrap();
            bytes.read_to_end(&mut rest).unwrap();
            String::from_utf8(rest).unwrap()
        };
        assert_eq!(rest(b"xxx<|en", b"d|>next\nline"), "next\nline");
        assert_eq!(rest(b"xxxxxxx", b"xxx\nnext<|end|>"), "next<|end|>");
        assert_eq!(rest(b"xxxx\nab", b"c"), "abc");
        assert_eq!(rest(b"xxxx", b"xxxx<|end"), "");
    }

    #[test]
    fn cuts_prefer_separators_then_lines_then_characters() {
        assert_eq!(cut_place(b"a\n\nb\nc", b"\n\n"), (3, false));
        assert_eq!(cut_place(b"a\n\nb\nc", b"--"), (5, true));
        assert_eq!(cut_place("abc€".as_bytes(), b""), (3, true));
        assert_eq!(cut_place(b"abc", b""), (2, true));
        assert_eq!(cut_place(b"a", b""), (1, true));
    }
}
