//! No stage takes more than linear time, whatever a text is made of: each is timed on runs of one class of
//! characters, of two lengths or more.

use std::hint::black_box;

use testkit::runs::{RUNS, growth};

use crate::classifier::Classifier;
use crate::contamination::{DecontaminateOptions, EvaluationItems};
use crate::dedup::lines::{LineFilter, LineOptions};
use crate::dedup::spans::{DuplicateSpans, SpanOptions};
use crate::dedup::{DuplicateOptions, Signer};
use crate::extract::{self, ExtractionMode};
use crate::filter::{self, FilterOptions, Scratch};
use crate::redact::{RedactOptions, Redactor};
use crate::repair::{RepairOptions, repair};
use crate::{Normalize, clean, language, words};

/// Doubling a text may take so many times as long: four times would be quadratic, and a suffix array that no
/// longer fits into a shared cache has been seen to take 2.4 times.
const MOST_GROWTH: f64 = 2.6;
/// Of the shortest text, which the next one is twice as long as.
const BYTES: usize = 128 << 10;

/// Fails with every class that a stage takes too long for.
fn check(stage: &str, mut work: impl FnMut(&str)) {
    check_written(stage, |text| text, &mut work);
}

/// The same, of texts that are written in some form first.
fn check_written(stage: &str, write: impl Fn(String) -> String, work: &mut dyn FnMut(&str)) {
    let mut failed = Vec::new();
    for run in RUNS {
        let ratio = growth(BYTES, MOST_GROWTH, |bytes| write(run.text(bytes)), |text| work(text));
        if ratio > MOST_GROWTH {
            failed.push(format!("{stage}: {} grows by {ratio:.2}", run.name));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn cleaning_and_repair_take_linear_time() {
    check("bytes to text", |text| drop(clean::repair(text.as_bytes().to_vec())));
    check("what is no text", |text| _ = black_box(clean::not_text(text.as_bytes())));
    check("normalize", |text| drop(clean::normalize(text.to_owned(), Normalize::Nfc)));
    check("repair", |text| drop(repair(text, &RepairOptions::default(), true)));
    let misread = |text: String| text.bytes().map(char::from).collect();
    check_written("repair of misread text", misread, &mut |text| {
        drop(repair(text, &RepairOptions::default(), true));
    });
}

#[test]
fn extraction_takes_linear_time() {
    let mut page = |html: &str| drop(extract::extract(html, ExtractionMode::Balanced));
    check_written("a page", |text| text, &mut page);
    check_written("a paragraph", |text| format!("<html><body><article><p>{text}</p></article>"), &mut page);
    check_written("a heading", |text| format!("<title>{text}</title><h1>{text}</h1><p>{text}"), &mut page);
    check_written("preformatted text", |text| format!("<pre><code>{text}"), &mut page);
    check_written("an attribute", |text| format!("<p class=\"{text}\" id='{text}'>text</p>"), &mut page);
    check_written("a link", |text| format!("<ul><li><a href=\"{text}\">{text}</a></ul>"), &mut page);
    check_written(
        "a description",
        |text| format!("<meta name=description content=\"{text}\"><p>text"),
        &mut page,
    );
    check_written(
        "a script",
        |text| format!("<script type='application/ld+json'>{{\"a\":\"{text}\"}}</script>"),
        &mut page,
    );
    check_written("a comment", |text| format!("<!--{text}-->text"), &mut page);
    check_written("references", |text| text.replace(|c: char| !c.is_ascii_alphanumeric(), "&"), &mut page);
    check("an encoding", |text| drop(extract::decode(text.as_bytes(), None)));
}

#[test]
fn words_and_filters_take_linear_time() {
    let mut tokens = Vec::new();
    check("words", |text| {
        tokens.clear();
        words::split(text, &mut tokens);
    });
    check("a count of words", |text| _ = black_box(words::are_more_than(text, text.len())));
    let each = |choose: fn(&mut FilterOptions)| {
        let mut options = FilterOptions::default();
        choose(&mut options);
        options
    };
    let filters = [
        ("gopher_repetition", each(|options| options.gopher_repetition = Some(Default::default()))),
        ("gopher_quality", each(|options| options.gopher_quality = Some(Default::default()))),
        ("c4", each(|options| options.c4 = Some(Default::default()))),
        ("fineweb", each(|options| options.fineweb = Some(Default::default()))),
    ];
    for (name, options) in filters {
        let mut scratch = Scratch::default();
        check(name, |text| drop(filter::filter(text, &options, &mut scratch)));
    }
    check("language", |text| drop((language::detect(text), language::likeliest(text))));
}

#[test]
fn duplicates_take_linear_time() {
    let mut signer = Signer::new(&DuplicateOptions { bands: 2, ..DuplicateOptions::default() });
    check("near_duplicates", |text| drop(signer.sign(text)));
    check("duplicate_lines", |text| {
        let mut filter = LineFilter::new(&LineOptions::default());
        black_box((filter.clean(text).is_some(), filter.clean(text).is_some()));
    });
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpanOptions { memory_mb: 64, ..SpanOptions::default() };
    check("duplicate_spans", |text| {
        let mut spans = DuplicateSpans::new(&store::fs::RealFs, folder.path(), &options);
        spans.push(text).and_then(|()| spans.push(text)).expect("memory is enough");
        let mut cutter = spans.find(|_| Ok(text.to_owned())).expect("memory is enough");
        for _ in 0..2 {
            cutter.clean(text).expect("memory is enough");
        }
    });
}

#[test]
fn redaction_takes_linear_time() {
    let mut redactor = Redactor::new(&RedactOptions::default());
    check("redact", |text| drop(redactor.redact(text)));
    check("an address", |text| drop(redactor.redact_address(text)));
    check_written("numbers", |text| text.replace(|c: char| !c.is_ascii(), "4111 "), &mut |text| {
        drop(redactor.redact(text));
    });
}

#[test]
fn decontamination_and_scores_take_linear_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let item = format!("{{\"query\": \"{}\"}}", "a b ab 1 ".repeat(20));
    std::fs::write(folder.path().join("set.jsonl"), item).expect("a file");
    let options =
        DecontaminateOptions { against: vec!["set.jsonl".into()], ..DecontaminateOptions::default() };
    let items = EvaluationItems::read(&options, folder.path()).expect("items");
    check("decontaminate", |text| drop(items.find(text)));
    let set = |text: String| serde_json::json!({ "query": text }).to_string();
    check_written("an evaluation set", set, &mut |text| {
        std::fs::write(folder.path().join("set.jsonl"), text).expect("a file");
        // A set without words is refused once it is read.
        drop(EvaluationItems::read(&options, folder.path()));
    });
    let (model, mut features) = (Classifier::of_weights(vec![0.5; 1 << 10]), Vec::new());
    check("classifier", |text| _ = black_box(model.score(text, &mut features)));
}
