//! Unicode repair: wrongly decoded text (mojibake), control characters, and zero-width characters.
//!
//! Mojibake is repaired only if that is certain: characters of Windows-1252 whose bytes are UTF-8, in
//! sequences that no language writes. Encoding the repaired text and misreading it again gives the original
//! back. Guesses (a lost byte, straight quotes) are not made.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `[data.repair]`. An empty table enables everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepairOptions {
    /// Repair UTF-8 that was decoded as Windows-1252 or Latin-1, up to three times over ("Ã©" for "é").
    pub mojibake: bool,
    /// Remove control characters other than tabs and line endings, and terminal escape sequences.
    pub control_characters: bool,
    /// Remove zero-width characters: zero-width spaces, byte order marks, soft hyphens, tags, and joiners
    /// that join nothing.
    pub zero_width: bool,
}

impl Default for RepairOptions {
    fn default() -> RepairOptions {
        RepairOptions { mojibake: true, control_characters: true, zero_width: true }
    }
}

/// Counts of repairs in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Wrongly decoded sequences that were repaired.
    pub mojibake: u64,
    /// Control characters that were removed.
    pub control_characters: u64,
    /// Zero-width characters that were removed.
    pub zero_width: u64,
    /// The first repaired sequence, before and after the repair.
    pub sample: Option<String>,
}

impl Repairs {
    /// Whether anything was repaired.
    pub fn any(&self) -> bool {
        self.mojibake + self.control_characters + self.zero_width > 0
    }
}

/// How many times over mojibake is repaired.
const MOST_ROUNDS: usize = 3;
/// Characters of context before and after a sample.
const SHOWN_BESIDE_BYTES: usize = 20;
/// The characters of Windows-1252 from 0x80 on; codes it leaves undefined are read as Latin-1.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Repairs a text. The sample includes its context only if `shows_beside`, since the context may be personal
/// data.
pub fn repair<'t>(text: &'t str, options: &RepairOptions, shows_beside: bool) -> (Cow<'t, str>, Repairs) {
    let mut repairs = Repairs::default();
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t' | b'\r');
    if text.as_bytes().iter().all(is_plain) {
        return (text.into(), repairs);
    }
    let mut text = Cow::Borrowed(text);
    if options.mojibake && !text.is_ascii() {
        for _ in 0..MOST_ROUNDS {
            match undo(&text, &mut repairs, shows_beside) {
                Some(undone) => text = undone.into(),
                None => break,
            }
        }
    }
    if (options.control_characters || options.zero_width)
        && let Some(visible) = remove_unseen(&text, options, &mut repairs)
    {
        text = visible.into();
    }
    (text, repairs)
}

/// The byte of a character in Windows-1252, if it is a non-ASCII one.
fn byte_of(c: char) -> Option<u8> {
    match c {
        '\u{a0}'..='\u{ff}' => Some(c as u8),
        '\u{80}'..='\u{9f}' => Some(c as u8),
        '\u{152}'.. => HIGH.iter().position(|&high| high == c).map(|at| 0x80 + at as u8),
        _ => None,
    }
}

/// Repairs one level of mojibake; `None` if there is none.
fn undo(text: &str, repairs: &mut Repairs, shows_beside: bool) -> Option<String> {
    let mut out: Option<String> = None;
    let (mut copied, mut at) = (0, 0);
    while at < text.len() {
        if text.as_bytes()[at] < 0x80 {
            at += 1;
            continue;
        }
        // Two passes over a run, since whether a sequence is certain depends on the whole run; none has to be
        // buffered.
        let (start, mut found, mut whole) = (at, 0, true);
        at = each_sequence(text, start, |sequence| match sequence {
            Some(_) => found += 1,
            None => whole = false,
        });
        if at == start {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        if found == 0 {
            continue;
        }
        each_sequence(text, start, |sequence| {
            let Some(sequence) = sequence.filter(|sequence| is_certain(text, sequence, found, whole)) else {
                return;
            };
            let Sequence { from, to, meant, .. } = sequence;
            let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
            out.push_str(&text[copied..from]);
            out.push(meant);
            if repairs.sample.is_none() {
                let beside = if shows_beside { SHOWN_BESIDE_BYTES } else { 0 };
                repairs.sample = Some(sample(text, from, to, meant, beside));
            }
            repairs.mojibake += 1;
            copied = to;
        });
    }
    out.map(|mut out| {
        out.push_str(&text[copied..]);
        out
    })
}

/// Characters whose bytes in Windows-1252 are one character of UTF-8.
struct Sequence {
    from: usize,
    to: usize,
    meant: char,
    /// The first byte.
    lead: u8,
}

/// Walks the run of characters from `start` on that are bytes beyond ASCII in Windows-1252. Calls `tell` with
/// each sequence that is UTF-8, and with `None` for each character that begins none. Returns where the run
/// ends.
fn each_sequence(text: &str, start: usize, mut tell: impl FnMut(Option<Sequence>)) -> usize {
    let mut at = start;
    loop {
        let mut bytes = [0; 4];
        let (mut known, mut length, mut to) = (0, 1, at);
        let mut first_bytes = 0;
        for c in text[at..].chars() {
            let Some(byte) = byte_of(c) else { break };
            bytes[known] = byte;
            known += 1;
            to += c.len_utf8();
            if known == 1 {
                first_bytes = c.len_utf8();
                length = match byte {
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf4 => 4,
                    _ => 1,
                };
            }
            if known == length {
                break;
            }
        }
        if known == 0 {
            return at;
        }
        let decoded = std::str::from_utf8(&bytes[..known]).ok().and_then(|decoded| decoded.chars().next());
        match decoded {
            Some(meant) if length > 1 => {
                tell(Some(Sequence { from: at, to, meant, lead: bytes[0] }));
                at = to;
            }
            _ => {
                tell(None);
                at += first_bytes;
            }
        }
    }
}

/// Whether a sequence was certainly misread. Its run has `found` of them, and consists of nothing else if
/// `whole`.
fn is_certain(text: &str, sequence: &Sequence, found: usize, whole: bool) -> bool {
    let &Sequence { from, to, meant, lead } = sequence;
    let several = whole && found > 1;
    if meant.is_control() && meant > '\u{9f}' {
        return false;
    }
    // A capital with an accent before a closing mark ends a word in capitals: "IRMÃ»".
    let before = text[..from].chars().next_back();
    let after = text[to..].chars().next();
    let within =
        before.is_some_and(|c| c.is_ascii_lowercase()) || after.is_some_and(|c| c.is_ascii_lowercase());
    match lead {
        0xe2 | 0xef | 0xf0 => true,
        0xc2 | 0xc3 => several || within || whole && !before.is_some_and(char::is_alphabetic),
        0xc4 | 0xc5 => several || whole && within,
        _ => several,
    }
}

fn sample(text: &str, from: usize, to: usize, c: char, beside: usize) -> String {
    let start = text.floor_char_boundary(from.saturating_sub(beside));
    let end = text.ceil_char_boundary((to + beside).min(text.len()));
    format!("{}⟦{} → {c}⟧{}", &text[start..from], &text[from..to], &text[to..end])
}

/// The text without zero-width characters; `None` if nothing changes.
fn remove_unseen(text: &str, options: &RepairOptions, repairs: &mut Repairs) -> Option<String> {
    let mut out: Option<String> = None;
    let (mut copied, mut at) = (0, 0);
    let mut before: Option<char> = None;
    while let Some(c) = text[at..].chars().next() {
        let mut length = c.len_utf8();
        let is_control = c.is_control() && !matches!(c, '\n' | '\t' | '\r');
        let unseen = if options.control_characters && is_control {
            if c == '\u{1b}' {
                length += escape_sequence(&text[at + 1..]);
            }
            repairs.control_characters += 1;
            true
        } else if options.zero_width && is_without_width(c, before) {
            repairs.zero_width += 1;
            true
        } else {
            false
        };
        if unseen {
            out.get_or_insert_with(|| String::with_capacity(text.len())).push_str(&text[copied..at]);
            copied = at + length;
        } else {
            before = Some(c);
        }
        at += length;
    }
    out.map(|mut out| {
        out.push_str(&text[copied..]);
        out
    })
}

/// Whether a zero-width character is in use: joiners in scripts that join and in emoji, tags in flags.
fn is_without_width(c: char, before: Option<char>) -> bool {
    match c {
        '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => true,
        '\u{200c}' | '\u{200d}' => before.is_none_or(|before| before < '\u{590}'),
        '\u{e0000}'..='\u{e007f}' => !matches!(before, Some('\u{1f3f4}' | '\u{e0000}'..='\u{e007f}')),
        _ => false,
    }
}

/// The length of the rest of a terminal escape sequence, such as `[1;31m`.
fn escape_sequence(rest: &str) -> usize {
    let Some(inner) = rest.strip_prefix('[') else { return 0 };
    let parameters = inner.bytes().take_while(|byte| (0x20..0x40).contains(byte)).count();
    match inner.as_bytes().get(parameters) {
        Some(0x40..=0x7e) => parameters + 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> String {
        repair(text, &RepairOptions::default(), true).0.into_owned()
    }

    /// As if the bytes of `text` were Windows-1252.
    fn misread(text: &str) -> String {
        text.bytes()
            .map(|byte| if (0x80..0xa0).contains(&byte) { HIGH[byte as usize - 0x80] } else { byte as char })
            .collect()
    }

    #[test]
    fn what_was_misread_is_read_again() {
        for text in [
            "café, déjà vu",
            "it’s “so” — really…",
            "naïve £5 and 20°",
            "Привет, мир",
            "Ελληνικά",
            "日本語",
            "łódź w Polsce",
            "🎉 yes",
        ] {
            assert_eq!(repaired(&misread(text)), text);
            assert_eq!(repaired(&misread(&misread(text))), text, "twice");
            assert_eq!(repaired(text), text, "good text stays");
        }
        let sample = |shows_beside| {
            let (_, repairs) = repair("cafÃ©", &RepairOptions::default(), shows_beside);
            (repairs.mojibake, repairs.sample)
        };
        assert_eq!(sample(true), (1, Some("caf⟦Ã© → é⟧".to_owned())));
        assert_eq!(sample(false), (1, Some("⟦Ã© → é⟧".to_owned())));
    }

    #[test]
    fn real_text_stays() {
        for text in [
            "IRMÃ», MAÇÃ…",
            "groß”, „Maß“",
            "«Â» est une lettre",
            "PÅ–Ö, FÅ”",
            "São João… «não»",
            "×¼ ü½",
            "Ä“ and É“",
        ] {
            assert_eq!(repaired(text), text);
        }
    }

    #[test]
    fn what_nobody_sees_goes_but_joins_that_matter_stay() {
        assert_eq!(repaired("a\u{0}b\u{7}c\u{1b}[1;31mred\u{1b}[0m\td\n"), "abcred\td\n");
        assert_eq!(
            repaired("zero\u{200b}width\u{feff} soft\u{ad}hyphen a\u{200d}b"),
            "zerowidth softhyphen ab"
        );
        for text in ["می\u{200c}خواهم", "👩\u{200d}👩", "क्\u{200d}ष"] {
            assert_eq!(repaired(text), text);
        }
        let counted = repair("a\u{0}\u{200b}", &RepairOptions::default(), true).1;
        assert_eq!((counted.control_characters, counted.zero_width, counted.any()), (1, 1, true));
    }
}
