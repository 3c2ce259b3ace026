//! What becomes of good text.

use std::collections::BTreeSet;

use corpus::{CorpusOptions, Normalize};
use runs::report::{NoReport, Recorder};
use store::fs::RealFs;
use tokens::Split;

use crate::{Project, gzip, options, snapshot, undivided};

#[test]
fn every_format_and_packing_is_read() {
    let lines = b"{\"text\": \"four\"}\n\n{\"text\": \"five\", \"language\": \"XX\", \"more\": 1}\n";
    let project = Project::new(&[
        ("in/1.txt", b"one"),
        ("in/2.md.gz", &gzip(b"two")),
        ("in/3.TXT.zst", &zstd::encode_all(&b"three"[..], 1).unwrap()),
        ("in/deep/4.jsonl", lines),
        ("in/deep/5.jsonl.gz", &gzip(b"{\"text\":\"\\u00e9\"}")),
        ("in/ignored.css", b"p {}"),
        // Two members, as `cat a.gz b.gz` makes them.
        ("in/7.txt.gz", &[gzip(b"sev"), gzip(b"en")].concat()),
    ]);
    let summary = project.prepare(&undivided(&["in"])).unwrap();
    assert_eq!((summary.files, summary.ignored_files, summary.documents_read), (6, 1, 7));
    let documents = project.documents(Split::Train);
    let texts: Vec<_> = documents.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "three", "seven", "four", "five", "é"]);
    assert_eq!(documents[4].source, "in/deep/4.jsonl:1");
    assert_eq!(
        (documents[5].source.as_str(), documents[5].language.as_deref()),
        ("in/deep/4.jsonl:3", Some("xx"))
    );
    assert_eq!(documents[0].hash, blake3::hash(b"one").to_hex()[..32]);
    assert_eq!(summary.train.languages["xx"], 4);
    assert_eq!(project.texts(Split::Validation).len(), 0);
}

#[test]
fn repairs_normal_forms_duplicates_and_stubs_are_counted() {
    let project = Project::new(&[
        ("a.txt", b"caf\xe9 and \xff\xfe more".as_slice()),
        ("b.txt", "e\u{301}te\u{301}".as_bytes()),
        ("c.txt", "été".as_bytes()),
        ("d.txt", b"line\r\nline"),
        ("e.txt", b"\xef\xbb\xbfno mark"),
        ("f.txt", b" \n\t "),
        ("g.txt", b"ab"),
        ("h.txt", b"line\nline"),
        ("i.jsonl", b"{\"text\": \"bad \xe9\"}"),
    ]);
    let mut options = undivided(&["."]);
    options.minimum_characters = 3;
    let summary = project.prepare(&options).unwrap();
    assert_eq!(
        project.texts(Split::Train),
        ["caf\u{fffd} and \u{fffd}\u{fffd} more", "été", "line\nline", "no mark", "bad \u{fffd}"]
    );
    assert_eq!((summary.repaired_sequences, summary.normalized_documents), (4, 2));
    assert_eq!((summary.duplicates, summary.too_short), (2, 2));
    assert_eq!((summary.train.documents, summary.documents_read), (5, 9));
    let report: corpus::CorpusSummary =
        serde_json::from_slice(&std::fs::read(project.documents_folder().join("report.json")).unwrap())
            .unwrap();
    assert_eq!(report, summary);

    options.deduplicate = false;
    options.normalize = Normalize::None;
    let summary = project.prepare(&options).unwrap();
    assert_eq!((summary.duplicates, summary.normalized_documents, summary.train.documents), (0, 0, 7));
    assert_eq!(project.texts(Split::Train)[3], "line\r\nline");
}

#[test]
fn plain_text_is_one_document_or_several() {
    let text = "one\nstill one\n\n\n\ntwo\n\nthree\n";
    let project = Project::new(&[("a.txt", text.as_bytes())]);
    project.prepare(&undivided(&["a.txt"])).unwrap();
    assert_eq!(project.texts(Split::Train), [text]);

    let mut options = undivided(&["a.txt"]);
    options.document_separator = "\n\n".into();
    project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), ["one\nstill one", "two", "three"]);
    assert_eq!(project.documents(Split::Train)[2].source, "a.txt#3");
}

#[test]
fn long_documents_are_cut_between_lines_and_nothing_is_lost() {
    let line = format!("{}é\n", "x".repeat(97));
    let text = line.repeat(50);
    let mut record = serde_json::json!({ "text": text }).to_string();
    record.push('\n');
    let project = Project::new(&[("a.txt", text.as_bytes()), ("b.jsonl", record.as_bytes())]);
    for (name, source) in [("a.txt", "a.txt#2"), ("b.jsonl", "b.jsonl:1#2")] {
        let mut options = undivided(&[name]);
        options.maximum_document_bytes = 1024;
        options.deduplicate = false;
        let summary = project.prepare(&options).unwrap();
        let texts = project.texts(Split::Train);
        assert_eq!(texts.concat(), text);
        assert!(texts.iter().all(|part| part.len() <= 1024 && part.ends_with("é\n")));
        assert_eq!(summary.cuts as usize, texts.len() - 1);
        assert_eq!(project.documents(Split::Train)[1].source, source);

        // Exactly as long as may be: not cut.
        options.maximum_document_bytes = text.len();
        assert_eq!(project.prepare(&options).unwrap().cuts, 0);
        assert_eq!(project.texts(Split::Train), [text.as_str()]);
    }
}

fn many(count: usize) -> Project {
    let lines: String = (0..count).map(|i| format!("{{\"text\": \"document {i}\"}}\n")).collect();
    Project::new(&[("a.jsonl", lines.as_bytes())])
}

#[test]
fn a_document_s_side_does_not_depend_on_the_others() {
    let project = many(400);
    let mut options = options(&["a.jsonl"]);
    options.validation_fraction = 0.1;
    let summary = project.prepare(&options).unwrap();
    assert!((20..70).contains(&summary.validation.documents), "{}", summary.validation.documents);
    assert_eq!(summary.documents(), 400);
    let before: BTreeSet<_> = project.texts(Split::Validation).into_iter().collect();

    // The same documents in other files and another order, and some more.
    let mut lines: Vec<_> = (0..450).map(|i| format!("{{\"text\": \"document {i}\"}}\n")).collect();
    lines.reverse();
    project.write("a.jsonl", lines[..200].concat().as_bytes());
    project.write("b.jsonl", lines[200..].concat().as_bytes());
    options.paths.push("b.jsonl".into());
    project.prepare(&options).unwrap();
    let after: BTreeSet<_> = project.texts(Split::Validation).into_iter().collect();
    assert!(after.is_superset(&before));
    assert!(project.texts(Split::Train).iter().all(|text| !after.contains(text)));

    options.seed = 1;
    project.prepare(&options).unwrap();
    assert_ne!(project.texts(Split::Validation).into_iter().collect::<BTreeSet<_>>(), after);
}

#[test]
fn neither_side_is_empty_where_there_are_two_documents() {
    for count in 2..12 {
        for (fraction, seed) in [(0.001, 0), (0.001, 3), (0.5, 1), (0.5, 2)] {
            let project = many(count);
            let options = CorpusOptions { validation_fraction: fraction, seed, ..options(&["a.jsonl"]) };
            let summary = project.prepare(&options).unwrap();
            assert!(summary.validation.documents >= 1 && summary.train.documents >= 1, "{summary:?}");
            let (train, validation) = (project.texts(Split::Train), project.texts(Split::Validation));
            assert_eq!(
                (train.len(), validation.len()),
                (summary.train.documents as usize, summary.validation.documents as usize)
            );
            let all: BTreeSet<_> = train.iter().chain(&validation).collect();
            assert_eq!(all.len(), count, "nothing is lost or doubled");
            let bytes: usize = train.iter().map(String::len).sum();
            assert_eq!(bytes as u64, summary.train.bytes);
            assert_eq!(summary.train.languages.values().sum::<u64>(), summary.train.bytes);
        }
    }
}

#[test]
fn one_document_gives_its_end_and_the_counts_follow() {
    let text: String = (0..1000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    for seed in 0..6 {
        let project = Project::new(&[("a.txt", text.as_bytes())]);
        let options = CorpusOptions { validation_fraction: 0.1, seed, ..options(&["a.txt"]) };
        let summary = project.prepare(&options).unwrap();
        assert_eq!(project.texts(Split::Train), [&text[..900]]);
        assert_eq!(project.texts(Split::Validation), [&text[900..]]);
        assert_eq!((summary.train.characters, summary.validation.characters), (900, 100));
        assert_eq!(summary.train.documents, 1);
    }
}

/// A text as long as tinyshakespeare: nanoGPT's `data[:int(n * 0.9)]` gives 1,003,854 characters to train on
/// and 111,540 to validate on.
#[test]
fn one_text_is_split_where_nanogpt_splits_tinyshakespeare() {
    let mut text = testkit::text(1_115_394, 1);
    text.truncate(1_115_393);
    text.push('.');
    let project = Project::new(&[("input.txt", text.as_bytes())]);
    let options = CorpusOptions { validation_fraction: 0.1, ..options(&["input.txt"]) };
    let summary = project.prepare(&options).unwrap();
    let (training, validation) = text.split_at(1_003_854);
    assert_eq!(validation.len(), 111_540);
    assert!(project.texts(Split::Train) == [training]);
    assert!(project.texts(Split::Validation) == [validation]);
    assert_eq!(summary.train.languages.keys().collect::<Vec<_>>(), ["en"]);
}

#[test]
fn the_sample_corpus_is_half_english_half_french() {
    let project = Project::new(&[]);
    let summary = project.prepare(&CorpusOptions::default()).unwrap();
    assert_eq!((summary.quarantined, summary.duplicates, summary.repaired_sequences), (0, 0, 0));
    assert_eq!(summary.normalized_documents, 0);
    assert!((2_800_000..=3_200_000).contains(&summary.bytes()), "{}", summary.bytes());
    let languages = summary.languages();
    assert_eq!(languages.len(), 2);
    for (language, bytes) in languages {
        assert!(["en", "fr"].contains(&language.as_str()));
        assert!((1_400_000..=1_600_000).contains(&bytes), "{language}: {bytes}");
    }
    assert!(summary.validation.documents > 40 && summary.validation.languages.len() == 2);
    assert_eq!(project.documents(Split::Train)[0].source, "sample:1");
}

#[test]
fn the_same_input_gives_the_same_bytes_and_is_not_read_twice() {
    let files: [(&str, &[u8]); 3] = [("in/b.txt", b"two"), ("in/a.txt", b"one"), ("in/c/d.txt", b"three")];
    let project = Project::new(&files);
    let first = project.prepare(&options(&["in"])).unwrap();
    assert!(!first.reused);
    let bytes = snapshot(&project.documents_folder());
    let again = project.prepare(&options(&["in"])).unwrap();
    assert!(again.reused);
    assert_eq!(corpus::CorpusSummary { reused: false, ..again }, first);

    let other = Project::new(&[files[2], files[0], files[1]]);
    other.prepare(&options(&["in"])).unwrap();
    assert_eq!(snapshot(&other.documents_folder()), bytes);

    project.write("in/a.txt", b"changed");
    let summary = project.prepare(&options(&["in"])).unwrap();
    assert!(!summary.reused);
    assert_ne!(snapshot(&project.documents_folder()), bytes);

    // A damaged folder is made anew.
    let damaged = project.documents_folder().join("train.jsonl.zst");
    std::fs::write(&damaged, b"").unwrap();
    assert!(!project.prepare(&options(&["in"])).unwrap().reused);
    assert!(std::fs::metadata(&damaged).unwrap().len() > 0);
}

#[test]
fn inputs_name_every_file_and_its_content() {
    let project = Project::new(&[("a.txt", b"one"), ("b.txt", b"two")]);
    let inputs = corpus::inputs(&RealFs, &options(&["*.txt", "sample"]), project.folder.path()).unwrap();
    assert_eq!(inputs.keys().collect::<Vec<_>>(), ["a.txt", "b.txt", "sample"]);
    assert_eq!(inputs["a.txt"], blake3::hash(b"one").to_hex().to_string());
}

#[test]
fn warnings_tell_of_other_encodings_and_lopsided_splits() {
    let latin: Vec<u8> = "Un été à la plage, l'école fermée. ".repeat(9).chars().map(|c| c as u8).collect();
    let project = Project::new(&[("a.txt", latin.as_slice()), ("b.txt", b"b")]);
    let mut events = Recorder::default();
    let folder = project.documents_folder();
    corpus::prepare(&RealFs, &options(&["."]), project.folder.path(), &folder, &mut events).unwrap();
    let warnings = events.warnings();
    assert!(warnings[0].contains("`./a.txt` has") && warnings[0].contains("iconv"), "{warnings:?}");
    assert!(
        warnings[1].contains("the validation split has") && warnings[1].contains("document_separator"),
        "{warnings:?}"
    );

    let mut events = Recorder::default();
    let project = many(300);
    let folder = project.documents_folder();
    corpus::prepare(&RealFs, &options(&["a.jsonl"]), project.folder.path(), &folder, &mut events).unwrap();
    assert_eq!(events.warnings(), [""; 0]);
}

#[test]
fn texts_can_be_lent_to_a_trainer() {
    let project = many(30);
    project.prepare(&undivided(&["a.jsonl"])).unwrap();
    let folder = project.documents_folder();
    let options = tokenizer::TokenizerOptions { kind: tokenizer::Kind::Char, ..Default::default() };
    let tokenizer = corpus::texts(&RealFs, &folder, Split::Train, |texts| {
        tokenizer::train(texts, &options, &tokenizer::Normalizer::text(), &mut NoReport)
    })
    .unwrap()
    .unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("document 1").unwrap(), true), "document 1");

    // A file cut short is an error of the whole, not a shorter text.
    let path = folder.join("train.jsonl.zst");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 6]).unwrap();
    let result = corpus::texts(&RealFs, &folder, Split::Train, |texts| texts.count());
    assert!(result.unwrap_err().to_string().contains("is damaged"));
}
