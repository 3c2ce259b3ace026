//! The files of a tokenizer folder of any program, and what they say beside the vocabulary.
//!
//! transformers 4 writes roles to special_tokens_map.json and tokenizer_config.json, transformers 5 only to
//! the latter. As in transformers 5, the map counts where tokenizer_config.json lists no
//! `added_tokens_decoder`; a role that only one of the two names is taken from it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use store::fs::Fs;
use store::{Error as StoreError, atomic};
use tokenizers::AddedToken;

use crate::file::{CONFIG_FILE, SPECIAL_TOKENS_FILE, TOKENIZER_FILE};
use crate::{Error, Result};

/// Added tokens of old folders; newer ones have them in tokenizer.json.
const ADDED_TOKENS_FILE: &str = "added_tokens.json";
/// The largest tokenizer.json. Those of vocabularies of 256,000 tokens have 35 MB.
const LARGEST_TOKENIZER: u64 = 256 << 20;
const LARGEST_CONFIG: u64 = 16 << 20;
/// Vocabularies in formats that transformers converts.
const OTHER_FORMATS: [&str; 5] =
    ["tokenizer.model", "tekken.json", "vocab.json", "spiece.model", "vocab.txt"];
/// Keys of [`Named`], in its order.
pub const ROLES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// The bytes of a folder's files.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Where they are from, for messages.
    pub folder: PathBuf,
    pub tokenizer: Vec<u8>,
    pub config: Option<Vec<u8>>,
    pub special: Option<Vec<u8>>,
    pub added: Option<Vec<u8>>,
}

/// A token named by a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub content: String,
    /// The file and the key that name it.
    pub file: &'static str,
    pub key: String,
}

/// What the configuration files say.
#[derive(Debug, Default)]
pub struct Named {
    /// BOS, EOS, PAD and UNK.
    pub roles: [Option<Name>; 4],
    /// Other special tokens.
    pub extra: Vec<Name>,
    /// Tokens that the files add to tokenizer.json's, with the id they declare.
    pub added: Vec<(u32, AddedToken)>,
    /// `clean_up_tokenization_spaces`.
    pub cleans_up: bool,
}

impl Files {
    /// Reads a folder.
    ///
    /// # Errors
    /// No tokenizer.json; a file that is too large; I/O errors.
    pub fn read(fs: &dyn Fs, folder: &Path) -> Result<Files> {
        let path = folder.join(TOKENIZER_FILE);
        if fs.kind(&path).is_none() {
            let other = OTHER_FORMATS.into_iter().find(|file| fs.kind(&folder.join(file)).is_some());
            if let Some(found) = other {
                return Err(Error::OtherFormat { folder: folder.to_owned(), found });
            }
        }
        let config = |file| -> Result<Option<Vec<u8>>> {
            let path = folder.join(file);
            fs.kind(&path).map(|_| bounded(fs, &path, LARGEST_CONFIG)).transpose()
        };
        Ok(Files {
            tokenizer: bounded(fs, &path, LARGEST_TOKENIZER)?,
            config: config(CONFIG_FILE)?,
            special: config(SPECIAL_TOKENS_FILE)?,
            added: config(ADDED_TOKENS_FILE)?,
            folder: folder.to_owned(),
        })
    }

    /// Writes the files to `folder`, unchanged.
    pub fn write(&self, fs: &dyn Fs, folder: &Path) -> Result<()> {
        atomic::write(fs, &folder.join(TOKENIZER_FILE), &self.tokenizer)?;
        let others = [
            (CONFIG_FILE, &self.config),
            (SPECIAL_TOKENS_FILE, &self.special),
            (ADDED_TOKENS_FILE, &self.added),
        ];
        for (file, bytes) in others {
            if let Some(bytes) = bytes {
                atomic::write(fs, &folder.join(file), bytes)?;
            }
        }
        Ok(())
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join(TOKENIZER_FILE)
    }

    /// tokenizer.json, parsed.
    pub fn json(&self) -> Result<Value> {
        parse(&self.path(), &self.tokenizer)
    }

    /// Reads the configuration files.
    ///
    /// # Errors
    /// Files that are not JSON, and values of the wrong type, by key.
    pub fn named(&self) -> Result<Named> {
        let object = |file: &'static str, bytes: &Option<Vec<u8>>| -> Result<Map<String, Value>> {
            let Some(bytes) = bytes else { return Ok(Map::new()) };
            let path = self.folder.join(file);
            match parse(&path, bytes)? {
                Value::Object(object) => Ok(object),
                _ => Err(Error::file(&path, "it is not a JSON object")),
            }
        };
        let config = (CONFIG_FILE, object(CONFIG_FILE, &self.config)?);
        let map = (SPECIAL_TOKENS_FILE, object(SPECIAL_TOKENS_FILE, &self.special)?);
        let mut named = Named {
            cleans_up: config.1.get("clean_up_tokenization_spaces") == Some(&Value::Bool(true)),
            ..Named::default()
        };
        let decoder = config.1.get("added_tokens_decoder");
        match decoder {
            Some(Value::Object(tokens)) => {
                for (id, token) in tokens {
                    let key = format!("added_tokens_decoder.{id}");
                    let id =
                        id.parse().map_err(|_| self.wrong(CONFIG_FILE, &key, "has a key that is no id"))?;
                    named.added.push((id, self.token(CONFIG_FILE, &key, token)?));
                }
            }
            _ => {
                for (content, id) in object(ADDED_TOKENS_FILE, &self.added)? {
                    let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
                    let id = id.ok_or_else(|| self.wrong(ADDED_TOKENS_FILE, &content, "is no id"))?;
                    named.added.push((id, AddedToken::from(content, false)));
                }
            }
        }
        named.added.sort_by_key(|(id, _)| *id);
        // The one that counts first.
        let sources = if decoder.is_some() { [&config, &map] } else { [&map, &config] };
        for (role, key) in named.roles.iter_mut().zip(ROLES) {
            for (file, object) in sources {
                if role.is_none() {
                    *role = self.name(file, key, object.get(key).unwrap_or(&Value::Null))?;
                }
            }
        }
        for (file, object) in sources {
            self.extra(file, object, &mut named.extra)?;
        }
        Ok(named)
    }

    /// The special tokens of `object` that have none of [`ROLES`].
    fn extra(&self, file: &'static str, object: &Map<String, Value>, extra: &mut Vec<Name>) -> Result<()> {
        let before = extra.len();
        for (key, value) in object {
            match (key.as_str(), value) {
                ("additional_special_tokens" | "extra_special_tokens", Value::Array(tokens)) => {
                    for token in tokens {
                        extra.extend(self.name(file, key, token)?);
                    }
                }
                ("extra_special_tokens", Value::Object(tokens)) => {
                    for (name, token) in tokens {
                        extra.extend(self.name(file, &format!("{key}.{name}"), token)?);
                    }
                }
                ("additional_special_tokens" | "extra_special_tokens", Value::Null) => {}
                ("additional_special_tokens" | "extra_special_tokens", _) => {
                    return Err(self.wrong(file, key, "is no list of tokens"));
                }
                // Named tokens such as `mask_token`, and those of one family of models.
                (name, Value::String(_) | Value::Object(_))
                    if name.ends_with("_token") && !ROLES.contains(&name) =>
                {
                    extra.extend(self.name(file, key, value)?);
                }
                _ => {}
            }
        }
        // The other file repeats what the first says.
        let known: Vec<String> = extra[..before].iter().map(|name| name.content.clone()).collect();
        let mut index = 0;
        extra.retain(|name| {
            index += 1;
            index <= before || !known.contains(&name.content)
        });
        Ok(())
    }

    /// A token's text, or an object that contains it.
    fn name(&self, file: &'static str, key: &str, value: &Value) -> Result<Option<Name>> {
        if value.is_null() {
            return Ok(None);
        }
        let content =
            value.as_str().or_else(|| value["content"].as_str()).filter(|content| !content.is_empty());
        let content = content.ok_or_else(|| self.wrong(file, key, "is neither a token nor null"))?;
        Ok(Some(Name { content: content.to_owned(), file, key: key.to_owned() }))
    }

    fn token(&self, file: &'static str, key: &str, value: &Value) -> Result<AddedToken> {
        added_token(value).ok_or_else(|| self.wrong(file, key, "is no token"))
    }

    fn wrong(&self, file: &str, key: &str, problem: &str) -> Error {
        Error::file(&self.folder.join(file), format!("{key} {problem}"))
    }
}

/// An added token as JSON has it; flags that are left out are as in Hugging Face's `AddedToken`.
pub fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |key| value[key].as_bool();
    let special = flag("special").unwrap_or(false);
    Some(AddedToken {
        content: value["content"].as_str()?.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| Error::file(path, error.to_string()))
}

/// Reads a file of at most `limit` bytes.
fn bounded(fs: &dyn Fs, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let bytes = fs.file_bytes(path).map_err(StoreError::io("read", path))?;
    let too_large = |bytes| Error::TooLarge { path: path.to_owned(), bytes, limit };
    if bytes > limit {
        return Err(too_large(bytes));
    }
    let mut content = Vec::with_capacity(bytes as usize);
    let file = fs.open(path).map_err(StoreError::io("read", path))?;
    file.take(limit + 1).read_to_end(&mut content).map_err(StoreError::io("read", path))?;
    // It may have grown.
    if content.len() as u64 > limit {
        return Err(too_large(content.len() as u64));
    }
    Ok(content)
}
