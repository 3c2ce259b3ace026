//! Ranks: whatever their number, what is put together of them is what one process makes, to the byte.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use corpus::contamination::DecontaminateOptions;
use corpus::dedup::DuplicateOptions;
use corpus::dedup::lines::LineOptions;
use corpus::dedup::spans::SpanOptions;
use corpus::redact::RedactOptions;
use corpus::repair::RepairOptions;
use corpus::{CorpusOptions, CorpusSummary, ErrorKind, Mix, Rank, Ranks};
use runs::report::{Event, NoReport, Recorder, Reporter};
use store::fs::RealFs;
use store::manifest::Manifest;
use tokens::MixOptions;

use crate::{Project, byte_tokenizer, gzip, options, snapshot};

/// Sentences that differ with `seed`.
fn prose(sentences: u64, seed: u64) -> String {
    const WORDS: [&str; 16] = [
        "the", "river", "carries", "boats", "under", "an", "old", "bridge", "while", "children", "count",
        "stones", "and", "listen", "to", "bells",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 33) as usize % WORDS.len()]
    };
    let mut sentence = || (0..12).map(|_| word()).collect::<Vec<_>>().join(" ") + ".\n";
    (0..sentences).map(|_| sentence()).collect()
}

/// Two entries: files of many kinds, some of them broken, with duplicates of every kind across them, and a
/// table.
fn mixed_project() -> Project {
    let project = Project::new(&[
        ("lines.txt", (prose(9, 1) + &prose(3, 2)).as_bytes()),
        ("texts/a.txt", prose(30, 3).as_bytes()),
        ("texts/again.txt", prose(30, 3).as_bytes()),
        ("texts/b.md", (prose(40, 4) + "One more line.\n").as_bytes()),
        ("texts/binary.txt", b"\0\x01\x02\0\0\xff\xfe\0"),
        ("texts/c.html", format!("<html><body><p>{}</p></body></html>", prose(20, 5)).as_bytes()),
        ("texts/cut.jsonl.gz", &gzip(&vec![b'x'; 5000])[..20]),
        ("texts/empty.txt", b""),
        ("texts/latin.txt", &[b"caf\xe9 ".repeat(60), prose(20, 6).into_bytes()].concat()),
        ("texts/near.txt", (prose(40, 4) + "Another end.\n").as_bytes()),
        ("texts/z.css", b"p {}"),
        ("exam.txt", b"which river carries the heavy boats under the very old stone bridge at noon today"),
    ]);
    let mut table = String::new();
    for row in 0..300u64 {
        let text = match row % 10 {
            0 => prose(6, row / 20),
            1 => format!("{}Write to user{row}@mail.org or call +1 212-555-0143.", prose(3, row)),
            2 => format!(
                "{}{}",
                "A line that comes again and again in all of them.\n".repeat(2),
                prose(5, row)
            ),
            3 if row < 50 => "x".to_owned(),
            4 if row < 100 => {
                table += "{\"no\": \"text\"}\n";
                continue;
            }
            5 if row < 50 => format!(
                "So: which river carries the heavy boats under the very old stone bridge at noon today? {}",
                prose(2, row)
            ),
            6 => prose(5, row).replace("bridge", "brÃ¼cke"),
            _ => prose(4, row),
        };
        table += &serde_json::json!({ "text": text }).to_string();
        table.push('\n');
    }
    project.write("table.jsonl", table.as_bytes());
    project
}

fn everything() -> CorpusOptions {
    CorpusOptions {
        quarantine_limit: 1.0,
        minimum_characters: 20,
        repair: Some(RepairOptions::default()),
        near_duplicates: Some(DuplicateOptions::default()),
        duplicate_spans: Some(SpanOptions { minimum_bytes: 100, ..SpanOptions::default() }),
        duplicate_lines: Some(LineOptions::default()),
        decontaminate: Some(DecontaminateOptions {
            against: vec!["exam.txt".to_owned()],
            ..DecontaminateOptions::default()
        }),
        redact: Some(RedactOptions::default()),
        keep_dropped: true,
        mix: Some(MixOptions::default()),
        validation_fraction: 0.2,
        ..options(&["texts", "table.jsonl", "lines.txt"])
    }
}

impl Project {
    fn ranks_folder(&self) -> PathBuf {
        self.path("data/ranks")
    }

    fn filter(&self, options: &CorpusOptions, number: usize, of: usize) -> bool {
        let rank = Rank::new(number, of).unwrap();
        let folder = self.ranks_folder();
        corpus::filter_rank(&RealFs, options, self.folder.path(), &folder, rank, &mut NoReport)
            .unwrap()
            .reused
    }

    fn put_together(
        &self,
        options: &CorpusOptions,
        of: usize,
        out: &Path,
        reporter: &mut dyn Reporter,
    ) -> corpus::Result<CorpusSummary> {
        let ranks = Ranks { folder: &self.ranks_folder(), of };
        corpus::prepare_filtered(&RealFs, options, self.folder.path(), &ranks, out, reporter)
    }
}

/// The ranks that have left no decisions by these options, by their marks.
fn unfiltered(options: &CorpusOptions, ranks: &Ranks<'_>) -> Vec<usize> {
    let is_filtered = |number: &usize| {
        let stage = corpus::filter_by(options, Rank::new(*number, ranks.of).unwrap());
        let mark = Manifest::read(&RealFs, &ranks.of_rank(stage.name, *number));
        mark.is_ok_and(|mark| stage.has_options_of(&mark))
    };
    (0..ranks.of).filter(|number| !is_filtered(number)).collect()
}

#[test]
fn any_number_of_ranks_gives_the_bytes_of_one_process() {
    let project = mixed_project();
    let tokenizer = byte_tokenizer();
    let plain = everything();
    let mut without =
        CorpusOptions { near_duplicates: None, duplicate_lines: None, mix: None, ..plain.clone() };
    (without.keep_dropped, without.duplicate_spans) = (false, None);
    for options in [plain, without] {
        let mut told = Recorder::default();
        let out = project.documents_folder();
        let summary = corpus::prepare(&RealFs, &options, project.folder.path(), &out, &mut told).unwrap();
        assert!(
            summary.quarantined > 9 && summary.duplicates > 5 && summary.documents() > 100,
            "{summary:?}"
        );
        assert!(summary.evaluation_sets["exam.txt"].found == 1 && summary.redactions.len() > 1);
        assert!(
            told.warnings().iter().any(|warning| warning.contains("latin.txt") && warning.contains("iconv"))
        );
        if options.near_duplicates.is_some() {
            assert!(summary.near_duplicates > 0 && summary.repeated_lines.is_some());
            assert!(summary.repeated_spans.as_ref().is_some_and(|spans| spans.removed > 0));
        }
        let weights = [("texts", 3.0), ("table.jsonl", 1.0), ("lines.txt", 0.5)];
        let weights = weights.map(|(name, weight)| (name.to_owned(), weight)).into();
        let mix = MixOptions { weights, maximum_epochs: 2.5, ..MixOptions::default() };
        let mix = options.mix.is_some().then_some(Mix { options: &mix, seed: 7 });
        let tokens = project.tokens_folder();
        match mix {
            Some(mix) => corpus::tokenize_mixed(&RealFs, &out, &tokenizer, mix, &tokens, &mut NoReport),
            None => corpus::tokenize(&RealFs, &out, &tokenizer, &tokens, &mut NoReport),
        }
        .unwrap();
        for of in [1, 2, 3, 8, 30] {
            for number in (0..of).rev() {
                assert!(!project.filter(
                    &CorpusOptions { threads: 1 + number % 2, ..options.clone() },
                    number,
                    of
                ));
                assert!(project.filter(&options, number, of), "done already");
            }
            let (folder, mut heard) = (project.path("by-ranks/documents"), Recorder::default());
            drop(std::fs::remove_dir_all(&folder));
            let together = project.put_together(&options, of, &folder, &mut heard).unwrap();
            assert_eq!(together, summary, "{of} ranks");
            assert_eq!(snapshot(&folder), snapshot(&out), "{of} ranks");
            assert_eq!(heard.warnings(), told.warnings(), "{of} ranks");
            assert!(project.put_together(&options, of, &folder, &mut NoReport).unwrap().reused);

            let ranks = Ranks { folder: &project.ranks_folder(), of };
            for number in 0..of {
                let rank = Rank::new(number, of).unwrap();
                let encode = || {
                    corpus::encode_rank(&RealFs, &folder, &tokenizer, ranks.folder, rank, &mut NoReport)
                        .unwrap()
                };
                assert!(!encode().reused && encode().reused);
            }
            let shards = project.path("by-ranks/tokens");
            drop(std::fs::remove_dir_all(&shards));
            corpus::tokenize_encoded(&RealFs, &folder, &tokenizer, mix, &ranks, &shards, &mut NoReport)
                .unwrap();
            assert_eq!(snapshot(&shards), snapshot(&tokens), "{of} ranks");
        }
    }
}

#[test]
fn ranks_that_are_missing_stale_or_damaged_are_named() {
    let project = mixed_project();
    let options = everything();
    let out = project.documents_folder();
    let refused = |told: &[&str]| {
        let error = project.put_together(&options, 3, &out, &mut NoReport).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        for told in told {
            assert!(error.to_string().contains(told), "{error}");
        }
        assert!(!out.exists());
    };
    let folder = project.ranks_folder();
    let ranks = Ranks { folder: &folder, of: 3 };
    let unfiltered = || unfiltered(&options, &ranks);
    (0..2).for_each(|number| assert!(!project.filter(&options, number, 3)));
    refused(&["rank 2 is missing", "not all 3 ranks have finished the stage `filter`"]);
    assert_eq!(unfiltered(), [2]);
    project.filter(&CorpusOptions { minimum_characters: 21, ..options.clone() }, 2, 3);
    refused(&["rank 2 is out of date"]);
    assert_eq!(unfiltered(), [2]);
    assert!(!project.filter(&options, 2, 3));
    assert!(unfiltered().is_empty());
    // The same size, other bytes.
    project.write("lines.txt", (prose(9, 1) + &prose(3, 2)).replace("river", "rover").as_bytes());
    refused(&["rank 2 is out of date"]);
    assert!(!project.filter(&options, 2, 3));
    let decisions = ranks.of_rank("filter", 0).join("decisions.jsonl.zst");
    let mut bytes = std::fs::read(&decisions).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&decisions, bytes).unwrap();
    refused(&["rank 0 is damaged"]);
    assert!(!project.filter(&options, 0, 3), "what is damaged is made again");
    // What is done with decisions does not make them stale.
    let split = CorpusOptions { validation_fraction: 0.3, seed: 5, deduplicate: false, ..options.clone() };
    assert!((0..3).all(|number| project.filter(&split, number, 3)));
    project.put_together(&options, 3, &out, &mut NoReport).unwrap();

    let tokenizer = byte_tokenizer();
    let encode = |number| {
        let rank = Rank::new(number, 3).unwrap();
        corpus::encode_rank(&RealFs, &out, &tokenizer, &folder, rank, &mut NoReport).unwrap();
    };
    encode(1);
    let tokens = project.tokens_folder();
    let tokenize =
        || corpus::tokenize_encoded(&RealFs, &out, &tokenizer, None, &ranks, &tokens, &mut NoReport);
    let error = tokenize().unwrap_err().to_string();
    assert!(error.contains("rank 0 is missing; rank 2 is missing"), "{error}");
    (0..3).for_each(encode);
    tokenize().unwrap();
    project.put_together(&split, 3, &out, &mut NoReport).unwrap();
    let error = tokenize().unwrap_err().to_string();
    assert!(error.contains("rank 0 is out of date"), "{error}");
}

/// Ends the work at the second word about progress, as a kill would.
struct Killer(u32);

impl Reporter for Killer {
    fn event(&mut self, _event: &Event) {
        self.0 += 1;
        assert!(self.0 < 3, "killed");
    }
}

#[test]
fn a_rank_that_is_killed_leaves_no_mark_and_is_made_again() {
    let project = mixed_project();
    let options = everything();
    let folder = project.ranks_folder();
    let ranks = Ranks { folder: &folder, of: 2 };
    for number in 0..2 {
        let rank = Rank::new(number, 2).unwrap();
        let judge = |reporter: &mut dyn Reporter| {
            corpus::filter_rank(&RealFs, &options, project.folder.path(), &folder, rank, reporter)
        };
        if number == 0 {
            assert!(catch_unwind(AssertUnwindSafe(|| judge(&mut Killer(0)))).is_err());
            assert!(folder.join(".filter-00000-of-00002.partial/decisions.jsonl.zst").exists());
            assert_eq!(unfiltered(&options, &ranks), [0, 1]);
        }
        assert!(!judge(&mut NoReport).unwrap().reused);
    }
    let out = project.documents_folder();
    let together = project.put_together(&options, 2, &out, &mut NoReport).unwrap();
    let plain = project.path("plain");
    let alone = corpus::prepare(&RealFs, &options, project.folder.path(), &plain, &mut NoReport).unwrap();
    assert_eq!((together, snapshot(&out)), (alone, snapshot(&plain)));
}

#[test]
fn what_one_process_refuses_ranks_refuse() {
    let project =
        Project::new(&[("a.txt", prose(30, 1).as_bytes()), ("none/b.txt", b""), ("none/c.txt", b"\0\0")]);
    let options = options(&["a.txt", "none"]);
    let alone = project.prepare(&options).unwrap_err().to_string();
    (0..2).for_each(|number| assert!(!project.filter(&options, number, 2)));
    let together = project.put_together(&options, 2, &project.documents_folder(), &mut NoReport).unwrap_err();
    assert_eq!(together.to_string(), alone);
    assert!(alone.contains("none of its 2 files contains a document"), "{alone}");
}

#[test]
fn ranks_folders_are_no_text() {
    let project = Project::new(&[("a.txt", prose(30, 1).as_bytes())]);
    let options = options(&["."]);
    project.filter(&options, 0, 1);
    project.write("data/ranks/logs/filter-0.txt", b"words of a rank");
    assert!(project.filter(&options, 0, 1), "its own output is not read as input");
}
