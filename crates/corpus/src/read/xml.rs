//! XML: the text of all elements. Which element means what is not known here, so structure is lines alone.

use std::io::Read;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::outcome::{Outcome, Readable, unusable};
use super::sink::Sink;
use crate::extract;

/// Elements nested deeper are no document.
const DEEPEST: usize = 10_000;

/// Reads a document whole; one larger than a document may be is passed over.
pub fn read(bytes: &mut dyn Read, name: &str, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let limit = sink.options.maximum_document_bytes as u64;
    let mut document = Vec::new();
    bytes.take(limit + 1).read_to_end(&mut document)?;
    if document.len() as u64 > limit {
        return unusable("is a document larger than data.maximum_document_bytes");
    }
    if extract::is_binary(&document) {
        return unusable("is binary, not XML");
    }
    let (document, repaired) = extract::decode(&document, declared(&document));
    sink.counts.repaired_sequences += repaired;
    let text = match text(&document) {
        Ok(text) => sink.normalize(text),
        Err(reason) => return unusable(reason),
    };
    sink.take(text, name.to_owned(), None)?;
    Ok(Ok(()))
}

/// The encoding that the first line names.
fn declared(document: &[u8]) -> Option<&str> {
    let first = document.get(..document.len().min(200))?;
    let at = memchr::memmem::find(first, b"encoding=")? + b"encoding=".len();
    let quote = *first.get(at).filter(|quote| matches!(quote, b'"' | b'\''))?;
    let end = memchr::memchr(quote, &first[at + 1..])?;
    std::str::from_utf8(&first[at + 1..at + 1 + end]).ok()
}

/// The text, a line for each run of elements that have none between them.
fn text(document: &str) -> Result<String, String> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().check_end_names = false;
    let mut out = String::new();
    let (mut depth, mut between_elements) = (0usize, false);
    loop {
        let event = reader.read_event();
        match event
            .map_err(|error| format!("is not valid XML from byte {}: {error}", reader.error_position()))?
        {
            Event::Start(_) => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(format!("has elements nested deeper than {DEEPEST}"));
                }
                if between_elements {
                    new_line(&mut out);
                }
                between_elements = true;
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if between_elements {
                    new_line(&mut out);
                }
                between_elements = true;
            }
            Event::Empty(_) => {
                new_line(&mut out);
                between_elements = true;
            }
            Event::Text(text) => {
                between_elements &= text.trim().is_empty();
                words(&text, &mut out);
            }
            Event::CData(text) => {
                between_elements &= text.trim().is_empty();
                words(&text, &mut out);
            }
            Event::GeneralRef(name) => {
                between_elements = false;
                out.push_str(&html_escape::decode_html_entities(&format!("&{};", &*name)));
            }
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
    }
    out.truncate(out.trim_end().len());
    Ok(out)
}

/// White space within a document is layout of its source.
fn words(text: &str, out: &mut String) {
    if text.starts_with(char::is_whitespace) {
        space(out);
    }
    for (index, word) in text.split_whitespace().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
    if text.ends_with(char::is_whitespace) {
        space(out);
    }
}

fn space(out: &mut String) {
    if !out.is_empty() && !out.ends_with([' ', '\n']) {
        out.push(' ');
    }
}

fn new_line(out: &mut String) {
    if out.ends_with(' ') {
        out.pop();
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_lines_and_words_stay_whole() {
        let check = |xml: &str, wanted: &str| assert_eq!(text(xml).unwrap(), wanted, "{xml}");
        check("<a><t>One</t>\n <p>two <b>th</b>ree\n four</p></a>", "One\ntwo three four");
        check("<?xml version='1.0'?><!-- no --><a>x &amp; y &#233;<![CDATA[ <z> ]]></a>", "x & y é <z>");
        check("<!DOCTYPE a [<!ENTITY b \"&a;&a;\">]><a>&b;</a>", "&b;");
    }

    #[test]
    fn what_is_no_xml_is_told() {
        assert!(text(&"<a>".repeat(20_000)).unwrap_err().contains("nested"));
        assert!(text("<a <<").is_err());
        assert_eq!(declared(b"<?xml version=\"1.0\" encoding='iso-8859-1'?>"), Some("iso-8859-1"));
    }
}
