//! Keys and values, typed, with errors that name the file and the key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// One value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it all
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A list of one type, held as narrow as the file has it: a reader that widened it could be made to take many
/// times the file.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it all
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
}

impl Value {
    fn describe(&self) -> String {
        match self {
            // A stranger's string may be megabytes long.
            Value::String(text) => format!("the string `{}`", text.chars().take(80).collect::<String>()),
            Value::Array(_) => "an array".to_owned(),
            Value::U8(n) => n.to_string(),
            Value::I8(n) => n.to_string(),
            Value::U16(n) => n.to_string(),
            Value::I16(n) => n.to_string(),
            Value::U32(n) => n.to_string(),
            Value::I32(n) => n.to_string(),
            Value::U64(n) => n.to_string(),
            Value::I64(n) => n.to_string(),
            Value::F32(n) => n.to_string(),
            Value::F64(n) => n.to_string(),
            Value::Bool(flag) => flag.to_string(),
        }
    }

    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n.into(),
            Value::I64(n) => n.into(),
            _ => return None,
        })
    }

    /// A number as the decimal that was meant: the f32 nearest to 1e-5 gives 1e-5, not 9.999999747378752e-6,
    /// since whoever wrote the file rounded a decimal.
    fn number(&self) -> Option<f64> {
        match self {
            Value::F32(n) => n.to_string().parse().ok(),
            Value::F64(n) => Some(*n),
            other => other.integer().map(|n| n as f64),
        }
    }

    /// 0 or false: how the format says that something optional is off.
    pub(super) fn is_off(&self) -> bool {
        *self == Value::Bool(false) || self.number() == Some(0.0)
    }
}

/// All keys and values of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    pub(super) path: PathBuf,
    pub(super) values: BTreeMap<String, Value>,
}

impl Metadata {
    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keys and values by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A value of any type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A string.
    ///
    /// # Errors
    /// `Corrupt`, naming the key, where the value is of another type; so do all that follow.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A boolean.
    ///
    /// # Errors
    /// As [`Metadata::str`].
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A whole number of at least 0, of any width.
    ///
    /// # Errors
    /// As [`Metadata::str`].
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", |value| {
            value.integer().and_then(|number| u64::try_from(number).ok())
        })
    }

    /// A finite number of any type. An f32 gives the shortest decimal that rounds to it.
    ///
    /// # Errors
    /// As [`Metadata::str`].
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| value.number().filter(|number| number.is_finite()))
    }

    /// A list of strings, as `tokenizer.ggml.tokens` is.
    ///
    /// # Errors
    /// As [`Metadata::str`].
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings.as_slice()),
            _ => None,
        })
    }

    /// A list of i32, as `tokenizer.ggml.token_type` is.
    ///
    /// # Errors
    /// As [`Metadata::str`].
    pub fn i32s(&self, key: &str) -> Result<Option<&[i32]>> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            Value::Array(Array::I32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// A list of f32, as `tokenizer.ggml.scores` is.
    ///
    /// # Errors
    /// As [`Metadata::str`].
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of 32-bit floats", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match take(value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(self.corrupt(key, format!("must be {expected}, not {}", value.describe()))),
        }
    }

    pub(super) fn corrupt(&self, key: &str, message: String) -> Error {
        key_error(&self.path, key, message, ErrorKind::Corrupt)
    }

    pub(super) fn unsupported(&self, key: &str, message: String) -> Error {
        key_error(&self.path, key, message, ErrorKind::Unsupported)
    }
}

pub(super) fn key_error(path: &Path, key: &str, message: String, kind: ErrorKind) -> Error {
    Error::Key { path: path.to_owned(), key: key.to_owned(), message, kind }
}
