//! Bytes to text: UTF-8 repaired and counted, NFC, line ends; and whether bytes are text at all.

use std::borrow::Cow;

use crate::Normalize;

/// Of a file's start, this share of bad bytes makes it no text.
const BINARY_SHARE: f64 = 0.2;

/// Text from bytes, invalid sequences replaced by U+FFFD, with their number.
pub fn repair(bytes: Vec<u8>) -> (String, u64) {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return (text, 0),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    let mut repaired = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            repaired += 1;
        }
    }
    (text, repaired)
}

/// The text normalized, and whether that changed anything.
pub fn normalize(text: String, how: Normalize) -> (String, bool) {
    match how.normalizer().normalize(&text) {
        Cow::Borrowed(same) if same.len() == text.len() => (text, false),
        normal => (normal.into_owned(), true),
    }
}

/// Why the start of a file is not text; `None` when it may be.
pub fn not_text(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"%PDF") {
        return Some("is a PDF, not text: extract its text first");
    }
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Some("is UTF-16, not UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`");
    }
    if start.contains(&0) {
        return Some("is binary, not text");
    }
    let bad: usize = start
        .utf8_chunks()
        .map(|chunk| {
            let controls =
                chunk.valid().chars().filter(|c| c.is_control() && !c.is_whitespace() && *c != '\u{1b}');
            chunk.invalid().len() + controls.count()
        })
        .sum();
    (bad as f64 > BINARY_SHARE * start.len() as f64)
        .then_some("is binary, or text in an encoding other than UTF-8")
}

/// Drops the mark that some programs put before UTF-8.
pub fn strip_byte_order_mark(bytes: &mut Vec<u8>) {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_counted_as_sequences() {
        assert_eq!(repair(b"plain".to_vec()), ("plain".to_owned(), 0));
        assert_eq!(repair("é€".as_bytes().to_vec()), ("é€".to_owned(), 0));
        assert_eq!(repair(b"caf\xe9 \xff\xfe!".to_vec()), ("caf\u{fffd} \u{fffd}\u{fffd}!".to_owned(), 3));
        assert_eq!(
            repair(b"cut \xe2\x82".to_vec()),
            ("cut \u{fffd}".to_owned(), 1),
            "an unfinished character is one"
        );
        let lossy = |bytes: &[u8]| assert_eq!(repair(bytes.to_vec()).0, String::from_utf8_lossy(bytes));
        lossy(b"\xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf");
    }

    #[test]
    fn nfc_composes_and_unifies_line_ends() {
        let run = |text: &str| normalize(text.to_owned(), Normalize::Nfc);
        assert_eq!(run("e\u{301}te\u{301}"), ("été".to_owned(), true));
        assert_eq!(run("été"), ("été".to_owned(), false));
        assert_eq!(run("a\r\nb\rc\n"), ("a\nb\nc\n".to_owned(), true));
        assert_eq!(run("a\r\ne\u{301}"), ("a\né".to_owned(), true));
        assert_eq!(run("\u{feff}a"), ("a".to_owned(), true));
        assert_eq!(normalize("a\r\n".to_owned(), Normalize::None), ("a\r\n".to_owned(), false));
    }

    #[test]
    fn text_is_told_from_other_files() {
        assert_eq!(not_text("Ordinary text, déjà vu.\n\t\u{1b}[1m".as_bytes()), None);
        assert_eq!(
            not_text(b"un \xe9t\xe9 \xe0 la plage et un hiver en ville"),
            None,
            "Latin-1 is repaired, with a warning"
        );
        assert!(not_text(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap().contains("binary"));
        assert!(not_text(b"\xff\xfea\0b\0").unwrap().contains("UTF-16"));
        assert!(not_text(b"%PDF-1.7").unwrap().contains("PDF"));
        assert!(not_text(&[0x93, 0xfa, 0x96, 0x7b, 0x8c, 0xea]).unwrap().contains("encoding"), "Shift-JIS");
    }
}
