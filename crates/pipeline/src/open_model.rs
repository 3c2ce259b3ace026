//! A model on disk: weights, tokenizer, and the tokens that end a text. A folder in Hugging Face format, a
//! GGUF file, or a checkpoint of a run.

use std::path::{Path, PathBuf};

use corpus::examples::renderer;
use formats::gguf::Metadata;
use formats::hf::GenerationConfig;
use model::stored::is_gguf;
use model::{ModelConfig, Stored};
use store::fs::{Fs, RealFs};
use tokenizer::chat::ChatTemplate;
use tokenizer::{GgufTokenizer, Tokenizer};

use crate::run_checkpoint::RunCheckpoint;
use crate::{Error, Result, base_path};

/// File name of the defaults of generation.
pub(crate) const GENERATION_FILE: &str = "generation_config.json";

/// Files of a model folder beside the weights that decide what it computes.
const DECIDING_FILES: [&str; 2] = [model::folder::CONFIG_FILE, tokenizer::TOKENIZER_FILE];

/// An open model, whose weights are not loaded yet.
pub(crate) struct OpenModel {
    /// Its folder or file; of a run, the checkpoint's folder.
    pub path: PathBuf,
    /// Where it is a checkpoint of a run.
    pub checkpoint: Option<Box<RunCheckpoint>>,
    pub stored: Stored,
    pub tokenizer: Tokenizer,
    /// Ids that end a text.
    pub stop_ids: Vec<u32>,
}

impl OpenModel {
    /// Opens a model folder, a file that ends in `.gguf`, or a run's checkpoint: by its folder, or by the
    /// run's, which stands for the best one.
    ///
    /// # Errors
    /// A model that is missing, damaged, of another family, or with a tokenizer that does not fit it; a run
    /// that trained adapters.
    pub fn open(path: &Path) -> Result<OpenModel> {
        if let Some(checkpoint) = RunCheckpoint::find(path)? {
            let tokenizer = checkpoint.tokenizer()?;
            let (path, stored) = checkpoint.open(&tokenizer)?;
            let stop_ids = checkpoint.meta().stop_ids.clone();
            let checkpoint = Some(Box::new(checkpoint));
            return Ok(OpenModel { path, checkpoint, stored, tokenizer, stop_ids });
        }
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
        Ok(OpenModel { path: path.to_owned(), checkpoint: None, stored, tokenizer, stop_ids })
    }

    /// The shape of a model, without reading its weights.
    ///
    /// # Errors
    /// As [`OpenModel::open`].
    pub fn shape(path: &Path) -> Result<ModelConfig> {
        match RunCheckpoint::find(path)? {
            Some(checkpoint) => Ok(checkpoint.config().clone()),
            None => Ok(Stored::open(&RealFs, path)?.config().clone()),
        }
    }

    /// The hash of what decides what it computes: weights, shape and tokenizer.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let beside = DECIDING_FILES.map(|name| self.path.join(name)).into_iter();
        for file in self.stored.files().into_iter().chain(beside.filter(|file| RealFs.exists(file))) {
            hasher.update(store::hash::hash_file(&RealFs, &file)?.as_bytes());
        }
        if let Some(checkpoint) = &self.checkpoint {
            hasher.update(store::manifest::hash_json(&checkpoint.config().to_hf().to_json()?).as_bytes());
            hasher.update(self.tokenizer.hash().as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Its chat template, if it has one.
    ///
    /// # Errors
    /// A template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        chat_template(&self.path, self.checkpoint.as_deref(), &self.tokenizer)
    }

    /// The file that defines its shape, or a run's checkpoint, for messages.
    pub fn shape_file(&self) -> PathBuf {
        match is_gguf(&self.path) || self.checkpoint.is_some() {
            true => self.path.clone(),
            false => self.path.join(model::folder::CONFIG_FILE),
        }
    }
}

/// The chat template of a model at `path` with this tokenizer, if it has one. Of a run: the one that its
/// examples were rendered with, or that of the model that it started from.
pub(crate) fn chat_template(
    path: &Path,
    checkpoint: Option<&RunCheckpoint>,
    tokenizer: &Tokenizer,
) -> Result<Option<ChatTemplate>> {
    if let Some(meta) = checkpoint.map(RunCheckpoint::meta) {
        let base = base_path::of_recipe(&meta.recipe, &meta.base_dir)?;
        let own = base.map(|base| OpenModel::open(&base)?.chat_template()).transpose()?.flatten();
        return match &meta.recipe.finetune {
            Some(options) => {
                let renderer = renderer(&RealFs, options, &meta.base_dir, tokenizer, own)?;
                Ok(renderer.template().cloned())
            }
            None => Ok(own),
        };
    }
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
