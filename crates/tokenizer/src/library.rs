//! Tokenizers of other programs, run by Hugging Face's library as a whole: ids are the library's for any
//! normalizer, pre-tokenizer and model. Decoding is our own (`decoder`), so that it can be streamed.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, ModelWrapper, PostProcessor as _, PostProcessorWrapper, Token,
    TokenizerImpl,
};

use crate::folder::{Files, Name, Named, ROLES, added_token};
use crate::patterns::watch;
use crate::steps::{Normalization, Splitting};
use crate::{Error, Result};

/// Ids are below this: twenty times the largest vocabularies, so that a table of all ids is small.
const MOST_IDS: u32 = 1 << 22;
/// A longer piece overflows the stack: the library keeps unigram pieces in a tree of their bytes.
const LONGEST_PIECE_BYTES: usize = 1024;
/// Stands for the text among the ids that a post-processor gives.
const TEXT: u32 = u32::MAX;

/// The library's pipeline.
pub struct Library {
    pipeline: TokenizerImpl<ModelWrapper, Normalization, Splitting, PostProcessorWrapper, DecoderWrapper>,
    /// One more than the highest id.
    size: u32,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Library {
    /// Builds the pipeline of a folder, as transformers does: tokens that the configuration files name are
    /// special whatever tokenizer.json says of them, and tokens beyond the vocabulary are added.
    ///
    /// # Errors
    /// Parts that are not read as Hugging Face's programs do, by file and key.
    pub fn new(json: &Value, files: &Files, named: &Named) -> Result<Library> {
        let path = files.path();
        if json["version"] != "1.0" && !json["version"].is_null() {
            let found = &json["version"];
            return Err(Error::unsupported(
                &path,
                "version",
                format!("is {found}; only \"1.0\" is supported"),
            ));
        }
        let size = check_model(&json["model"], &path)?;
        let mut library = Library { pipeline: TokenizerImpl::new(model(&json["model"], &path)?), size };
        if !json["normalizer"].is_null() {
            let normalizer = Normalization::read(&json["normalizer"], &path)?;
            library.pipeline.with_normalizer(Some(normalizer)).map_err(failed("set the normalizer"))?;
        }
        if !json["pre_tokenizer"].is_null() {
            library.pipeline.with_pre_tokenizer(Some(Splitting::read(&json["pre_tokenizer"], &path)?));
        }
        if !json["post_processor"].is_null() {
            let processor = PostProcessorWrapper::deserialize(&json["post_processor"]).map_err(|error| {
                Error::unsupported(&path, "post_processor", format!("cannot be read: {error}"))
            })?;
            library.pipeline.with_post_processor(Some(processor));
        }
        library.add_declared(json, &path)?;
        library.add_named(files, named)?;
        // Truncation and padding of tokenizer.json are left out: they are not the tokenizer's but its user's.
        library.pipeline.set_encode_special_tokens(true);
        Ok(library)
    }

    /// Adds the `added_tokens` of tokenizer.json.
    fn add_declared(&mut self, json: &Value, path: &Path) -> Result<()> {
        let mut declared = Vec::new();
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let token = id.zip(added_token(token)).filter(|(_, token)| !token.content.is_empty());
            declared.push(
                token.ok_or_else(|| Error::file(path, "added_tokens has an entry without id or content"))?,
            );
        }
        self.add(declared.iter().map(|(_, token)| token.clone()))?;
        self.check(&declared, path)
    }

    /// Adds what the configuration files name.
    fn add_named(&mut self, files: &Files, named: &Named) -> Result<()> {
        self.add(named.added.iter().map(|(_, token)| token.clone()))?;
        let config = files.folder.join(crate::CONFIG_FILE);
        self.check(&named.added, &config)?;
        for role in named.roles.iter().flatten() {
            let Some(id) = self.id(&role.content) else {
                return Err(no_such(files, role));
            };
            let known = self.pipeline.get_added_vocabulary().get_added_tokens_decoder().get(&id).cloned();
            let token = known.unwrap_or_else(|| AddedToken::from(role.content.as_str(), true));
            self.add([token.special(true)])?;
        }
        self.add(named.extra.iter().map(|name| AddedToken::from(name.content.as_str(), true)))
    }

    fn add(&mut self, tokens: impl IntoIterator<Item = AddedToken>) -> Result<()> {
        self.pipeline.add_tokens(tokens).map_err(failed("add tokens"))?;
        let added = self.pipeline.get_added_vocabulary().get_added_tokens_decoder();
        self.size = added.keys().map(|id| id + 1).fold(self.size, u32::max);
        Ok(())
    }

    /// The library numbers added tokens by itself: a file that says otherwise describes another tokenizer.
    fn check(&self, declared: &[(u32, AddedToken)], path: &Path) -> Result<()> {
        for (id, token) in declared {
            let given = self.id(&token.content);
            if given != Some(*id) {
                let given = given.map_or_else(|| "none".to_owned(), |id| id.to_string());
                return Err(Error::file(
                    path,
                    format!(
                        "the added token `{}` has id {id}, and the vocabulary and the order of added tokens give \
                         it {given}",
                        token.content
                    ),
                ));
            }
        }
        Ok(())
    }

    /// One more than the highest id.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The id of a spelling, added tokens first.
    pub fn id(&self, spelling: &str) -> Option<u32> {
        self.pipeline.token_to_id(spelling)
    }

    /// The spelling of an id, as the decoder gets it.
    pub fn spelling(&self, id: u32) -> Option<String> {
        self.pipeline.id_to_token(id)
    }

    /// The text of an added token.
    pub fn added(&self, id: u32) -> Option<&AddedToken> {
        self.pipeline.get_added_vocabulary().get_added_tokens_decoder().get(&id)
    }

    /// Encodes a text, without what the post-processor adds.
    ///
    /// # Errors
    /// What the model or a regular expression of the file fails on.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let failed = |problem: String| Error::Encode { bytes: text.len(), problem };
        let encode = || store::panics::catch(|| self.pipeline.encode_fast(text, false));
        match watch(text.len(), encode) {
            (_, Some(failure)) => Err(failed(failure.problem().into())),
            (None, _) => Err(failed("the tokenizers library crashed on it".into())),
            (Some(Err(error)), _) => Err(failed(format!("the tokenizers library fails with: {error}"))),
            (Some(Ok(encoding)), _) => Ok(encoding.get_ids().to_vec()),
        }
    }

    /// The same pipeline, with special tokens recognized in the text.
    pub fn recognizing_special(mut self) -> Library {
        self.pipeline.set_encode_special_tokens(false);
        self
    }

    /// As [`Library::encode`], with the bytes of the text that each token comes from.
    ///
    /// # Errors
    /// As [`Library::encode`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let failed = |problem: String| Error::Encode { bytes: text.len(), problem };
        let encode = || store::panics::catch(|| self.pipeline.encode(text, false));
        match watch(text.len(), encode) {
            (_, Some(failure)) => Err(failed(failure.problem().into())),
            (None, _) => Err(failed("the tokenizers library crashed on it".into())),
            (Some(Err(error)), _) => Err(failed(format!("the tokenizers library fails with: {error}"))),
            (Some(Ok(encoding)), _) => {
                let places = encoding.get_offsets().iter().map(|&(start, end)| start..end);
                Ok((encoding.get_ids().to_vec(), places.collect()))
            }
        }
    }

    /// What the post-processor puts before and after a text.
    ///
    /// # Errors
    /// One that repeats or drops the text, or adds unknown ids.
    pub fn around(&self, path: &Path) -> Result<(Vec<u32>, Vec<u32>)> {
        let Some(processor) = self.pipeline.get_post_processor() else { return Ok(Default::default()) };
        let refuse = |problem: &str| Error::unsupported(path, "post_processor", problem);
        let text = Encoding::from_tokens(vec![Token::new(TEXT, "a".into(), (0, 1))], 0);
        let processed =
            processor.process(text, None, true).map_err(|error| refuse(&format!("fails: {error}")))?;
        let parts: Vec<&[u32]> = processed.get_ids().split(|&id| id == TEXT).collect();
        let [before, after] = parts.as_slice() else {
            return Err(refuse("does not give a single text once, which is not supported"));
        };
        if before.iter().chain(*after).any(|&id| id >= self.size) {
            return Err(refuse("adds an id that is not in the vocabulary"));
        }
        Ok((before.to_vec(), after.to_vec()))
    }
}

/// A role's token that does not exist.
pub fn no_such(files: &Files, name: &Name) -> Error {
    debug_assert!(ROLES.contains(&name.key.as_str()));
    Error::NoSuchToken {
        path: files.folder.join(name.file),
        key: name.key.clone(),
        token: name.content.clone(),
    }
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> Error {
    Error::library(action)
}

/// The type of a model; old files leave it out.
fn kind(model: &Value) -> Option<&str> {
    let inferred = match (&model["vocab"], &model["merges"]) {
        (Value::Array(_), _) => Some("Unigram"),
        (_, Value::Array(_)) => Some("BPE"),
        _ => None,
    };
    model["type"].as_str().or(inferred)
}

fn model(json: &Value, path: &Path) -> Result<ModelWrapper> {
    // Not through the wrapper's own reader, which copies the vocabulary twice.
    let model = match kind(json) {
        Some("BPE") => BPE::deserialize(json).map(ModelWrapper::from),
        Some("Unigram") => Unigram::deserialize(json).map(ModelWrapper::from),
        _ => ModelWrapper::deserialize(json),
    };
    model.map_err(|error| Error::file(path, format!("model: {error}")))
}

/// Checks a model for what the library gets wrong or what this program does not do; returns its size.
fn check_model(model: &Value, path: &Path) -> Result<u32> {
    let refuse = |key: &str, problem: &str| Err(Error::unsupported(path, format!("model.{key}"), problem));
    match kind(model) {
        Some("BPE" | "Unigram" | "WordLevel" | "WordPiece") => {}
        Some(other) => {
            let problem = format!("is `{other}`; supported are BPE, Unigram, WordLevel and WordPiece");
            return refuse("type", &problem);
        }
        None => return refuse("type", "is missing; supported are BPE, Unigram, WordLevel and WordPiece"),
    }
    if kind(model) == Some("BPE") {
        if model["dropout"].as_f64().is_some_and(|dropout| dropout > 0.0) {
            return refuse("dropout", "is not 0, which makes ids random: set it to null");
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[key].as_str().is_some_and(|affix| !affix.is_empty()) {
                return refuse(key, "is not empty, which is not supported; language models have none");
            }
        }
    }
    let mut seen = Vec::new();
    match &model["vocab"] {
        Value::Object(vocab) => {
            for (spelling, id) in vocab {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id < MOST_IDS);
                let out = || Error::file(path, format!("the id of `{spelling}` is out of range"));
                let place = id.ok_or_else(out)? as usize;
                if place >= seen.len() {
                    seen.resize(place + 1, false);
                }
                if std::mem::replace(&mut seen[place], true) {
                    return Err(Error::file(
                        path,
                        format!("`{spelling}` and another token have the id {place}"),
                    ));
                }
            }
        }
        Value::Array(pieces) => {
            if pieces.len() >= MOST_IDS as usize {
                return refuse("vocab", "has too many pieces");
            }
            let long = pieces.iter().filter_map(|piece| piece[0].as_str());
            if let Some(piece) = long.into_iter().find(|piece| piece.len() > LONGEST_PIECE_BYTES) {
                let bytes = piece.len();
                return refuse(
                    "vocab",
                    &format!("has a piece of {bytes} bytes; at most {LONGEST_PIECE_BYTES} work"),
                );
            }
            seen.resize(pieces.len(), true);
        }
        _ => return refuse("vocab", "is neither an object nor a list"),
    }
    Ok(seen.len() as u32)
}
