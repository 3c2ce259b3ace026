//! A JSON object whose values are taken by key and type, with errors that name the file and the key.

use std::path::Path;

use serde_json::{Map, Value};
use store::fs::Fs;

use crate::error::{Error, ErrorKind, Result};

/// Larger sizes are refused before anything is allocated or multiplied: no model of this family comes near.
const LARGEST_SIZE: u64 = 1 << 32;

/// A configuration's bytes: no real one comes near.
pub(crate) const CONFIG_LIMIT_BYTES: u64 = 1 << 24;

/// The bytes of a file, unless they are more than `limit`; `what` names its kind in errors.
pub(crate) fn read_limited(fs: &dyn Fs, path: &Path, limit: u64, what: &str) -> Result<Vec<u8>> {
    let bytes = fs.file_bytes(path).map_err(Error::io("read", path))?;
    if bytes > limit {
        return Err(Error::corrupt(path, format!("its {bytes} bytes are too large for {what}")));
    }
    fs.read(path).map_err(Error::io("read", path))
}

/// A view of one object in a file; a key set to `null` counts as absent, as it does in Hugging Face's files.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    /// Put before a key in messages: `rope_scaling.` for the object of that name.
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: &'a Path, prefix: &'static str, map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { path, prefix, map }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, even as `null`.
    pub(crate) fn is_written(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn object(&self, key: &str, prefix: &'static str) -> Result<Option<Fields<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields::new(self.path, prefix, map))),
            Some(other) => Err(self.wrong_type(key, "an object", other)),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, "a string", other)),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong_type(key, "true or false", other)),
        }
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(self.wrong_type(key, "a number", value)),
            },
        }
    }

    /// A finite number above zero.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(number) if number <= 0.0 => {
                Err(self.corrupt(key, format!("must be more than 0, not {number}")))
            }
            other => Ok(other),
        }
    }

    pub(crate) fn require_positive(&self, key: &str) -> Result<f64> {
        self.positive(key)?.ok_or_else(|| self.corrupt(key, "is missing".to_owned()))
    }

    /// An integer of at least 1. Some writers use `32.0`.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && *number >= 0.0)
                .map(|number| number as u64)
        });
        match whole {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size as usize)),
            Some(size) => Err(self.corrupt(key, format!("must be from 1 to {LARGEST_SIZE}, not {size}"))),
            None => Err(self.wrong_type(key, "an integer", value)),
        }
    }

    /// An integer of at least 0.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|&count| count <= LARGEST_SIZE) {
                Some(count) => Ok(Some(count as usize)),
                None => Err(self.wrong_type(key, "an integer from 0 on", value)),
            },
        }
    }

    /// A list of integers of at least 0.
    pub(crate) fn counts(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.list(key, "a list of integers from 0 on", Value::as_u64)
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.list(key, "a list of strings", Value::as_str)
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        item: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let items = value.as_array().and_then(|items| items.iter().map(item).collect());
        items.map(Some).ok_or_else(|| self.wrong_type(key, expected, value))
    }

    pub(crate) fn require_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.corrupt(key, "is missing".to_owned()))
    }

    /// A token id, or the ids of a list (Llama 3's `eos_token_id`).
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match self.get(key) {
            None => Some(Vec::new()),
            // -1 is how some writers say "none".
            Some(value) if value.as_i64() == Some(-1) => Some(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(id).collect(),
            Some(value) => id(value).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.corrupt(key, "must be a token id or a list of token ids".to_owned()))
    }

    pub(crate) fn corrupt(&self, key: &str, message: String) -> Error {
        self.error(key, message, ErrorKind::Corrupt)
    }

    pub(crate) fn unsupported(&self, key: &str, message: String) -> Error {
        self.error(key, message, ErrorKind::Unsupported)
    }

    fn error(&self, key: &str, message: String, kind: ErrorKind) -> Error {
        Error::Key { path: self.path.to_owned(), key: format!("{}{key}", self.prefix), message, kind }
    }

    fn wrong_type(&self, key: &str, expected: &str, value: &Value) -> Error {
        // A stranger's value may be megabytes long.
        let text: String = value.to_string().chars().take(80).collect();
        self.corrupt(key, format!("must be {expected}, not `{text}`"))
    }
}
