//! The three files of a tokenizer folder, as `transformers` reads them (`PreTrainedTokenizerFast`, versions 4
//! and 5).

use std::path::Path;

use serde_json::{Map, Value, json};
use store::atomic;
use store::fs::Fs;

use crate::{Normalizer, Result, SpecialTokens, TokenizerOptions, split};

/// Vocabulary, normalizer, pre-tokenizer and decoder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The class that loads it, and the special tokens.
pub const CONFIG_FILE: &str = "tokenizer_config.json";
/// The special tokens alone, for older readers.
pub const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";

/// The result of training, before it is written as a file.
pub enum Model {
    Bpe { spellings: Vec<String>, merges: Vec<(u32, u32)> },
    Unigram { pieces: Vec<(String, f64)> },
    Char { spellings: Vec<String> },
}

/// The content of a folder of a tokenizer that this program trained.
#[derive(Clone, Debug)]
pub struct Definition {
    /// tokenizer.json, parsed.
    pub json: Value,
    /// The bytes of tokenizer.json, which the tokenizer's hash covers.
    pub bytes: Vec<u8>,
    /// The BOS, EOS, PAD and UNK tokens.
    pub special: SpecialTokens,
}

impl Definition {
    pub fn new(options: &TokenizerOptions, normalizer: &Normalizer, model: &Model) -> Definition {
        let special = &options.special_tokens;
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added_tokens(&options.special_spellings()),
            "normalizer": normalizer.to_json(),
            "pre_tokenizer": match model {
                Model::Char { .. } => Value::Null,
                _ => split::to_json(options.pre_tokenizer),
            },
            "post_processor": begin_with(&special.bos),
            "decoder": match model {
                Model::Char { .. } => fuse_decoder(),
                _ => byte_level_decoder(),
            },
            "model": model_json(model, special),
        });
        Definition { bytes: pretty(&json), json, special: special.clone() }
    }

    /// Writes the folder's files; `model_max_length` is the context of the model they belong to, if there is
    /// one.
    pub fn write(&self, fs: &dyn Fs, folder: &Path, model_max_length: Option<usize>) -> Result<()> {
        atomic::write(fs, &folder.join(TOKENIZER_FILE), &self.bytes)?;
        let map = self.special_tokens_map();
        let mut config = map.clone();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.insert("add_bos_token".into(), true.into());
        config.insert("add_eos_token".into(), false.into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        if let Some(length) = model_max_length {
            config.insert("model_max_length".into(), length.into());
        }
        let decoder: Map<String, Value> = self
            .added()
            .iter()
            .filter_map(|token| {
                let mut token = token.as_object()?.clone();
                Some((token.shift_remove("id")?.to_string(), Value::Object(token)))
            })
            .collect();
        config.insert("added_tokens_decoder".into(), Value::Object(decoder));
        atomic::write(fs, &folder.join(CONFIG_FILE), &pretty(&Value::Object(config)))?;
        atomic::write(fs, &folder.join(SPECIAL_TOKENS_FILE), &pretty(&Value::Object(map)))?;
        Ok(())
    }

    /// The `added_tokens` of tokenizer.json.
    pub fn added(&self) -> &[Value] {
        self.json["added_tokens"].as_array().map_or(&[], Vec::as_slice)
    }

    fn special_tokens_map(&self) -> Map<String, Value> {
        let SpecialTokens { bos, eos, pad, unk } = &self.special;
        let mut map = Map::new();
        for (key, spelling) in
            [("bos_token", bos), ("eos_token", eos), ("pad_token", pad), ("unk_token", unk)]
        {
            map.insert(key.into(), spelling.as_str().into());
        }
        let roles = [bos, eos, pad, unk];
        let others: Vec<&Value> = self
            .added()
            .iter()
            .map(|token| &token["content"])
            .filter(|content| !roles.iter().any(|role| *content == role.as_str()))
            .collect();
        if !others.is_empty() {
            map.insert("additional_special_tokens".into(), json!(others));
        }
        map
    }
}

fn model_json(model: &Model, special: &SpecialTokens) -> Value {
    match model {
        Model::Unigram { pieces } => unigram_json(pieces),
        Model::Bpe { spellings, merges } => bpe_json(spellings, merges, None),
        // Byte-pair encoding without merges splits text into its characters.
        Model::Char { spellings } => bpe_json(spellings, &[], Some(&special.unk)),
    }
}

pub fn unigram_json(pieces: &[(String, f64)]) -> Value {
    json!({
        "type": "Unigram",
        // <UNK> is the fourth special token; every byte is in the vocabulary, so it never occurs.
        "unk_id": 3,
        "vocab": pieces,
        "byte_fallback": false,
    })
}

pub fn bpe_json(spellings: &[String], merges: &[(u32, u32)], unk: Option<&str>) -> Value {
    let vocab: Map<String, Value> =
        (0u32..).zip(spellings).map(|(id, spelling)| (spelling.clone(), id.into())).collect();
    // "a b" instead of ["a", "b"]: no token contains a space, and every version of the library reads it.
    let merges: Vec<String> = merges
        .iter()
        .map(|&(left, right)| format!("{} {}", spellings[left as usize], spellings[right as usize]))
        .collect();
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unk,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": vocab,
        "merges": merges,
    })
}

pub fn byte_level_decoder() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
}

pub fn fuse_decoder() -> Value {
    json!({"type": "Fuse"})
}

pub fn added_tokens(special: &[&str]) -> Value {
    let tokens = special.iter().enumerate().map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    tokens.collect()
}

/// The post-processor that adds BOS before each text.
pub fn begin_with(bos: &str) -> Value {
    let special = |type_id: u32| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), text("A", 0)],
        "pair": [special(0), text("A", 0), special(1), text("B", 1)],
        "special_tokens": { bos: {"id": bos, "ids": [1], "tokens": [bos]} },
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut bytes = format!("{value:#}").into_bytes();
    bytes.push(b'\n');
    bytes
}
