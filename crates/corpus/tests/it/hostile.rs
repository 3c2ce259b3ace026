//! Files made to hurt, and broken ones: each is quarantined with its reason in bounded time, and its
//! neighbors pass.

use std::time::Instant;

use corpus::{CorpusOptions, CorpusSummary, ErrorKind};
use parquet::basic::{Compression, Encoding, GzipLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokens::Split;

use crate::samples::{bzip2, docx, flate, parquet, parquet_by, pdf, pdf_page, pdf_with_form, tar, warc, zip};
use crate::{Project, gzip, snapshot, undivided};

/// Puts a file between two good ones, with no limit to what may be quarantined.
fn beside(name: &str, bytes: &[u8]) -> (Project, CorpusSummary) {
    let name = format!("in/{name}");
    let project = Project::new(&[("in/0.txt", b"before"), (name.as_str(), bytes), ("in/zz.txt", b"after")]);
    let options = CorpusOptions { quarantine_limit: 1.0, ..undivided(&["in"]) };
    let begun = Instant::now();
    let summary = project.prepare(&options).unwrap();
    assert!(begun.elapsed().as_secs() < 20, "{name}: {:?}", begun.elapsed());
    let texts = project.texts(Split::Train);
    assert!(texts[0] == "before" && texts[texts.len() - 1] == "after", "{name}");
    (project, summary)
}

/// What is quarantined of it says `wanted`, and `kept` documents come of it.
fn quarantined(name: &str, bytes: &[u8], wanted: &str, kept: u64) {
    let (_, summary) = beside(name, bytes);
    assert!(
        summary.quarantine.iter().any(|entry| entry.reason.contains(wanted)),
        "{name}: {:?}",
        summary.quarantine
    );
    assert_eq!(summary.documents(), 2 + kept, "{name}: {:?}", summary.quarantine);
}

#[test]
fn broken_files_keep_what_came_whole() {
    let lines: String = (0..20_000).map(|i| format!("{{\"text\": \"line {}\"}}\n", i * 7919)).collect();
    let text: String = (0..20_000).map(|i| format!("paragraph {}\n\n", i * 7919)).collect();
    let zst = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    for (name, bytes) in [
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("a.jsonl.zst", zst),
        ("a.jsonl.bz2", bzip2(lines.as_bytes())),
        ("a.csv.gz", gzip(format!("text\n{}", lines.replace('"', "")).as_bytes())),
    ] {
        let (_, summary) = beside(name, &bytes[..bytes.len() * 2 / 3]);
        assert_eq!(summary.quarantined, 1, "{:?}", summary.quarantine);
        assert!(
            summary.quarantine[0].reason.contains("damaged or truncated after"),
            "{:?}",
            summary.quarantine
        );
        let kept = summary.documents();
        assert!(name.ends_with("bz2") || (1_000..20_000).contains(&kept), "{name}: {kept}");
    }
    // A flipped bit is damage too, wherever it shows.
    let mut flipped = gzip(lines.as_bytes());
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(beside("a.jsonl.gz", &flipped).1.quarantined >= 1);

    // Of a text, the documents that end before the break; of a page, nothing.
    let cut = gzip(text.as_bytes());
    let project = Project::new(&[("a.txt.gz", &cut[..cut.len() / 2])]);
    let mut options = undivided(&["a.txt.gz"]);
    options.document_separator = "\n\n".into();
    let summary = project.prepare(&options).unwrap();
    assert!(summary.documents() > 1000 && summary.quarantined == 1);
    let last = project.texts(Split::Train).pop().unwrap();
    assert!(text.contains(&format!("{last}\n\n")), "{last}");
    quarantined("a.txt.gz", &cut[..cut.len() / 2], "truncated after 0 documents", 0);
    let page = gzip(format!("<p>{}", text.replace('\n', "<br>")).as_bytes());
    quarantined("a.html.gz", &page[..page.len() / 2], "truncated", 0);
    let records = warc("<p>A page of an archive that is whole, with words enough to be kept.").repeat(3);
    quarantined("a.warc", &records[..records.len() - 30], "truncated", 1);
    let members: Vec<u8> = tar(&[
        ("a.txt", tar::EntryType::Regular, b"whole"),
        ("b.txt", tar::EntryType::Regular, &[b'x'; 5000]),
    ]);
    quarantined("a.tar", &members[..2000], "damaged or truncated", 1);
}

#[test]
fn bombs_are_known_by_what_they_unpack_to() {
    let zeros = vec![b'a'; 96 << 20];
    let bomb = gzip(&zeros);
    quarantined("a.txt.gz", &bomb, "decompression bomb", 0);
    quarantined("a.html.gz", &bomb, "decompression bomb", 0);
    quarantined("a.parquet.gz", &bomb, "decompression bomb", 0);
    quarantined("a.jsonl.zst", &zstd::encode_all(zeros.as_slice(), 1).unwrap(), "decompression bomb", 0);
    quarantined("a.txt.bz2", &bzip2(&zeros[..48 << 20]), "decompression bomb", 0);
    // In a zip archive, what comes after a bomb is read.
    quarantined("a.zip", &zip(&[("a.txt", &zeros), ("b.txt", b"good")]), "decompression bomb", 1);
    quarantined("a.docx", &zip(&[("word/document.xml", &zeros)]), "decompression bomb", 0);
    let regular = tar::EntryType::Regular;
    let archive =
        tar(&[("a.txt", regular, b"good"), ("b.txt", regular, &zeros), ("c.txt", regular, b"lost")]);
    quarantined("a.tar.gz", &gzip(&archive), "decompression bomb", 1);
    // An archive in an archive in …
    let nested = (0..6).fold(zip(&[("a.txt", b"deep")]), |inner, _| zip(&[("a.zip", &inner)]));
    quarantined("a.zip", &nested, "archive nested", 0);
    // A long text, said a million times by a dictionary.
    let long = "x".repeat(256 << 10);
    let rows = vec![(Some(long.as_str()), None); 1000];
    let (_, summary) = beside("a.parquet", &parquet(&rows, 1000, Compression::SNAPPY, true));
    assert!(
        summary.quarantine[0].reason.contains("text than allowed for a file of its size"),
        "{:?}",
        summary.quarantine
    );
}

#[test]
fn deep_and_long_things_are_quarantined() {
    quarantined("a.html", ("<div>".repeat(100_000) + "x").as_bytes(), "nested too deeply", 0);
    quarantined("a.html", "<p>a".repeat(1_000_000).as_bytes(), "too many elements for a page", 0);
    quarantined("a.xml", "<a>".repeat(100_000).as_bytes(), "nested deeper", 0);
    quarantined("a.txt", &vec![b'x'; 70 << 20], "line longer than", 0);
    quarantined("a.csv", &[b"text\n\"".as_slice(), &vec![b'x'; 70 << 20]].concat(), "unclosed quote", 0);
    let nested =
        format!("{{\"text\": {}1{}}}\n{{\"text\": \"good\"}}\n", "[".repeat(100_000), "]".repeat(100_000));
    quarantined("a.jsonl", nested.as_bytes(), "is not a string", 1);
    quarantined("a.pdf", &pdf(&[&"q ".repeat(9_000_000)]), "", 0);
    // A form of a few bytes packed, shown and unpacked half a million times.
    let form = flate(&b"    ".repeat(1 << 20));
    quarantined("a.pdf", &pdf_with_form(&"/X Do ".repeat(500_000), &form), "decompresses to more", 0);
    let mut page = pdf(&[&pdf_page(&["good"])]);
    page.truncate(page.len() / 2);
    quarantined("a.pdf", &page, "", 0);
    quarantined("a.pdf", b"not a pdf", "is not a PDF", 0);
}

/// A member's names are held whole, and holes of a sparse one are not in the archive.
#[test]
fn headers_and_holes_of_a_tar_archive_are_bounded() {
    use tar::EntryType::{GNULongName, GNUSparse, Regular};
    let name = [b"long/".repeat(1 << 20), b"a.txt\0".to_vec()].concat();
    let archive =
        tar(&[("ok.txt", Regular, b"whole"), ("././@LongLink", GNULongName, &name), ("x", Regular, b"bad")]);
    quarantined("a.tar", &archive, "the headers of a member are larger than 1 MB", 1);
    let name = [b"long/".repeat(1000), b"a.txt\0".to_vec()].concat();
    let archive =
        tar(&[("././@LongLink", GNULongName, &name), ("x", Regular, b"bad"), ("ok.txt", Regular, b"ok")]);
    quarantined("a.tar", &archive, "a name that is too long", 1);
    let mut archive = tar(&[("holes.txt", GNUSparse, b""), ("ok.txt", Regular, b"whole")]);
    // Its one block is of no bytes at 2^40, which is its real size.
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&archive[..512]);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].offset = *b"20000000000\0";
    gnu.sparse[0].numbytes = *b"00000000000\0";
    gnu.realsize = *b"20000000000\0";
    header.set_cksum();
    archive[..512].copy_from_slice(header.as_bytes());
    quarantined("a.tar", &archive, "a sparse file", 1);
}

/// A document that is too long ends at its separator, where that comes before a line's end.
#[test]
fn a_document_too_long_takes_no_other_with_it() {
    let text = format!("one<|end|>{}<|end|>three<|end|>four", "x".repeat(5000));
    let project = Project::new(&[("a.txt", text.as_bytes())]);
    let options = CorpusOptions {
        maximum_document_bytes: 1024,
        quarantine_limit: 0.5,
        document_separator: "<|end|>".into(),
        ..undivided(&["a.txt"])
    };
    let summary = project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), ["one", "three", "four"]);
    assert_eq!((summary.quarantined, summary.documents()), (1, 3));
}

/// A record with a length that is too short takes the next one with it at most.
#[test]
fn a_damaged_record_takes_no_other_with_it() {
    let record =
        |number: u32| warc(&format!("<p>Page {number} of an archive that has words enough to be kept."));
    let records: Vec<Vec<u8>> = (1..=5).map(record).collect();
    let mut damaged = records.concat();
    let second = records[0].len();
    let length = memchr::memmem::find(&damaged[second..], b"Content-Length: ").unwrap() + second + 16;
    assert_eq!(damaged[length + 3], b'\r', "three digits");
    damaged[length..length + 3].copy_from_slice(b"020");
    let (_, summary) = beside("a.warc", &damaged);
    assert_eq!((summary.quarantined, summary.documents()), (1, 2 + 4), "{:?}", summary.quarantine);
    // A length that reaches into other records, or past the end.
    for claimed in [b"600", b"999"] {
        damaged[length..length + 3].copy_from_slice(claimed);
        let (_, summary) = beside("a.warc", &damaged);
        assert_eq!((summary.quarantined, summary.documents()), (0, 2 + 5), "{:?}", summary.quarantine);
    }
    // Packed record by record, as crawls are: what is damaged is one member.
    let mut members: Vec<Vec<u8>> = records.iter().map(|record| gzip(record)).collect();
    members[1][0] = 0;
    // What a checksum denies was read by then.
    let checksum = members[3].len() - 8;
    members[3][checksum] ^= 1;
    let (_, summary) = beside("a.warc.gz", &members.concat());
    assert_eq!((summary.quarantined, summary.documents()), (2, 2 + 4), "{:?}", summary.quarantine);
    let other = |kind: &str| {
        String::from_utf8(warc("x")).unwrap().replace("WARC-Type: response", &format!("WARC-Type: {kind}"))
    };
    let gone = String::from_utf8(warc("x")).unwrap().replace("200 OK", "404 No");
    let archive = [other("revisit"), gone, other("request"), String::from_utf8(record(1)).unwrap()].concat();
    let (_, summary) = beside("a.warc", archive.as_bytes());
    let passed: Vec<_> = summary.passed_over.iter().map(|(what, count)| (what.as_str(), *count)).collect();
    assert_eq!(passed, [("response without success", 1), ("revisit", 1)]);
}

/// Each record claims more than is its own, and none is followed by another: the next one lies within.
#[test]
fn records_that_claim_each_other_take_linear_time() {
    let record = b"WARC/1.0\r\nWARC-Type: request\r\nContent-Length: 8000000\r\n\r\nx\r\n\r\n";
    let mut archive = record.repeat((16 << 20) / record.len());
    archive.extend(warc("<p>A page of an archive that is whole, with words enough to be kept."));
    let begun = std::time::Instant::now();
    let (_, summary) = beside("a.warc", &archive);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!((summary.quarantined, summary.documents()), (0, 3), "{:?}", summary.quarantine);
    // The same of records between which nothing but white space is left.
    let head = b"WARC/1.0\r\nWARC-Type: request\r\nContent-Length: 4000000\r\n\r\nx\r\n\r\n";
    let archive = [head.repeat((4 << 20) / head.len()), b"\r\n".repeat(4 << 20)].concat();
    let begun = std::time::Instant::now();
    beside("a.warc", &archive);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn a_line_too_long_takes_no_other_with_it() {
    let text = format!("one\n{}\nthree\n", "x".repeat(5000));
    let project = Project::new(&[("a.txt", text.as_bytes())]);
    let options =
        CorpusOptions { maximum_document_bytes: 1024, quarantine_limit: 0.5, ..undivided(&["a.txt"]) };
    let summary = project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), ["one\n", "three\n"]);
    assert_eq!((summary.quarantined, summary.documents()), (1, 2));
}

#[test]
fn members_that_lead_out_of_an_archive_are_quarantined() {
    use tar::EntryType::{Fifo, Link, Regular, Symlink};
    let archive = tar(&[
        ("../up.txt", Regular, b"bad"),
        ("/etc/passwd.txt", Regular, b"bad"),
        ("a/../../up.txt", Regular, b"bad"),
        ("link.txt", Symlink, b"/etc/passwd"),
        ("hard.txt", Link, b"../../x"),
        ("inner.txt", Symlink, b"good.txt"),
        ("pipe.txt", Fifo, b""),
        ("good.txt", Regular, b"good"),
    ]);
    let (project, summary) = beside("a.tar", &archive);
    assert_eq!((summary.quarantined, summary.documents(), summary.ignored_files), (6, 3, 1));
    let reasons: String = summary.quarantine.iter().map(|entry| entry.reason.as_str()).collect();
    assert!(
        ["absolute", "`..`", "link that leads out", "device or a pipe"].iter().all(|w| reasons.contains(w))
    );
    assert_eq!(snapshot(&project.path("in")).len(), 3, "nothing was written beside the archive");
    assert!(!project.path("up.txt").exists());

    let archive =
        zip(&[("../up.txt", b"bad"), ("c:\\x.txt", b"bad"), ("a\0b.txt", b"bad"), ("good.txt", b"good")]);
    let (_, summary) = beside("a.zip", &archive);
    assert_eq!((summary.quarantined, summary.documents()), (3, 3), "{:?}", summary.quarantine);
}

#[test]
fn claims_of_a_parquet_file_are_checked() {
    let rows: Vec<(Option<&str>, Option<&str>)> = vec![(Some("a text that is long enough"), None); 50];
    let good = parquet(&rows, 50, Compression::SNAPPY, true);
    // The first page's header begins after the mark: type, then its sizes.
    assert_eq!(&good[..6], b"PAR1\x15\x04");
    let mut claims = good.clone();
    // Zigzag of 2^31 − 1 is five bytes long; they run into what follows, which makes a claim and no sense.
    claims[7..12].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
    quarantined("a.parquet", &claims, "", 0);
    let mut footer = good.clone();
    let length = footer.len() - 8;
    footer[length..length + 4].copy_from_slice(&[0xff; 4]);
    quarantined("a.parquet", &footer, "truncated", 0);
    quarantined("a.parquet", &good[..good.len() / 2], "truncated", 0);
    quarantined("a.parquet", b"PAR1", "truncated", 0);
}

/// Delta encodings name their number of values within the page, and one of equal values takes no room.
#[test]
fn claims_within_a_parquet_page_are_checked() {
    let written = |encoding, compression, rows: &[(Option<&str>, Option<&str>)]| {
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_encoding(encoding)
            .set_compression(compression)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_data_page_row_count_limit(usize::MAX)
            .set_max_row_group_row_count(None);
        parquet_by(properties.build(), rows, rows.len())
    };
    let texts: Vec<String> = (0..100).map(|i| format!("text {} of a table", i * i)).collect();
    let rows: Vec<_> = texts.iter().map(|text| (Some(text.as_str()), None)).collect();
    for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
        let good = written(encoding, Compression::UNCOMPRESSED, &rows);
        assert_eq!(beside("a.parquet", &good).1.documents(), 102, "{encoding}");
        // Blocks of 128 in four parts, then the number of values: 2^41 of them.
        let heads: Vec<usize> = memchr::memmem::find_iter(&good, &[0x80, 1, 4, 100]).collect();
        assert!(!heads.is_empty(), "{encoding}");
        for head in heads {
            let mut claims = good.clone();
            claims[head + 3..head + 9].copy_from_slice(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x40]);
            quarantined("a.parquet", &claims, "damaged after 0 rows", 0);
        }
    }
    // A long value once, then as a prefix of all that follow.
    let long = "x".repeat(4 << 20);
    let bomb = written(
        Encoding::DELTA_BYTE_ARRAY,
        Compression::SNAPPY,
        &vec![(Some(long.as_str()), Some(long.as_str())); 500],
    );
    quarantined("a.parquet", &bomb, "text than allowed for a file of its size", 1);
    // A page that inflates to more than its header says: of 40 MB, 4 MB.
    let inflated = "x".repeat(40 << 20);
    let mut bomb =
        written(Encoding::PLAIN, Compression::GZIP(GzipLevel::default()), &[(Some(inflated.as_str()), None)]);
    assert_eq!(&bomb[..7], b"PAR1\x15\0\x15");
    bomb[7..11].copy_from_slice(&[0x80, 0x80, 0x80, 0x04]);
    quarantined("a.parquet", &bomb, "decompresses to more than it claims", 0);
    // Rows without a text take no room.
    let bomb = written(Encoding::PLAIN, Compression::SNAPPY, &vec![(None, None); 5_000_000]);
    assert!(bomb.len() < 64 << 10, "{}", bomb.len());
    quarantined("a.parquet", &bomb, "more rows or text than", 0);
}

#[test]
fn too_much_quarantine_stops_the_job_with_the_rest_prepared() {
    let project = Project::new(&[
        ("in/a.txt", b"one"),
        ("in/b.txt", b"two"),
        ("in/c.txt", b"\0\x01\x02"),
        ("in/d.pdf", b"no pdf"),
    ]);
    let mut options = undivided(&["in"]);
    let error = project.prepare(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let message = error.to_string();
    assert!(message.contains("2 of 4") && message.contains("data.quarantine_limit = 0.1"), "{message}");
    assert_eq!(project.texts(Split::Train), ["one", "two"]);
    // It is not made again, and not forgotten.
    assert_eq!(project.prepare(&options).unwrap_err().to_string(), message);
    options.quarantine_limit = 0.5;
    let summary = project.prepare(&options).unwrap();
    assert!(summary.reused && summary.quarantined == 2);
}

/// Every cut and many flips of small files: an answer, no panic. Panics are caught and told in these words.
#[test]
fn mutations_of_every_format_get_an_answer() {
    let page = "<html lang=en><title>T</title><p>Some words of a page that is short.</p>";
    let rows = [(Some("one"), Some("en")), (None, None), (Some("three"), None)];
    let inner = zip(&[("x.txt", b"in the zip")]);
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n".to_vec()),
        ("a.jsonl.gz", gzip(b"{\"text\": \"a\"}\n")),
        ("a.jsonl.zst", zstd::encode_all(&b"{\"text\": \"a\"}\n"[..], 1).unwrap()),
        ("a.txt.bz2", bzip2(b"a text that is packed")),
        ("a.txt.xz", crate::samples::XZ.to_vec()),
        ("a.csv", b"text,language\n\"a \"\"b\"\"\",en\nc,fr\n".to_vec()),
        ("a.html", page.as_bytes().to_vec()),
        ("a.warc", warc(page)),
        ("a.xml", b"<?xml version='1.0'?><a>b &amp; <![CDATA[c]]></a>".to_vec()),
        ("a.docx", docx(&["one", "two"])),
        ("a.zip", zip(&[("a.txt", b"one"), ("b.zip", &inner)])),
        (
            "a.tar",
            tar(&[("a.txt", tar::EntryType::Regular, b"one"), ("l.txt", tar::EntryType::Symlink, b"a.txt")]),
        ),
        ("a.parquet", parquet(&rows, 2, Compression::SNAPPY, true)),
        ("a.pdf", pdf(&[&pdf_page(&["good", "line"])])),
    ];
    let project = Project::new(&[("in/0.txt", b"good")]);
    let options = CorpusOptions { quarantine_limit: 1.0, ..undivided(&["in"]) };
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    for (name, bytes) in &files {
        let name = format!("in/{name}");
        for trial in 0..40 {
            let mut bytes = bytes.clone();
            if trial % 3 == 0 {
                bytes.truncate(next(bytes.len()));
            } else {
                for _ in 0..1 + next(4) {
                    let at = next(bytes.len());
                    bytes[at] = [bytes[at] ^ 1 << next(8), 0xff, 0, 0x7f][next(4)];
                }
            }
            project.write(&name, &bytes);
            let summary = project.prepare(&options).unwrap();
            let failed =
                summary.quarantine.iter().find(|entry| entry.reason.contains("caused an internal error"));
            assert!(failed.is_none(), "{failed:?}: {bytes:?}");
        }
        std::fs::remove_file(project.path(&name)).unwrap();
    }
}
