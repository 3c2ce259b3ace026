//! Regular expressions in the tokenizers of other programs.
//!
//! Hugging Face's Python package runs them with Oniguruma, the Rust library with `fancy-regex`, whose dialect
//! differs in a few places: patterns are translated, or refused where they cannot be. The library also takes
//! an exhausted step limit for the end of the matches, which gives wrong ids without a word; here it is an
//! error, and so is a pattern that takes too long in all.
//!
//! Patterns that this program splits by itself (`split`) do not reach the regex engine.

use std::cell::Cell;
use std::time::{Duration, Instant};

use fancy_regex::{Regex, RegexBuilder};
use tokenizers::Offsets;
use tokenizers::pattern::Pattern;

use crate::PreTokenizer;
use crate::split::{self, Splitter};

/// Backtracking steps for one match: Oniguruma's limit.
const MOST_STEPS: usize = 10_000_000;
/// Time for the matches of one text, plus [`TIME_PER_BYTE`]: a thousand times what common patterns need.
const TIME: Duration = Duration::from_secs(20);
const TIME_PER_BYTE: Duration = Duration::from_micros(20);

/// What finds pieces in a text.
#[derive(Debug)]
pub enum Finder {
    /// A pattern whose pieces our own code finds, in linear time.
    Own(Splitter),
    Regex(Box<Regex>),
}

/// Why matching was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One match took too many steps.
    Steps,
    /// All matches took too long.
    Time,
}

impl Failure {
    /// As the second half of a sentence about the text.
    pub fn problem(self) -> &'static str {
        match self {
            Failure::Steps => {
                "a regular expression of tokenizer.json takes more than 10,000,000 steps at one place of it; \
                 split the text, or use another tokenizer"
            }
            Failure::Time => {
                "the regular expressions of tokenizer.json take too long on it; split the text, or use another \
                 tokenizer"
            }
        }
    }
}

thread_local! {
    /// When the text that this thread encodes has had its time, and what has failed on it. The library drops
    /// the errors of normalizers.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
    static FAILED: Cell<Option<Failure>> = const { Cell::new(None) };
}

/// Runs `work` on a text of this size; matching within it is limited, and failures of it are returned.
pub fn watch<T>(bytes: usize, work: impl FnOnce() -> T) -> (T, Option<Failure>) {
    let time = TIME + TIME_PER_BYTE * u32::try_from(bytes).unwrap_or(u32::MAX);
    DEADLINE.set(Some(Instant::now() + time));
    FAILED.set(None);
    let result = work();
    DEADLINE.set(None);
    (result, FAILED.take())
}

fn fail(failure: Failure) -> Box<dyn std::error::Error + Send + Sync> {
    FAILED.set(Some(failure));
    failure.problem().into()
}

impl Finder {
    /// The finder of GPT-2's pieces, which tokenizer.json selects by `use_regex`.
    pub const GPT2: Finder = Finder::Own(Splitter::new(PreTokenizer::Gpt2));

    /// Compiles a pattern.
    ///
    /// # Errors
    /// The second half of a sentence about the pattern.
    pub fn new(pattern: &str) -> Result<Finder, String> {
        let own = match pattern {
            split::GPT2 => Some(PreTokenizer::Gpt2),
            split::QWEN2 => Some(PreTokenizer::Qwen2),
            split::LLAMA_BPE => Some(PreTokenizer::LlamaBpe),
            _ => None,
        };
        if let Some(own) = own {
            return Ok(Finder::Own(Splitter::new(own)));
        }
        let translated = translate(pattern)?;
        let regex = RegexBuilder::new(&translated).oniguruma_mode(true).backtrack_limit(MOST_STEPS).build();
        regex.map(|regex| Finder::Regex(Box::new(regex))).map_err(|error| {
            format!("is the regular expression `{}`, which is not supported: {error}", shown(pattern))
        })
    }
}

impl Pattern for &Finder {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let (mut found, mut done) = (Vec::new(), 0);
        match self {
            Finder::Own(splitter) => splitter.split_whole(inside, |piece| {
                found.push(((done, done + piece.len()), true));
                done += piece.len();
            }),
            Finder::Regex(regex) => {
                for matched in regex.find_iter(inside) {
                    let matched = matched.map_err(|_| fail(Failure::Steps))?;
                    if DEADLINE.get().is_some_and(|deadline| Instant::now() > deadline) {
                        return Err(fail(Failure::Time));
                    }
                    if done != matched.start() {
                        found.push(((done, matched.start()), false));
                    }
                    found.push(((matched.start(), matched.end()), true));
                    done = matched.end();
                }
            }
        }
        if done != inside.len() {
            found.push(((done, inside.len()), false));
        }
        Ok(found)
    }
}

/// Translates from Oniguruma's dialect: there `^` and `$` match at every line. What means something else in
/// the two dialects is an error.
fn translate(pattern: &str) -> Result<String, String> {
    let refuse = |what: &str| {
        Err(format!(
            "is the regular expression `{}`; {what}, which means different things in different programs",
            shown(pattern)
        ))
    };
    let mut translated = String::with_capacity(pattern.len() + 8);
    let mut classes = 0usize;
    let mut rest = pattern.chars().peekable();
    let mut interval = false;
    while let Some(character) = rest.next() {
        let after_interval = std::mem::take(&mut interval);
        match character {
            '\\' => {
                let escaped = rest.next();
                translated.push('\\');
                translated.extend(escaped);
                // The braces of \p{…} are no interval.
                if escaped.is_some_and(|escaped| "pPxukg".contains(escaped)) && rest.peek() == Some(&'{') {
                    translated.extend(rest.by_ref().take_while(|&inside| inside != '}'));
                    translated.push('}');
                }
            }
            '[' if rest.peek() == Some(&':') && classes > 0 => {
                return refuse("it has a POSIX class such as [:alpha:]");
            }
            '[' => {
                classes += 1;
                translated.push('[');
                // These do not close or anchor anything at the start of a class.
                while let Some(&first @ ('^' | ']')) = rest.peek() {
                    translated.push(first);
                    rest.next();
                    if first == ']' {
                        break;
                    }
                }
            }
            ']' => {
                classes = classes.saturating_sub(1);
                translated.push(']');
            }
            '^' if classes == 0 => translated.push_str("(?m:^)"),
            '$' if classes == 0 => translated.push_str("(?m:$)"),
            '+' if after_interval => return refuse("it has `+` after `{…}`"),
            '}' if classes == 0 => {
                interval = true;
                translated.push('}');
            }
            '(' if classes == 0 && rest.peek() == Some(&'?') => {
                let flags: String = rest.clone().skip(1).take_while(char::is_ascii_alphabetic).collect();
                if flags.contains(['m', 's', 'x', 'u']) {
                    return refuse("it sets flags other than `i`");
                }
                translated.push('(');
            }
            _ => translated.push(character),
        }
    }
    Ok(translated)
}

/// The start of a pattern, for a message.
fn shown(pattern: &str) -> String {
    match pattern.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &pattern[..end]),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Vec<(Offsets, bool)> {
        (&Finder::new(pattern).unwrap()).find_matches(text).unwrap()
    }

    #[test]
    fn anchors_match_at_lines_and_classes_stay() {
        assert_eq!(translate(r"^\s+$|[^$^]\$[]^]").unwrap(), r"(?m:^)\s+(?m:$)|[^$^]\$[]^]");
        assert_eq!(found(r"\s+$", "a  \nb"), [((0, 1), false), ((1, 3), true), ((3, 5), false)]);
        assert_eq!(translate(r"\p{L}+\x{61}+|[\p{N}]{2}").unwrap(), r"\p{L}+\x{61}+|[\p{N}]{2}");
        assert_eq!(found("b", "abab").len(), 4);
        assert_eq!(found("b", ""), [((0, 0), false)]);
    }

    #[test]
    fn patterns_of_another_meaning_are_refused() {
        for pattern in ["[[:alpha:]]+", r"\p{N}{1,3}+", "(?m)a.b", "(?i", "a{2", r"\p{Nonsense}"] {
            let refused = Finder::new(pattern);
            assert!(refused.is_err() == (pattern != "a{2"), "{pattern}: {refused:?}");
        }
        assert!(matches!(Finder::new(split::QWEN2), Ok(Finder::Own(_))));
    }

    /// Runs of one letter followed by another: exponential for a backtracking engine.
    #[test]
    fn a_catastrophic_pattern_is_an_error() {
        let finder = Finder::new(r"(?:a(?=a|b)|a(?=a))*c").unwrap();
        let text = "a".repeat(64);
        let begun = Instant::now();
        let (result, failure) = watch(text.len(), || (&finder).find_matches(&text));
        assert!(result.is_err());
        assert_eq!(failure, Some(Failure::Steps));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
