//! NFC of any text in memory that a run of marks does not multiply.
//!
//! The library buffers eight bytes for each mark on a character until it has seen all of them, and four more
//! until it has composed them: a file of marks takes seven times its size. A run longer than any language's
//! is sorted here instead, in one pass for each combining class that occurs in it. The result is identical.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, compose, decompose_canonical};

/// Runs of marks from this length on are sorted here; languages have a handful on a character.
const LONG_RUN_BYTES: usize = 4096;

/// The text in NFC.
pub fn nfc(text: &str) -> String {
    by_runs(text, LONG_RUN_BYTES)
}

fn by_runs(text: &str, long: usize) -> String {
    let (mut out, mut begin) = (String::with_capacity(text.len()), 0);
    while let Some(run) = long_run(text, begin, long) {
        out.extend(text[begin..run.start].nfc());
        compose_run(&text[run.clone()], &mut out);
        begin = run.end;
    }
    // What comes behind is composed with nothing before: marks that stay stand between.
    out.extend(text[begin..].nfc());
    out
}

/// Whether a character modifies the one before it: its canonical decomposition has no starter. Three have
/// combining class 0 themselves.
fn is_mark(c: char) -> bool {
    c >= '\u{300}' && (canonical_combining_class(c) != 0 || matches!(c, '\u{f73}' | '\u{f75}' | '\u{f81}'))
}

/// The next run of at least `long` bytes of marks from `from` on, where no run lies across `from`. Looks at
/// one character every `long / 2` bytes where there is none.
fn long_run(text: &str, from: usize, long: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        at = text.ceil_char_boundary(at + long / 2);
        if !is_mark(text.get(at..)?.chars().next()?) {
            continue;
        }
        let start = from + text[from..at].trim_end_matches(is_mark).len();
        let end = text.len() - text[at..].trim_start_matches(is_mark).len();
        if end - start >= long {
            return Some(start..end);
        }
        at = end;
    }
}

/// Appends a run of marks to text in NFC: composed with the starter before them where possible, the others in
/// the order of their classes.
fn compose_run(run: &str, out: &mut String) {
    let base = out.rfind(|c| canonical_combining_class(c) == 0).unwrap_or(out.len());
    let decomposed: Vec<char> = out[base..].nfd().collect();
    out.truncate(base);
    let starters = decomposed.iter().rposition(|&c| canonical_combining_class(c) == 0).map_or(0, |at| at + 1);
    let (starters, before) = decomposed.split_at(starters);
    let mut head: String = starters.iter().copied().nfc().collect();
    let mut composed = head.pop();
    out.push_str(&head);

    let each = |take: &mut dyn FnMut(char, u8)| {
        let mut take = |c| take(c, canonical_combining_class(c));
        before.iter().for_each(|&c| take(c));
        run.chars().for_each(|c| decompose_canonical(c, &mut take));
    };
    let mut present = [false; 256];
    each(&mut |_, class| present[usize::from(class)] = true);
    let (mut rest, mut last) = (String::with_capacity(run.len()), None);
    for class in (0..=u8::MAX).filter(|&class| present[usize::from(class)]) {
        each(&mut |c, of| {
            if of != class {
                return;
            }
            // A mark is blocked by one of its class that stays.
            match composed.filter(|_| last != Some(class)).and_then(|base| compose(base, c)) {
                Some(both) => composed = Some(both),
                None => {
                    rest.push(c);
                    last = Some(class);
                }
            }
        });
    }
    out.extend(composed);
    out.push_str(&rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASES: &str = "[aeoáạ각가\u{1100}\u{1161}\u{11a8}\u{9c7}\u{9be}\u{915}\u{958}\u{fb2}]{0,3}";
    const MARKS: &str =
        "[\u{301}\u{308}\u{323}\u{327}\u{344}\u{93c}\u{f71}\u{f73}\u{f80}\u{f81}\u{5b0}\u{345}]{0,14}";

    #[test]
    fn marks_are_what_decomposes_to_marks() {
        for c in '\0'..=char::MAX {
            let mut classes = Vec::new();
            decompose_canonical(c, |part| classes.push(canonical_combining_class(part)));
            assert_eq!(is_mark(c), classes[0] != 0, "{c:?}");
            assert!(classes[0] == 0 || !classes.contains(&0), "{c:?}");
        }
    }

    #[test]
    fn long_runs_are_found_and_short_ones_are_not() {
        let text =
            format!("{}e{}x{}{}", "é".repeat(40), "\u{301}".repeat(7), "\u{323}".repeat(8), "a".repeat(40));
        assert_eq!(long_run(&text, 0, 16), Some(96..112));
        assert_eq!(long_run(&text, 112, 16), None);
        assert_eq!(long_run("", 0, 16), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Bases that compose, that decompose into several, and that are made of marks; runs just below and
        /// above the length.
        #[test]
        fn what_comes_out_is_the_library_s(
            parts in prop::collection::vec((BASES, MARKS), 0..5)
        ) {
            let text: String = parts.iter().flat_map(|(base, marks)| [base.as_str(), marks]).collect();
            prop_assert_eq!(by_runs(&text, 16), text.nfc().collect::<String>());
        }
    }
}
