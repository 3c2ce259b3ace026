//! Fonts: how a font's bytes become characters, and how wide they are. Each object is read once, however
//! often pages and forms name it.

use std::collections::HashMap;
use std::rc::Rc;

use lopdf::{Dictionary, Document, Encoding, Object};

use super::budget::Budget;

const LARGEST_MAP_BYTES: usize = 4 << 20;
/// What an entry of a table of characters takes in memory, for each byte of the table or for each name.
const MEMORY_OF_MAP: usize = 8;
const MEMORY_OF_NAME: usize = 64;
const MEMORY_OF_FONT: usize = 4 << 10;
/// Codes of one byte have widths.
const MOST_WIDTHS: usize = 256;

/// A font.
pub struct Font<'a> {
    encoding: Option<Encoding<'a>>,
    /// Thousandths of the font's size, from `first` on.
    widths: Vec<f32>,
    first: i64,
    pub bytes_a_code: usize,
}

impl Font<'_> {
    /// The characters of a string.
    pub fn decoded(&self, bytes: &[u8]) -> String {
        match &self.encoding {
            Some(encoding) => Document::decode_text(encoding, bytes).unwrap_or_default(),
            None => ascii(bytes),
        }
    }

    /// The width of a code.
    pub fn width(&self, code: &[u8]) -> f32 {
        if self.bytes_a_code > 1 {
            return UNKNOWN_WIDTH;
        }
        let at = usize::try_from(i64::from(code[0]).saturating_sub(self.first)).ok();
        at.and_then(|at| self.widths.get(at)).copied().unwrap_or(UNKNOWN_WIDTH)
    }
}

/// About that of a letter.
pub const UNKNOWN_WIDTH: f32 = 500.0;

/// What a string says where nothing is known of its font.
pub fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte as char).filter(char::is_ascii).collect()
}

/// The fonts of a document that were met.
pub struct Fonts<'a> {
    document: &'a Document,
    /// By the place of their dictionaries.
    known: HashMap<*const Dictionary, Rc<Font<'a>>>,
}

impl<'a> Fonts<'a> {
    pub fn of(document: &'a Document) -> Fonts<'a> {
        Fonts { document, known: HashMap::new() }
    }

    /// The font of a name, as the nearest resources have it.
    pub fn named(
        &mut self,
        name: &[u8],
        resources: &[&'a Dictionary],
        budget: &mut Budget,
    ) -> Result<Option<Rc<Font<'a>>>, String> {
        let document = self.document;
        let found = resources.iter().find_map(|resources| {
            let fonts = resources.get_deref(b"Font", document).and_then(Object::as_dict).ok()?;
            fonts.get_deref(name, document).and_then(Object::as_dict).ok()
        });
        let Some(dictionary) = found else { return Ok(None) };
        let place = std::ptr::from_ref(dictionary);
        if let Some(font) = self.known.get(&place) {
            return Ok(Some(Rc::clone(font)));
        }
        let font = Rc::new(self.read(dictionary, budget)?);
        self.known.insert(place, Rc::clone(&font));
        Ok(Some(font))
    }

    fn read(&self, dictionary: &'a Dictionary, budget: &mut Budget) -> Result<Font<'a>, String> {
        let document = self.document;
        budget.take(MEMORY_OF_FONT)?;
        let is_composite =
            dictionary.get(b"Subtype").and_then(Object::as_name).is_ok_and(|name| name == b"Type0");
        let widths = dictionary.get_deref(b"Widths", document).and_then(Object::as_array);
        let widths = widths.into_iter().flatten().take(MOST_WIDTHS);
        Ok(Font {
            encoding: self.encoding(dictionary, budget)?,
            widths: widths.map(|width| width.as_float().unwrap_or(UNKNOWN_WIDTH)).collect(),
            first: dictionary.get_deref(b"FirstChar", document).and_then(Object::as_i64).unwrap_or(0),
            bytes_a_code: 1 + usize::from(is_composite),
        })
    }

    fn encoding(
        &self,
        dictionary: &'a Dictionary,
        budget: &mut Budget,
    ) -> Result<Option<Encoding<'a>>, String> {
        let document = self.document;
        let map = dictionary.get_deref(b"ToUnicode", document).and_then(Object::as_stream);
        if let Ok(map) = map {
            let bytes = map.get_plain_content_with_limit(LARGEST_MAP_BYTES).map_or(0, |map| map.len());
            budget.take(bytes.saturating_mul(MEMORY_OF_MAP).max(map.content.len()))?;
            // What the file says of its characters is surer than how it names their shapes.
            let mut alone = dictionary.clone();
            alone.remove(b"Encoding");
            if let Ok(Encoding::UnicodeMapEncoding(map)) =
                alone.get_font_encoding_with_limit(document, LARGEST_MAP_BYTES)
            {
                return Ok(Some(Encoding::UnicodeMapEncoding(map)));
            }
        }
        let names = dictionary.get_deref(b"Encoding", document).and_then(Object::as_dict);
        let names =
            names.and_then(|names| names.get_deref(b"Differences", document)).and_then(Object::as_array);
        budget.take(names.map_or(0, |names| names.len().saturating_mul(MEMORY_OF_NAME)))?;
        Ok(dictionary.get_font_encoding_with_limit(document, LARGEST_MAP_BYTES).ok())
    }
}
