//! Bad files and options: one clear error each, and nothing lost.

use corpus::{CorpusOptions, ErrorKind};
use runs::report::Recorder;
use store::fs::RealFs;
use tokens::Split;

use crate::{Project, gzip, options, snapshot, undivided};

/// A file that the recipe names gives an error with all of `wanted`.
fn refused(name: &str, bytes: &[u8], kind: ErrorKind, wanted: &[&str]) {
    let project = Project::new(&[(name, bytes)]);
    let error = project.prepare(&options(&[name])).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    for part in wanted {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    assert!(message.contains(name) || message.contains("no text is left"), "{message}");
    assert!(!project.documents_folder().exists(), "nothing half-made is left in place");
}

#[test]
fn named_files_that_are_no_text_are_refused() {
    use ErrorKind::Data;
    refused("a.txt", b"", Data, &["is empty"]);
    refused("a.txt", b"\xef\xbb\xbf", Data, &["is empty"]);
    refused("a.txt", b"\x7fELF\x02\x01\x01\0\0", Data, &["binary"]);
    refused("a.txt", b"\xff\xfeh\0i\0", Data, &["UTF-16", "iconv"]);
    refused("a.txt.gz", b"not gzip at all", Data, &["damaged or truncated"]);
    refused("a.txt.zst", b"not zstd at all", Data, &["damaged or truncated"]);
    refused("a.txt.gz", &gzip(b""), Data, &["is empty"]);
    refused("a.txt", b"  \n", Data, &["no text is left", "minimum_characters"]);
    refused("a.jsonl", b"{\"text\": 1}\n", Data, &["line 1", "not a string", "text_field"]);
    refused(
        "a.jsonl",
        b"{\"title\": \"x\", \"body\": \"y\"}\n",
        Data,
        &["no field `text`", "title, body", "set data.text_field"],
    );
    refused("a.jsonl", b"\n\n[1]\n", Data, &["line 3", "not a JSON object"]);
    refused("a.jsonl", b"{\"text\": ", Data, &["line 1", "is not JSON"]);
    refused("a.jsonl", b"\n\n", Data, &["no JSON line"]);
}

#[test]
fn paths_that_lead_nowhere_are_named() {
    let project = Project::new(&[("here.txt", b"x")]);
    let error = project.prepare(&options(&["here.txt", "missing.txt"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("`missing.txt` does not exist"), "{error}");
    let mut bad = options(&[]);
    assert_eq!(project.prepare(&bad).unwrap_err().kind(), ErrorKind::Invalid);
    bad = CorpusOptions { validation_fraction: 0.7, ..options(&["here.txt"]) };
    assert!(project.prepare(&bad).unwrap_err().to_string().contains("data.validation_fraction: 0.7"));
}

#[test]
fn in_folders_bad_files_and_lines_are_passed_over_and_told() {
    let project = Project::new(&[
        ("in/a.txt", b"good".as_slice()),
        ("in/b.txt", b""),
        ("in/c.txt", b"\0\x01\x02"),
        ("in/d.jsonl", b"{\"text\": \"fine\"}\n{\"text\": 3}\nnonsense\n{\"text\": \"also\"}\n"),
        ("in/e.jsonl", b"{\"body\": \"x\"}\n"),
    ]);
    let mut events = Recorder::default();
    let folder = project.documents_folder();
    let all = CorpusOptions { quarantine_limit: 1.0, ..undivided(&["in"]) };
    let summary = corpus::prepare(&RealFs, &all, project.folder.path(), &folder, &mut events).unwrap();
    assert_eq!(project.texts(Split::Train), ["good", "fine", "also"]);
    assert_eq!(summary.quarantined, 5, "{:?}", summary.quarantine);
    assert_eq!(summary.passed_over["empty file"], 1);
    let listed: Vec<_> = summary.quarantine.iter().map(|q| q.source.as_str()).collect();
    assert_eq!(listed, ["in/c.txt", "in/d.jsonl:2", "in/d.jsonl:3", "in/e.jsonl:1", "in/e.jsonl"]);
    assert_eq!(events.warnings().len(), 5);

    // Only bad files: an error that says why.
    let project = Project::new(&[("in/a.txt", b""), ("in/b.txt", b"\0")]);
    let message = project.prepare(&undivided(&["in"])).unwrap_err().to_string();
    assert!(
        message.contains("none of its 2 files contains") && message.contains("`in/a.txt` is empty"),
        "{message}"
    );
}

#[test]
fn an_unreadable_line_length_is_bounded() {
    let mut lines = b"{\"text\": \"first\"}\n{\"text\": \"".to_vec();
    lines.extend(vec![b'x'; 10_000]);
    lines.extend(b"\"}\n{\"text\": \"third\"}\n");
    let project = Project::new(&[("a.jsonl", lines.as_slice())]);
    let mut options = undivided(&["a.jsonl"]);
    options.quarantine_limit = 0.5;
    options.maximum_document_bytes = 1024;
    let summary = project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), ["first", "third"]);
    assert_eq!(summary.quarantine[0].source, "a.jsonl:2");
}

#[test]
fn a_failed_run_leaves_the_last_good_documents() {
    let project = Project::new(&[("a.txt", b"good"), ("b.txt", b"also")]);
    project.prepare(&options(&["*.txt"])).unwrap();
    let before = snapshot(&project.documents_folder());
    project.write("c.txt.gz", b"damaged");
    assert!(project.prepare(&options(&["*.txt", "c.txt.gz"])).is_err());
    assert_eq!(snapshot(&project.documents_folder()), before);
}

#[test]
fn a_full_disk_is_told_as_such() {
    use store::fs::Fs as _;
    let disk = store::fs::faulty::MemoryFs::new();
    disk.create_dir_all(std::path::Path::new("/p/data")).unwrap();
    disk.set_capacity(Some(10_000));
    let error = corpus::prepare(
        &disk,
        &CorpusOptions::default(),
        std::path::Path::new("/p"),
        std::path::Path::new("/p/data/documents"),
        &mut runs::report::NoReport,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no space left"), "{error}");
}
