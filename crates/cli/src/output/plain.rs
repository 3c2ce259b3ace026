//! Text from outside on its way to a terminal: titles, addresses, messages of damaged files, what models write. It must not
//! steer the terminal, and only line breaks of a text are line breaks.

use std::borrow::Cow;

/// A text without characters that steer; its lines and tabs stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(steers) { text.replace(steers, "·").into() } else { text.into() }
}

/// The same in one line, whatever stands in it.
pub fn plain_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars()
        .map(|c| match c {
            '\n' => '⏎',
            c if c.is_control() => '·',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}]0;x\u{7}b\r\n\tc\u{9b}2J"), "a·]0;x·b·\n\tc·2J");
        assert_eq!(plain_line("a\u{1b}[2Jb\nc\td"), "a·[2Jb⏎c·d");
        assert!(matches!(plain("é\n"), Cow::Borrowed(_)) && matches!(plain_line("é"), Cow::Borrowed(_)));
    }
}
