//! Tokenizers of GGUF files: their metadata becomes the tokenizer.json of the model they were made from, as
//! far as it can be known, and is then read like any other.
//!
//! Byte-level vocabularies (`gpt2`) name their pre-tokenizer; the table of names is in `gguf_pre`.
//! SentencePiece vocabularies (`llama`) have scores, from which the merges follow (`gguf_merges`). Sources:
//! llama.cpp's `llama-vocab.cpp` for names and defaults, transformers' `convert_gguf_tokenizer` for the rest.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::folder::{Files, Name, Named, ROLES};
use crate::gguf_merges::merges_of_scores;
use crate::gguf_pre::Pre;
use crate::gguf_types::{CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, gguf};
use crate::{CONFIG_FILE, Result};

/// A tokenizer as GGUF metadata has it; the fields are the keys `tokenizer.ggml.…`.
#[derive(Clone, Debug, Default)]
pub struct GgufTokenizer {
    /// `general.architecture`: Gemma's merges are in the order of ids.
    pub architecture: Option<String>,
    /// `model`: `gpt2` or `llama`.
    pub model: String,
    /// `pre`, of `gpt2`.
    pub pre: Option<String>,
    /// `tokens`.
    pub tokens: Vec<String>,
    /// `scores`, of `llama`.
    pub scores: Vec<f32>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty: all normal.
    pub token_types: Vec<i32>,
    /// `merges`: two spellings with a space between.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `padding_token_id`.
    pub padding: Option<u32>,
    /// `eot_token_id`: end of a turn.
    pub eot: Option<u32>,
    /// `add_bos_token`; the default depends on the vocabulary.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; by default false.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`, of `llama`; by default true.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

/// What a GGUF file says beside the vocabulary.
#[derive(Clone, Debug)]
pub struct GgufFacts {
    /// Number of tokens, unused ones included.
    pub tokens: usize,
    /// End of a turn.
    pub eot_id: Option<u32>,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
}

impl GgufTokenizer {
    pub(crate) fn facts(&self) -> GgufFacts {
        GgufFacts { tokens: self.tokens.len(), eot_id: self.eot, chat_template: self.chat_template.clone() }
    }

    /// The files of a tokenizer folder that describe the same tokenizer; parsed as well.
    pub(crate) fn to_files(&self) -> Result<(Files, Value, Named)> {
        self.check()?;
        let json = match self.model.as_str() {
            "gpt2" => self.byte_level()?,
            "llama" => self.sentence_piece()?,
            other => {
                let problem = format!(
                    "is `{other}`; supported are `gpt2` (byte-level BPE) and `llama` (SentencePiece)"
                );
                return Err(gguf("model", problem));
            }
        };
        let mut named = Named::default();
        let mut config = Map::from_iter([
            ("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into()),
            ("clean_up_tokenization_spaces".to_owned(), false.into()),
        ]);
        for (index, id) in self.roles()?.into_iter().enumerate() {
            let Some(id) = id else { continue };
            let (key, content) = (ROLES[index], self.tokens[id as usize].clone());
            config.insert(key.to_owned(), content.clone().into());
            named.roles[index] = Some(Name { content, file: CONFIG_FILE, key: key.to_owned() });
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".to_owned(), template.clone().into());
        }
        let files = Files {
            folder: PathBuf::from("GGUF metadata"),
            tokenizer: format!("{json}\n").into_bytes(),
            config: Some(format!("{:#}\n", Value::Object(config)).into_bytes()),
            ..Files::default()
        };
        Ok((files, json, named))
    }

    /// Checks lengths, types and that tokens differ.
    fn check(&self) -> Result<()> {
        let count = self.tokens.len();
        let lengths = [("token_type", self.token_types.len()), ("scores", self.scores.len())];
        for (key, length) in lengths {
            if length != 0 && length != count {
                return Err(gguf(key, format!("has {length} entries for {count} tokens")));
            }
        }
        let mut seen = HashSet::with_capacity(count);
        if let Some(id) = (0..count).find(|&id| !self.tokens[id].is_empty() && !seen.insert(&self.tokens[id]))
        {
            return Err(gguf("tokens", format!("has `{}` twice, the second time as {id}", self.tokens[id])));
        }
        self.token(("eot_token_id", self.eot)).map(drop)
    }

    fn kind(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(NORMAL)
    }

    /// An id of the metadata; an error if there is no such token.
    fn token(&self, (key, id): (&str, Option<u32>)) -> Result<Option<u32>> {
        match id {
            Some(id) if self.tokens.get(id as usize).is_none_or(String::is_empty) => {
                Err(gguf(key, format!("is {id}, and there is no such token among {}", self.tokens.len())))
            }
            id => Ok(id),
        }
    }

    /// BOS, EOS, PAD and UNK. Without them, SentencePiece vocabularies have BOS 1, EOS 2 and UNK 0. A normal
    /// token is not taken for PAD or UNK: it would disappear from decoded text.
    fn roles(&self) -> Result<[Option<u32>; 4]> {
        let default = |id: u32, kind: i32| {
            let id = (self.model == "llama" && self.kind(id as usize) == kind).then_some(id);
            id.filter(|&id| (id as usize) < self.tokens.len())
        };
        let odd = |id: Option<u32>| id.filter(|&id| self.kind(id as usize) != NORMAL);
        Ok([
            self.token(("bos_token_id", self.bos.or(default(1, CONTROL))))?,
            self.token(("eos_token_id", self.eos.or(default(2, CONTROL))))?,
            odd(self.token(("padding_token_id", self.padding))?),
            odd(self.token(("unknown_token_id", self.unknown.or(default(0, UNKNOWN))))?),
        ])
    }

    fn byte_level(&self) -> Result<Value> {
        let name = self.pre.as_deref().ok_or_else(|| {
            gguf(
                "pre",
                "is missing, so its way of splitting text is not known; convert the model again with a \
                         current llama.cpp"
                    .into(),
            )
        })?;
        let pre = Pre::of(name)
            .ok_or_else(|| gguf("pre", format!("is `{name}`; supported are {}", Pre::NAMES.join(", "))))?;
        // Placeholders for ids that have no token would be found in text.
        let roles = self.roles()?;
        let is_token = |id: usize| self.kind(id) != UNUSED || roles.contains(&Some(id as u32));
        let model = json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": pre.ignores_merges(),
            "vocab": self.vocabulary(&self.tokens, is_token),
            "merges": self.merges()?,
        });
        let decoder =
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let normalizer = if pre.composes() { json!({"type": "NFC"}) } else { Value::Null };
        self.file(model, normalizer, pre.to_json(), decoder, pre.adds_bos(), &|id| {
            self.kind(id) == USER_DEFINED
        })
    }

    fn sentence_piece(&self) -> Result<Value> {
        // Converters write runs of spaces as they are.
        let is_spaces = |token: &str| !token.is_empty() && token.chars().all(|c| c == ' ');
        let spell = |token: &String| match is_spaces(token) {
            true => SPACE.to_string().repeat(token.len()),
            false => token.clone(),
        };
        let spellings: Vec<String> = self.tokens.iter().map(spell).collect();
        let merges = match self.merges.is_empty() {
            true => merges_of_scores(&spellings, &self.ranks()?, &self.token_types)?,
            false => self.merges()?,
        };
        let [.., unknown] = self.roles()?;
        let model = json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.map(|id| spellings[id as usize].as_str()),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": self.vocabulary(&spellings, |_| true),
            "merges": merges,
        });
        let adds_space = self.add_space_prefix.unwrap_or(true);
        let space = SPACE.to_string();
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": space});
        let normalizer = match adds_space {
            true => {
                json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": space}, replace]})
            }
            false => replace,
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": space}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if adds_space {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let decoder = json!({"type": "Sequence", "decoders": decoders});
        let is_matched = |id: usize| self.kind(id) == USER_DEFINED && !is_spaces(&self.tokens[id]);
        self.file(model, normalizer, Value::Null, decoder, true, &is_matched)
    }

    /// What merges are ordered by, highest first.
    fn ranks(&self) -> Result<Vec<f32>> {
        if self.architecture.as_deref().is_some_and(|name| name.starts_with("gemma")) {
            return Ok((0..self.tokens.len()).map(|id| -(id as f32)).collect());
        }
        if self.scores.len() != self.tokens.len() {
            return Err(gguf("scores", "is missing, and so is merges: one of them is needed".into()));
        }
        match self.scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(gguf("scores", format!("has no number for token {id}"))),
            None => Ok(self.scores.clone()),
        }
    }

    fn vocabulary(&self, spellings: &[String], is_token: impl Fn(usize) -> bool) -> Map<String, Value> {
        let tokens = spellings.iter().enumerate().filter(|(id, token)| is_token(*id) && !token.is_empty());
        tokens.map(|(id, token)| (token.clone(), id.into())).collect()
    }

    fn merges(&self) -> Result<Vec<[String; 2]>> {
        let known: HashMap<&str, ()> = self.tokens.iter().map(|token| (token.as_str(), ())).collect();
        let pair = |(index, merge): (usize, &String)| {
            let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
            let pair = at.map(|at| [merge[..at].to_owned(), merge[at + 1..].to_owned()]);
            let pair = pair.filter(|pair| pair.iter().all(|part| known.contains_key(part.as_str())));
            pair.ok_or_else(|| gguf("merges", format!("has no two tokens at {index}: `{merge}`")))
        };
        self.merges.iter().enumerate().map(pair).collect()
    }

    fn file(
        &self,
        model: Value,
        normalizer: Value,
        pre_tokenizer: Value,
        decoder: Value,
        adds_bos: bool,
        is_matched: &dyn Fn(usize) -> bool,
    ) -> Result<Value> {
        let added = (0..self.tokens.len()).filter(|&id| !self.tokens[id].is_empty()).filter_map(|id| {
            let special = self.kind(id) == CONTROL;
            (special || is_matched(id)).then(|| {
                json!({
                    "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special,
                })
            })
        });
        let [bos, eos, ..] = self.roles()?;
        let around =
            [("bos", self.add_bos.unwrap_or(adds_bos), bos), ("eos", self.add_eos.unwrap_or(false), eos)];
        let mut template = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut special = Map::new();
        for (name, is_added, id) in around {
            let id = match (is_added, id) {
                (false, _) => continue,
                (true, Some(id)) => id,
                (true, None) => {
                    return Err(gguf(
                        &format!("{name}_token_id"),
                        format!("is missing, and {name} is to be added to texts"),
                    ));
                }
            };
            let token = &self.tokens[id as usize];
            let part = json!({"SpecialToken": {"id": token, "type_id": 0}});
            template.insert(if name == "bos" { 0 } else { template.len() }, part);
            special.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
        }
        let mut pair = template.clone();
        pair.push(json!({"Sequence": {"id": "B", "type_id": 1}}));
        let post_processor = match special.is_empty() {
            true => Value::Null,
            false => json!({
                "type": "TemplateProcessing", "single": template, "pair": pair, "special_tokens": special,
            }),
        };
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": post_processor,
            "decoder": decoder,
            "model": model,
        }))
    }
}
