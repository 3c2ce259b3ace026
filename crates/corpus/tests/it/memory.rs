//! What hostile files cost in memory: each is prepared by a child process, whose peak is read from the system.

use std::path::Path;
use std::process::Command;

use corpus::CorpusOptions;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use store::fs::RealFs;
use store::report::NoReport;

use crate::samples::{flate, parquet_by, pdf, pdf_with_form};
use crate::{Project, gzip, undivided};

/// What the child is told the folder by.
const FOLDER: &str = "TEXT2LLM_TEST_FOLDER";
const MARK: &str = "peak of this process: ";

/// The most memory that preparing a file takes, beside what a harmless one does.
fn peak_bytes(name: &str, bytes: &[u8]) -> u64 {
    let project = Project::new(&[("in/0.txt", b"good"), (&format!("in/{name}"), bytes)]);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child", "--ignored", "--nocapture"])
        .env(FOLDER, project.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{name}: {said}");
    let peak = said.split_once(MARK).unwrap().1.split_whitespace().next().unwrap();
    peak.parse::<u64>().unwrap()
}

/// Not a test: what [`peak_bytes`] measures.
#[test]
#[ignore = "run by other tests"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let options = CorpusOptions { quarantine_limit: 1.0, ..undivided(&["in"]) };
    let out = folder.join("data/documents");
    corpus::prepare(&RealFs, &options, folder, &out, &mut NoReport).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{MARK}{}", kilobytes << 10);
}

/// Four times a file and 64 MB.
#[test]
#[allow(clippy::print_stdout)] // what is skipped, and what was measured
fn hostile_files_take_little_memory() {
    if !cfg!(target_os = "linux") {
        println!("skipped: the peak of a process is read from /proc");
        return;
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let harmless = peak_bytes("a.txt", b"good");
    let delta = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY)
        .set_compression(Compression::SNAPPY)
        .build();
    let long = "x".repeat(4 << 20);
    let form = flate(&b"q Q ".repeat(1 << 20));
    let line = |value: &str| format!("{{\"x\": [{}0], \"text\": \"a\"}}", value.repeat(4 << 20));
    for (name, bytes) in [
        ("a.parquet", parquet_by(delta, &vec![(Some(long.as_str()), None); 500], 500)),
        ("a.jsonl", line("0,").into_bytes()),
        ("a.jsonl.gz", gzip(line("[],").as_bytes())),
        ("a.html", "<p>a".repeat(4 << 20).into_bytes()),
        ("a.pdf", pdf(&[&"0 ".repeat(7 << 20)])),
        ("a.pdf", pdf(&[&format!("[{}]TJ", "(a)".repeat(4 << 20))])),
        ("a.pdf", pdf_with_form(&"/X Do ".repeat(500_000), &form)),
    ] {
        let taken = peak_bytes(name, &bytes).saturating_sub(harmless);
        // The first million elements of a page are taken for those of a specification.
        let elements = if name.ends_with("html") { 96 << 20 } else { 0 };
        let allowed = 4 * bytes.len() as u64 + (64 << 20) + elements;
        println!("{name} of {:.2} MB: {:.0} MB", mb(bytes.len() as u64), mb(taken));
        assert!(taken <= allowed, "{name}: {:.0} MB, not {:.0}", mb(taken), mb(allowed));
    }
}
