//! What is found and cut, beside a search that remembers every window whole.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use proptest::prelude::*;
use store::fs::RealFs;
use store::fs::faulty::{Fault, MemoryFs};

use super::*;

/// The texts that stay, with their numbers, and the report.
fn cleaned(texts: &[String], options: &SpanOptions) -> (Vec<(usize, String)>, Repeated) {
    let folder = tempfile::tempdir().unwrap();
    let mut spans = DuplicateSpans::new(&RealFs, folder.path(), options);
    texts.iter().for_each(|text| spans.push(text).unwrap());
    let mut at = 0;
    let text_after = |passed_over: u64| {
        at += passed_over as usize + 1;
        Ok(texts[at - 1].clone())
    };
    let mut cutter = spans.find(text_after).unwrap();
    let mut kept = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        kept.extend(cutter.clean(text).unwrap().map(|text| (number, text.into_owned())));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left on the disk");
    (kept, cutter.report())
}

fn of(minimum_bytes: usize) -> SpanOptions {
    SpanOptions { minimum_bytes, minimum_fraction_left: 0.0, ..SpanOptions::default() }
}

/// The specification: which bytes of each text belong to a window that came before; and to the first of such
/// windows.
fn repeated_bytes(texts: &[String], bytes: usize) -> [Vec<Vec<bool>>; 2] {
    let none = || texts.iter().map(|text| vec![false; text.len()]).collect::<Vec<_>>();
    let mut known: HashMap<Vec<u8>, (usize, usize)> = HashMap::new();
    let (mut repeated, mut firsts) = (none(), none());
    for (number, text) in texts.iter().enumerate() {
        for (at, window) in text.as_bytes().windows(bytes).enumerate() {
            match known.entry(window.to_vec()) {
                Entry::Occupied(first) => {
                    repeated[number][at..at + bytes].fill(true);
                    let &(first, at) = first.get();
                    firsts[first][at..at + bytes].fill(true);
                }
                Entry::Vacant(place) => _ = place.insert((number, at)),
            }
        }
    }
    [repeated, firsts]
}

/// What stays by that.
fn expected(texts: &[String], options: &SpanOptions) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let [repeated, firsts] = repeated_bytes(texts, options.minimum_bytes);
    for (number, repeated) in repeated.into_iter().enumerate() {
        let text = &texts[number];
        let first_bytes =
            firsts[number].iter().zip(&repeated).filter(|(first, again)| **first && !**again).count();
        let (mut cuts, mut at) = (vec![false; text.len()], 0);
        for part in repeated.chunk_by(|a, b| a == b) {
            if let Some(cut) = part[0].then(|| borders::cut(text, at..at + part.len())).flatten() {
                cuts[cut].fill(true);
            }
            at += part.len();
        }
        let bytes = text.bytes().zip(&cuts).filter(|(_, is_cut)| !**is_cut).map(|(byte, _)| byte);
        let left = String::from_utf8(bytes.collect()).expect("characters are whole");
        let is_enough = first_bytes >= options.minimum_bytes
            || left.len() as f64 >= options.minimum_fraction_left * text.len() as f64;
        if left.len() == text.len() || is_enough && !left.trim().is_empty() {
            kept.push((number, left));
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_found_is_what_a_search_for_every_window_finds(
        texts in proptest::collection::vec("[ab ]{0,60}|[a \\né漢。]{0,30}|(ab |b){0,20}", 0..8),
        minimum_bytes in 1usize..24,
        minimum_fraction_left in 0.0..1.0,
    ) {
        let options = SpanOptions { minimum_bytes, minimum_fraction_left, memory_mb: 1 };
        prop_assert_eq!(cleaned(&texts, &options).0, expected(&texts, &options));
    }
}

/// Words of a large vocabulary, which repeat in no order.
fn prose(seed: u32, words: usize) -> String {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("w{} ", state >> 12)
    };
    (0..words).map(|_| word()).collect()
}

#[test]
fn the_first_of_equal_passages_stays() {
    let passage = "All of this passage was written once, and quoted ever after, in whole or in part. ";
    let texts = [
        format!("{}{passage}{}", prose(1, 30), prose(2, 30)),
        format!("{}{passage}{}", prose(3, 30), prose(4, 30)),
        format!("{}Quoted: {passage}", prose(5, 30)),
        passage.to_owned(),
    ];
    let (kept, report) = cleaned(&texts, &SpanOptions { minimum_fraction_left: 0.2, ..of(60) });
    let left = [(0, texts[0].clone()), (1, prose(3, 30) + &prose(4, 30)), (2, prose(5, 30) + "Quoted:")];
    assert_eq!(kept, left);
    assert_eq!((report.removed, report.documents, report.bytes), (3, 3, 3 * passage.len() as u64 + 1));
    assert_eq!(report.examples, [(3, passage.trim().to_owned())]);
}

#[test]
fn a_text_that_repeats_itself_keeps_its_first_part() {
    let part = prose(1, 100);
    let texts = [part.repeat(5)];
    assert_eq!(cleaned(&texts, &of(200)).0, [(0, part)]);
}

#[test]
fn nothing_repeated_leaves_documents_as_they_are() {
    let texts: Vec<String> = (0..300).map(|seed| format!(" \n{}\t\n", prose(seed * 7919, 80))).collect();
    let (kept, report) = cleaned(&texts, &of(100));
    assert!(kept.iter().map(|(_, text)| text).eq(&texts));
    assert_eq!(report, Repeated::default());
}

/// 300 KB of which each byte is found twice and more: many runs on disk in one case, one in memory in the
/// other.
#[test]
fn memory_does_not_change_what_is_found() {
    let texts: Vec<String> = (0..60).map(|number| prose(number % 20, 300) + &prose(number, 300)).collect();
    let options = SpanOptions { memory_mb: 64, ..of(120) };
    let in_memory = cleaned(&texts, &options);
    assert!(in_memory.1.bytes > 100_000, "{:?}", in_memory.1);
    assert_eq!(cleaned(&texts, &SpanOptions { memory_mb: 0, ..options.clone() }), in_memory);
    assert_eq!(in_memory.0, expected(&texts, &options));
}

#[test]
fn a_disk_that_fails_at_any_call_is_told() {
    let texts: Vec<String> = (0..6).map(|number| prose(number % 2, 100)).collect();
    let options = SpanOptions { memory_mb: 0, ..of(100) };
    let find = |fs: &MemoryFs| -> Result<()> {
        let mut spans = DuplicateSpans::new(fs, Path::new("/"), &options);
        texts.iter().try_for_each(|text| spans.push(text))?;
        let mut waiting = texts.iter();
        let mut cutter =
            spans.find(|passed_over| Ok(waiting.nth(passed_over as usize).cloned().unwrap_or_default()))?;
        texts.iter().try_for_each(|text| cutter.clean(text).map(drop))
    };
    let fs = MemoryFs::new();
    find(&fs).unwrap();
    assert!(fs.calls() > 20 && fs.used_bytes() == 0, "{} calls", fs.calls());
    for call in 0..fs.calls() {
        let fs = MemoryFs::new();
        fs.fail_at(call, Fault::ShortWrite);
        let error = find(&fs).unwrap_err();
        assert!(error.kind() == crate::ErrorKind::Io && error.to_string().contains(".tmp"), "{error}");
    }
}

#[test]
fn a_megabyte_of_anything_is_cut_at_once() {
    for pattern in ["a", "a ", "é", "ab", "word after word ", "\n", "漢。"] {
        let text = pattern.repeat((1 << 20) / pattern.len());
        let texts = [text.clone(), text];
        let start = std::time::Instant::now();
        for minimum_bytes in [200, 65536] {
            let (kept, _) = cleaned(&texts, &of(minimum_bytes));
            // A text of one word, or of none, is left alone.
            let is_cut = kept[0].1.len() < texts[0].len();
            assert_eq!(is_cut, pattern.contains(' ') || pattern.contains('。'), "{pattern:?}");
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!(seconds < 10.0, "{seconds:.2} s for {pattern:?}…");
    }
}

#[test]
fn boilerplate_of_ten_thousand_documents_stays_once() {
    let boilerplate = "Terms of use. ".to_owned() + &prose(1, 40);
    let texts: Vec<String> = (0..10_000)
        .map(|number| format!("{}Page {number:05}.\n{boilerplate}", prose(1000 + number, 12)))
        .collect();
    let (kept, report) = cleaned(&texts, &of(200));
    assert_eq!(kept.iter().filter(|(_, text)| text.contains("Terms of use")).count(), 1);
    assert!(
        kept.iter()
            .skip(1)
            .all(|(number, text)| *text == texts[*number].replace(&format!("\n{boilerplate}"), ""))
    );
    assert_eq!((kept.len(), report.removed), (10_000, 9_999));
}
