//! Repeated spans in the data stage.

use std::path::Path;

use corpus::dedup::DuplicateOptions;
use corpus::dedup::lines::LineOptions;
use corpus::dedup::spans::SpanOptions;
use corpus::{CorpusOptions, DroppedDocument, ErrorKind};
use runs::report::NoReport;
use store::fs::faulty::MemoryFs;
use store::fs::{Fs, RealFs};
use tokens::Split;

use crate::{Project, snapshot, undivided};

const TERMS: &str = "Home\nAbout us\nThis page may be copied as a whole, with the names of all who wrote it, \
                     to whoever wants it.\n\
                     Imprint\nNeither they nor the printer answer for what becomes of the copy, or of him \
                     who holds it.\n";

/// Lines of words in no order; no other number has one that begins or ends so.
fn story(number: u32) -> String {
    const WORDS: [&str; 8] = ["rivers", "carry", "boats", "under", "bridges", "of", "stone", "slowly"];
    let mut state = number;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        WORDS[(state >> 29) as usize]
    };
    let mut words = || (0..9).map(|_| word()).collect::<Vec<_>>().join(" ");
    (0..6).map(|line| format!("{number}.{line} {} {number}{line}.\n", words())).collect()
}

fn project() -> Project {
    let page = |number| format!("{}{TERMS}{}", story(number), story(number + 100));
    let project = Project::new(&[
        ("in/a.txt", page(1).as_bytes()),
        ("in/b.txt", page(2).as_bytes()),
        ("in/c.txt", format!("{TERMS}The end.").as_bytes()),
        ("in/d.txt", story(3).as_bytes()),
    ]);
    // Gone before spans are compared: else the first of them would be here.
    project.write("in/0.txt", (story(1) + TERMS + &story(101) + "More.").as_bytes());
    project
}

fn options() -> CorpusOptions {
    let mut options = undivided(&["in"]);
    options.keep_dropped = true;
    options.near_duplicates = Some(DuplicateOptions::default());
    options.duplicate_spans = Some(SpanOptions { minimum_bytes: 100, ..SpanOptions::default() });
    options.duplicate_lines = Some(LineOptions::default());
    options
}

#[test]
fn passages_that_came_before_are_removed_before_lines_are() {
    let project = project();
    let summary = project.prepare(&options()).unwrap();
    assert_eq!(summary.near_duplicates, 1);
    let texts = project.texts(Split::Train);
    assert_eq!(texts.iter().filter(|text| text.contains("Imprint")).count(), 1, "{texts:?}");
    assert_eq!(texts[1..], [story(2) + &story(102), story(3)], "short lines go with the passage");
    let spans = summary.repeated_spans.unwrap();
    assert_eq!((spans.removed, spans.documents), (2, 2));
    assert_eq!(spans.examples, [(2, TERMS.trim()[..200.min(TERMS.trim().len())].to_owned())]);
    assert_eq!(summary.repeated_lines.unwrap().removed, 0);
    let dropped: Vec<DroppedDocument> = corpus::dropped_documents(&RealFs, &project.documents_folder())
        .unwrap()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let last = &dropped[1];
    assert_eq!(
        (last.filter.as_str(), last.reason.as_str(), last.source.as_str(), last.text.as_str()),
        ("duplicate_spans", "minimum_fraction_left", "in/c.txt", &*format!("{TERMS}The end."))
    );
    let page = std::fs::read_to_string(project.path("data/documents/report.html")).unwrap();
    assert!(page.contains("<h2>Repeated spans</h2><p>2 removed from 2 documents"), "{page}");
    assert!(snapshot(&project.documents_folder()).iter().all(|(name, _)| !name.ends_with(".tmp")));

    let other = SpanOptions { memory_mb: 1, minimum_bytes: 100, ..SpanOptions::default() };
    let texts = project.texts(Split::Train);
    project.prepare(&CorpusOptions { duplicate_spans: Some(other), ..options() }).unwrap();
    assert_eq!(project.texts(Split::Train), texts);
}

#[test]
fn without_the_table_nothing_is_compared() {
    let project = project();
    let summary = project.prepare(&undivided(&["in"])).unwrap();
    assert_eq!((summary.documents(), summary.repeated_spans), (5, None));
}

#[test]
fn spans_that_cannot_be_are_refused() {
    let project = project();
    for (spans, told) in [
        (SpanOptions { minimum_bytes: 3, ..SpanOptions::default() }, "must be from 16 to 65,536"),
        (SpanOptions { minimum_fraction_left: 1.5, ..SpanOptions::default() }, "must be from 0 to 1"),
    ] {
        let error = project
            .prepare(&CorpusOptions { duplicate_spans: Some(spans), ..undivided(&["in"]) })
            .unwrap_err();
        assert!(
            error.to_string().contains("data.duplicate_spans") && error.to_string().contains(told),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// A disk that fills while documents wait: told, and the next attempt is none the worse for it.
#[test]
fn a_full_disk_is_told_and_the_next_attempt_is_good() {
    let spans = SpanOptions { minimum_bytes: 64, memory_mb: 1, ..SpanOptions::default() };
    let options = CorpusOptions { duplicate_spans: Some(spans), ..CorpusOptions::default() };
    let (project, out) = (Path::new("/project"), Path::new("/project/data/documents"));
    let prepare = |fs: &MemoryFs| corpus::prepare(fs, &options, project, out, &mut NoReport);
    let good = MemoryFs::new();
    let summary = prepare(&good).unwrap();
    assert!(summary.repeated_spans.as_ref().is_some_and(|spans| spans.removed > 100), "{summary:?}");
    for capacity in [200_000, 2_000_000] {
        let fs = MemoryFs::new();
        fs.set_capacity(Some(capacity));
        let error = prepare(&fs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(".tmp"), "{error}");
        assert!(!fs.exists(out));
        fs.set_capacity(None);
        assert_eq!(prepare(&fs).unwrap(), summary);
        assert_eq!(fs.used_bytes(), good.used_bytes(), "nothing is left of the first attempt");
    }
}
