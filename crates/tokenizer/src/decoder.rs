//! The `decoder` of tokenizer.json: how the spellings of ids become text.
//!
//! Supported are decoders that give each id bytes of its own, wherever it stands: a sequence of changes to
//! single spellings, byte tokens, and the removal of characters at the start of the text. The names of fields
//! and their meaning are those of Hugging Face's `tokenizers`.

use std::path::Path;

use serde_json::Value;
use tokenizers::pattern::Pattern as _;

use crate::patterns::Finder;
use crate::{Error, Result, byte_level};

/// A decoder.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Spellings are in the byte alphabet.
    pub byte_level: bool,
    /// `<0x41>` is the byte 41.
    pub byte_fallback: bool,
    /// Changes of a spelling before byte tokens are recognized.
    before: Vec<Step>,
    /// Changes after that, also of the text of successive byte tokens.
    after: Vec<Step>,
    /// A character that is removed from the start of a text, this many times at most.
    pub strip: Option<(char, usize)>,
    /// Whether spellings are separated by spaces: the library's way without a decoder.
    pub spaced: bool,
}

/// A change of one spelling.
#[derive(Debug)]
enum Step {
    Replace {
        pattern: Finder,
        content: String,
    },
    ReplaceString {
        pattern: String,
        content: String,
    },
    /// The character becomes a space; in the first spelling of a text it is removed if `removes_first`.
    Metaspace {
        character: char,
        removes_first: bool,
    },
    /// The character is removed from the start, this many times at most.
    Strip(char, usize),
}

/// What an id stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that may be part of a character (byte alphabet), or text.
    Bytes(Vec<u8>),
    /// A byte token.
    Byte(u8),
}

/// Part of the sequence that a decoder in the file belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Spellings,
    Texts,
    /// All texts are joined.
    Whole,
}

impl Decoder {
    /// Without steps: spellings are in the byte alphabet, or text.
    pub fn plain(byte_level: bool) -> Decoder {
        Decoder { byte_level, ..Decoder::default() }
    }

    /// Reads the `decoder` of the tokenizer.json at `path`.
    ///
    /// # Errors
    /// Decoders whose text for an id depends on other ids, by name.
    pub fn read(json: &Value, path: &Path) -> Result<Decoder> {
        let mut decoder = Decoder::default();
        if json.is_null() {
            decoder.spaced = true;
            return Ok(decoder);
        }
        let mut stage = Stage::Spellings;
        decoder.add(json, &mut stage).map_err(|problem| Error::unsupported(path, "decoder", problem))?;
        Ok(decoder)
    }

    fn add(&mut self, json: &Value, stage: &mut Stage) -> std::result::Result<(), String> {
        let kind = json["type"].as_str().unwrap_or_default();
        let at_start = *stage == Stage::Spellings && self.before.is_empty();
        match (kind, *stage) {
            ("Sequence", _) => {
                let parts = json["decoders"].as_array().ok_or("is a Sequence without `decoders`")?;
                parts.iter().try_for_each(|part| self.add(part, stage))?;
            }
            ("ByteLevel", Stage::Spellings) if at_start => {
                self.byte_level = true;
                *stage = Stage::Whole;
            }
            ("ByteFallback", Stage::Spellings) => {
                self.byte_fallback = true;
                *stage = Stage::Texts;
            }
            ("Fuse", _) => *stage = Stage::Whole,
            ("Strip", _) => {
                let content =
                    single(&json["content"]).ok_or("has a Strip whose `content` is no character")?;
                let start = json["start"].as_u64().and_then(|start| usize::try_from(start).ok());
                let start = start.ok_or("has a Strip without `start`")?;
                if json["stop"] != 0 {
                    return Err("has a Strip with `stop` other than 0, which is not supported".into());
                }
                match stage {
                    Stage::Whole if self.strip.is_none() => self.strip = Some((content, start)),
                    Stage::Whole => return Err("has two Strip of the whole text".into()),
                    _ => self.steps(*stage).push(Step::Strip(content, start)),
                }
            }
            ("Replace", Stage::Whole) => {
                // One character is replaced in the whole as in its parts, if nothing was removed before.
                let pattern = json["pattern"]["String"].as_str();
                let one = pattern.filter(|pattern| pattern.chars().count() == 1 && self.strip.is_none());
                if one.is_none() || self.byte_level {
                    return Err("replaces text across tokens (Replace after Fuse or ByteLevel)".into());
                }
                self.steps(*stage).push(replace(json)?);
            }
            ("Replace", _) => {
                let step = replace(json)?;
                self.steps(*stage).push(step);
            }
            ("Metaspace", Stage::Spellings | Stage::Texts) => {
                let character = single(&json["replacement"]);
                let character = character.ok_or("has a Metaspace whose `replacement` is no character")?;
                let scheme = &json["prepend_scheme"];
                let removes_first = *scheme != "never" && json["add_prefix_space"] != false;
                self.steps(*stage).push(Step::Metaspace { character, removes_first });
            }
            (kind, _) => {
                return Err(format!(
                    "is or contains `{kind}`{}; supported are ByteLevel, Metaspace, and a Sequence of Replace, \
                     ByteFallback, Fuse and Strip",
                    if self.before.is_empty() && self.after.is_empty() { "" } else { " after other steps" }
                ));
            }
        }
        Ok(())
    }

    fn steps(&mut self, stage: Stage) -> &mut Vec<Step> {
        if stage == Stage::Spellings { &mut self.before } else { &mut self.after }
    }

    /// What a spelling stands for; `is_first`: as the first of a text.
    pub fn piece(&self, spelling: &str, is_first: bool) -> Piece {
        if self.byte_level {
            let bytes = byte_level::unspell(spelling);
            return Piece::Bytes(bytes.unwrap_or_else(|| spelling.as_bytes().to_vec()));
        }
        let text = apply(&self.before, spelling.to_owned(), is_first);
        match self.byte_fallback.then(|| byte_of(&text)).flatten() {
            Some(byte) => Piece::Byte(byte),
            None => Piece::Bytes(apply(&self.after, text, is_first).into_bytes()),
        }
    }

    /// The text of successive byte tokens; U+FFFD for each of them if they are not UTF-8.
    pub fn bytes(&self, bytes: &[u8], is_first: bool) -> String {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from(char::REPLACEMENT_CHARACTER).repeat(bytes.len()),
        };
        apply(&self.after, text, is_first)
    }

    /// Whether the first spelling of a text may stand for something else than the same one within it.
    pub fn first_differs(&self) -> bool {
        let steps = self.before.iter().chain(&self.after);
        steps.into_iter().any(|step| matches!(step, Step::Metaspace { removes_first: true, .. }))
    }
}

fn apply(steps: &[Step], text: String, is_first: bool) -> String {
    steps.iter().fold(text, |text, step| match step {
        Step::ReplaceString { pattern, content } => text.replace(pattern, content),
        Step::Replace { pattern, content } => {
            // Spellings are short and were all decoded when the file was opened.
            let parts = pattern.find_matches(&text).unwrap_or_else(|_| vec![((0, text.len()), false)]);
            let part = |((start, end), is_match): ((usize, usize), bool)| {
                if is_match { content.as_str() } else { &text[start..end] }
            };
            parts.into_iter().map(part).collect()
        }
        Step::Metaspace { character, removes_first } if is_first && *removes_first => {
            text.replace(*character, "")
        }
        Step::Metaspace { character, .. } => text.replace(*character, " "),
        Step::Strip(character, most) => strip(&text, *character, *most).to_owned(),
    })
}

/// `text` without `character` at its start, removed at most `most` times.
pub fn strip(text: &str, character: char, most: usize) -> &str {
    let count = text.chars().take(most).take_while(|&found| found == character).count();
    &text[count * character.len_utf8()..]
}

fn replace(json: &Value) -> std::result::Result<Step, String> {
    let content = json["content"].as_str().ok_or("has a Replace without `content`")?.to_owned();
    match (&json["pattern"]["String"], &json["pattern"]["Regex"]) {
        (Value::String(pattern), _) if pattern.is_empty() => Err("has a Replace of nothing".into()),
        (Value::String(pattern), _) => Ok(Step::ReplaceString { pattern: pattern.clone(), content }),
        (_, Value::String(regex)) => {
            let pattern =
                Finder::new(regex).map_err(|problem| format!("has a Replace whose pattern {problem}"))?;
            Ok(Step::Replace { pattern, content })
        }
        _ => Err("has a Replace without `pattern`".into()),
    }
}

/// The byte of a spelling such as `<0x0A>`.
fn byte_of(spelling: &str) -> Option<u8> {
    let digits = spelling.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn single(json: &Value) -> Option<char> {
    let mut characters = json.as_str()?.chars();
    characters.next().filter(|_| characters.next().is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<Decoder> {
        Decoder::read(&json, Path::new("tokenizer.json"))
    }

    #[test]
    fn each_decoder_gives_its_text() {
        let llama = read(json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]}))
        .unwrap();
        assert_eq!(llama.piece("▁a▁", false), Piece::Bytes(b" a ".into()));
        assert_eq!(llama.piece("<0x0a>", false), Piece::Byte(10));
        assert_eq!(llama.piece("<0xag>", false), Piece::Bytes(b"<0xag>".into()));
        assert_eq!((llama.strip, llama.first_differs()), (Some((' ', 1)), false));
        assert_eq!(llama.bytes("é".as_bytes(), true), "é");
        assert_eq!(llama.bytes(b"\xc3a", true), "\u{fffd}\u{fffd}");

        let metaspace =
            read(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"})).unwrap();
        assert_eq!(metaspace.piece("▁a▁", true), Piece::Bytes(b"a".into()));
        assert_eq!(metaspace.piece("▁a▁", false), Piece::Bytes(b" a ".into()));
        assert!(metaspace.first_differs());
        let never =
            read(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"})).unwrap();
        assert!(!never.first_differs());

        let byte_level = read(json!({"type": "ByteLevel"})).unwrap();
        assert_eq!(byte_level.piece("Ġa", false), Piece::Bytes(b" a".into()));
        assert_eq!(byte_level.piece("<｜a｜>", false), Piece::Bytes("<｜a｜>".into()));
        assert!(read(Value::Null).unwrap().spaced);
        assert_eq!(strip("  a", ' ', 1), " a");
    }

    #[test]
    fn decoders_that_depend_on_neighbours_are_refused_by_name() {
        for (json, wanted) in [
            (json!({"type": "WordPiece", "prefix": "##"}), "`WordPiece`"),
            (json!({"type": "BPEDecoder", "suffix": "</w>"}), "`BPEDecoder`"),
            (json!({"type": "CTC"}), "`CTC`"),
            (json!({"type": "Strip", "content": " ", "start": 0, "stop": 1}), "`stop`"),
            (
                json!({"type": "Sequence", "decoders": [
                    {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": " ."}, "content": "."},
                ]}),
                "across tokens",
            ),
            (json!(7), "``"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("tokenizer.json`: decoder ") && error.contains(wanted), "{error}");
        }
    }
}
