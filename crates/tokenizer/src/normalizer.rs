//! The normalizer: steps applied to text before it is split into pieces. tokenizer.json contains it, so that
//! prompts in every program that loads the file become what the training text was.

use std::borrow::Cow;

use serde_json::{Value, json};
use unicode_normalization::{IsNormalized, is_nfc_quick};

use crate::nfc::nfc;

/// U+FEFF, which some programs write before UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// Byte order marks at the start of the text. Regex dialects differ in what `^` and `\A` mean, but not in
/// this.
const LEADING_BYTE_ORDER_MARK: &str = "(?<![\\s\\S])\u{feff}+";
/// Line ends of Windows and of old Macs.
const CARRIAGE_RETURNS: &str = "\r\n?";
/// The first byte of U+0300: every character whose encoding starts with a lower one is in NFC, whatever
/// stands beside it.
const FIRST_BYTE_TO_CHECK: u8 = 0xcc;

/// Normalizer of a tokenizer: a list of steps, in the order of tokenizer.json.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalizer {
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Leading byte order marks are removed.
    ByteOrderMark,
    /// CRLF and CR become LF.
    LineEnds,
    /// Unicode normalization form C.
    Nfc,
}

impl Normalizer {
    /// Without steps: text is encoded as it is.
    pub const NONE: Normalizer = Normalizer { steps: Vec::new() };

    /// The normalization of `data.normalize = "nfc"`: a leading byte order mark is removed, line ends become
    /// line feeds, characters are composed (NFC).
    pub fn text() -> Normalizer {
        Normalizer { steps: vec![Step::ByteOrderMark, Step::LineEnds, Step::Nfc] }
    }

    /// The normalized text; borrowed if it is normal already. Idempotent.
    pub fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        Self::apply(self.steps.iter(), text)
    }

    /// As [`Normalizer::normalize`], for text that need not stand at the beginning of another.
    pub fn normalize_within<'t>(&self, text: &'t str) -> Cow<'t, str> {
        Self::apply(self.steps.iter().filter(|&&step| step != Step::ByteOrderMark), text)
    }

    fn apply<'t, 's>(steps: impl Iterator<Item = &'s Step>, text: &'t str) -> Cow<'t, str> {
        steps.fold(Cow::Borrowed(text), |text, step| match text {
            Cow::Borrowed(text) => step.apply(text),
            Cow::Owned(text) => match step.apply(&text) {
                Cow::Borrowed(same) if same.len() == text.len() => Cow::Owned(text),
                Cow::Borrowed(part) => Cow::Owned(part.to_owned()),
                Cow::Owned(changed) => Cow::Owned(changed),
            },
        })
    }

    /// The `normalizer` of tokenizer.json; `None` if it contains steps other than those of this type.
    pub(crate) fn from_json(json: &Value) -> Option<Normalizer> {
        let steps = match (json, json["type"].as_str()) {
            (Value::Null, _) => Vec::new(),
            (_, Some("Sequence")) => {
                json["normalizers"].as_array()?.iter().map(Step::from_json).collect::<Option<_>>()?
            }
            _ => vec![Step::from_json(json)?],
        };
        Some(Normalizer { steps })
    }

    /// As `normalizer` of tokenizer.json.
    pub(crate) fn to_json(&self) -> Value {
        match self.steps.as_slice() {
            [] => Value::Null,
            steps => {
                let steps: Vec<Value> = steps.iter().map(|step| step.to_json()).collect();
                json!({"type": "Sequence", "normalizers": steps})
            }
        }
    }
}

impl Step {
    const ALL: [Step; 3] = [Step::ByteOrderMark, Step::LineEnds, Step::Nfc];

    fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Step::ByteOrderMark => text.trim_start_matches(BYTE_ORDER_MARK).into(),
            Step::LineEnds if text.contains('\r') => text.replace("\r\n", "\n").replace('\r', "\n").into(),
            Step::LineEnds => text.into(),
            Step::Nfc if is_nfc(text) => text.into(),
            Step::Nfc => match nfc(text) {
                same if same == text => text.into(),
                composed => composed.into(),
            },
        }
    }

    fn from_json(json: &Value) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.to_json() == *json)
    }

    fn to_json(self) -> Value {
        match self {
            Step::ByteOrderMark => replace(LEADING_BYTE_ORDER_MARK, ""),
            Step::LineEnds => replace(CARRIAGE_RETURNS, "\n"),
            Step::Nfc => json!({"type": "NFC"}),
        }
    }
}

/// A step of tokenizer.json that replaces matches of a regular expression.
fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

/// Whether `text` is certainly in NFC.
fn is_nfc(text: &str) -> bool {
    text.bytes().all(|byte| byte < FIRST_BYTE_TO_CHECK) || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_applied_and_normal_text_is_borrowed() {
        let normalizer = Normalizer::text();
        for (text, wanted) in [
            ("\u{feff}a\r\nb\rc\n", "a\nb\nc\n"),
            ("\u{feff}\u{feff}a\u{feff}", "a\u{feff}"),
            ("\u{feff}", ""),
            ("cafe\u{301}", "café"),
            ("\r\r\n\n", "\n\n\n"),
            ("", ""),
        ] {
            assert_eq!(normalizer.normalize(text), wanted);
        }
        for text in ["plain\n", "café — 日本語\n", "한국어", "x\u{338}"] {
            assert!(matches!(normalizer.normalize(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
        assert_eq!(normalizer.normalize_within("\u{feff}e\u{301}\r\n"), "\u{feff}é\n");
        assert_eq!(Normalizer::NONE.normalize("\u{feff}e\u{301}\r"), "\u{feff}e\u{301}\r");
    }

    #[test]
    fn characters_below_the_first_byte_to_check_never_change() {
        let below: String = ('\0'..='\u{2ff}').collect();
        assert_eq!(nfc(&below), below);
        assert_eq!("\u{300}".as_bytes()[0], FIRST_BYTE_TO_CHECK);
    }

    #[test]
    fn json_is_read_back_and_other_steps_are_refused() {
        for normalizer in [Normalizer::NONE, Normalizer::text(), Normalizer { steps: vec![Step::Nfc] }] {
            assert_eq!(Normalizer::from_json(&normalizer.to_json()), Some(normalizer));
        }
        let plain = Normalizer { steps: vec![Step::Nfc] };
        assert_eq!(Normalizer::from_json(&json!({"type": "NFC"})), Some(plain));
        for other in [
            json!({"type": "NFKC"}),
            json!({"type": "Lowercase"}),
            json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "StripAccents"}]}),
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
            json!("NFC"),
        ] {
            assert_eq!(Normalizer::from_json(&other), None, "{other}");
        }
    }
}
