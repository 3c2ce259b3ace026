//! What a file may cost beside its size: rows that take no room in it, windows that it asks for, memory that
//! the system does not give.

use std::process::Command;
use std::time::Instant;

use corpus::{CorpusOptions, CorpusSummary};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokens::Split;

use crate::samples::{parquet, parquet_by, zip};
use crate::{Project, gzip, undivided};

/// Prepares a file between two good ones: what came of it, and the seconds.
fn beside(name: &str, bytes: &[u8]) -> (Project, CorpusSummary, f64) {
    let name = format!("in/{name}");
    let project = Project::new(&[("in/0.txt", b"before"), (name.as_str(), bytes), ("in/zz.txt", b"after")]);
    let options = CorpusOptions { quarantine_limit: 1.0, ..undivided(&["in"]) };
    let begun = Instant::now();
    let summary = project.prepare(&options).unwrap();
    let took = begun.elapsed().as_secs_f64();
    let texts = project.texts(Split::Train);
    assert!(texts[0] == "before" && texts[texts.len() - 1] == "after", "{name}");
    (project, summary, took)
}

const CROWDED: &str = "decompresses to more rows or text than allowed for a file of its size";

/// Five million rows of one text, by a dictionary, in 70 kB.
#[test]
fn a_parquet_file_of_equal_rows_is_refused_by_what_it_claims() {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let text = "The same few words of a row, which come again and again in this table.";
    let rows = vec![(Some(text), None); 5_000_000];
    let bytes = parquet_by(properties, &rows, 200_000);
    drop(rows);
    assert!(bytes.len() < 70_000, "{}", bytes.len());
    let (_, summary, took) = beside("a.parquet", &bytes);
    assert_eq!((summary.documents_read, summary.quarantined), (2, 1));
    let reason = &summary.quarantine[0].reason;
    assert!(reason.contains("claims 5000000 rows") && reason.contains(CROWDED), "{reason}");
    assert!(took < 2.0, "{took:.1} s");
    // As many as are harmless are read, at what equal rows cost: little.
    let bytes = parquet(&vec![(Some(text), None); 200_000], 200_000, Compression::SNAPPY, true);
    let (_, summary, took) = beside("a.parquet", &bytes);
    assert_eq!((summary.documents_read, summary.duplicates, summary.quarantined), (200_002, 199_999, 0));
    println!("200,000 equal rows: {took:.2} s");
    assert!(took < 5.0, "{took:.1} s");
}

/// Each kind of file that holds rows, lines or members, packed so that they take no room.
#[test]
fn rows_that_take_no_room_end_a_file_early() {
    let rows =
        |head: &str, row: &str| gzip((head.to_owned() + &row.repeat((15 << 20) / row.len())).as_bytes());
    for (name, bytes) in [
        ("a.csv.gz", rows("text\n", "a\n")),
        ("a.jsonl.gz", rows("{\"text\": \"a\"}\n", "{}\n")),
        ("a.jsonl.gz", rows("{\"text\": \"a\"}\n", "1\n")),
        ("a.zip", zip(&[("a.csv", ("text\n".to_owned() + &"a\n".repeat(7 << 20)).as_bytes())])),
    ] {
        let (project, summary, took) = beside(name, &bytes);
        println!("{name} of {} bytes: {took:.2} s", bytes.len());
        let last = summary.quarantined.checked_sub(1).unwrap();
        assert!(summary.documents_read + last <= (1 << 18) + bytes.len() as u64 + 3, "{name}: {summary:?}");
        let listed = &summary.quarantine;
        assert!(
            listed.iter().any(|entry| entry.reason.contains(CROWDED)) || listed.len() == 100,
            "{name}: {listed:?}"
        );
        assert_eq!(project.texts(Split::Train).len(), 3, "what came before is kept");
        assert!(took < 10.0, "{name}: {took:.1} s");
    }
    // What repeats itself as logs do is read to its end.
    let log: String =
        (0..200_000).map(|at| format!("{{\"text\": \"GET /index.html 200 {}\"}}\n", at % 50)).collect();
    let (_, summary, _) = beside("a.jsonl.gz", &gzip(log.as_bytes()));
    assert_eq!((summary.documents_read, summary.quarantined), (200_002, 0));
}

#[test]
fn a_window_that_is_too_large_is_told_as_such() {
    let lines = b"{\"text\": \"in a frame that looks far back\"}\n".repeat(100);
    let packed = |log: u32| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        std::io::Write::write_all(&mut encoder, &lines).unwrap();
        std::io::Write::flush(&mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let (_, summary, _) = beside("a.jsonl.zst", &packed(27));
    assert_eq!((summary.documents_read, summary.quarantined), (102, 0));
    // As `zstd --long=31` writes it.
    let mut far = packed(20);
    assert_eq!(&far[4..6], &[0x00, 0x50], "no size, and a window of 2^20");
    far[5] = 0xa8;
    let (_, summary, _) = beside("a.jsonl.zst", &far);
    let reason = &summary.quarantine[0].reason;
    let wanted = [
        "needs a decompression window of 2048 MB",
        "more than the 128 MB that are allowed",
        "zstd -d --long=31",
    ];
    assert!(wanted.iter().all(|words| reason.contains(words)), "{reason}");
    assert!(!reason.contains("damaged"), "{reason}");
    // An xz block whose dictionary is of 4 GB: its size is the block header's 17th byte, sealed by a CRC.
    let mut far = crate::samples::XZ.to_vec();
    let header = 12;
    let header_bytes = (usize::from(far[header]) + 1) * 4;
    let property =
        header + far[header..header + header_bytes].windows(2).position(|two| two == [0x21, 1]).unwrap() + 2;
    far[property] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&far[header..header + header_bytes - 4]);
    far[header + header_bytes - 4..header + header_bytes].copy_from_slice(&crc.sum().to_le_bytes());
    let (_, summary, _) = beside("a.txt.xz", &far);
    let reason = &summary.quarantine[0].reason;
    assert!(
        reason.contains("needs a decompression window larger than the 128 MB") && reason.contains("xz -9"),
        "{reason}"
    );
}

/// What the child is told the folder by.
const FOLDER: &str = "TEXT2LLM_TEST_LIMITED_FOLDER";

/// Not a test: what runs under a limit.
#[test]
#[ignore = "run by other tests"]
fn limited_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = std::path::Path::new(&folder);
    let options = CorpusOptions { quarantine_limit: 1.0, threads: 1, ..undivided(&["in"]) };
    let out = folder.join("data/documents");
    let done = corpus::prepare(&store::fs::RealFs, &options, folder, &out, &mut runs::report::NoReport);
    match done {
        Ok(summary) => println!("prepared: {summary:?}"),
        Err(error) => println!("refused: {:?}: {error}", error.kind()),
    }
}

/// A system that gives no memory for a window says nothing of the file: the stage ends, and nothing is
/// quarantined for it.
#[cfg(target_os = "linux")]
#[test]
fn a_want_of_memory_is_no_damage() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    for number in 0..1000 {
        std::io::Write::write_all(&mut encoder, format!("{{\"text\": \"line {number}\"}}\n").as_bytes())
            .unwrap();
    }
    std::io::Write::flush(&mut encoder).unwrap();
    let project = Project::new(&[("in/0.txt", b"good"), ("in/a.jsonl.zst", &encoder.finish().unwrap())]);
    let run = |limit_kb: &str| {
        let script =
            format!("ulimit -v {limit_kb}; exec \"$0\" --exact costs::limited_child --ignored --nocapture");
        let child = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(FOLDER, project.path(""))
            .output()
            .unwrap();
        String::from_utf8_lossy(&child.stdout).into_owned()
    };
    let said = run("unlimited");
    assert!(said.contains("prepared:") && said.contains("documents_read: 1001"), "{said}");
    std::fs::remove_dir_all(project.path("data")).unwrap();
    // The window alone is 128 MB of it.
    let said = run("200000");
    assert!(
        said.contains("refused: Io") && said.contains("ulimit -v") && said.contains("a.jsonl.zst"),
        "{said}"
    );
}
