//! Decodes a page: by its byte order mark, or as UTF-8 if valid, or by the server's encoding, or by the
//! page's own declaration, or as Windows-1252, as browsers do.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// How far into a page its own word is looked for.
const LOOKED_AT_BYTES: usize = 4096;

/// The page's characters, and how many bytes or sequences had none.
pub fn decode<'a>(bytes: &'a [u8], server_says: Option<&str>) -> (Cow<'a, str>, u64) {
    let named = server_says.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
    let marked = Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
    let says = marked.or(named).or_else(|| declared(bytes));
    let encoding = match says {
        // No other encoding's text is UTF-8 by chance: a label is wrong more often, as on pages that were
        // saved again.
        _ if marked.is_none() && !bytes.is_ascii() && std::str::from_utf8(bytes).is_ok() => UTF_8,
        Some(encoding) if encoding != UTF_8 => encoding,
        _ if std::str::from_utf8(bytes).is_ok() => UTF_8,
        // A few bad sequences are damage; many are another encoding.
        _ if is_mostly_utf8(bytes) => UTF_8,
        _ => WINDOWS_1252,
    };
    let (text, _, damaged) = encoding.decode(bytes);
    let repaired = if damaged { text.matches(char::REPLACEMENT_CHARACTER).count() as u64 } else { 0 };
    (text, repaired)
}

/// Whether the start of a file shows that it is not a page: another format's signature, or zero bytes outside
/// of UTF-16.
pub fn is_binary(bytes: &[u8]) -> bool {
    let begins = |marks: &[&[u8]]| marks.iter().any(|mark| bytes.starts_with(mark));
    let start = &bytes[..bytes.len().min(LOOKED_AT_BYTES)];
    begins(&[b"%PDF", &[0x1f, 0x8b], b"PK\x03\x04"])
        || (!begins(&[&[0xff, 0xfe], &[0xfe, 0xff]]) && start.contains(&0))
}

fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let start = bytes[..bytes.len().min(LOOKED_AT_BYTES)].to_ascii_lowercase();
    let at = memchr::memmem::find(&start, b"charset=")? + b"charset=".len();
    let label = start[at..].trim_ascii_start();
    let label = label.strip_prefix(b"\"").or_else(|| label.strip_prefix(b"'")).unwrap_or(label);
    let end = label.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_:.".contains(byte)))?;
    Encoding::for_label(&label[..end]).map(Encoding::output_encoding)
}

fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().bytes().filter(|byte| *byte >= 0xc0).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    good >= 4 * bad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_no_pages() {
        for bytes in [b"%PDF-1.7".as_slice(), b"\x1f\x8b\x08", b"PK\x03\x04", b"<p>\0"] {
            assert!(is_binary(bytes));
        }
        assert!(!is_binary(b"<p>caf\xe9") && !is_binary(b"\xff\xfe<\0") && !is_binary(b""));
    }

    #[test]
    fn encodings_by_mark_server_page_and_looks() {
        let check =
            |bytes: &[u8], says: Option<&str>, wanted: &str| assert_eq!(decode(bytes, says).0, wanted);
        check("é".as_bytes(), None, "é");
        check("<meta charset=iso-8859-1>é".as_bytes(), Some("latin1"), "<meta charset=iso-8859-1>é");
        check(b"\x1b$BF|K\\\x1b(B", Some("iso-2022-jp"), "日本");
        check(b"caf\xe9", None, "café");
        check(b"<meta charset=\"iso-8859-2\">\xb1", None, "<meta charset=\"iso-8859-2\">ą");
        check(b"\xb1", Some("iso-8859-2"), "ą");
        check(b"\xff\xfeA\0", None, "A");
        check(b"\x93\xfa\x96\x7b", Some("shift_jis"), "日本");
        let damaged = ["é".repeat(20).as_bytes(), b"\xe9"].concat();
        assert_eq!(decode(&damaged, None).1, 1);
    }
}
