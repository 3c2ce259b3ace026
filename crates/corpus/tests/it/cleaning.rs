//! Redaction, decontamination and repair in the data stage.

use std::collections::BTreeMap;
use std::path::Path;

use corpus::DroppedDocument;
use corpus::classifier::ClassifierOptions;
use corpus::classifier::train::{Example, TrainingOptions, train};
use corpus::contamination::DecontaminateOptions;
use corpus::dedup::lines::LineOptions;
use corpus::redact::{Class, RedactOptions, Redactor};
use corpus::repair::RepairOptions;
use corpus::survey;
use serde_json::Value;
use store::fs::RealFs;
use tokens::MixOptions;
use tokens::Split;

use runs::report::NoReport;

use crate::{Project, byte_tokenizer, snapshot, undivided};

#[test]
fn personal_data_is_replaced_and_nothing_of_it_is_left_in_the_folder() {
    let text = "Write to ann.lee@mail.org or call (212) 555-0143. IBAN DE89 3704 0044 0532 0130 00. \
                ann.lee@mail.org again.";
    let short = "bob@mail.org";
    let project = Project::new(&[("in/a.txt", text.as_bytes()), ("in/b.txt", short.as_bytes())]);
    let mut options = undivided(&["in"]);
    options.redact = Some(RedactOptions::default());
    options.minimum_characters = 20;
    options.keep_dropped = true;
    let summary = project.prepare(&options).unwrap();
    assert_eq!(
        project.texts(Split::Train),
        ["Write to [EMAIL_1] or call [PHONE_1]. IBAN [IBAN_1]. [EMAIL_1] again."]
    );
    let counts: Vec<(&str, u64)> =
        summary.redactions.iter().map(|(class, sums)| (class.as_str(), sums.values)).collect();
    assert_eq!(counts, [("email", 2), ("iban", 1), ("phone", 1)]);
    let dropped: Vec<DroppedDocument> = corpus::dropped_documents(&RealFs, &project.documents_folder())
        .unwrap()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!((dropped[0].filter.as_str(), dropped[0].text.as_str()), ("too_short", "[EMAIL_1]"));
    for name in ["report.json", "report.html"] {
        let report = std::fs::read_to_string(project.documents_folder().join(name)).unwrap();
        assert!(report.contains("xxx.xxx@xxxx.xxx"), "{name}");
        for value in ["ann.lee", "bob@", "555-0143", "3704"] {
            assert!(!report.contains(value), "{name} holds {value}");
        }
    }
}

/// By class: values, those found, findings, those that are right.
#[test]
fn precision_and_recall_on_the_labeled_set() {
    let packed =
        std::fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pii.jsonl.zst")).unwrap();
    let lines = String::from_utf8(zstd::decode_all(packed).unwrap()).unwrap();
    let mut redactor = Redactor::new(&RedactOptions::default());
    let mut counts: BTreeMap<String, [u32; 4]> = BTreeMap::new();
    for line in lines.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = row["text"].as_str().unwrap();
        let values: Vec<(&str, u64, u64)> = (row["values"].as_array().unwrap().iter())
            .map(|value| {
                (
                    value["class"].as_str().unwrap(),
                    value["start"].as_u64().unwrap(),
                    value["end"].as_u64().unwrap(),
                )
            })
            .collect();
        let found = redactor.find(text).to_vec();
        for &(class, start, end) in &values {
            let count = counts.entry(class.to_owned()).or_default();
            count[0] += 1;
            // All of a value must go, whatever it was taken for.
            let is_found = found.iter().any(|f| f.start as u64 <= start && f.end as u64 >= end);
            count[1] += u32::from(is_found);
            if !is_found {
                println!("missed {class}: {text:?}");
            }
        }
        for finding in &found {
            let count = counts.entry(finding.class.name().to_owned()).or_default();
            count[2] += 1;
            let is_right = values.iter().any(|&(class, start, end)| {
                class == finding.class.name() && (finding.start as u64) < end && finding.end as u64 > start
            });
            count[3] += u32::from(is_right);
            if !is_right {
                println!(
                    "wrong {:?} {}: {:?} in {text:?}",
                    finding.class,
                    finding.kind,
                    &text[finding.start..finding.end]
                );
            }
        }
    }
    for class in Class::ALL {
        let [values, hit, found, right] = counts[class.name()];
        let (recall, precision) = (f64::from(hit) / f64::from(values), f64::from(right) / f64::from(found));
        println!("{:<12} recall {recall:.3} of {values}, precision {precision:.3} of {found}", class.name());
        let least = if class == Class::Phone { 0.85 } else { 0.97 };
        assert!(recall >= least && precision >= 0.95, "{class:?}");
    }
}

#[test]
fn documents_that_hold_items_of_evaluation_sets_are_dropped_and_told() {
    let item = r#"{"query": "Question: A revolving door is convenient for two direction travel, but it also serves as a security measure at a what?", "choices": ["bank", "mall"], "gold": 0}"#;
    let leaked = "Quiz of the day: a revolving door is convenient for two-direction travel, but it also \
                  serves as a security measure at a bank!";
    let clean = "A revolving door is a kind of door that turns around a shaft in its middle.";
    let files: [(&str, &[u8]); 3] = [
        ("eval/set.jsonl", item.as_bytes()),
        ("in/a.txt", leaked.as_bytes()),
        ("in/b.txt", clean.as_bytes()),
    ];
    let project = Project::new(&files);
    let mut options = undivided(&["in"]);
    options.decontaminate = Some(DecontaminateOptions {
        against: vec!["eval/set.jsonl".to_owned()],
        ..DecontaminateOptions::default()
    });
    let summary = project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), [clean]);
    assert_eq!(summary.drops["contamination"].documents, 1);
    assert_eq!(
        (summary.overlaps[0].document.as_str(), summary.overlaps[0].item.as_str()),
        ("in/a.txt", "eval/set.jsonl:1")
    );
    assert_eq!(summary.evaluation_sets["eval/set.jsonl"].found, 1);
    // Another evaluation set makes the stage anew.
    assert!(project.prepare(&options).unwrap().reused);
    project.write(
        "eval/set.jsonl",
        br#"{"query": "Something else that nobody asks in a text of any kind at all?"}"#,
    );
    assert_eq!(project.prepare(&options).unwrap().documents(), 2);
}

#[test]
fn misread_characters_are_repaired_before_anything_is_judged() {
    let project = Project::new(&[
        ("in/a.txt", "cafÃ© dÃ©jÃ\u{a0} vu\u{200b} \u{7}ok".as_bytes()),
        ("in/b.txt", "café déjà vu ok".as_bytes()),
    ]);
    let mut options = undivided(&["in"]);
    options.repair = Some(RepairOptions::default());
    let summary = project.prepare(&options).unwrap();
    assert_eq!(project.texts(Split::Train), ["café déjà vu ok"]);
    assert_eq!(summary.duplicates, 1);
    let unicode = summary.unicode;
    assert_eq!(
        (unicode.documents, unicode.mojibake, unicode.control_characters, unicode.zero_width),
        (1, 3, 1, 1)
    );
    assert_eq!(unicode.samples[0].source, "in/a.txt");
}

/// Two entries of the paths, of 40 and 10 documents of the same length.
fn two_entries() -> Project {
    let line =
        |source: &str, number: u32| format!("{{\"text\": \"{source} document number {number:03}\"}}\n");
    let many: String = (0..40).map(|number| line("large", number)).collect();
    let few: String = (0..10).map(|number| line("small", number)).collect();
    Project::new(&[("large.jsonl", many.as_bytes()), ("small.jsonl", few.as_bytes())])
}

#[test]
fn a_mix_gives_each_entry_of_the_paths_its_share() {
    let project = two_entries();
    let mut options = undivided(&["large.jsonl", "small.jsonl"]);
    let mix = MixOptions {
        weights: BTreeMap::from([("large.jsonl".to_owned(), 1.0), ("small.jsonl".to_owned(), 1.0)]),
        ..MixOptions::default()
    };
    options.mix = Some(mix.clone());
    let summary = project.prepare(&options).unwrap();
    assert_eq!(summary.train.domains["large.jsonl"], 40 * 25);
    let tokenizer = byte_tokenizer();
    let mixed = |options: &MixOptions, seed| {
        let (documents, out) = (project.documents_folder(), project.tokens_folder());
        let mix = corpus::Mix { options, seed };
        corpus::tokenize_mixed(&RealFs, &documents, &tokenizer, mix, &out, &mut NoReport).unwrap()
    };
    let first = mixed(&mix, 1);
    let (large, small) = (&first.mix["large.jsonl"], &first.mix["small.jsonl"]);
    assert_eq!((large.documents, small.documents, large.epochs, small.epochs), (40, 10, 0.625, 2.5));
    assert_eq!(first.train.tokens, large.tokens + small.tokens);
    // Whole epochs are whole; of a broken one, documents are chosen by their hashes.
    assert!(
        (20 * 27..=30 * 27).contains(&small.tokens) && (15 * 27..=35 * 27).contains(&large.tokens),
        "{first:?}"
    );
    let bytes = snapshot(&project.tokens_folder());
    assert!(mixed(&mix, 1).reused);
    let other = mixed(&mix, 2);
    assert_ne!(snapshot(&project.tokens_folder()), bytes);
    assert_eq!(other.mix["small.jsonl"].epochs, 2.5);
    mixed(&mix, 1);
    assert_eq!(snapshot(&project.tokens_folder()), bytes, "a function of the seed");
    // Another mix leaves the documents as they are.
    options.mix = Some(MixOptions { token_budget: 270, ..mix });
    assert!(project.prepare(&options).unwrap().reused);
}

#[test]
fn surveys_and_comparisons_count() {
    let project = two_entries();
    project.prepare(&undivided(&["large.jsonl", "small.jsonl"])).unwrap();
    let all = survey::survey(&RealFs, &project.documents_folder(), Split::Train).unwrap();
    assert_eq!((all.documents, all.bytes, all.words), (50, 1250, 200));
    assert_eq!(all.length_percentiles[3], (50, 25));
    assert_eq!(all.lengths, BTreeMap::from([(4, (50, 1250))]));
    let page = corpus::inspection_page(&RealFs, &project.documents_folder(), 2).unwrap();
    assert!(page.contains("lengths of 50 documents") && page.contains("large document number 001"), "{page}");

    let later = two_entries();
    later.write(
        "small.jsonl",
        b"{\"text\": \"small document number 000\"}\n{\"text\": \"changed at this place\"}\n",
    );
    later.prepare(&undivided(&["large.jsonl", "small.jsonl"])).unwrap();
    let difference =
        survey::compare(&RealFs, &project.documents_folder(), &later.documents_folder()).unwrap();
    assert_eq!(
        (difference.same, difference.added, difference.removed.0, difference.changed),
        (41, (1, 21), 9, 1)
    );
    assert_eq!(difference.examples["changed"][0].0, "small.jsonl:2");
}

#[test]
fn a_judge_scores_documents_and_drops_low_ones() {
    let text =
        |number: usize, kind: &str| format!("{{\"text\": \"{kind} number {number} of the collection\"}}\n");
    let good: String = (0..60).map(|number| text(number, "the theorem and its careful proof")).collect();
    let bad: String = (0..60).map(|number| text(number, "click here to buy now")).collect();
    let project = Project::new(&[("good.jsonl", good.as_bytes()), ("bad.jsonl", bad.as_bytes())]);
    let example = |line: &str, score| Example {
        text: serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned(),
        score,
    };
    let examples: Vec<Example> = good
        .lines()
        .map(|line| example(line, 5.0))
        .chain(bad.lines().map(|line| example(line, 0.0)))
        .collect();
    let (model, fit) = train(&examples, &TrainingOptions::default()).unwrap();
    assert_eq!(fit.accuracy, 1.0);
    model.save(&RealFs, &project.path("quality.classifier")).unwrap();

    let mut options = undivided(&["good.jsonl", "bad.jsonl"]);
    let judge = ClassifierOptions { model: "quality.classifier".to_owned(), ..ClassifierOptions::default() };
    options.classifier = Some(judge.clone());
    let summary = project.prepare(&options).unwrap();
    assert_eq!((summary.documents(), summary.drops["classifier"].documents), (60, 60));
    assert_eq!(summary.scores.iter().sum::<u64>(), 120);
    assert!(
        project
            .documents(Split::Train)
            .iter()
            .all(|document| document.score.is_some_and(|score| score > 3.0))
    );
    // As a weight, low scores are rare and not gone for a limit.
    options.classifier = Some(ClassifierOptions { as_weight: true, ..judge });
    let kept = project.prepare(&options).unwrap().documents();
    assert!((40..=85).contains(&kept), "{kept}");
}

#[test]
fn lines_that_came_before_are_removed_in_the_order_of_documents() {
    let footer = "All rights reserved by the owner of this site, since 1999.";
    let page = |text: &str| format!("{text}, and this sentence is its own and stays.\n{footer}");
    let project = Project::new(&[
        ("in/a.txt", page("The first page").as_bytes()),
        ("in/b.txt", page("The second page").as_bytes()),
        ("in/c.txt", footer.as_bytes()),
    ]);
    let mut options = undivided(&["in"]);
    options.duplicate_lines = Some(LineOptions::default());
    let summary = project.prepare(&options).unwrap();
    let texts = project.texts(Split::Train);
    assert_eq!(
        texts,
        [page("The first page"), "The second page, and this sentence is its own and stays.".to_owned()]
    );
    let lines = summary.repeated_lines.unwrap();
    assert_eq!((lines.removed, lines.documents, lines.examples[0].clone()), (2, 2, (2, footer.to_owned())));
    assert_eq!(summary.drops["duplicate_lines"].documents, 1);
}
