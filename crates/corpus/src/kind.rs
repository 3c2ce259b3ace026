//! Detects the format and compression of a file, by its name or else by its first bytes.

/// The format of a file's decompressed content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    JsonLines,
    /// One value over several lines, or an array of them.
    Json,
    Csv,
    /// Columns separated by tabs.
    Tsv,
    Parquet,
    Html,
    Xml,
    Docx,
    Pdf,
    Warc,
    Tar,
    Zip,
}

/// Compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// Format and compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub format: Format,
    pub packing: Packing,
}

impl Format {
    /// Whether it compresses text.
    pub fn is_packed(self) -> bool {
        matches!(self, Format::Parquet | Format::Docx | Format::Pdf | Format::Zip)
    }

    /// Whether it can only be read with jumps.
    pub fn needs_seeking(self) -> bool {
        matches!(self, Format::Parquet | Format::Docx | Format::Pdf | Format::Zip)
    }

    fn of_extension(extension: &str) -> Option<Format> {
        Some(match extension {
            "txt" | "text" | "md" | "markdown" => Format::Text,
            "jsonl" | "ndjson" => Format::JsonLines,
            "json" => Format::Json,
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "parquet" => Format::Parquet,
            "html" | "htm" | "xhtml" => Format::Html,
            "xml" => Format::Xml,
            "docx" => Format::Docx,
            "pdf" => Format::Pdf,
            "warc" | "wet" => Format::Warc,
            "tar" => Format::Tar,
            "zip" => Format::Zip,
            _ => return None,
        })
    }
}

impl Packing {
    fn of_extension(extension: &str) -> Option<Packing> {
        Some(match extension {
            "gz" => Packing::Gzip,
            "zst" => Packing::Zstd,
            "bz2" => Packing::Bzip2,
            "xz" => Packing::Xz,
            _ => return None,
        })
    }

    fn of_start(start: &[u8]) -> Packing {
        match start {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
            _ => Packing::None,
        }
    }
}

impl Kind {
    /// The kind by a name's extensions; `None` for unsupported ones.
    pub fn of_name(name: &str) -> Option<Kind> {
        let (stem, packing) = split_packing(name);
        if let Some(packed_tar) = packed_tar(&stem) {
            return Some(packed_tar);
        }
        Some(Kind { format: Format::of_extension(stem.rsplit_once('.')?.1)?, packing })
    }

    /// The same for a file in a folder or an archive, where `.json` is more often settings or metadata than
    /// text.
    pub fn of_name_beside_others(name: &str) -> Option<Kind> {
        Kind::of_name(name).filter(|kind| kind.format != Format::Json)
    }

    /// The same, where a name that says nothing means text.
    pub fn of_name_or_text(name: &str) -> Kind {
        let text = Kind { format: Format::Text, packing: split_packing(name).1 };
        Kind::of_name(name).unwrap_or(text)
    }

    /// How bytes without a name are packed.
    pub fn packing_of_start(start: &[u8]) -> Packing {
        Packing::of_start(start)
    }

    /// The kind of decompressed bytes without a name, by their beginning.
    pub fn format_of_start(start: &[u8]) -> Format {
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        let begins = |mark: &[u8]| text.get(..mark.len()).is_some_and(|head| head.eq_ignore_ascii_case(mark));
        match start {
            [b'%', b'P', b'D', b'F', ..] => Format::Pdf,
            [b'P', b'K', 3, 4, ..] => Format::Zip,
            [b'P', b'A', b'R', b'1', ..] => Format::Parquet,
            [b'W', b'A', b'R', b'C', b'/', ..] => Format::Warc,
            _ if start.get(257..262) == Some(b"ustar") => Format::Tar,
            _ if begins(b"<!doctype html") || begins(b"<html") || begins(b"<head") => Format::Html,
            _ if begins(b"<?xml") => Format::Xml,
            _ if begins(b"{\"") => Format::JsonLines,
            _ if begins(b"[{\"") => Format::Json,
            _ => Format::Text,
        }
    }
}

fn split_packing(name: &str) -> (String, Packing) {
    let lower = name.to_lowercase();
    match lower.rsplit_once('.').map(|(stem, extension)| (stem, Packing::of_extension(extension))) {
        Some((stem, Some(packing))) => (stem.to_owned(), packing),
        _ => (lower, Packing::None),
    }
}

/// Combined extensions such as `.tgz`.
fn packed_tar(name: &str) -> Option<Kind> {
    let packing = match name.rsplit_once('.')?.1 {
        "tgz" => Packing::Gzip,
        "tzst" => Packing::Zstd,
        "tbz" | "tbz2" => Packing::Bzip2,
        "txz" => Packing::Xz,
        _ => return None,
    };
    Some(Kind { format: Format::Tar, packing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let check = |name: &str, wanted: Option<(Format, Packing)>| {
            assert_eq!(Kind::of_name(name).map(|kind| (kind.format, kind.packing)), wanted, "{name}");
        };
        check("a.txt", Some((Format::Text, Packing::None)));
        check("A.MD.GZ", Some((Format::Text, Packing::Gzip)));
        check("a.b.jsonl.zst", Some((Format::JsonLines, Packing::Zstd)));
        check("a.json.gz", Some((Format::Json, Packing::Gzip)));
        check("a.html", Some((Format::Html, Packing::None)));
        check("a.warc.gz", Some((Format::Warc, Packing::Gzip)));
        check("a.tsv.bz2", Some((Format::Tsv, Packing::Bzip2)));
        check("a.tar.xz", Some((Format::Tar, Packing::Xz)));
        check("a.tgz", Some((Format::Tar, Packing::Gzip)));
        assert_eq!(Kind::of_name_beside_others("a.json"), None);
        assert!(Kind::of_name_beside_others("a.jsonl").is_some());
        check("a.png", None);
        check("a.png.gz", None);
        check("txt", None);
        assert_eq!(Kind::of_name_or_text("x.css.gz"), Kind { format: Format::Text, packing: Packing::Gzip });
    }

    #[test]
    fn bytes_without_a_name_say_it_too() {
        let check = |start: &[u8], wanted| assert_eq!(Kind::format_of_start(start), wanted);
        check(b"plain", Format::Text);
        check(b" <!DOCTYPE HTML><p>", Format::Html);
        check(b"{\"text\": 1}", Format::JsonLines);
        check(b"{not json", Format::Text);
        check(b"[{\"text\": 1}]", Format::Json);
        check(b"%PDF-1.7", Format::Pdf);
        check(b"WARC/1.0\r\n", Format::Warc);
        assert_eq!(Kind::packing_of_start(b"\x1f\x8b\x08"), Packing::Gzip);
        assert_eq!(Kind::packing_of_start(b"BZh9"), Packing::Bzip2);
    }
}
