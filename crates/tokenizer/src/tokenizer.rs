//! A trained tokenizer: encoding, decoding, and its folder.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use store::fs::Fs;
use tokenizers::{Model as _, ModelWrapper};

use crate::file::{Definition, TOKENIZER_FILE};
use crate::split::{self, Splitter};
use crate::threads;
use crate::{Error, Normalizer, PreTokenizer, Result, byte_level};

/// Longer pieces are rare enough not to be cached.
const LONGEST_REMEMBERED_BYTES: usize = 64;
/// Number of cached pieces, a few megabytes: most of a text.
const MOST_REMEMBERED: usize = 1 << 17;
/// Texts per work item.
const TEXTS_PER_CHUNK: usize = 32;

/// Encodes text as ids and decodes it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    definition: Definition,
    normalizer: Normalizer,
    encoder: Encoder,
    /// The bytes of each id; for a special token, its text.
    bytes: Vec<Vec<u8>>,
    special: Vec<bool>,
    roles: Roles,
    hash: String,
}

#[derive(Clone, Copy, Debug)]
struct Roles {
    bos: u32,
    eos: u32,
    pad: u32,
    unk: u32,
}

#[derive(Clone, Debug)]
enum Encoder {
    /// Pieces of text, each encoded by the library's model. The splitting is our own code: the library tracks
    /// an alignment of two words per byte through every step, which takes most of its time. Special tokens
    /// are never recognized in text.
    Pieces(Arc<(Splitter, ModelWrapper)>),
    /// One token per character.
    Characters(HashMap<char, u32>),
}

impl Tokenizer {
    /// Opens a tokenizer folder made by this program.
    ///
    /// # Errors
    /// A missing or damaged file, or an unsupported format.
    pub fn open(fs: &dyn Fs, folder: &Path) -> Result<Tokenizer> {
        Tokenizer::from_definition(Definition::read(fs, folder)?).map_err(|error| match error {
            Error::Library { message, .. } => Error::file(&folder.join(TOKENIZER_FILE), message),
            other => other,
        })
    }

    pub(crate) fn from_definition(definition: Definition) -> Result<Tokenizer> {
        let model = &definition.json["model"];
        let spellings = spellings(model)?;
        let ids: HashMap<&str, u32> =
            spellings.iter().zip(0u32..).map(|(spelling, id)| (spelling.as_str(), id)).collect();
        let role = |spelling: &String| {
            ids.get(spelling.as_str())
                .copied()
                .ok_or_else(|| unknown(&format!("`{spelling}` is not in the vocabulary")))
        };
        let roles = Roles {
            bos: role(&definition.special.bos)?,
            eos: role(&definition.special.eos)?,
            pad: role(&definition.special.pad)?,
            unk: role(&definition.special.unk)?,
        };
        let mut special = vec![false; spellings.len()];
        for token in definition.added() {
            let id = token["content"].as_str().and_then(|content| ids.get(content));
            let id =
                id.ok_or_else(|| unknown(&format!("the added token {token} is not in the vocabulary")))?;
            special[*id as usize] = true;
        }
        let byte_level = definition.json["decoder"]["type"] == "ByteLevel";
        if !byte_level && definition.json["decoder"]["type"] != "Fuse" {
            return Err(unknown("its decoder is neither ByteLevel nor Fuse"));
        }
        let bytes = spellings
            .iter()
            .zip(&special)
            .map(|(spelling, &special)| match byte_level && !special {
                true => byte_level::unspell(spelling).ok_or_else(|| {
                    unknown(&format!("token `{spelling}` is not spelled in the byte alphabet"))
                }),
                false => Ok(spelling.clone().into_bytes()),
            })
            .collect::<Result<Vec<_>>>()?;
        let normalizer = Normalizer::from_json(&definition.json["normalizer"]).ok_or_else(|| {
            unknown("its normalizer has steps other than NFC, line feeds and the byte order mark's removal")
        })?;
        let encoder = if byte_level {
            let pre_tokenizer = split::from_json(&definition.json["pre_tokenizer"])
                .ok_or_else(|| unknown("its pre-tokenizer is none of gpt-2, smollm, qwen2 and llama-bpe"))?;
            let model = ModelWrapper::deserialize(model).map_err(Error::library("load the vocabulary"))?;
            Encoder::Pieces(Arc::new((Splitter::new(pre_tokenizer), model)))
        } else {
            let characters = ids.iter().filter(|(_, id)| !special[**id as usize]);
            let characters = characters.filter_map(|(spelling, &id)| Some((spelling.chars().next()?, id)));
            Encoder::Characters(characters.collect())
        };
        let hash = blake3::hash(&definition.bytes).to_hex().to_string();
        Ok(Tokenizer { definition, normalizer, encoder, bytes, special, roles, hash })
    }

    /// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json to `folder`.
    /// `model_max_length` is the context of the model that the folder belongs to, if there is one.
    ///
    /// # Errors
    /// I/O errors.
    pub fn save(&self, fs: &dyn Fs, folder: &Path, model_max_length: Option<usize>) -> Result<()> {
        self.definition.write(fs, folder, model_max_length)
    }

    /// The normalizer's form of `text`, which [`Tokenizer::encode`] encodes and [`Tokenizer::decode`] gives
    /// back.
    pub fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.normalizer.normalize(text)
    }

    /// As [`Tokenizer::normalize`], for text that need not stand at the beginning of another.
    pub fn normalize_within<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.normalizer.normalize_within(text)
    }

    /// Encodes `text`, normalized, without BOS or EOS. The text of a special token is ordinary text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text = self.normalize(text);
        match &self.encoder {
            Encoder::Characters(ids) => {
                text.chars().map(|c| ids.get(&c).copied().unwrap_or(self.roles.unk)).collect()
            }
            Encoder::Pieces(pieces) => {
                let mut ids = Vec::with_capacity(text.len() / 3);
                pieces.0.split(&text, |piece| encode_piece(&pieces.1, piece, &mut ids));
                ids
            }
        }
    }

    /// A batch encoder.
    pub fn batches(&self) -> Batches<'_> {
        Batches { tokenizer: self, known: Mutex::default() }
    }

    /// Decodes `ids`, without special tokens if `skip_special`. Bytes that are not UTF-8 become U+FFFD;
    /// unknown ids are skipped.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                bytes.extend_from_slice(self.token_bytes(id));
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of an id; empty for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The id of a special token by its text.
    pub fn special_id(&self, spelling: &str) -> Option<u32> {
        let ids = 0..self.vocab_size() as u32;
        ids.into_iter().find(|&id| self.is_special(id) && self.token_bytes(id) == spelling.as_bytes())
    }

    /// Vocabulary size, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    /// Beginning of a document.
    pub fn bos_id(&self) -> u32 {
        self.roles.bos
    }

    /// End of a document.
    pub fn eos_id(&self) -> u32 {
        self.roles.eos
    }

    /// Padding.
    pub fn pad_id(&self) -> u32 {
        self.roles.pad
    }

    /// Unknown token.
    pub fn unk_id(&self) -> u32 {
        self.roles.unk
    }

    /// BLAKE3 of tokenizer.json, hex: token shards and checkpoints identify their tokenizer by it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The pre-tokenizer; `None` for character tokenizers.
    pub fn pre_tokenizer(&self) -> Option<PreTokenizer> {
        split::from_json(&self.definition.json["pre_tokenizer"])
    }

    /// tokenizer.json, parsed.
    pub fn json(&self) -> &Value {
        &self.definition.json
    }
}

/// Encodes batches of texts on all threads, and caches the ids of pieces between batches.
pub struct Batches<'a> {
    tokenizer: &'a Tokenizer,
    known: Mutex<Vec<Known>>,
}

/// A thread's cache: the start and number of the ids of each piece.
#[derive(Default)]
struct Known {
    places: AHashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

impl Batches<'_> {
    /// Encodes each text like [`Tokenizer::encode`], but faster.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Vec<u32>> {
        let Encoder::Pieces(pieces) = &self.tokenizer.encoder else {
            let encode = |text: &S| self.tokenizer.encode(text.as_ref());
            return threads::with(|| texts.par_iter().map(encode).collect());
        };
        let (splitter, model) = pieces.as_ref();
        let of_chunk = |texts: &[S]| -> Vec<Vec<u32>> {
            let taken = self.known.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut known = taken.unwrap_or_default();
            let encoded = texts
                .iter()
                .map(|text| {
                    let text = self.tokenizer.normalize(text.as_ref());
                    let mut ids = Vec::with_capacity(text.len() / 3);
                    splitter.split(&text, |piece| known.encode(model, piece, &mut ids));
                    ids
                })
                .collect();
            self.known.lock().unwrap_or_else(PoisonError::into_inner).push(known);
            encoded
        };
        threads::with(|| texts.par_chunks(TEXTS_PER_CHUNK).flat_map_iter(of_chunk).collect())
    }
}

impl Known {
    fn encode(&mut self, model: &ModelWrapper, piece: &str, ids: &mut Vec<u32>) {
        if let Some(&(start, count)) = self.places.get(piece) {
            ids.extend_from_slice(&self.ids[start as usize..][..count as usize]);
            return;
        }
        let before = ids.len();
        encode_piece(model, piece, ids);
        if piece.len() <= LONGEST_REMEMBERED_BYTES && self.places.len() < MOST_REMEMBERED {
            let new = &ids[before..];
            self.places.insert(piece.into(), (self.ids.len() as u32, new.len() as u32));
            self.ids.extend_from_slice(new);
        }
    }
}

fn unknown(message: &str) -> Error {
    Error::Library { action: "read the vocabulary", message: format!("{message}: train the tokenizer again") }
}

/// Vocabulary strings by id.
fn spellings(model: &Value) -> Result<Vec<String>> {
    let mut spellings: Vec<Option<String>>;
    match (&model["type"], &model["vocab"]) {
        (kind, Value::Object(vocab)) if kind == "BPE" => {
            spellings = vec![None; vocab.len()];
            for (spelling, id) in vocab {
                let place = id.as_u64().and_then(|id| spellings.get_mut(usize::try_from(id).ok()?));
                let place =
                    place.ok_or_else(|| unknown(&format!("the id of `{spelling}` is out of range")))?;
                *place = Some(spelling.clone());
            }
        }
        (kind, Value::Array(pieces)) if kind == "Unigram" => {
            spellings = pieces.iter().map(|piece| piece[0].as_str().map(str::to_owned)).collect();
        }
        (kind, _) => return Err(unknown(&format!("its model is {kind}, not BPE or Unigram"))),
    }
    let whole: Option<Vec<String>> = spellings.into_iter().collect();
    whole.ok_or_else(|| unknown("some ids have no token"))
}

fn encode_piece(model: &ModelWrapper, piece: &str, ids: &mut Vec<u32>) {
    // The model only fails if it needs an unknown token that it lacks; every byte is in the vocabulary.
    let tokens = model.tokenize(&byte_level::spell(piece.as_bytes())).unwrap_or_default();
    ids.extend(tokens.iter().map(|token| token.id));
}
