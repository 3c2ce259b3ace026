//! Finds where a text can be cut without splitting a character or a word.
//!
//! A border is beside white space, and behind the marks that end clauses where words are written together:
//! without a dictionary no more is known of Chinese or Japanese. So what is cut may be up to a word, or a
//! clause, shorter at each end than what was found.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

/// The part of a repeated range of `text` that is removed: its whole words, and white space so that one
/// separator is left, the one with more line breaks. `None` if it has no whole word.
pub fn cut(text: &str, repeated: Range<usize>) -> Option<Range<usize>> {
    let mut start = text.ceil_char_boundary(repeated.start);
    // Not past the end: a megabyte without white space has thousands of parts.
    while start < repeated.end && !is_border(text, start) {
        start = text.ceil_char_boundary(start + 1);
    }
    let mut end = text.floor_char_boundary(repeated.end);
    while end > start && !is_border(text, end) {
        end = text.floor_char_boundary(end - 1);
    }
    let part = text.get(start..end)?;
    let words = part.trim();
    if words.is_empty() {
        return None;
    }
    let first = start + part.len() - part.trim_start().len();
    let last = first + words.len();
    let (before, after) = (&text[..first], &text[last..]);
    let before = match before.trim_end() {
        "" => Separation::Edge,
        rest => Separation::of(&before[rest.len()..]),
    };
    let after = match after.trim_start() {
        "" => Separation::Edge,
        rest => Separation::of(&after[..after.len() - rest.len()]),
    };
    Some(match (before, after) {
        (Separation::Edge, _) | (_, Separation::Edge) => start..end,
        _ if before > after || before == after && end > last => first..end,
        _ => start..last,
    })
}

/// What stands between words that stay and words that go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Separation {
    Nothing,
    /// So many line ends, in white space.
    Lines(usize),
    /// There are no more words.
    Edge,
}

impl Separation {
    fn of(white_space: &str) -> Separation {
        match white_space {
            "" => Separation::Nothing,
            _ => Separation::Lines(white_space.matches('\n').count()),
        }
    }
}

/// Whether the text may be cut at this place, a border of characters.
fn is_border(text: &str, at: usize) -> bool {
    let (Some(before), Some(after)) = (text[..at].chars().next_back(), text[at..].chars().next()) else {
        return true;
    };
    let is_between_words = before.is_whitespace() || after.is_whitespace() || ends_clause(before);
    is_between_words && !is_combining_mark(after) && !ends_clause(after) && (before, after) != ('\r', '\n')
}

/// Marks that end a clause, in scripts that do without spaces.
fn ends_clause(character: char) -> bool {
    matches!(
        character,
        '、' | '。'
            | '，'
            | '！'
            | '？'
            | '；'
            | '：'
            | '」'
            | '』'
            | '）'
            | '】'
            | '》'
            | '〉'
            | '།'
            | '။'
            | '។'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is left when the part between the bars came before.
    #[track_caller]
    fn check(marked: &str, expected: &str) {
        let (first, second) = (marked.find('|').unwrap(), marked.rfind('|').unwrap());
        let text = marked.replace('|', "");
        let left = match cut(&text, first..second - 1) {
            Some(cut) => text[..cut.start].to_owned() + &text[cut.end..],
            None => text,
        };
        assert_eq!(left, expected);
    }

    #[test]
    fn whole_words_go_and_one_separation_stays() {
        check("one t|wo three fo|ur five", "one two four five");
        check("one |two three| four", "one  four");
        check("one| two three |four", "one four");
        check("one| two three| four", "one four");
        check("one t|wo thr|ee four", "one two three four");
        check("o|ne|", "one");
        check("|one|", "");
        check("|one two|", "");
        check("|one two |three", "three");
        check("one| two|", "one");
        check("one |two\n|", "one ");
        check("Don't s|top. Don't st|op.", "Don't stop. stop.");
    }

    #[test]
    fn the_separation_with_more_lines_stays() {
        check("Title\n\n|one two |three", "Title\n\nthree");
        check("one |two three\n\n|Title", "one \n\nTitle");
        check("one| two three\n\n|Title", "one\n\nTitle");
        check("one\n|two\n|three", "one\nthree");
    }

    #[test]
    fn clauses_are_whole_where_words_are_written_together() {
        check("你好。我|们走。他来。不|去。", "你好。我们走。不去。");
        check("他说：|「走。」|我听", "他说：我听");
        check("他说：|「走。|」我听", "他说：「走。」我听");
        check("ไปบ้|านแล้ว กลั|บมา", "ไปบ้านแล้ว กลับมา");
        check("a e\u{301}| e\u{301} |b", "a e\u{301} b");
    }

    proptest! {
        #[test]
        fn nothing_is_left_in_halves(text in "[ab \
                                              é\u{301}漢。」\r\n]{0,24}", from in 0usize..80, bytes in 0usize..80) {
            let words = |text: &str| -> Vec<String> {
                text.split_inclusive(|mark: char| mark.is_whitespace() || ends_clause(mark))
                    .map(|word| word.trim().to_owned())
                    .filter(|word| !word.is_empty())
                    .collect()
            };
            let from = from.min(text.len());
            let repeated = from..(from + bytes).min(text.len());
            if let Some(cut) = cut(&text, repeated.clone()) {
                prop_assert!(repeated.start <= cut.start && cut.end <= repeated.end);
                let (before, after) = (&text[..cut.start], &text[cut.end..]);
                let left = words(&(before.to_owned() + after));
                prop_assert_eq!(&left, &[words(before), words(after)].concat(), "no word is put together");
                let all = words(&text);
                prop_assert_eq!([words(before), words(&text[cut]), words(after)].concat(), all, "none is \
                                                                                                 halved");
            }
        }
    }
}
