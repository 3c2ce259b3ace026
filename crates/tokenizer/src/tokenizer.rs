//! A tokenizer: encoding, decoding, and its folder.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use store::fs::Fs;
use tokenizers::{Model as _, ModelWrapper};

use crate::decoder::{Decoder, Piece, strip};
use crate::file::Definition;
use crate::folder::{Files, Named};
use crate::gguf::{GgufFacts, GgufTokenizer};
use crate::library::Library;
use crate::own::Own;
use crate::split::{self, Splitter};
use crate::table::Table;
use crate::{Error, Normalizer, PreTokenizer, Result, byte_level};

/// Encodes text as ids and decodes it. A clone shares the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    origin: Origin,
    normalizer: Normalizer,
    pre_tokenizer: Option<PreTokenizer>,
    pub(crate) encoder: Encoder,
    vocabulary: Arc<Vocabulary>,
    roles: Roles,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    hash: String,
}

/// What is written when a tokenizer is saved.
#[derive(Clone, Debug)]
enum Origin {
    Own(Arc<Definition>),
    /// The files as they were read.
    Files(Arc<Files>, Option<Arc<GgufFacts>>),
}

#[derive(Clone, Copy, Debug)]
struct Roles {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum Encoder {
    /// Pieces of text, each encoded by the library's model. The splitting is our own code: the library tracks
    /// an alignment of two words per byte through every step, which takes most of its time. Special tokens
    /// are never recognized in text.
    Pieces(Arc<(Splitter, ModelWrapper)>),
    /// One token per character; unknown ones have the last id.
    Characters(Arc<HashMap<char, u32>>, u32),
    /// A tokenizer of another program.
    Library(Arc<Library>),
}

/// What ids stand for.
#[derive(Debug)]
struct Vocabulary {
    /// The bytes of each id within a text; for a special token, its text.
    bytes: Table,
    /// What the decoder gets.
    spellings: Table,
    kinds: Vec<IdKind>,
    decoder: Decoder,
    /// Removes spaces before punctuation from decoded text.
    cleans_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdKind {
    /// An id of no token.
    Hole,
    Plain,
    /// A byte token.
    Byte,
    Special,
}

impl Tokenizer {
    /// Opens a tokenizer folder of any program, as transformers 5 reads it: tokenizer.json, with the roles of
    /// tokens in tokenizer_config.json or special_tokens_map.json.
    ///
    /// Tokenizers of this program's form are run by its own code, all others by Hugging Face's library, which
    /// gives their ids by definition.
    ///
    /// # Errors
    /// A missing, damaged or too large file; a role whose token does not exist; anything in tokenizer.json
    /// that is not supported, by its key.
    pub fn open(fs: &dyn Fs, folder: &Path) -> Result<Tokenizer> {
        let files = Files::read(fs, folder)?;
        let (json, named) = (files.json()?, files.named()?);
        match Own::of_folder(&json, &named) {
            Some(own) => {
                let special = own.special.clone();
                Tokenizer::own(Definition { json, bytes: files.tokenizer, special }, own)
            }
            None => Tokenizer::foreign(files, &json, &named, None),
        }
    }

    /// Builds the tokenizer that a GGUF file describes, as Hugging Face's programs and llama.cpp do.
    ///
    /// # Errors
    /// Vocabularies and pre-tokenizers that are not supported, and values that do not fit together, by key.
    pub fn from_gguf(source: &GgufTokenizer) -> Result<Tokenizer> {
        let (files, json, named) = source.to_files()?;
        Tokenizer::foreign(files, &json, &named, Some(source.facts()))
    }

    pub(crate) fn from_definition(definition: Definition) -> Result<Tokenizer> {
        let own = Own::of(&definition.json, definition.special.clone()).ok_or_else(|| Error::Library {
            action: "read the vocabulary",
            message: "it is not of this program's form".into(),
        })?;
        Tokenizer::own(definition, own)
    }

    fn own(definition: Definition, own: Own) -> Result<Tokenizer> {
        let decoder = Decoder::plain(own.pre_tokenizer.is_some());
        let is_special = |id: usize| id < own.special_count;
        let bytes = own.spellings.iter().enumerate().map(|(id, spelling)| {
            let unspelled = (decoder.byte_level && !is_special(id)).then(|| byte_level::unspell(spelling));
            unspelled.flatten().unwrap_or_else(|| spelling.clone().into_bytes())
        });
        let encoder = match own.pre_tokenizer {
            Some(pre_tokenizer) => {
                let model = ModelWrapper::deserialize(&definition.json["model"]);
                let model = model.map_err(Error::library("load the vocabulary"))?;
                Encoder::Pieces(Arc::new((Splitter::new(pre_tokenizer), model)))
            }
            None => {
                let characters = (0u32..).zip(&own.spellings).skip(own.special_count);
                let characters = characters.filter_map(|(id, spelling)| Some((spelling.chars().next()?, id)));
                Encoder::Characters(Arc::new(characters.collect()), 3)
            }
        };
        let kinds = (0..own.spellings.len())
            .map(|id| if is_special(id) { IdKind::Special } else { IdKind::Plain })
            .collect();
        let vocabulary = Vocabulary {
            bytes: bytes.collect(),
            spellings: own.spellings.iter().collect(),
            kinds,
            decoder,
            cleans_up: false,
        };
        Ok(Tokenizer {
            normalizer: own.normalizer,
            pre_tokenizer: own.pre_tokenizer,
            encoder,
            vocabulary: Arc::new(vocabulary),
            roles: Roles { bos: Some(1), eos: Some(2), pad: Some(0), unk: Some(3) },
            prefix: vec![1],
            suffix: Vec::new(),
            hash: blake3::hash(&definition.bytes).to_hex().to_string(),
            origin: Origin::Own(Arc::new(definition)),
        })
    }

    /// The library's pipeline for this tokenizer, with special tokens recognized in the text: for rendered
    /// chats.
    pub(crate) fn marked(&self) -> Result<Library> {
        let own;
        let (files, named) = match &self.origin {
            Origin::Files(files, _) => (&**files, files.named()?),
            Origin::Own(definition) => {
                let tokenizer = definition.bytes.clone();
                own = Files { folder: PathBuf::new(), tokenizer, config: None, special: None, added: None };
                (&own, Named::default())
            }
        };
        Ok(Library::new(&files.json()?, files, &named)?.recognizing_special())
    }

    /// A tokenizer of another program.
    fn foreign(files: Files, json: &Value, named: &Named, gguf: Option<GgufFacts>) -> Result<Tokenizer> {
        let path = files.path();
        let least_size = gguf.as_ref().map_or(0, |facts| facts.tokens);
        let build = || -> Result<Tokenizer> {
            let library = Library::new(json, &files, named)?;
            let decoder = Decoder::read(&json["decoder"], &path)?;
            let (prefix, suffix) = library.around(&path)?;
            let cleans_up = named.cleans_up && json["model"]["type"] != "BPE";
            let vocabulary = Vocabulary::of(&library, decoder, cleans_up, least_size);
            let role = |index: usize| named.roles[index].as_ref().and_then(|name| library.id(&name.content));
            Ok(Tokenizer {
                normalizer: Normalizer::from_json(&json["normalizer"]).unwrap_or(Normalizer::NONE),
                pre_tokenizer: split::from_json(&json["pre_tokenizer"]),
                vocabulary: Arc::new(vocabulary),
                roles: Roles { bos: role(0), eos: role(1), pad: role(2), unk: role(3) },
                prefix,
                suffix,
                encoder: Encoder::Library(Arc::new(library)),
                hash: blake3::hash(&files.tokenizer).to_hex().to_string(),
                origin: Origin::Files(Arc::new(files.clone()), gguf.clone().map(Arc::new)),
            })
        };
        // It was not written for files of strangers.
        let crashed = || Err(Error::file(&path, "the tokenizers library crashed on it"));
        store::panics::catch(build).unwrap_or_else(crashed)
    }

    /// Writes the tokenizer's files to `folder`: tokenizer.json, tokenizer_config.json and
    /// special_tokens_map.json. Those of another program are written as they were read.
    ///
    /// `model_max_length` is the context of the model that the folder belongs to, if there is one; it is used
    /// where this program makes the configuration.
    ///
    /// # Errors
    /// I/O errors.
    pub fn save(&self, fs: &dyn Fs, folder: &Path, model_max_length: Option<usize>) -> Result<()> {
        match &self.origin {
            Origin::Own(definition) => definition.write(fs, folder, model_max_length),
            Origin::Files(files, _) => files.write(fs, folder),
        }
    }

    /// The normalizer's form of `text`, which [`Tokenizer::encode`] encodes and [`Tokenizer::decode`] gives
    /// back. Normalizers of other programs that do more than compose characters are not applied: their form
    /// is not that of decoded text.
    pub fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.normalizer.normalize(text)
    }

    /// As [`Tokenizer::normalize`], for text that need not stand at the beginning of another.
    pub fn normalize_within<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.normalizer.normalize_within(text)
    }

    /// Encodes `text`, normalized, without BOS or EOS. The text of a special token is ordinary text; added
    /// tokens that are not special are recognized. That is what transformers gives with
    /// `add_special_tokens=False, split_special_tokens=True`.
    ///
    /// # Errors
    /// A text that a tokenizer of another program fails on: a regular expression that needs too many steps, a
    /// character that it lacks a token for. Tokenizers of this program never fail.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.encoder {
            Encoder::Library(library) => library.encode(text),
            Encoder::Characters(ids, unknown) => {
                let text = self.normalize(text);
                Ok(text.chars().map(|c| ids.get(&c).copied().unwrap_or(*unknown)).collect())
            }
            Encoder::Pieces(pieces) => {
                let text = self.normalize(text);
                let mut ids = Vec::with_capacity(text.len() / 3);
                pieces.0.split(&text, |piece| encode_piece(&pieces.1, piece, &mut ids));
                Ok(ids)
            }
        }
    }

    /// Decodes `ids`, without special tokens if `skip_special`. Bytes that are not UTF-8 become U+FFFD;
    /// unknown ids are skipped. The result is a whole text: a space that the tokenizer puts before it is
    /// removed. To continue another text, use [`crate::StreamDecoder::continuing`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let vocabulary = &*self.vocabulary;
        let shown = ids.iter().copied().filter(|&id| vocabulary.shows(id, skip_special));
        let text = match vocabulary.decoder.byte_level {
            true => {
                let bytes: Vec<u8> = shown.flat_map(|id| vocabulary.bytes.get(id)).copied().collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            false => vocabulary.join(shown),
        };
        let text = match vocabulary.decoder.strip {
            Some((character, most)) => strip(&text, character, most).to_owned(),
            None => text,
        };
        if vocabulary.cleans_up { clean_up(&text) } else { text }
    }

    /// The bytes of an id within a text; empty for an id without a token.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes.get(id)
    }

    /// Whether an id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == IdKind::Special
    }

    /// The id of a special token by its text.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.token_id(text).filter(|&id| self.is_special(id))
    }

    /// The id of a token by its spelling in tokenizer.json, added tokens included.
    pub fn token_id(&self, spelling: &str) -> Option<u32> {
        match &self.encoder {
            Encoder::Library(library) => library.id(spelling),
            _ => {
                let mut known = (0..).zip(self.vocabulary.spellings.iter());
                known.find(|(_, known)| *known == spelling.as_bytes()).map(|(id, _)| id)
            }
        }
    }

    /// Vocabulary size, special tokens included: one more than the highest id. Ids may have no token.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.kinds.len()
    }

    /// Beginning of a document, if there is such a token. Whether it stands there is for
    /// [`Tokenizer::prefix_ids`] to say.
    pub fn bos_id(&self) -> Option<u32> {
        self.roles.bos
    }

    /// End of a document or of a turn: ends generation.
    pub fn eos_id(&self) -> Option<u32> {
        self.roles.eos
    }

    /// Padding.
    pub fn pad_id(&self) -> Option<u32> {
        self.roles.pad
    }

    /// Unknown token.
    pub fn unk_id(&self) -> Option<u32> {
        self.roles.unk
    }

    /// What stands before a single text: BOS, in most tokenizers that have one.
    pub fn prefix_ids(&self) -> &[u32] {
        &self.prefix
    }

    /// What stands after a single text.
    pub fn suffix_ids(&self) -> &[u32] {
        &self.suffix
    }

    /// BLAKE3 of tokenizer.json, hex: token shards and checkpoints identify their tokenizer by it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The pre-tokenizer, if it is one that this program trains with.
    pub fn pre_tokenizer(&self) -> Option<PreTokenizer> {
        self.pre_tokenizer
    }

    /// The bytes of tokenizer.json.
    pub fn tokenizer_file(&self) -> &[u8] {
        match &self.origin {
            Origin::Own(definition) => &definition.bytes,
            Origin::Files(files, _) => &files.tokenizer,
        }
    }

    /// The bytes of tokenizer_config.json as read; `None` if there was none, and for tokenizers of this
    /// program.
    pub fn config_file(&self) -> Option<&[u8]> {
        match &self.origin {
            Origin::Own(_) => None,
            Origin::Files(files, _) => files.config.as_deref(),
        }
    }

    /// What a GGUF file says beside the vocabulary, for tokenizers of such files.
    pub fn gguf_facts(&self) -> Option<&GgufFacts> {
        match &self.origin {
            Origin::Files(_, Some(facts)) => Some(facts),
            _ => None,
        }
    }

    /// The spelling of an id in tokenizer.json; `None` for an id without a token.
    pub(crate) fn spelling(&self, id: u32) -> Option<&str> {
        let is_token = self.vocabulary.kind(id) != IdKind::Hole;
        is_token.then(|| std::str::from_utf8(self.vocabulary.spellings.get(id)).ok()).flatten()
    }

    pub(crate) fn shows(&self, id: u32, skip_special: bool) -> bool {
        self.vocabulary.shows(id, skip_special)
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.vocabulary.decoder
    }

    pub(crate) fn is_byte(&self, id: u32) -> bool {
        self.vocabulary.kind(id) == IdKind::Byte
    }

    /// The text of an id that is not a byte token, as the first of a text if `is_first`.
    pub(crate) fn text_of(&self, id: u32, is_first: bool) -> Cow<'_, str> {
        self.vocabulary.text_of(id, is_first)
    }
}

impl Vocabulary {
    fn of(library: &Library, decoder: Decoder, cleans_up: bool, least_size: usize) -> Vocabulary {
        let size = library.size().max(least_size as u32);
        let spellings: Vec<Option<String>> = (0..size).map(|id| library.spelling(id)).collect();
        let mut kinds = Vec::with_capacity(spellings.len());
        let bytes = (0..).zip(&spellings).map(|(id, spelling)| {
            let is_special = library.added(id).is_some_and(|token| token.special);
            let piece = spelling.as_ref().map(|spelling| decoder.piece(spelling, false));
            let (kind, bytes) = match piece {
                None => (IdKind::Hole, Vec::new()),
                Some(Piece::Byte(byte)) => (IdKind::Byte, vec![byte]),
                Some(Piece::Bytes(bytes)) => (IdKind::Plain, bytes),
            };
            kinds.push(if is_special { IdKind::Special } else { kind });
            bytes
        });
        Vocabulary {
            bytes: bytes.collect(),
            spellings: spellings.iter().map(|spelling| spelling.as_deref().unwrap_or_default()).collect(),
            kinds,
            decoder,
            cleans_up,
        }
    }

    fn kind(&self, id: u32) -> IdKind {
        self.kinds.get(id as usize).copied().unwrap_or(IdKind::Hole)
    }

    fn shows(&self, id: u32, skip_special: bool) -> bool {
        match self.kind(id) {
            IdKind::Hole => false,
            IdKind::Special => !skip_special,
            IdKind::Plain | IdKind::Byte => true,
        }
    }

    fn text_of(&self, id: u32, is_first: bool) -> Cow<'_, str> {
        if !(is_first && self.decoder.first_differs()) {
            return String::from_utf8_lossy(self.bytes.get(id));
        }
        match self.decoder.piece(&String::from_utf8_lossy(self.spellings.get(id)), true) {
            Piece::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            Piece::Byte(byte) => String::from_utf8_lossy(&[byte]).into_owned().into(),
        }
    }

    /// The text of ids whose spellings are text.
    fn join(&self, ids: impl Iterator<Item = u32>) -> String {
        let (mut text, mut run, mut first) = (String::new(), Vec::new(), true);
        let mut run_is_first = false;
        for id in ids {
            if self.decoder.spaced && !first {
                text.push(' ');
            }
            if self.kind(id) == IdKind::Byte {
                run_is_first = first || run_is_first && !run.is_empty();
                run.extend_from_slice(self.bytes.get(id));
            } else {
                if !run.is_empty() {
                    text.push_str(&self.decoder.bytes(&std::mem::take(&mut run), run_is_first));
                }
                text.push_str(&self.text_of(id, first));
            }
            first = false;
        }
        if !run.is_empty() {
            text.push_str(&self.decoder.bytes(&run, run_is_first));
        }
        text
    }
}

/// `clean_up_tokenization` of transformers, which applies it to all models but BPE.
fn clean_up(text: &str) -> String {
    let replaced = [".", "?", "!", ","]
        .iter()
        .fold(text.to_owned(), |text, sign| text.replace(&format!(" {sign}"), sign));
    let replaced = replaced.replace(" ' ", "'");
    ["n't", "'m", "'s", "'ve", "'re"].iter().fold(replaced, |text, end| text.replace(&format!(" {end}"), end))
}

pub(crate) fn encode_piece(model: &ModelWrapper, piece: &str, ids: &mut Vec<u32>) {
    // The model only fails if it needs an unknown token that it lacks; every byte is in the vocabulary.
    let tokens = model.tokenize(&byte_level::spell(piece.as_bytes())).unwrap_or_default();
    ids.extend(tokens.iter().map(|token| token.id));
}
