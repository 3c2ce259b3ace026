//! Tokenizers as GGUF metadata, for llama.cpp: the inverse of `gguf`.
//!
//! llama.cpp knows pre-tokenizers by name and SentencePiece's merges by scores; a tokenizer that it would
//! not run as tokenizer.json says is refused by key. What is left to its user, composing characters for one,
//! comes back as a note.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::gguf_merges::merges_of_scores;
use crate::gguf_pre::Pre;
use crate::gguf_types::{BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED};
use crate::tokenizer::Encoder;
use crate::{Error, GgufTokenizer, Normalizer, Result, TOKENIZER_FILE, Tokenizer};

/// The score of tokens that no merge makes: below those of all merges.
const LOWEST_SCORE: f32 = -1e6;
/// Special tokens of Phi-3 that leave white space after them.
const PLAIN_IN_PHI3: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];
/// Texts whose ids must be the same when the metadata is read back.
const PROBES: [&str; 6] = [
    " The quick brown fox's 12,345 jumps; it'll rain\n\n\ttabs  two   three",
    " Le cœur a ses raisons, l’été « déjà vu » … 3.14159 x_1 != y && *p >= 0",
    " Привет, мир! Ελληνικά 中文字符 日本語 한국어 🙂👩‍👩‍👧‍👦",
    " fn main() { println!(\"{}\"); } // <tag attr='v'/> http://a.b/c?d=e&f#g",
    "  leading and trailing  \n",
    "WE'LL DON'T 2026-11-22 0x1F",
];

/// How a SentencePiece tokenizer puts a space before a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SpacePrefix {
    Always,
    /// Before a whole text only, not after a special token within it.
    First,
    Never,
}

/// A tokenizer for a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufExport {
    /// The keys `tokenizer.ggml.…` and the chat template.
    pub metadata: GgufTokenizer,
    /// What llama.cpp leaves to its user.
    pub notes: Vec<String>,
    /// Special tokens take white space after them away. llama.cpp does so where the model's name contains
    /// `phi-3` or `phi3`, in any case, and does not load other tokenizers under such a name.
    pub strips_like_phi3: bool,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file for a model with `size` tokens. `stop_ids` end a text. The chat template
    /// is [`crate::chat::ChatTemplate::portable_source`].
    ///
    /// # Errors
    /// `Unsupported`, by the key of tokenizer.json, for a tokenizer that llama.cpp does not run as the file
    /// says; `Corrupt` for a file that does not parse.
    pub fn to_gguf(
        &self,
        size: usize,
        stop_ids: &[u32],
        chat_template: Option<String>,
    ) -> Result<GgufExport> {
        let file = File::of(self)?;
        let mut notes = Vec::new();
        let mut gguf = match file.is_sentence_piece() {
            false => file.byte_level(self, &mut notes)?,
            true => file.sentence_piece(chat_template.is_some(), &mut notes)?,
        };
        (gguf.tokens, gguf.token_types) = self.gguf_tokens(size);
        if file.is_sentence_piece() {
            gguf.scores = file.scores(&gguf)?;
        } else {
            gguf.merges = file.merges()?.into_iter().map(|[a, b]| format!("{a} {b}")).collect();
        }
        gguf.eos = self.eos_id().filter(|id| stop_ids.is_empty() || stop_ids.contains(id));
        gguf.eos = gguf.eos.or(stop_ids.first().copied());
        gguf.eot = stop_ids.iter().copied().find(|id| Some(*id) != gguf.eos);
        (gguf.unknown, gguf.padding) = (self.unk_id(), self.pad_id());
        gguf.chat_template = chat_template;
        file.around(self, &mut gguf)?;
        let others = stop_ids.iter().filter(|id| ![gguf.eos, gguf.eot].contains(&Some(**id))).count();
        if others > 0 {
            notes.push(format!(
                "{others} more token{} a text; GGUF has names for two of them",
                if others == 1 { " ends" } else { "s end" }
            ));
        }
        let strips_like_phi3 = file.strips_like_phi3();
        if file.strips() && !strips_like_phi3 {
            notes.push(
                "added tokens take white space beside them away, which llama.cpp does not do".to_owned(),
            );
        }
        file.check(self, &gguf)?;
        Ok(GgufExport { metadata: gguf, notes, strips_like_phi3 })
    }

    /// Spellings and types of `size` ids; ids without a token get a placeholder.
    fn gguf_tokens(&self, size: usize) -> (Vec<String>, Vec<i32>) {
        let known: HashSet<&str> = (0..self.vocab_size() as u32).filter_map(|id| self.spelling(id)).collect();
        let is_added = |id: u32| match &self.encoder {
            Encoder::Library(library) => library.added(id).is_some(),
            _ => false,
        };
        let token = |id: u32| match self.spelling(id) {
            None => {
                let mut name = format!("[PAD{id}]");
                while known.contains(name.as_str()) {
                    name.push('_');
                }
                (name, UNUSED)
            }
            Some(spelling) => {
                let kind = match self.is_special(id) {
                    true if self.unk_id() == Some(id) => UNKNOWN,
                    true => CONTROL,
                    false if self.is_byte(id) => BYTE,
                    false if is_added(id) => USER_DEFINED,
                    false => NORMAL,
                };
                (spelling.to_owned(), kind)
            }
        };
        (0..size as u32).map(token).unzip()
    }
}

/// A parsed tokenizer.json.
struct File {
    path: PathBuf,
    json: Value,
}

impl File {
    fn of(tokenizer: &Tokenizer) -> Result<File> {
        let path = PathBuf::from(TOKENIZER_FILE);
        let json = serde_json::from_slice(tokenizer.tokenizer_file())
            .map_err(|error| Error::file(&path, error.to_string()))?;
        let file = File { path, json };
        if !file.json["model"]["merges"].is_array() {
            return Err(file.refuse("model", "is not BPE, and llama.cpp runs no other kind as it is written"));
        }
        Ok(file)
    }

    fn refuse(&self, key: &str, problem: &str) -> Error {
        Error::unsupported(&self.path, key, format!("{problem}; the tokenizer cannot be written to GGUF"))
    }

    fn is_sentence_piece(&self) -> bool {
        self.json["model"]["byte_fallback"] == true
    }

    /// The fields of a byte-level vocabulary that do not depend on its tokens.
    fn byte_level(&self, tokenizer: &Tokenizer, notes: &mut Vec<String>) -> Result<GgufTokenizer> {
        if !tokenizer.decoder().byte_level {
            return Err(self.refuse("decoder", "is not byte-level"));
        }
        let normalizer = Normalizer::from_json(&self.json["normalizer"])
            .ok_or_else(|| self.refuse("normalizer", "changes text as no tokenizer of llama.cpp does"))?;
        let composes = normalizer != Normalizer::NONE;
        if composes {
            notes.push(
                "llama.cpp does not normalize text: give it composed characters (NFC) and line feeds"
                    .to_owned(),
            );
        }
        let ignores_merges = self.json["model"]["ignore_merges"] == true;
        let pre = Pre::name_of(&self.json["pre_tokenizer"], ignores_merges, composes).ok_or_else(|| {
            self.refuse("pre_tokenizer", "splits text as none of llama.cpp's pre-tokenizers does")
        })?;
        Ok(GgufTokenizer { model: "gpt2".to_owned(), pre: Some(pre.to_owned()), ..Default::default() })
    }

    /// The fields of a SentencePiece vocabulary that do not depend on its tokens.
    fn sentence_piece(&self, has_template: bool, notes: &mut Vec<String>) -> Result<GgufTokenizer> {
        let prefix = self.space_prefix()?;
        let add_space_prefix = match prefix {
            SpacePrefix::Always => true,
            SpacePrefix::Never => false,
            SpacePrefix::First => !has_template,
        };
        if prefix == SpacePrefix::First {
            notes.push(match has_template {
                true => {
                    "a space is put before a whole text only, which llama.cpp cannot: the file says that \
                         there is none, as in chats; begin a prompt without a template with a space"
                        .to_owned()
                }
                false => {
                    "llama.cpp puts a space after special tokens too, not only before a whole text".to_owned()
                }
            });
        }
        Ok(GgufTokenizer {
            model: "llama".to_owned(),
            pre: Some("default".to_owned()),
            add_space_prefix: Some(add_space_prefix),
            ..Default::default()
        })
    }

    fn space_prefix(&self) -> Result<SpacePrefix> {
        let (normalizer, pre) = (&self.json["normalizer"], &self.json["pre_tokenizer"]);
        let space = SPACE.to_string();
        let is_replace = |step: &Value| {
            step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == space.as_str()
        };
        let is_prepend = |step: &Value| step["type"] == "Prepend" && step["prepend"] == space.as_str();
        let steps = normalizer["normalizers"].as_array().map(Vec::as_slice);
        match (steps, normalizer.is_null(), pre.is_null()) {
            (Some([first, second]), _, true) if is_prepend(first) && is_replace(second) => {
                Ok(SpacePrefix::Always)
            }
            (Some([only]), _, true) if is_replace(only) => Ok(SpacePrefix::Never),
            (None, false, true) if is_replace(normalizer) => Ok(SpacePrefix::Never),
            (None, true, false) if pre["type"] == "Metaspace" && pre["replacement"] == space.as_str() => {
                match (pre["prepend_scheme"].as_str(), &pre["split"]) {
                    (Some("always"), Value::Bool(false)) => Ok(SpacePrefix::Always),
                    (Some("first"), Value::Bool(false)) => Ok(SpacePrefix::First),
                    (Some("never"), Value::Bool(false)) => Ok(SpacePrefix::Never),
                    _ => Err(self.refuse("pre_tokenizer", "splits text, as SentencePiece does not")),
                }
            }
            _ => Err(self.refuse("normalizer", "and pre_tokenizer are not SentencePiece's")),
        }
    }

    fn merges(&self) -> Result<Vec<[&str; 2]>> {
        let merges = self.json["model"]["merges"].as_array().map_or(&[][..], Vec::as_slice);
        let pairs = merges.iter().map(|merge| {
            pair_of(merge).ok_or_else(|| Error::file(&self.path, "model.merges has an entry that is no pair"))
        });
        pairs.collect()
    }

    /// Scores in the order of merges: all merges that make one token must follow one another, and every pair
    /// of tokens that make a token must be merged, since llama.cpp knows nothing but tokens and scores.
    fn scores(&self, gguf: &GgufTokenizer) -> Result<Vec<f32>> {
        let refuse = || self.refuse("model.merges", "are not in the order of scores, as SentencePiece's are");
        let is_text = |id: usize| matches!(gguf.token_types[id], NORMAL | USER_DEFINED);
        let ids: HashMap<&str, usize> =
            gguf.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
        let mut scores = vec![LOWEST_SCORE; gguf.tokens.len()];
        let (mut last, mut count) = (None, 0u32);
        let mut given = BTreeSet::new();
        for [left, right] in self.merges()? {
            let made = format!("{left}{right}");
            let id = *ids.get(made.as_str()).ok_or_else(refuse)?;
            // Text never becomes a special token.
            if !is_text(id) {
                continue;
            }
            if last != Some(id) {
                if scores[id] != LOWEST_SCORE {
                    return Err(refuse());
                }
                scores[id] = -(count as f32);
                count += 1;
                last = Some(id);
            }
            given.insert([left.to_owned(), right.to_owned()]);
        }
        // User-defined tokens are found in the text before anything is merged.
        let types: Vec<i32> =
            gguf.token_types.iter().map(|&kind| if kind == USER_DEFINED { CONTROL } else { kind }).collect();
        let expected = merges_of_scores(&gguf.tokens, &scores, &types)?;
        match expected.len() == given.len() && expected.iter().all(|pair| given.contains(pair)) {
            true => Ok(scores),
            false => Err(refuse()),
        }
    }

    /// BOS before and EOS after a text.
    fn around(&self, tokenizer: &Tokenizer, gguf: &mut GgufTokenizer) -> Result<()> {
        let refuse =
            |what: &str| self.refuse("post_processor", &format!("adds more than {what}, or another token"));
        gguf.bos = tokenizer.bos_id().or(tokenizer.prefix_ids().first().copied());
        gguf.add_bos = Some(match tokenizer.prefix_ids() {
            [] => false,
            [id] if gguf.bos == Some(*id) => true,
            _ => return Err(refuse("BOS before a text")),
        });
        gguf.add_eos = Some(match tokenizer.suffix_ids() {
            [] => false,
            [id] if gguf.eos == Some(*id) => true,
            _ => return Err(refuse("EOS after a text")),
        });
        Ok(())
    }

    /// Whether an added token changes the text beside it.
    fn strips(&self) -> bool {
        let added = self.json["added_tokens"].as_array().into_iter().flatten();
        let flags = ["lstrip", "rstrip", "single_word"];
        added.into_iter().any(|token| flags.iter().any(|flag| token[*flag] == true))
    }

    /// Whether added tokens take white space away as those of Phi-3 do.
    fn strips_like_phi3(&self) -> bool {
        let added = self.json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let is_there = |content: &&str| added.iter().any(|token| token["content"] == **content);
        let is_plain = |token: &Value| PLAIN_IN_PHI3.iter().any(|content| token["content"] == *content);
        PLAIN_IN_PHI3.iter().chain(&["</s>"]).all(is_there)
            && added.iter().all(|token| {
                let strips = token["rstrip"] == true;
                strips != is_plain(token) && token["lstrip"] != true && token["single_word"] != true
            })
    }

    /// Reads the metadata back and compares ids.
    fn check(&self, tokenizer: &Tokenizer, gguf: &GgufTokenizer) -> Result<()> {
        let read = Tokenizer::from_gguf(gguf)?;
        let prefixed = gguf.add_space_prefix == Some(false) && self.space_prefix()? == SpacePrefix::First;
        for probe in PROBES {
            let text = tokenizer.normalize(probe);
            if prefixed && !text.starts_with(' ') {
                continue;
            }
            if read.encode(&text)? != tokenizer.encode(&text)? {
                return Err(
                    self.refuse("model", &format!("gives other ids in llama.cpp's form for `{text}`"))
                );
            }
        }
        Ok(())
    }
}

/// A merge: a list of two spellings, or both with a space between.
fn pair_of(merge: &Value) -> Option<[&str; 2]> {
    match merge {
        Value::String(text) => text.split_once(' ').map(|(left, right)| [left, right]),
        Value::Array(pair) => Some([pair.first()?.as_str()?, pair.get(1)?.as_str()?]),
        _ => None,
    }
}
