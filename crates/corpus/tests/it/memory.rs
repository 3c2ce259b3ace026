//! What hostile files, and long runs of one class of characters, cost in memory: a child process does the
//! work, and its peak is read from the system.

use std::path::Path;
use std::process::Command;

use corpus::CorpusOptions;
use corpus::contamination::DecontaminateOptions;
use corpus::filter::FilterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use runs::report::NoReport;
use store::fs::RealFs;
use testkit::runs::RUNS;
use tokenizer::{Kind, Normalizer, PreTokenizer, Tokenizer, TokenizerOptions};
use tokens::Split;

use crate::samples::{flate, parquet_by, pdf, pdf_with_form};
use crate::{Project, gzip, options, undivided};

/// What the child is told the folder by.
const FOLDER: &str = "TEXT2LLM_TEST_FOLDER";
/// And what to do there by this.
const STAGE: &str = "TEXT2LLM_TEST_STAGE";
const MARK: &str = "peak of this process: ";

/// The most memory that preparing a file takes.
fn peak_bytes(name: &str, bytes: &[u8]) -> u64 {
    let project = Project::new(&[("in/0.txt", b"good"), (&format!("in/{name}"), bytes)]);
    peak_of(&project, "prepare", name)
}

/// The most memory that a stage takes in a project.
fn peak_of(project: &Project, stage: &str, name: &str) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child", "--ignored", "--nocapture"])
        .env(FOLDER, project.path(""))
        .env(STAGE, stage)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{stage}, {name}: {said}");
    let peak = said.split_once(MARK).unwrap().1.split_whitespace().next().unwrap();
    peak.parse::<u64>().unwrap()
}

/// Not a test: what [`peak_bytes`] measures.
#[test]
#[ignore = "run by other tests"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let plain = CorpusOptions { quarantine_limit: 1.0, ..options(&["in"]) };
    let (documents, tokens) = (folder.join("data/documents"), folder.join("data/tokens"));
    let prepare = |options: CorpusOptions| {
        corpus::prepare(&RealFs, &options, folder, &documents, &mut NoReport).unwrap();
    };
    let stage = std::env::var(STAGE).unwrap();
    match stage.split_once(' ').unwrap_or((&stage, "")) {
        // One split, so that training sees all of it.
        ("prepare", _) => prepare(CorpusOptions { quarantine_limit: 1.0, ..undivided(&["in"]) }),
        ("filters", _) => {
            let filters = FilterOptions {
                gopher_repetition: Some(Default::default()),
                gopher_quality: Some(Default::default()),
                c4: Some(Default::default()),
                fineweb: Some(Default::default()),
                ..FilterOptions::default()
            };
            // The file that is beside the run is dropped by them; the run must not be all there is.
            let options = CorpusOptions { filters, ..plain };
            let error = corpus::prepare(&RealFs, &options, folder, &documents, &mut NoReport).unwrap_err();
            assert!(error.to_string().contains("no text is left"), "{error}");
        }
        ("rest", _) => prepare(CorpusOptions {
            repair: Some(Default::default()),
            near_duplicates: Some(Default::default()),
            duplicate_lines: Some(Default::default()),
            redact: Some(Default::default()),
            decontaminate: Some(DecontaminateOptions {
                against: vec!["set.jsonl".to_owned()],
                ..DecontaminateOptions::default()
            }),
            ..plain
        }),
        ("tokenize", name) => {
            let tokenizer = Tokenizer::open(&RealFs, &folder.join(name)).unwrap();
            corpus::tokenize(&RealFs, &documents, &tokenizer, &tokens, &mut NoReport).unwrap();
        }
        ("train", kind) => {
            let kind = if kind == "unigram" { Kind::Unigram } else { Kind::Bpe };
            let trained = corpus::texts(&RealFs, &documents, Split::Train, |texts| {
                let options = TokenizerOptions { kind, vocab_size: 1024, ..TokenizerOptions::default() };
                // Of a run of one character there is not enough to learn.
                drop(tokenizer::train(texts, &options, &Normalizer::text(), &mut NoReport));
            });
            trained.unwrap();
        }
        (other, _) => panic!("{other}"),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{MARK}{}", kilobytes << 10);
}

/// Four times a file and 64 MB.
#[test]
#[allow(clippy::print_stdout)] // what was measured
fn hostile_files_take_little_memory() {
    if !cfg!(target_os = "linux") {
        testkit::skip("the peak of a process is read from /proc");
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

/// Four times the file and 64 MB for 16 MB of one class: in preparing with every stage that looks at text, in
/// training a tokenizer and in encoding.
#[test]
#[allow(clippy::print_stdout)] // what was measured
fn a_run_of_one_class_takes_little_memory() {
    const BYTES: usize = 16 << 20;
    if !cfg!(target_os = "linux") {
        testkit::skip("the peak of a process is read from /proc");
        return;
    }
    let project = Project::new(&[("in/0.txt", b"good"), ("in/run.txt", b"harmless")]);
    let item = "an item of an evaluation set with words enough to be looked for in any text";
    project.write("set.jsonl", format!("{{\"query\": \"{item}\"}}").as_bytes());
    let kinds = [
        ("qwen2", Kind::Bpe, PreTokenizer::Qwen2),
        ("gpt-2", Kind::Bpe, PreTokenizer::Gpt2),
        ("unigram", Kind::Unigram, PreTokenizer::LlamaBpe),
    ];
    for (name, kind, pre_tokenizer) in kinds {
        let options =
            TokenizerOptions { kind, pre_tokenizer, vocab_size: 320, ..TokenizerOptions::default() };
        let texts = RUNS.map(|run| run.text(1000));
        tokenizer::train(texts, &options, &Normalizer::text(), &mut NoReport)
            .unwrap()
            .save(&RealFs, &project.path(name), None)
            .unwrap();
    }
    let stages = [
        "filters",
        "rest",
        "prepare",
        "tokenize qwen2",
        "tokenize gpt-2",
        "tokenize unigram",
        "train bpe",
        "train unigram",
    ];
    let harmless = stages.map(|stage| peak_of(&project, stage, "harmless"));
    let mut failed = Vec::new();
    for name in [
        "ACGT",
        "digits",
        "one letter",
        "spaces",
        "punctuation",
        "combining marks",
        "line feeds",
        "short lines",
        "addresses",
        "different addresses",
    ] {
        let run = RUNS.iter().find(|run| run.name == name).unwrap();
        // A text of white space alone is none.
        project.write("in/run.txt", format!("a{}b", run.text(BYTES - 2)).as_bytes());
        for (stage, harmless) in stages.into_iter().zip(harmless) {
            // The library's unigram trainer takes minutes and 300 bytes for each byte of millions of
            // different words.
            if stage == "train unigram" && name.contains("addresses") {
                continue;
            }
            let taken = peak_of(&project, stage, name).saturating_sub(harmless);
            println!("{name}, {stage}: {:.0} MB", taken as f64 / 1e6);
            if taken > 4 * BYTES as u64 + (64 << 20) {
                failed.push(format!("{name}, {stage}: {:.0} MB", taken as f64 / 1e6));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
