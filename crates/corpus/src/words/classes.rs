//! Classes of characters that the published filters and tokenizers speak of.

use std::sync::LazyLock;

/// A Unicode property as sorted ranges.
pub struct Ranges(Vec<(char, char)>);

impl Ranges {
    fn of(property: &str) -> Ranges {
        Ranges(tokenizer::unicode_ranges(property))
    }

    /// Whether a character has the property.
    pub fn contains(&self, c: char) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < c);
        self.0.get(at).is_some_and(|&(start, _)| start <= c)
    }
}

/// Symbols that are neither currency, mathematics nor modifiers: what spaCy calls icons.
pub static ICONS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{So}"));
/// Punctuation of all kinds.
pub static PUNCTUATION: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{P}"));
/// Marks that take no place of their own.
pub static NONSPACING_MARKS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{Mn}"));
/// Decimal digits of all scripts.
pub static DIGITS: LazyLock<Ranges> = LazyLock::new(|| Ranges::of(r"\p{Nd}"));

/// Whether datatrove counts a character as punctuation when it simplifies a text.
pub fn is_simplified_away(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation() || (c.is_ascii_control() && !matches!(c, '\t' | '\n'));
    }
    if c.is_alphabetic() {
        return false;
    }
    ('\u{80}'..='\u{9f}').contains(&c)
        || "«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～".contains(c)
}

/// Whether a character is punctuation to Gopher's filters: the above and what ends sentences in any script.
pub fn is_symbol(c: char) -> bool {
    is_simplified_away(c) || (!c.is_ascii() && !c.is_alphabetic() && TERMINAL.contains(c))
}

/// Whether a character ends a line properly, to FineWeb's filters.
pub fn is_terminal(c: char) -> bool {
    if c.is_ascii() { matches!(c, '.' | '?' | '!') } else { TERMINAL.contains(c) }
}

/// Whether a token of this character ends a sentence, to spaCy's sentencizer.
pub fn ends_sentence(c: char) -> bool {
    if c.is_ascii() { matches!(c, '.' | '?' | '!') } else { SENTENCE_ENDS.contains(c) }
}

/// datatrove's TERMINAL_PUNCTUATION.
const TERMINAL: &str = "\
    \u{21}\u{2e}\u{3f}\u{589}\u{61d}\u{61e}\u{61f}\u{6d4}\u{700}\u{701}\u{702}\u{7f9}\u{837}\u{839}\
    \u{83d}\u{83e}\u{964}\u{965}\u{104a}\u{104b}\u{1362}\u{1367}\u{1368}\u{166e}\u{1735}\u{1736}\
    \u{17d4}\u{17d5}\u{17d6}\u{17d9}\u{17da}\u{1803}\u{1809}\u{1944}\u{1945}\u{1aa8}\u{1aa9}\u{1aaa}\
    \u{1aab}\u{1b5a}\u{1b5b}\u{1b5e}\u{1b5f}\u{1b7d}\u{1b7e}\u{1c3b}\u{1c3c}\u{1c7e}\u{1c7f}\u{203c}\
    \u{203d}\u{2047}\u{2048}\u{2049}\u{2e2e}\u{2e3c}\u{2e53}\u{2e54}\u{3002}\u{a4ff}\u{a60e}\u{a60f}\
    \u{a6f3}\u{a6f7}\u{a876}\u{a877}\u{a8ce}\u{a8cf}\u{a92f}\u{a9c8}\u{a9c9}\u{aa5d}\u{aa5e}\u{aa5f}\
    \u{aaf0}\u{aaf1}\u{abeb}\u{fe52}\u{fe56}\u{fe57}\u{ff01}\u{ff0e}\u{ff1f}\u{ff61}\u{10a56}\
    \u{10a57}\u{10f55}\u{10f56}\u{10f57}\u{10f58}\u{10f59}\u{10f86}\u{10f87}\u{10f88}\u{10f89}\
    \u{11047}\u{11048}\u{110be}\u{110bf}\u{110c0}\u{110c1}\u{11141}\u{11142}\u{11143}\u{111c5}\
    \u{111c6}\u{111cd}\u{111de}\u{111df}\u{11238}\u{11239}\u{1123b}\u{1123c}\u{112a9}\u{1144b}\
    \u{1144c}\u{115c2}\u{115c3}\u{115c9}\u{115ca}\u{115cb}\u{115cc}\u{115cd}\u{115ce}\u{115cf}\
    \u{115d0}\u{115d1}\u{115d2}\u{115d3}\u{115d4}\u{115d5}\u{115d6}\u{115d7}\u{11641}\u{11642}\
    \u{1173c}\u{1173d}\u{1173e}\u{11944}\u{11946}\u{11a42}\u{11a43}\u{11a9b}\u{11a9c}\u{11c41}\
    \u{11c42}\u{11ef7}\u{11ef8}\u{11f43}\u{11f44}\u{16a6e}\u{16a6f}\u{16af5}\u{16b37}\u{16b38}\
    \u{16b44}\u{16e98}\u{1bc9f}\u{1da88}\
    ";

/// spaCy's default punctuation of the sentencizer.
const SENTENCE_ENDS: &str = "\
    \u{21}\u{2e}\u{3f}\u{589}\u{61f}\u{6d4}\u{700}\u{701}\u{702}\u{7f9}\u{964}\u{965}\u{104a}\
    \u{104b}\u{1362}\u{1367}\u{1368}\u{166e}\u{1735}\u{1736}\u{1803}\u{1809}\u{1944}\u{1945}\u{1aa8}\
    \u{1aa9}\u{1aaa}\u{1aab}\u{1b5a}\u{1b5b}\u{1b5e}\u{1b5f}\u{1c3b}\u{1c3c}\u{1c7e}\u{1c7f}\u{203c}\
    \u{203d}\u{2047}\u{2048}\u{2049}\u{2e2e}\u{2e3c}\u{3002}\u{a4ff}\u{a60e}\u{a60f}\u{a6f3}\u{a6f7}\
    \u{a876}\u{a877}\u{a8ce}\u{a8cf}\u{a92f}\u{a9c8}\u{a9c9}\u{aa5d}\u{aa5e}\u{aa5f}\u{aaf0}\u{aaf1}\
    \u{abeb}\u{fe52}\u{fe56}\u{fe57}\u{ff01}\u{ff0e}\u{ff1f}\u{ff61}\u{10a56}\u{10a57}\u{11047}\
    \u{11048}\u{110be}\u{110bf}\u{110c0}\u{110c1}\u{11141}\u{11142}\u{11143}\u{111c5}\u{111c6}\
    \u{111cd}\u{111de}\u{111df}\u{11238}\u{11239}\u{1123b}\u{1123c}\u{112a9}\u{1144b}\u{1144c}\
    \u{115c2}\u{115c3}\u{115c9}\u{115ca}\u{115cb}\u{115cc}\u{115cd}\u{115ce}\u{115cf}\u{115d0}\
    \u{115d1}\u{115d2}\u{115d3}\u{115d4}\u{115d5}\u{115d6}\u{115d7}\u{11641}\u{11642}\u{1173c}\
    \u{1173d}\u{1173e}\u{11a42}\u{11a43}\u{11a9b}\u{11a9c}\u{11c41}\u{11c42}\u{16a6e}\u{16a6f}\
    \u{16af5}\u{16b37}\u{16b38}\u{16b44}\u{1bc9f}\u{1da88}\
    ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_those_of_unicode() {
        assert!(ICONS.contains('©') && ICONS.contains('🙂') && !ICONS.contains('a') && !ICONS.contains('€'));
        assert!(PUNCTUATION.contains('“') && !PUNCTUATION.contains('$') && PUNCTUATION.contains('.'));
        assert!(NONSPACING_MARKS.contains('\u{301}') && DIGITS.contains('٣') && !DIGITS.contains('½'));
        assert!(is_terminal('。') && is_terminal('.') && !is_terminal(',') && ends_sentence('؟'));
        assert!(
            is_simplified_away('…')
                && is_simplified_away('_')
                && !is_simplified_away('\n')
                && is_symbol('。')
        );
    }
}
