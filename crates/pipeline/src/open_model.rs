//! A model on disk as other programs make it: weights, tokenizer, and the tokens that end a text; a folder in
//! Hugging Face format or a GGUF file.

use std::path::{Path, PathBuf};

use formats::gguf::Metadata;
use formats::hf::GenerationConfig;
use model::Stored;
use model::stored::is_gguf;
use store::fs::{Fs, RealFs};
use tokenizer::chat::ChatTemplate;
use tokenizer::{GgufTokenizer, Tokenizer};

use crate::{Error, Result};

/// File name of the defaults of generation.
pub(crate) const GENERATION_FILE: &str = "generation_config.json";

/// Files of a model folder beside the weights that decide what it computes.
const DECIDING_FILES: [&str; 2] = [model::folder::CONFIG_FILE, tokenizer::TOKENIZER_FILE];

/// An open model, whose weights are not loaded yet.
pub(crate) struct OpenModel {
    pub path: PathBuf,
    pub stored: Stored,
    pub tokenizer: Tokenizer,
    /// Ids that end a text.
    pub stop_ids: Vec<u32>,
}

impl OpenModel {
    /// Opens a folder or a file that ends in `.gguf`.
    ///
    /// # Errors
    /// A model that is missing, damaged, of another family, or with a tokenizer that does not fit it.
    pub fn open(path: &Path) -> Result<OpenModel> {
        let stored = Stored::open(&RealFs, path)?;
        let (tokenizer, stop_ids) = match stored.gguf_metadata() {
            Some(metadata) => {
                let tokenizer = Tokenizer::from_gguf(&gguf_tokenizer(metadata)?)?;
                let eot = tokenizer.gguf_facts().and_then(|facts| facts.eot_id);
                let stop_ids = tokenizer.eos_id().into_iter().chain(eot).collect();
                (tokenizer, stop_ids)
            }
            None => {
                let tokenizer = Tokenizer::open(&RealFs, path)?;
                let stop_ids = stop_ids(path, &stored, &tokenizer)?;
                (tokenizer, stop_ids)
            }
        };
        let vocab_size = stored.config().vocab_size;
        if tokenizer.vocab_size() > vocab_size {
            return Err(Error::Data {
                message: format!(
                    "`{}`: the tokenizer has {} tokens and the model {vocab_size}: they do not match",
                    path.display(),
                    tokenizer.vocab_size()
                ),
            });
        }
        Ok(OpenModel { path: path.to_owned(), stored, tokenizer, stop_ids })
    }

    /// The hash of the files that decide what it computes: weights, shape and tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let beside = DECIDING_FILES.map(|name| self.path.join(name)).into_iter();
        for file in self.stored.files().into_iter().chain(beside.filter(|file| RealFs.exists(file))) {
            hasher.update(store::hash::hash_file(&RealFs, &file)?.as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Its chat template, if it has one.
    ///
    /// # Errors
    /// A template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        chat_template(&self.path, &self.tokenizer)
    }

    /// The file that defines its shape, for messages.
    pub fn shape_file(&self) -> PathBuf {
        if is_gguf(&self.path) { self.path.clone() } else { self.path.join(model::folder::CONFIG_FILE) }
    }
}

/// The chat template of a model at `path` with this tokenizer, if it has one.
pub(crate) fn chat_template(path: &Path, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
    match tokenizer.gguf_facts() {
        None => Ok(ChatTemplate::read(&RealFs, path)?),
        Some(facts) => {
            let source = facts.chat_template.as_deref();
            let origin = format!("`{}`", path.display());
            Ok(source.map(|source| ChatTemplate::from_source(source, &origin)).transpose()?)
        }
    }
}

/// As transformers decides: generation_config.json, else config.json, else the tokenizer's EOS.
fn stop_ids(folder: &Path, stored: &Stored, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let mut ids = generation_stop_ids(folder)?;
    if ids.is_empty() {
        ids.clone_from(&stored.hf().eos_token_ids);
    }
    if ids.is_empty() {
        ids.extend(tokenizer.eos_id());
    }
    Ok(ids)
}

/// The ids of generation_config.json; none, where there is no such file.
pub(crate) fn generation_stop_ids(folder: &Path) -> Result<Vec<u32>> {
    let path = folder.join(GENERATION_FILE);
    if !RealFs.exists(&path) {
        return Ok(Vec::new());
    }
    let json = RealFs.read(&path).map_err(store::Error::io("read", &path))?;
    Ok(GenerationConfig::parse(&json, &path).map_err(model::Error::from)?.eos_token_ids)
}

/// The tokenizer's keys of a GGUF file.
fn gguf_tokenizer(metadata: &Metadata) -> Result<GgufTokenizer> {
    let read = || -> formats::Result<GgufTokenizer> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let strings = |name: &str| metadata.strings(&key(name)).map(|found| found.unwrap_or(&[]).to_vec());
        // Some writers say "none" by the largest number.
        let id = |name: &str| {
            metadata
                .u64(&key(name))
                .map(|id| id.and_then(|id| u32::try_from(id).ok()).filter(|&id| id != u32::MAX))
        };
        Ok(GgufTokenizer {
            architecture: metadata.str("general.architecture")?.map(str::to_owned),
            model: metadata.str(&key("model"))?.unwrap_or_default().to_owned(),
            pre: metadata.str(&key("pre"))?.map(str::to_owned),
            tokens: strings("tokens")?,
            scores: metadata.f32s(&key("scores"))?.unwrap_or(&[]).to_vec(),
            token_types: metadata.i32s(&key("token_type"))?.unwrap_or(&[]).to_vec(),
            merges: strings("merges")?,
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            unknown: id("unknown_token_id")?,
            padding: id("padding_token_id")?,
            eot: id("eot_token_id")?,
            add_bos: metadata.bool(&key("add_bos_token"))?,
            add_eos: metadata.bool(&key("add_eos_token"))?,
            add_space_prefix: metadata.bool(&key("add_space_prefix"))?,
            chat_template: metadata.str("tokenizer.chat_template")?.map(str::to_owned),
        })
    };
    Ok(read().map_err(model::Error::from)?)
}
