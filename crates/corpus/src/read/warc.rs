//! WARC and WET archives: pages of `response` records, texts of `conversion` records.
//!
//! A record that cannot be used is passed over and listed; after a damaged one, reading goes on at the next
//! that begins with its version. Where the archive breaks off, what came before is kept and the break is
//! listed. What holds no page or text is counted. Memory stays within two records of
//! `maximum_document_bytes`, whatever lengths the headers claim: where one is not followed by a record, the
//! next one is looked for within what it claims. That is held until it is used, never read or copied again,
//! so that time is linear in the archive.

use std::io::{self, BufRead, BufReader, Read};

use super::outcome::{Level, Outcome, Readable, unusable};
use super::sink::{Content, LONGEST_ADDRESS_BYTES, RawDocument, Sink};
use super::unpack::{Guard, is_bomb};

/// Longer header lines and more of them are damage.
const LONGEST_LINE: u64 = 64 << 10;
const MOST_HEADERS: usize = 256;
/// How a record begins, whatever the version after it.
const MARK: &[u8] = b"WARC/";
/// More breaks than these are no archive any more.
const MOST_BREAKS: u32 = 1000;
/// What is looked at behind a record, to see whether another one follows.
const LOOKED_ON_BYTES: usize = 1 << 10;

/// Reads an archive.
pub fn read(bytes: &mut dyn Read, name: &str, level: &Level, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let mut archive = Ahead::of(BufReader::with_capacity(256 << 10, bytes));
    let (mut number, mut found_records) = (0u64, false);
    let (mut line, mut breaks) = (Vec::new(), 0);
    loop {
        number += 1;
        let place = format!("{name}#{number}");
        let record = match Record::read(&mut archive, &mut line) {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(reason) if found_records => {
                sink.pass_over(&place, format!("the archive is damaged or truncated here: {reason}"))?;
                if next_mark(&mut archive, &mut line, &mut breaks) {
                    continue;
                }
                break;
            }
            Err(reason) => return unusable(format!("is not a WARC archive: {reason}")),
        };
        found_records = true;
        let wanted = match record.kind.as_str() {
            "response" => record.content_type.starts_with("application/http"),
            "conversion" => record.content_type.starts_with("text/plain"),
            _ => false,
        };
        match record.kind.as_str() {
            _ if wanted => {}
            // What archives say of themselves and of how pages were asked for.
            "warcinfo" | "request" | "metadata" => {}
            kind @ ("revisit" | "resource" | "response" | "conversion" | "continuation") => {
                sink.counts.see_other(kind);
            }
            _ => sink.counts.see_other("of another type"),
        }
        let limit = sink.options.maximum_document_bytes as u64;
        if record.length > limit {
            // A length that may be a lie is not skipped blindly.
            if wanted {
                sink.pass_over(&place, "is longer than data.maximum_document_bytes")?;
            }
            if next_mark(&mut archive, &mut line, &mut 0) {
                continue;
            }
            break;
        }
        // No more than `limit`, so that it fits.
        let length = record.length as usize;
        archive.hold(length + LOOKED_ON_BYTES);
        let held = archive.held();
        let is_whole = held.len() >= length;
        let is_searched = if is_whole { !is_followed(&held[length..]) } else { archive.broken.is_none() };
        let within = if is_searched { within(&held[..held.len().min(length)]) } else { None };
        let body = match within {
            Some((end, begin)) => {
                let body = archive.take_held(end);
                archive.consume(begin - end);
                body
            }
            None if is_whole => archive.take_held(length),
            None => {
                let missing = length - archive.skip_held();
                let reason = archive
                    .broken
                    .take()
                    .map_or(format!("{missing} bytes are missing"), |error| error.to_string());
                sink.pass_over(&place, format!("the archive is damaged or truncated here: {reason}"))?;
                if next_mark(&mut archive, &mut line, &mut breaks) {
                    continue;
                }
                break;
            }
        };
        if !wanted {
            continue;
        }
        let url = record.url;
        if record.kind == "conversion" {
            let content = Content::Text(sink.clean(body));
            sink.raw(RawDocument { content, source: place, language: None, url })?;
            continue;
        }
        match page(&body, limit, level) {
            Ok(Response::Page(page, charset)) => {
                sink.raw(RawDocument {
                    content: Content::Html(page, charset),
                    source: place,
                    language: None,
                    url,
                })?;
            }
            Ok(Response::Other(what)) => sink.counts.see_other(what),
            Err(reason) => sink.pass_over(&place, reason)?,
        }
    }
    Ok(Ok(()))
}

/// An archive of which so much can be looked at before it is read.
struct Ahead<R> {
    held: Vec<u8>,
    /// What of it has been read.
    at: usize,
    then: R,
    /// What comes after what is held.
    broken: Option<io::Error>,
}

impl<R: BufRead> Ahead<R> {
    fn of(then: R) -> Ahead<R> {
        Ahead { held: Vec::new(), at: 0, then, broken: None }
    }

    /// Holds the next `most` bytes, or what there is before the archive ends or breaks.
    fn hold(&mut self, most: usize) {
        let rest = self.held.len() - self.at;
        if rest < most && self.broken.is_none() {
            // Moved once it is less than what was read since, so that each byte is moved once in the mean.
            if rest <= self.at.max(LOOKED_ON_BYTES) {
                self.held.drain(..self.at);
                self.at = 0;
            }
            let wanted = (most - rest) as u64;
            self.broken = self.then.by_ref().take(wanted).read_to_end(&mut self.held).err();
        }
    }

    /// What is held and not yet read.
    fn held(&self) -> &[u8] {
        &self.held[self.at..]
    }

    /// Reads so many of the bytes that are held.
    fn take_held(&mut self, length: usize) -> Vec<u8> {
        if self.at == 0 && self.held.len() - length <= LOOKED_ON_BYTES {
            let rest = self.held.split_off(length);
            return std::mem::replace(&mut self.held, rest);
        }
        let taken = self.held[self.at..self.at + length].to_vec();
        self.consume(length);
        taken
    }

    /// Passes over all that is held; how much that was.
    fn skip_held(&mut self) -> usize {
        let skipped = self.held().len();
        self.consume(skipped);
        skipped
    }
}

impl<R: BufRead> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.held.len() {
            return Ok(&self.held[self.at..]);
        }
        match self.broken.take() {
            Some(error) => Err(error),
            None => self.then.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        if self.held.is_empty() {
            self.then.consume(amount);
            return;
        }
        self.at += amount;
        if self.at == self.held.len() {
            (self.held, self.at) = (Vec::new(), 0);
        }
    }
}

/// Whether what stands behind a record is another one, or nothing.
fn is_followed(behind: &[u8]) -> bool {
    let next = behind.trim_ascii_start();
    next.starts_with(MARK) || MARK.starts_with(next)
}

/// Where a record that lies within another's body ends what came before, and begins.
fn within(body: &[u8]) -> Option<(usize, usize)> {
    let end = memchr::memmem::find(body, b"\r\n\r\nWARC/1.")?;
    Some((end, end + 4))
}

struct Record {
    kind: String,
    content_type: String,
    url: Option<String>,
    length: u64,
}

impl Record {
    /// The next record's headers; `None` at the end. `line` may hold its first line already.
    fn read(archive: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Option<Record>, String> {
        // Records end with two empty lines.
        while line.trim_ascii().is_empty() {
            if header_line(archive, line)? == 0 {
                return Ok(None);
            }
        }
        let mut line = std::mem::take(line);
        if !line.starts_with(MARK) {
            return Err("a record does not begin with WARC/".to_owned());
        }
        let mut record = Record { kind: String::new(), content_type: String::new(), url: None, length: 0 };
        let mut has_length = false;
        for _ in 0..MOST_HEADERS {
            if header_line(archive, &mut line)? == 0 {
                return Err("it ends within a header".to_owned());
            }
            if line.trim_ascii().is_empty() {
                return if has_length {
                    Ok(Some(record))
                } else {
                    Err("a record has no Content-Length".to_owned())
                };
            }
            let Some((name, value)) = header(&line) else { continue };
            match name.as_str() {
                "warc-type" => record.kind = value,
                "content-type" => record.content_type = value.to_ascii_lowercase(),
                "warc-target-uri" => {
                    record.url = Some(value.trim_matches(['<', '>']).to_owned())
                        .filter(|url| !url.is_empty() && url.len() <= LONGEST_ADDRESS_BYTES);
                }
                "content-length" => {
                    record.length = value.parse().map_err(|_| format!("Content-Length is `{value}`"))?;
                    has_length = true;
                }
                _ => {}
            }
        }
        Err(format!("a record has more than {MOST_HEADERS} headers"))
    }
}

/// Passes over what is left of a damaged record; whether another begins, whose first line is then in `line`.
/// Where records are packed one by one, reading goes on after an error.
fn next_mark(archive: &mut impl BufRead, line: &mut Vec<u8>, breaks: &mut u32) -> bool {
    // Text of a page may hold such a line; what goes before a record is an empty one, or a break.
    let mut may_begin = true;
    *breaks += 1;
    while *breaks < MOST_BREAKS {
        line.clear();
        match archive.take(LONGEST_LINE).read_until(b'\n', line) {
            Ok(0) => return false,
            Ok(_) if may_begin && line.starts_with(MARK) => return true,
            Ok(_) => may_begin = line.trim_ascii().is_empty(),
            Err(error) if is_bomb(&error) => return false,
            Err(_) => {
                may_begin = true;
                *breaks += 1;
            }
        }
    }
    false
}

fn header_line(archive: &mut impl BufRead, line: &mut Vec<u8>) -> Result<usize, String> {
    line.clear();
    let read = archive.take(LONGEST_LINE).read_until(b'\n', line).map_err(|error| error.to_string())?;
    if read as u64 == LONGEST_LINE { Err("a header line is too long".to_owned()) } else { Ok(read) }
}

fn header(line: &[u8]) -> Option<(String, String)> {
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.split_once(':')?;
    Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// What a server answered.
#[derive(Debug, PartialEq)]
enum Response {
    /// A page, and the encoding that its server told.
    Page(Vec<u8>, Option<String>),
    /// No page, and what it is.
    Other(&'static str),
}

fn page(response: &[u8], limit: u64, level: &Level) -> Result<Response, String> {
    let mut rest = response;
    let mut line = Vec::new();
    header_line(&mut rest, &mut line)?;
    let status =
        String::from_utf8_lossy(&line).split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    if !status.is_some_and(|status| (200..300).contains(&status)) {
        return Ok(Response::Other("response without success"));
    }
    let (mut kind, mut encoding, mut is_chunked) = (String::new(), String::new(), false);
    loop {
        if header_line(&mut rest, &mut line)? == 0 || line.trim_ascii().is_empty() {
            break;
        }
        match header(&line) {
            Some((name, value)) if name == "content-type" => kind = value.to_ascii_lowercase(),
            Some((name, value)) if name == "content-encoding" => encoding = value.to_ascii_lowercase(),
            Some((name, value)) if name == "transfer-encoding" => {
                is_chunked = value.to_ascii_lowercase().contains("chunked")
            }
            _ => {}
        }
    }
    if !(kind.is_empty() || kind.starts_with("text/html") || kind.starts_with("application/xhtml")) {
        return Ok(Response::Other("response that is not a page"));
    }
    let body = if is_chunked { unchunked(rest) } else { rest.to_vec() };
    let mut page = Vec::new();
    // Archives often hold the page unpacked and keep the header: what is not gzip is taken as it is.
    match encoding.as_str() {
        "gzip" | "x-gzip" if body.starts_with(&[0x1f, 0x8b]) => {
            let unpacked = flate2::read::MultiGzDecoder::new(&body[..]);
            let mut unpacked =
                Guard::new(Box::new(unpacked), body.len() as u64, &level.budget).take(limit + 1);
            unpacked.read_to_end(&mut page).map_err(|error| match is_bomb(&error) {
                true => error.to_string(),
                false => format!("its gzip is damaged: {error}"),
            })?;
        }
        "br" | "zstd" | "deflate" if std::str::from_utf8(&body).is_err() => {
            return Err(format!("is encoded as {encoding}, which is not supported"));
        }
        _ => page = body,
    }
    if page.len() as u64 > limit {
        return Err("decompresses to more than data.maximum_document_bytes".to_owned());
    }
    let charset =
        kind.split_once("charset=").map(|(_, charset)| charset.trim_matches(['"', '\'', ' ']).to_owned());
    Ok(Response::Page(page, charset))
}

/// The chunks of a chunked body put together; a body that is none is taken as it is.
fn unchunked(body: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(64)]) {
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| line.trim().split(';').next());
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else { break };
        if size == 0 {
            return out;
        }
        let Some(chunk) = rest.get(end + 1..).and_then(|after| after.get(..size)) else { break };
        out.extend_from_slice(chunk);
        rest = rest.get(end + 1 + size + 2..).unwrap_or_default();
    }
    if out.is_empty() { body.to_vec() } else { out }
}

#[cfg(test)]
mod tests {
    use super::super::unpack::Budget;
    use super::*;

    #[test]
    fn pages_of_responses() {
        let level = Level { depth: 0, budget: Budget::of(1000), read_member: |_, _, _, _, _| Ok(Ok(())) };
        let check = |response: &[u8], wanted: Option<(&str, Option<&str>)>| {
            let found = page(response, 1000, &level).unwrap();
            let found = match &found {
                Response::Page(page, charset) => {
                    Some((std::str::from_utf8(page).unwrap(), charset.as_deref()))
                }
                Response::Other(_) => None,
            };
            assert_eq!(found, wanted);
        };
        check(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=latin1\r\n\r\n<p>x",
            Some(("<p>x", Some("latin1"))),
        );
        check(b"HTTP/1.1 404 No\r\nContent-Type: text/html\r\n\r\n<p>x", None);
        check(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nx", None);
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Some(("abcde", None)),
        );
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot chunked",
            Some(("not chunked", None)),
        );
        assert!(
            page(&[b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 2000]].concat(), 1000, &level).is_err()
        );
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut bomb, &vec![b' '; 40 << 20]).unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".as_slice();
        let reason = page(&[head, &bomb.finish().unwrap()].concat(), 64 << 20, &level).unwrap_err();
        assert!(reason.contains("decompression bombs"), "{reason}");
    }
}
