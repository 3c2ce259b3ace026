//! C4's filter: drops documents by some words, and lines by others.

use std::borrow::Cow;

use super::Scratch;
use super::options::C4;
use super::quality::python_lines;
use super::repetition::{characters, is_python_space};
use crate::words;

const POLICY: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];

/// The text that stays, or why none does.
pub fn clean(text: &str, options: &C4, scratch: &mut Scratch) -> Result<String, &'static str> {
    let mut kept = String::with_capacity(text.len());
    let mut sentences = 0;
    let mut lower = String::new();
    for line in python_lines(text) {
        let line = line.trim_matches(is_python_space);
        let (mut words, mut too_long) = (0u64, false);
        for word in line.split(is_python_space).filter(|word| !word.is_empty()) {
            words += 1;
            let limit = options.maximum_word_length;
            too_long |= limit != 0 && word.len() as u64 > limit && characters(word) as u64 > limit;
        }
        if too_long {
            continue;
        }
        let line = if options.remove_citations { without_citations(line) } else { line.into() };
        let is_ended = line.ends_with(['.', '?', '!', '"', '\'']) && !line.ends_with("...");
        if (options.require_terminal_punctuation && !is_ended) || words < options.minimum_words_per_line {
            continue;
        }
        lower.clear();
        if line.is_ascii() {
            lower.push_str(&line);
            lower.make_ascii_lowercase();
        } else {
            lower.extend(line.chars().flat_map(char::to_lowercase));
        }
        if options.drop_lorem_ipsum && lower.contains("lorem ipsum") {
            return Err("lorem_ipsum");
        }
        if options.drop_javascript_lines && lower.contains("javascript") {
            continue;
        }
        if options.drop_curly_brackets && line.contains('{') {
            return Err("curly_bracket");
        }
        if options.drop_policy_lines && POLICY.iter().any(|words| lower.contains(words)) {
            continue;
        }
        // A long text needs no more than enough sentences.
        if sentences < options.minimum_sentences {
            sentences += words::sentences(&line, &mut scratch.sentence_words) as u64;
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
    Ok(if trimmed.len() == kept.len() { kept } else { trimmed.to_owned() })
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

    #[test]
    fn lines_and_documents_go() {
        let clean = |text: &str| clean(text, &C4::default(), &mut Scratch::default());
        let good = "One two three. Four five six. Seven eight nine.\nTen eleven twelve. And so on.";
        assert_eq!(clean(good).as_deref(), Ok(good));
        let with = format!(
            "{good}\nEnable Javascript to go on\nshort line\nWe use cookies here.\nA fact.[12] It is so.[edit]"
        );
        assert_eq!(clean(&with), Ok(format!("{good}\nA fact. It is so.")));
        assert_eq!(clean(&format!("{good}\nif (a) {{ b }}")), Err("curly_bracket"));
        assert_eq!(clean("Only one sentence here."), Err("too_few_sentences"));
        assert_eq!(clean(&format!("{good}\nLorem Ipsum dolor sit")), Err("lorem_ipsum"));
    }
}
