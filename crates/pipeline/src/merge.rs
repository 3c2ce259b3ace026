//! Merges an adapter into its base: a model folder that needs no adapter.

use std::path::{Path, PathBuf};

use formats::safetensors::Dtype;
use model::adapter_folder;
use serde_json::json;
use store::fs::{Fs, RealFs};
use store::manifest::Manifest;
use store::stage::StagedFolder;
use store::{ownership, stage};
use tokenizer::TOKENIZER_FILE;

use crate::base_of_adapter::base_of_adapter;
use crate::open_model::{GENERATION_FILE, OpenModel};
use crate::{Error, Result};

/// The stage's name in the folder's manifest.
const STAGE: &str = "merge-1";
/// Files that are copied from the adapter's folder, or else from the base's.
const COPIED: [&str; 5] = [
    TOKENIZER_FILE,
    tokenizer::CONFIG_FILE,
    tokenizer::SPECIAL_TOKENS_FILE,
    GENERATION_FILE,
    "chat_template.jinja",
];

/// What was merged.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Merged {
    /// The base.
    pub base: PathBuf,
    /// The merged model's folder.
    pub out: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Merges the adapter in a folder into `base`, or into the model that the adapter names, which must be the
/// one that it was trained on.
///
/// # Errors
/// No adapter; an adapter for another base; a folder with files of others in the way; I/O errors.
pub fn merge(adapter: &Path, base: Option<&Path>, dtype: Dtype, out: &Path) -> Result<Merged> {
    let mut open = match base {
        // On purpose: the same model in another type, for one.
        Some(base) => OpenModel::open(base)?,
        None => base_of_adapter(adapter)?.ok_or_else(|| Error::Argument {
            message: format!("`{}` holds no adapter ({})", adapter.display(), formats::peft::CONFIG_FILE),
        })?,
    };
    let base = open.path.clone();
    stage::repair(&RealFs, out)?;
    ownership::check(&RealFs, out, STAGE)?;
    let staged = StagedFolder::begin(&RealFs, out, STAGE)?;
    adapter_folder::merge(&RealFs, &mut open.stored, adapter, dtype, staged.path())?;
    // The adapter's files are those that it was trained with.
    for name in COPIED {
        let from =
            [adapter, &base].map(|folder| folder.join(name)).into_iter().find(|path| RealFs.exists(path));
        if let Some(from) = from {
            let bytes = RealFs.read(&from).map_err(store::Error::io("read", &from))?;
            store::atomic::write(staged.fs(), &staged.path().join(name), &bytes)?;
        }
    }
    let options = json!({ "dtype": dtype.to_string() });
    let made = staged.commit(Manifest::new(STAGE, options, Default::default()))?;
    let bytes = made.manifest.outputs.values().map(|file| file.bytes).sum();
    // Read back as any program would.
    OpenModel::open(out)?;
    Ok(Merged { base, out: out.to_owned(), bytes })
}
