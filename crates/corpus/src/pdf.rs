//! The text of a PDF: what its pages show, in the order in which they show it, lines and words told by where
//! they stand.
//!
//! `lopdf` reads objects, streams and encodings; the operators that show text are followed here. What a file
//! may cost is counted in bytes and operators, never in seconds, so that the same file gives the same text on
//! any machine. Not here: columns put in order, words hyphenated at line ends, scanned pages.

mod budget;
mod fonts;
mod operators;

use std::io::Read;
use std::rc::Rc;

use lopdf::{Dictionary, Document, LoadOptions, Object, ObjectId};

use budget::Budget;
use fonts::{Font, Fonts, UNKNOWN_WIDTH, ascii};
use operators::{Operand, Operators, Part};

/// Pages, operators and unpacked bytes beyond which a file is no document.
const MOST_PAGES: usize = 20_000;
const MOST_OPERATORS: usize = 20_000_000;
const LARGEST_PAGE_BYTES: usize = 16 << 20;
/// Unpacked bytes and text, all together: a small file says no large text, however often it shows the same.
const LARGEST_UNPACKED_BYTES: usize = 512 << 20;
const HARMLESS_UNPACKED_BYTES: usize = 64 << 20;
const LARGEST_RATIO: usize = 200;
/// What a page's stream or a form costs beside its bytes.
const STREAM_BYTES: usize = 256;
/// Object streams are parsed as a whole when a file is opened, a number of two bytes to an object of a
/// hundred.
const LARGEST_OBJECTS_BYTES: u64 = 64 << 20;
const HARMLESS_OBJECTS_BYTES: u64 = 4 << 20;
const LARGEST_OBJECTS_RATIO: u64 = 16;
/// The same, one by one, where they are encrypted and so cannot be looked at before.
const LARGEST_HIDDEN_OBJECTS_BYTES: usize = 1 << 20;
/// Forms that show forms.
const DEEPEST_FORM: u32 = 8;

/// The text, pages with a blank line between; or why there is none.
pub fn text(pdf: &[u8]) -> Result<String, String> {
    store::panics::catch(|| read(pdf)).unwrap_or_else(|| Err("the PDF reader failed on it".to_owned()))
}

fn read(pdf: &[u8]) -> Result<String, String> {
    let most = HARMLESS_OBJECTS_BYTES + LARGEST_OBJECTS_RATIO.saturating_mul(pdf.len() as u64);
    let most = most.min(LARGEST_OBJECTS_BYTES);
    let mut limit = most as usize;
    if memchr::memmem::find(pdf, b"/Encrypt").is_some() {
        limit = LARGEST_HIDDEN_OBJECTS_BYTES;
    } else if object_bytes(pdf, most) > most {
        return Err("has more objects than a document can have".to_owned());
    }
    let options = LoadOptions::with_max_decompressed_size(limit);
    let document = Document::load_mem_with_options(pdf, options).map_err(|error| damaged(&error))?;
    if document.is_encrypted() {
        return Err("is encrypted with a password".to_owned());
    }
    let bytes = HARMLESS_UNPACKED_BYTES.saturating_add(pdf.len().saturating_mul(LARGEST_RATIO));
    let mut show = Show {
        document: &document,
        writer: Writer::default(),
        budget: Budget { bytes: bytes.min(LARGEST_UNPACKED_BYTES), operators: MOST_OPERATORS },
        fonts: Fonts::of(&document),
    };
    for (number, page) in document.page_iter().enumerate() {
        if number >= MOST_PAGES {
            return Err(format!("has more than {MOST_PAGES} pages"));
        }
        show.page(page, number)?;
    }
    let text = show.writer.text;
    if text.trim().is_empty() {
        return Err("has no text: scanned pages are not read".to_owned());
    }
    Ok(text)
}

fn damaged(error: &dyn std::fmt::Display) -> String {
    let mut said = error.to_string();
    said.truncate(said.floor_char_boundary(200));
    format!("is damaged: {said}")
}

/// What the file's object streams unpack to, as far as it matters.
fn object_bytes(pdf: &[u8], most: u64) -> u64 {
    let mut sum = 0;
    for at in memchr::memmem::find_iter(pdf, b"/ObjStm") {
        let Some(start) = memchr::memmem::find(&pdf[at..pdf.len().min(at + 4096)], b"stream") else {
            continue;
        };
        let packed = &pdf[at + start + b"stream".len()..];
        let packed = packed.strip_prefix(b"\r\n").or_else(|| packed.strip_prefix(b"\n")).unwrap_or(packed);
        let mut unpacked = flate2::read::ZlibDecoder::new(packed).take(most + 1 - sum);
        // A damaged stream counts as far as it goes.
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = unpacked.read(&mut buffer) {
            sum += read as u64;
        }
        if sum > most {
            break;
        }
    }
    sum
}

fn resources(document: &Document, page: ObjectId) -> Vec<&Dictionary> {
    let Ok((own, inherited)) = document.get_page_resources(page) else { return Vec::new() };
    own.into_iter().chain(inherited.into_iter().filter_map(|id| document.get_dictionary(id).ok())).collect()
}

/// Rows of an affine map: x' = a·x + c·y + e, y' = b·x + d·y + f.
type Matrix = [f32; 6];

const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// First `m`, then `n`.
fn then(m: Matrix, n: Matrix) -> Matrix {
    [
        m[0] * n[0] + m[1] * n[2],
        m[0] * n[1] + m[1] * n[3],
        m[2] * n[0] + m[3] * n[2],
        m[2] * n[1] + m[3] * n[3],
        m[4] * n[0] + m[5] * n[2] + n[4],
        m[4] * n[1] + m[5] * n[3] + n[5],
    ]
}

/// Follows pages' operators.
struct Show<'a> {
    document: &'a Document,
    writer: Writer,
    budget: Budget,
    fonts: Fonts<'a>,
}

/// What `q` saves and `Q` brings back.
#[derive(Clone)]
struct State<'a> {
    to_page: Matrix,
    font: Option<Rc<Font<'a>>>,
    size: f32,
    leading: f32,
    character_spacing: f32,
    word_spacing: f32,
    scale: f32,
}

impl<'a> Show<'a> {
    fn page(&mut self, page: ObjectId, number: usize) -> Result<(), String> {
        let document = self.document;
        // A page may name a stream many times; unpacking one costs its packed bytes too.
        for stream in document.get_page_contents(page) {
            let stream = document.get_object(stream).and_then(Object::as_stream);
            self.budget.take(STREAM_BYTES + stream.map_or(0, |stream| stream.content.len()))?;
        }
        let content = document
            .get_page_content_with_limit(page, LARGEST_PAGE_BYTES)
            .map_err(|error| format!("page {}: {error}", number + 1))?;
        self.budget.take(content.len())?;
        self.content(&content, &resources(document, page), IDENTITY, 0)?;
        self.writer.end_page();
        Ok(())
    }

    fn content(
        &mut self,
        content: &[u8],
        resources: &[&'a Dictionary],
        to_page: Matrix,
        depth: u32,
    ) -> Result<(), String> {
        let mut state = State {
            to_page,
            font: None,
            size: 12.0,
            leading: 0.0,
            character_spacing: 0.0,
            word_spacing: 0.0,
            scale: 1.0,
        };
        let mut saved: Vec<State<'_>> = Vec::new();
        let (mut line, mut text) = (IDENTITY, IDENTITY);
        let mut operators = Operators::of(content);
        while let Some(operator) = operators.advance() {
            self.budget.take_operator()?;
            let operands = &operators.operands;
            let number = |at: usize| match operands.get(at) {
                Some(Operand::Number(number)) => *number,
                _ => 0.0,
            };
            let name = || match operands.first() {
                Some(Operand::Name(name)) => name.as_slice(),
                _ => &[],
            };
            let matrix = || [number(0), number(1), number(2), number(3), number(4), number(5)];
            let mut next_line = |line: &mut Matrix, x: f32, y: f32| {
                *line = then([1.0, 0.0, 0.0, 1.0, x, y], *line);
                text = *line;
            };
            match operator {
                b"q" if saved.len() < 256 => saved.push(state.clone()),
                b"Q" => state = saved.pop().unwrap_or(state),
                b"cm" => state.to_page = then(matrix(), state.to_page),
                b"BT" => (line, text) = (IDENTITY, IDENTITY),
                b"Tf" => {
                    state.font = self.fonts.named(name(), resources, &mut self.budget)?;
                    state.size = number(1);
                }
                b"TL" => state.leading = number(0),
                b"Tc" => state.character_spacing = number(0),
                b"Tw" => state.word_spacing = number(0),
                b"Tz" => state.scale = number(0) / 100.0,
                b"Td" => next_line(&mut line, number(0), number(1)),
                b"TD" => {
                    state.leading = -number(1);
                    next_line(&mut line, number(0), number(1));
                }
                b"Tm" => (line, text) = (matrix(), matrix()),
                b"T*" => next_line(&mut line, 0.0, -state.leading),
                b"Tj" | b"'" | b"\"" | b"TJ" => {
                    if matches!(operator, b"'" | b"\"") {
                        next_line(&mut line, 0.0, -state.leading);
                    }
                    let Some(Operand::Shown(parts)) = operands.last() else { continue };
                    for part in parts {
                        match *part {
                            Part::Text(start, end) => {
                                self.show(operators.text(start, end), &state, &mut text)?;
                            }
                            Part::Number(back) => {
                                let x = -back / 1000.0 * state.size * state.scale;
                                text = then([1.0, 0.0, 0.0, 1.0, x, 0.0], text);
                            }
                        }
                    }
                }
                b"Do" if depth < DEEPEST_FORM => self.form(name(), resources, state.to_page, depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows a form, which is a page within the page.
    fn form(
        &mut self,
        name: &[u8],
        resources: &[&'a Dictionary],
        to_page: Matrix,
        depth: u32,
    ) -> Result<(), String> {
        let document = self.document;
        let Some(stream) = resources.iter().find_map(|resources| {
            let forms = resources.get_deref(b"XObject", document).and_then(Object::as_dict).ok()?;
            forms.get_deref(name, document).and_then(Object::as_stream).ok()
        }) else {
            return Ok(());
        };
        if !stream.dict.get(b"Subtype").and_then(Object::as_name).is_ok_and(|kind| kind == b"Form") {
            return Ok(());
        }
        // It may be shown many times, and is unpacked each time.
        self.budget.take(STREAM_BYTES + stream.content.len())?;
        let content = match stream.decompressed_content_with_limit(LARGEST_PAGE_BYTES) {
            Ok(content) => content,
            Err(_) if stream.dict.get(b"Filter").is_err() => stream.content.clone(),
            Err(error) => return Err(damaged(&error)),
        };
        self.budget.take(content.len())?;
        let matrix = stream.dict.get_deref(b"Matrix", document).and_then(Object::as_array);
        let mut own = IDENTITY;
        for (value, object) in own.iter_mut().zip(matrix.into_iter().flatten()) {
            *value = object.as_float().unwrap_or(*value);
        }
        let own_resources = stream.dict.get_deref(b"Resources", document).and_then(Object::as_dict).ok();
        let resources: Vec<_> = own_resources.into_iter().chain(resources.iter().copied()).collect();
        self.content(&content, &resources, then(own, to_page), depth + 1)
    }

    fn show(&mut self, bytes: &[u8], state: &State<'_>, text: &mut Matrix) -> Result<(), String> {
        let font = state.font.as_deref();
        let decoded = font.map_or_else(|| ascii(bytes), |font| font.decoded(bytes));
        self.budget.take(decoded.len())?;
        let bytes_a_code = font.map_or(1, |font| font.bytes_a_code);
        let advance: f32 = bytes
            .chunks(bytes_a_code)
            .map(|code| {
                let space = if code == b" " { state.word_spacing } else { 0.0 };
                let width = font.map_or(UNKNOWN_WIDTH, |font| font.width(code));
                (width / 1000.0 * state.size + state.character_spacing + space) * state.scale
            })
            .sum();
        let start = then(*text, state.to_page);
        *text = then([1.0, 0.0, 0.0, 1.0, advance, 0.0], *text);
        let end = then(*text, state.to_page);
        let height = state.size.abs() * (start[2] * start[2] + start[3] * start[3]).sqrt();
        self.writer.show(&decoded, (start[4], start[5]), (end[4], end[5]), height);
        Ok(())
    }
}

/// Puts runs of characters into lines and words by where they stand.
#[derive(Default)]
struct Writer {
    text: String,
    /// Where the last run ended.
    last: Option<(f32, f32)>,
}

impl Writer {
    fn show(&mut self, run: &str, start: (f32, f32), end: (f32, f32), height: f32) {
        if run.is_empty() {
            return;
        }
        if let Some((x, y)) = self.last {
            let (right, down) = (start.0 - x, y - start.1);
            if down.abs() > 0.5 * height {
                self.text.truncate(self.text.trim_end_matches(' ').len());
                // A line's distance is about 1.2 times its height; more is a new paragraph.
                let is_paragraph = !(0.0..=1.7).contains(&(down / height.max(0.1)));
                self.text.push_str(if is_paragraph { "\n\n" } else { "\n" });
            } else if right < -height {
                self.text.push('\n');
            } else if right > 0.17 * height && !self.text.ends_with([' ', '\n']) && !run.starts_with(' ') {
                self.text.push(' ');
            }
        }
        self.text.extend(run.chars().filter(|c| !c.is_control()));
        self.last = Some(end);
    }

    fn end_page(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_words_lines_and_paragraphs() {
        let mut writer = Writer::default();
        writer.show("Hel", (0.0, 700.0), (20.0, 700.0), 12.0);
        writer.show("lo", (20.5, 700.0), (30.0, 700.0), 12.0);
        writer.show("you", (34.0, 700.0), (50.0, 700.0), 12.0);
        writer.show("next", (0.0, 686.0), (20.0, 686.0), 12.0);
        writer.show("new", (0.0, 650.0), (20.0, 650.0), 12.0);
        writer.end_page();
        assert_eq!(writer.text, "Hello you\nnext\n\nnew\n\n");
    }

    #[test]
    fn maps_are_applied_in_order() {
        let moved = then([1.0, 0.0, 0.0, 1.0, 5.0, 7.0], [2.0, 0.0, 0.0, 2.0, 1.0, 1.0]);
        assert_eq!(moved, [2.0, 0.0, 0.0, 2.0, 11.0, 15.0]);
    }

    #[test]
    fn what_is_no_pdf_is_told() {
        for bad in [b"%PDF-1.7".as_slice(), b"", b"%PDF-1.4\nxref\n0 99999999999\ntrailer<</Root 1 0 R>>"] {
            assert!(text(bad).is_err());
        }
    }
}
