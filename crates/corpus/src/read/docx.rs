//! Word documents: the paragraphs of `word/document.xml`, as text.

use std::io::Read;

use quick_xml::Reader;
use quick_xml::events::Event;
use store::fs::FsReader;

use super::outcome::{Level, Outcome, Readable, unusable};
use super::sink::Sink;
use super::unpack::{Guard, claims_a_bomb};

/// Elements nested deeper are no document.
const DEEPEST: usize = 10_000;

/// Reads the document whole; one larger than a document may be is passed over.
pub fn read(file: Box<dyn FsReader>, name: &str, level: &Level, sink: &mut Sink<'_>) -> Outcome<Readable> {
    let mut archive = match zip::ZipArchive::new(file) {
        Ok(archive) => archive,
        Err(error) => return unusable(format!("is not a .docx file, or is damaged: {error}")),
    };
    let entry = match archive.by_name("word/document.xml") {
        Ok(entry) => entry,
        Err(error) => return unusable(format!("contains no Word document: {error}")),
    };
    let packed = entry.compressed_size();
    if let Some(reason) = claims_a_bomb(packed, entry.size()) {
        return unusable(reason);
    }
    let limit = sink.options.maximum_document_bytes as u64;
    let mut document = Vec::new();
    Guard::new(Box::new(entry), packed, &level.budget).take(limit + 1).read_to_end(&mut document)?;
    if document.len() as u64 > limit {
        return unusable("is a document larger than data.maximum_document_bytes");
    }
    let (document, repaired) = crate::clean::repair(document);
    sink.counts.repaired_sequences += repaired;
    match text(&document) {
        Ok(text) => {
            let text = sink.normalize(text);
            sink.take(text, name.to_owned(), None)?;
            Ok(Ok(()))
        }
        Err(reason) => unusable(reason),
    }
}

/// Paragraphs with a line between, cells of a table with bars.
fn text(document: &str) -> Result<String, String> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().check_end_names = false;
    let mut out = String::new();
    // Text that was deleted under tracked changes stands in `w:delText`, and so is left out.
    let (mut depth, mut in_text, mut rows) = (0usize, false, 0u32);
    loop {
        let event = reader.read_event();
        match event.map_err(|error| format!("is damaged XML: {error}"))? {
            Event::Start(tag) => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(format!("has elements nested deeper than {DEEPEST}"));
                }
                match tag.local_name().as_ref() {
                    "t" => in_text = true,
                    "tr" => rows += 1,
                    _ => {}
                }
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                match tag.local_name().as_ref() {
                    "t" => in_text = false,
                    "p" if rows == 0 => paragraph(&mut out),
                    "p" => out.push(' '),
                    "tc" => out.push_str("| "),
                    "tr" => {
                        rows = rows.saturating_sub(1);
                        out.truncate(out.trim_end_matches(['|', ' ']).len());
                        out.push('\n');
                    }
                    "tbl" if rows == 0 => paragraph(&mut out),
                    _ => {}
                }
            }
            Event::Empty(tag) => match tag.local_name().as_ref() {
                "tab" => out.push('\t'),
                "br" | "cr" => out.push('\n'),
                "p" if rows == 0 => paragraph(&mut out),
                _ => {}
            },
            Event::Text(text) if in_text => out.push_str(&text),
            Event::GeneralRef(name) if in_text => {
                out.push_str(&html_escape::decode_html_entities(&format!("&{};", &*name)));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    out.truncate(out.trim_end().len());
    Ok(out)
}

fn paragraph(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push_str(if out.ends_with('\n') { "\n" } else { "\n\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_runs_and_tables() {
        let xml = "<w:document xmlns:w='x'><w:body><w:p><w:r><w:t>Hel</w:t></w:r><w:r><w:t>lo &amp; \
                   bye</w:t></w:r></w:p><w:p/><w:p><w:r><w:t>two</w:t><w:tab/><w:t>three</w:t><w:delText>gone</w:delText></w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r>\
                   <w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>";
        assert_eq!(text(xml).unwrap(), "Hello & bye\n\ntwo\tthree\n\na | b");
        assert!(text(&"<w:p>".repeat(20_000)).is_err());
    }
}
