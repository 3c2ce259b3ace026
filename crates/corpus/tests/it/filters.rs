//! The published filters in the data stage, and their decisions beside datatrove's.

use corpus::CorpusOptions;
use corpus::filter::{self, FilterOptions, Scratch};
use tokens::Split;

use crate::{Project, undivided};

#[test]
fn drops_are_counted_by_filter_and_reason_with_samples() {
    let good = "The cat sat on the mat and it was glad. Then it got up to look for food. It had to be \
                somewhere in the house with the others. That is what cats have always thought of. So it went \
                on and looked. It did not find any of it, and that was the end of the day for the cat and \
                for all.";
    let code = format!("{good}\nfn main() {{ }}");
    let files: [(&str, &[u8]); 3] = [
        ("in/a.txt", good.as_bytes()),
        ("in/b.txt", code.as_bytes()),
        ("in/c.txt", b"again and again and again"),
    ];
    let project = Project::new(&files);
    let mut options = undivided(&["in"]);
    options.filters = FilterOptions::of_fineweb();
    let summary = project.prepare(&options).unwrap();
    assert_eq!(summary.documents(), 1, "{:?}", summary.drops);
    assert_eq!(summary.drops["c4"].reasons["curly_bracket"], 1);
    assert_eq!(summary.drops["c4"].samples[0].source, "in/b.txt");
    let total: u64 = summary.drops.values().map(|drops| drops.documents).sum();
    assert_eq!(total + summary.documents(), summary.documents_read);
    // Without filters nothing is dropped.
    assert_eq!(project.prepare(&undivided(&["in"])).unwrap().documents(), 3);
}

#[test]
fn languages_not_wanted_are_dropped() {
    let english =
        "The river flows through the valley and the people who live there have built many bridges over it.";
    let french =
        "La rivière coule dans la vallée et les gens qui y habitent ont construit de nombreux ponts.";
    let project = Project::new(&[("in/a.txt", english.as_bytes()), ("in/b.txt", french.as_bytes())]);
    let mut options = undivided(&["in"]);
    options.filters.languages = vec!["fr".to_owned()];
    let summary = project.prepare(&options).unwrap();
    assert_eq!((summary.documents(), summary.drops["language"].documents), (1, 1));
}

/// datatrove 0.10.1's decisions on a part of MedQuAD (tests/data/README.md). All of them, and those on
/// Debian's documentation: `cargo xtask golden-corpus`.
#[test]
fn decisions_are_those_of_datatrove() {
    let packed = include_bytes!("../data/datatrove_filters.jsonl.zst");
    let lines = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let options = FilterOptions::of_fineweb();
    let mut scratch = Scratch::default();
    let mut others = Vec::new();
    for line in lines.lines() {
        let known: serde_json::Value = serde_json::from_str(line).unwrap();
        let decision = filter::filter(known["text"].as_str().unwrap(), &options, &mut scratch);
        let ours = decision.as_ref().err().map(|dropped| dropped.filter.replace("_quality", ""));
        let theirs = known["step"].as_str().map(|step| step.replace("_quality", ""));
        if ours != theirs {
            others.push(format!("{}: {ours:?}, not {theirs:?}", known["id"]));
        }
    }
    assert_eq!(lines.lines().count(), 1168);
    assert!(others.is_empty(), "{others:#?}");
}

/// Marks count as words too: books, code and lists of numbers have more of them than are noted at once.
#[test]
fn long_documents_go_through_filters_in_parts() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let words: Vec<String> = (0..5000).map(|number| format!("w{number}")).collect();
    let mut prose = String::new();
    while prose.len() < 24 << 20 {
        let line: Vec<&str> = (0..12).map(|_| words[random(words.len())].as_str()).collect();
        prose += &format!("The {}.\n", line.join(" "));
    }
    let mut numbers = String::new();
    while numbers.len() < 3 << 20 {
        let line: Vec<String> = (0..20).map(|_| random(10).to_string()).collect();
        numbers += &(line.join(" ") + ".\n");
    }
    let all = FilterOptions {
        gopher_repetition: Some(Default::default()),
        c4: Some(Default::default()),
        fineweb: Some(Default::default()),
        ..FilterOptions::default()
    };
    let c4 = FilterOptions { c4: Some(Default::default()), ..FilterOptions::default() };
    for (text, filters) in [(prose, all), (numbers, c4)] {
        let project = Project::new(&[("a.txt", text.as_bytes())]);
        let options = CorpusOptions { filters, ..undivided(&["a.txt"]) };
        let summary = project.prepare(&options).unwrap();
        assert_eq!((summary.quarantined, summary.documents()), (0, 1), "{:?}", summary.drops);
        assert!(project.texts(Split::Train)[0] == text.trim_end());
    }
}
