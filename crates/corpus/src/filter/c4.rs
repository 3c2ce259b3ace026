//! C4's filter: drops documents that contain certain words, and lines that contain others.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::options::C4;
use super::quality::python_lines;
use super::repetition::is_python_space;
use super::scratch::{Scratch, characters};
use crate::words::{self, chunks};

const LOREM_IPSUM: &str = "lorem ipsum";
const JAVASCRIPT: &str = "javascript";
const POLICY: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];
/// If a text contains none of these, no line contains any of the above.
static SUSPICIOUS: LazyLock<[Finder<'static>; 5]> =
    LazyLock::new(|| [LOREM_IPSUM, JAVASCRIPT, "terms of use", "privacy policy", "cookie"].map(Finder::new));

/// The remaining text.
#[derive(Debug, PartialEq)]
pub struct Cleaned {
    pub text: String,
    /// Its number of words, if the whole text was split into words before.
    pub words: Option<usize>,
}

/// The text that stays, or why none does.
pub fn clean(text: &str, options: &C4, scratch: &mut Scratch) -> Result<Cleaned, &'static str> {
    let mut kept = String::with_capacity(text.len());
    let mut sentences = 0;
    let is_suspicious = is_suspicious(text, &mut scratch.lower);
    let has = |byte| memchr::memchr(byte, text.as_bytes()).is_some();
    let (has_curly_bracket, has_bracket) = (has(b'{'), has(b'['));
    let mut words = scratch.is_split.then_some(0);
    let mut tokens = &scratch.words[..];
    for line in python_lines(text) {
        let start = line.start;
        let line = text[line].trim_end_matches(is_python_space);
        let end = start + line.len();
        let line = line.trim_start_matches(is_python_space);
        let start = end - line.len();
        let limit = options.maximum_word_length;
        let is_long = |length: usize| limit != 0 && length as u64 > limit;
        if is_long(line.len())
            && chunks(line).any(|word| {
                is_long(word.end - word.start) && is_long(characters(&line[word.start..word.end]))
            })
        {
            continue;
        }
        let has_words = chunks(line).take(options.minimum_words_per_line as usize).count() as u64
            == options.minimum_words_per_line;
        let whole = line;
        let line =
            if options.remove_citations && has_bracket { without_citations(line) } else { line.into() };
        let is_ended = line.ends_with(['.', '?', '!', '"', '\'']) && !line.ends_with("...");
        if (options.require_terminal_punctuation && !is_ended) || !has_words {
            continue;
        }
        // What stood on either side of a citation may be a word now.
        let is_changed = line.len() != whole.len();
        let lower = if is_suspicious || is_changed { line.to_lowercase() } else { String::new() };
        if options.drop_lorem_ipsum && lower.contains(LOREM_IPSUM) {
            return Err("lorem_ipsum");
        }
        if options.drop_javascript_lines && lower.contains(JAVASCRIPT) {
            continue;
        }
        if options.drop_curly_brackets && has_curly_bracket && line.contains('{') {
            return Err("curly_bracket");
        }
        if options.drop_policy_lines && POLICY.iter().any(|words| lower.contains(words)) {
            continue;
        }
        // A long text needs no more than enough sentences.
        let missing = options.minimum_sentences.saturating_sub(sentences);
        if is_changed || (words.is_none() && missing > 0) {
            scratch.line_words.clear();
            words::split(&line, &mut scratch.line_words);
            if missing > 0 {
                sentences += words::sentences(&line, 0, &scratch.line_words, missing);
            }
            words = words.map(|words| words + scratch.line_words.len());
        } else if let Some(words) = &mut words {
            let before = tokens.iter().take_while(|token| (token.start as usize) < start).count();
            tokens = &tokens[before..];
            let count = tokens.iter().take_while(|token| (token.start as usize) < end).count();
            if missing > 0 {
                sentences += words::sentences(&text[..end], start, &tokens[..count], missing);
            }
            *words += count;
            tokens = &tokens[count..];
        }
        if !kept.is_empty() {
            kept.push('\n');
        }
        kept.push_str(&line);
    }
    if sentences < options.minimum_sentences {
        return Err("too_few_sentences");
    }
    let trimmed = kept.trim_matches(is_python_space);
    let text = if trimmed.len() == kept.len() { kept } else { trimmed.to_owned() };
    Ok(Cleaned { text, words })
}

/// Whether a text may have a line with one of the words that lines or documents go for.
fn is_suspicious(text: &str, lower: &mut Vec<u8>) -> bool {
    lower.clear();
    lower.extend_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    // Two characters become ASCII in lower case: the sign of kelvin, and a capital i with a dot.
    let others = ["\u{212a}", "\u{130}"];
    SUSPICIOUS.iter().any(|words| words.find(lower).is_some())
        || (!lower.is_ascii()
            && others.iter().any(|sign| memchr::memmem::find(lower, sign.as_bytes()).is_some()))
}

/// Without [1], [], [edit] and [citation needed].
fn without_citations(line: &str) -> Cow<'_, str> {
    if !line.contains('[') {
        return line.into();
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('[') {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let digits = inner.len() - inner.trim_start_matches(char::is_numeric).len();
        let length = if inner[digits..].starts_with(']') {
            Some(digits + 1)
        } else {
            ["edit]", "citation needed]"].into_iter().find(|word| inner.starts_with(word)).map(str::len)
        };
        match length {
            Some(length) => rest = &inner[length..],
            None => {
                out.push('[');
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> Result<String, &'static str> {
        let mut scratch = Scratch::default();
        let unsplit = super::clean(text, &C4::default(), &mut scratch);
        scratch.split(text);
        let cleaned = super::clean(text, &C4::default(), &mut scratch);
        if let Ok(Cleaned { text, words: count }) = &cleaned {
            let mut words = Vec::new();
            words::split(text, &mut words);
            assert_eq!(*count, Some(words.len()), "{text}");
        }
        assert_eq!(
            unsplit.map(|cleaned| cleaned.text),
            cleaned.as_ref().map(|c| c.text.clone()).map_err(|e| *e)
        );
        cleaned.map(|cleaned| cleaned.text)
    }

    const GOOD: &str = "One two three. Four five six. Seven eight nine.\nTen eleven twelve. And so on.";

    #[test]
    fn lines_and_documents_go() {
        assert_eq!(clean(GOOD).as_deref(), Ok(GOOD));
        let with = format!(
            "{GOOD}\nEnable Javascript to go on\nshort line\nWe use cookies here.\nA fact.[12] It is \
             so.[edit]"
        );
        assert_eq!(clean(&with), Ok(format!("{GOOD}\nA fact. It is so.")));
        assert_eq!(clean(&format!("{GOOD}\nif (a) {{ b }}")), Err("curly_bracket"));
        assert_eq!(clean("Only one sentence here."), Err("too_few_sentences"));
        assert_eq!(clean(&format!("{GOOD}\nLorem Ipsum dolor sit")), Err("lorem_ipsum"));
        let long = format!("{GOOD}\n \u{a0}One {} more.", "x".repeat(1001));
        assert_eq!(clean(&long).as_deref(), Ok(GOOD));
        let wide = format!("{GOOD}\nOne {} more.", "é".repeat(999));
        assert_eq!(clean(&wide).as_ref(), Ok(&wide), "characters count, not bytes");
    }

    #[test]
    fn words_are_found_in_any_case_and_over_citations() {
        let gone = |line: &str| assert_eq!(clean(&format!("{GOOD}\n{line}")).as_deref(), Ok(GOOD), "{line}");
        gone("Enable java[1]script to go on");
        gone("Read the PRIVACY Policy of ours");
        gone("Read the coo\u{212a}ie policy of ours");
        gone("This page uses\u{20}Cookies, as they all do");
        for words in POLICY {
            gone(&format!("Some {words} are here"));
            assert!(SUSPICIOUS.iter().any(|part| part.find(words.as_bytes()).is_some()), "{words}");
        }
        let stays = format!("{GOOD}\nA cookie for everyone, and java scripts.");
        assert_eq!(clean(&stays).as_ref(), Ok(&stays));
    }
}
