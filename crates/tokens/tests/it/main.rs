//! Shards, mixes and the loader.
#![allow(clippy::unwrap_used)] // a test says what broke by panicking

mod examples;
mod loader;
mod shards;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use store::fs::RealFs;
use store::manifest::Manifest;
use store::stage::StagedFolder;
use tokens::{ShardWriter, Split, TOKENS_STAGE, TokenDataset, Vocabulary};

/// 0 pads, 1 begins a document, 2 ends it.
const VOCABULARY: Vocabulary<'static> =
    Vocabulary { vocab_size: 64, tokenizer_hash: "a tokenizer", bos_id: Some(1), eos_id: Some(2), pad_id: 0 };

/// Makes a folder of shards; validation gets the same documents.
fn write(folder: &Path, documents: &[Vec<u32>], shard_tokens: u64) {
    let staged = StagedFolder::begin(&RealFs, folder, TOKENS_STAGE).unwrap();
    for split in Split::ALL {
        let mut writer = ShardWriter::new(&RealFs, staged.path(), split, VOCABULARY, shard_tokens);
        documents.iter().for_each(|ids| writer.write(ids).unwrap());
        writer.finish().unwrap();
    }
    staged.commit(Manifest::new(TOKENS_STAGE, json!({}), BTreeMap::new())).unwrap();
}

fn open(folder: &Path, split: Split) -> tokens::Result<TokenDataset> {
    TokenDataset::open(&RealFs, folder, split, VOCABULARY.tokenizer_hash)
}
