//! Makes text from outside safe for a terminal or a log: file names, prompts, samples, recipe values,
//! messages about damaged files, server responses. It must not control the terminal, reorder text, or look
//! like another line.

use std::borrow::Cow;

/// Replaces a character that is not shown.
const HIDDEN: char = '·';
/// Replaces a line break within a field.
const LINE_END: char = '⏎';

/// Whether a terminal acts on a character instead of showing it: C0, DEL and C1, bidirectional controls, and
/// line and paragraph separators.
pub fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Text of several lines: line feeds and tabs are kept, other control characters become `·`.
pub fn text(text: &str) -> Cow<'_, str> {
    let hides = |c: char| steers(c) && !matches!(c, '\n' | '\t');
    if text.contains(hides) { text.replace(hides, "·").into() } else { text.into() }
}

/// A field on one line: line breaks become `
/// `.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return text.into();
    }
    text.chars()
        .map(|c| match c {
            '\n' | '\u{2028}' | '\u{2029}' => LINE_END,
            c if steers(c) => HIDDEN,
            c => c,
        })
        .collect()
}

/// Serialized JSON with control characters as `\u` escapes, which parsers undo. JSON has such characters only
/// within strings; line feeds of indented JSON are kept.
pub fn json(json: &str) -> Cow<'_, str> {
    let escapes = |c: char| steers(c) && c != '\n';
    if !json.contains(escapes) {
        return json.into();
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        // All of them are in the basic multilingual plane: one escape each.
        if escapes(c) { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(text("a\u{1b}]0;x\u{7}b\r\n\tc\u{9b}2J"), "a·]0;x·b·\n\tc·2J");
        assert_eq!(line("a\u{1b}[2Jb\nc\td\u{2028}e\u{85}"), "a·[2Jb⏎c·d⏎e·");
        assert_eq!(text("abc\u{202e}txt.exe\u{2069}\u{200f}\u{61c}"), "abc·txt.exe···");
        assert!(matches!(text("é\n"), Cow::Borrowed(_)) && matches!(line("é"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_reads_back_the_same() {
        let nasty: String =
            ('\0'..='\u{ff}').chain('\u{600}'..='\u{61f}').chain('\u{2000}'..='\u{206f}').collect();
        let written = serde_json::to_string_pretty(&vec![&nasty]).unwrap();
        let shown = json(&written);
        assert!(!shown.contains(|c| steers(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [nasty]);
    }
}
