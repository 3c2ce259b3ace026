//! The text of a PDF: what its pages show, in the order in which they show it, lines and words told by where they stand.
//!
//! `lopdf` reads objects, streams and encodings; the operators that show text are followed here. What a file may cost is
//! counted in bytes and operators, never in seconds, so that the same file gives the same text on any machine. Not here:
//! columns put in order, words hyphenated at line ends, scanned pages.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lopdf::content::Content;
use lopdf::{Dictionary, Document, Encoding, LoadOptions, Object, ObjectId};

/// Pages, operators and unpacked bytes beyond which a file is no document.
const MOST_PAGES: usize = 20_000;
const MOST_OPERATORS: usize = 20_000_000;
const LARGEST_PAGE_BYTES: usize = 16 << 20;
const LARGEST_FONT_BYTES: usize = 4 << 20;
const LARGEST_UNPACKED_BYTES: usize = 512 << 20;
/// Object streams are parsed as a whole when a file is opened.
const LARGEST_OBJECTS_BYTES: u64 = 64 << 20;
/// The same, one by one, where they are encrypted and so cannot be looked at before.
const LARGEST_HIDDEN_OBJECTS_BYTES: usize = 1 << 20;
/// Forms that show forms.
const DEEPEST_FORM: u32 = 8;

/// The text, pages with a blank line between; or why there is none.
pub fn text(pdf: &[u8]) -> Result<String, String> {
    let found = catch_unwind(AssertUnwindSafe(|| read(pdf)));
    found.unwrap_or_else(|_| Err("the reader of PDFs gave up on it".to_owned()))
}

fn read(pdf: &[u8]) -> Result<String, String> {
    let mut limit = LARGEST_OBJECTS_BYTES as usize;
    if memchr::memmem::find(pdf, b"/Encrypt").is_some() {
        limit = LARGEST_HIDDEN_OBJECTS_BYTES;
    } else if object_bytes(pdf) > LARGEST_OBJECTS_BYTES {
        return Err("unpacks to more objects than a document has".to_owned());
    }
    let options = LoadOptions::with_max_decompressed_size(limit);
    let document = Document::load_mem_with_options(pdf, options).map_err(|error| damaged(&error))?;
    if document.is_encrypted() {
        return Err("is encrypted with a password".to_owned());
    }
    let mut writer = Writer::default();
    let mut unpacked = LARGEST_UNPACKED_BYTES;
    let mut operators = MOST_OPERATORS;
    for (number, page) in document.page_iter().enumerate() {
        if number >= MOST_PAGES {
            return Err(format!("has more than {MOST_PAGES} pages"));
        }
        let content = document
            .get_page_content_with_limit(page, LARGEST_PAGE_BYTES)
            .map_err(|error| format!("page {}: {error}", number + 1))?;
        unpacked = unpacked.checked_sub(content.len()).ok_or("unpacks to more than a document has")?;
        let resources = resources(&document, page);
        let fonts = fonts(&document, document.get_page_fonts(page).unwrap_or_default());
        let mut show = Show { document: &document, writer: &mut writer, operators: &mut operators };
        show.content(&content, &fonts, &resources, IDENTITY, 0)?;
        writer.end_page();
    }
    let text = writer.text;
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
fn object_bytes(pdf: &[u8]) -> u64 {
    let mut sum = 0;
    for at in memchr::memmem::find_iter(pdf, b"/ObjStm") {
        let Some(start) = memchr::memmem::find(&pdf[at..pdf.len().min(at + 4096)], b"stream") else {
            continue;
        };
        let packed = &pdf[at + start + b"stream".len()..];
        let packed = packed.strip_prefix(b"\r\n").or_else(|| packed.strip_prefix(b"\n")).unwrap_or(packed);
        let mut unpacked = flate2::read::ZlibDecoder::new(packed).take(LARGEST_OBJECTS_BYTES + 1 - sum);
        // A damaged stream counts as far as it goes.
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = unpacked.read(&mut buffer) {
            sum += read as u64;
        }
        if sum > LARGEST_OBJECTS_BYTES {
            break;
        }
    }
    sum
}

fn resources(document: &Document, page: ObjectId) -> Vec<Dictionary> {
    let Ok((own, inherited)) = document.get_page_resources(page) else { return Vec::new() };
    let above = inherited.into_iter().filter_map(|id| document.get_dictionary(id).ok());
    own.into_iter().chain(above).cloned().collect()
}

/// How a font's bytes become characters, and how wide they are.
struct Font {
    dictionary: Dictionary,
    /// Thousandths of the font's size, from `first` on.
    widths: Vec<f32>,
    first: i64,
    bytes_a_code: usize,
}

fn fonts(document: &Document, found: BTreeMap<Vec<u8>, &Dictionary>) -> HashMap<Vec<u8>, Font> {
    let font = |dictionary: &Dictionary| {
        let is_composite =
            dictionary.get(b"Subtype").and_then(Object::as_name).is_ok_and(|name| name == b"Type0");
        let widths = dictionary.get_deref(b"Widths", document).and_then(Object::as_array);
        let widths =
            widths.map(|widths| widths.iter().map(|width| width.as_float().unwrap_or(500.0)).collect());
        let first = dictionary.get_deref(b"FirstChar", document).and_then(Object::as_i64).unwrap_or(0);
        let mut dictionary = dictionary.clone();
        // What the file says of its characters is surer than how it names their shapes.
        if dictionary.get_deref(b"ToUnicode", document).is_ok_and(|object| object.as_stream().is_ok()) {
            dictionary.remove(b"Encoding");
        }
        Font {
            dictionary,
            widths: widths.unwrap_or_default(),
            first,
            bytes_a_code: 1 + usize::from(is_composite),
        }
    };
    found.into_iter().map(|(name, dictionary)| (name, font(dictionary))).collect()
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

/// Follows a page's operators.
struct Show<'a> {
    document: &'a Document,
    writer: &'a mut Writer,
    operators: &'a mut usize,
}

/// What `q` saves and `Q` brings back.
#[derive(Clone)]
struct State {
    to_page: Matrix,
    font: Vec<u8>,
    size: f32,
    leading: f32,
    character_spacing: f32,
    word_spacing: f32,
    scale: f32,
}

impl Show<'_> {
    fn content(
        &mut self,
        content: &[u8],
        fonts: &HashMap<Vec<u8>, Font>,
        resources: &[Dictionary],
        to_page: Matrix,
        depth: u32,
    ) -> Result<(), String> {
        let content = Content::decode(content).map_err(|error| damaged(&error))?;
        *self.operators = self.operators.checked_sub(content.operations.len()).ok_or("draws without end")?;
        let encodings: HashMap<&[u8], Encoding<'_>> = fonts
            .iter()
            .filter_map(|(name, font)| {
                let encoding =
                    font.dictionary.get_font_encoding_with_limit(self.document, LARGEST_FONT_BYTES);
                Some((name.as_slice(), encoding.ok()?))
            })
            .collect();
        let mut state = State {
            to_page,
            font: Vec::new(),
            size: 12.0,
            leading: 0.0,
            character_spacing: 0.0,
            word_spacing: 0.0,
            scale: 1.0,
        };
        let mut saved: Vec<State> = Vec::new();
        let (mut line, mut text) = (IDENTITY, IDENTITY);
        for operation in &content.operations {
            let operands = &operation.operands;
            let number =
                |at: usize| operands.get(at).and_then(|object| object.as_float().ok()).unwrap_or(0.0);
            let matrix = || [number(0), number(1), number(2), number(3), number(4), number(5)];
            let mut next_line = |line: &mut Matrix, x: f32, y: f32| {
                *line = then([1.0, 0.0, 0.0, 1.0, x, y], *line);
                text = *line;
            };
            match operation.operator.as_str() {
                "q" if saved.len() < 256 => saved.push(state.clone()),
                "Q" => state = saved.pop().unwrap_or(state),
                "cm" => state.to_page = then(matrix(), state.to_page),
                "BT" => (line, text) = (IDENTITY, IDENTITY),
                "Tf" => {
                    state.font =
                        operands.first().and_then(|name| name.as_name().ok()).unwrap_or_default().to_vec();
                    state.size = number(1);
                }
                "TL" => state.leading = number(0),
                "Tc" => state.character_spacing = number(0),
                "Tw" => state.word_spacing = number(0),
                "Tz" => state.scale = number(0) / 100.0,
                "Td" => next_line(&mut line, number(0), number(1)),
                "TD" => {
                    state.leading = -number(1);
                    next_line(&mut line, number(0), number(1));
                }
                "Tm" => (line, text) = (matrix(), matrix()),
                "T*" => next_line(&mut line, 0.0, -state.leading),
                "Tj" | "'" | "\"" => {
                    if operation.operator != "Tj" {
                        next_line(&mut line, 0.0, -state.leading);
                    }
                    if let Some(Ok(bytes)) = operands.last().map(Object::as_str) {
                        self.show(bytes, &state, &mut text, fonts, &encodings);
                    }
                }
                "TJ" => {
                    for part in operands.first().and_then(|parts| parts.as_array().ok()).into_iter().flatten()
                    {
                        if let Ok(bytes) = part.as_str() {
                            self.show(bytes, &state, &mut text, fonts, &encodings);
                        } else if let Ok(back) = part.as_float() {
                            let x = -back / 1000.0 * state.size * state.scale;
                            text = then([1.0, 0.0, 0.0, 1.0, x, 0.0], text);
                        }
                    }
                }
                "Do" if depth < DEEPEST_FORM => {
                    if let Some(Ok(name)) = operands.first().map(Object::as_name) {
                        self.form(name, resources, state.to_page, depth)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows a form, which is a page within the page.
    fn form(
        &mut self,
        name: &[u8],
        resources: &[Dictionary],
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
        let content = match stream.decompressed_content_with_limit(LARGEST_PAGE_BYTES) {
            Ok(content) => content,
            Err(_) if stream.dict.get(b"Filter").is_err() => stream.content.clone(),
            Err(error) => return Err(damaged(&error)),
        };
        let matrix = stream.dict.get_deref(b"Matrix", document).and_then(Object::as_array);
        let mut own = IDENTITY;
        for (value, object) in own.iter_mut().zip(matrix.into_iter().flatten()) {
            *value = object.as_float().unwrap_or(*value);
        }
        let own_resources = stream.dict.get_deref(b"Resources", document).and_then(Object::as_dict).cloned();
        let resources: Vec<Dictionary> = own_resources.into_iter().chain(resources.iter().cloned()).collect();
        let mut found = BTreeMap::new();
        for dictionary in resources.iter().rev() {
            let named = dictionary.get_deref(b"Font", document).and_then(Object::as_dict);
            for (name, font) in named.into_iter().flat_map(Dictionary::iter) {
                let font = font
                    .as_reference()
                    .and_then(|id| document.get_dictionary(id))
                    .or_else(|_| font.as_dict());
                if let Ok(font) = font {
                    found.insert(name.clone(), font);
                }
            }
        }
        let fonts = fonts(document, found);
        // Each form costs at least one, so that forms that show each other end.
        *self.operators = self.operators.checked_sub(1).ok_or("draws without end")?;
        self.content(&content, &fonts, &resources, then(own, to_page), depth + 1)
    }

    fn show(
        &mut self,
        bytes: &[u8],
        state: &State,
        text: &mut Matrix,
        fonts: &HashMap<Vec<u8>, Font>,
        encodings: &HashMap<&[u8], Encoding<'_>>,
    ) {
        let decoded = match encodings.get(state.font.as_slice()) {
            Some(encoding) => Document::decode_text(encoding, bytes).unwrap_or_default(),
            None => bytes.iter().map(|&byte| byte as char).filter(char::is_ascii).collect(),
        };
        let font = fonts.get(&state.font);
        let bytes_a_code = font.map_or(1, |font| font.bytes_a_code);
        let width_of = |code: &[u8]| match font {
            Some(font) if bytes_a_code == 1 && !font.widths.is_empty() => {
                let at = usize::try_from(i64::from(code[0]) - font.first).ok();
                at.and_then(|at| font.widths.get(at)).copied().unwrap_or(500.0)
            }
            _ => 500.0,
        };
        let advance: f32 = bytes
            .chunks(bytes_a_code)
            .map(|code| {
                let space = if code == b" " { state.word_spacing } else { 0.0 };
                (width_of(code) / 1000.0 * state.size + state.character_spacing + space) * state.scale
            })
            .sum();
        let start = then(*text, state.to_page);
        *text = then([1.0, 0.0, 0.0, 1.0, advance, 0.0], *text);
        let end = then(*text, state.to_page);
        let height = state.size.abs() * (start[2] * start[2] + start[3] * start[3]).sqrt();
        self.writer.show(&decoded, (start[4], start[5]), (end[4], end[5]), height);
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
