//! Cleaned documents and their files: JSON lines compressed with zstd, one file per split.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::fs::{Fs, FsFile, FsReader};
use store::manifest::Manifest;
use tokens::Split;

use crate::zstandard::{self, Zstandard};
use crate::{Error, Fault, Result};

/// The stage's name in its manifest.
pub const DOCUMENTS_STAGE: &str = "documents";

/// A document, as used for training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The text.
    pub text: String,
    /// Its source: file, and line or position within it.
    pub source: String,
    /// The first 128 bits of the text's BLAKE3, hex.
    pub hash: String,
    /// ISO 639-1 code, where known or detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Its address on the web, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Title of a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The day it was published, of pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The classifier's score from 0 to 5, where the recipe has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The entry of `data.paths` that it was read by, where the recipe mixes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

impl Document {
    /// The same document with another text.
    pub(crate) fn with_text(&self, text: String) -> Document {
        let changed = Document::new(text, self.source.clone(), self.language.clone());
        Document { text: changed.text, hash: changed.hash, ..self.clone() }
    }

    /// A document of `text`.
    pub fn new(text: String, source: String, language: Option<String>) -> Document {
        let hash = blake3::hash(text.as_bytes()).to_hex()[..32].to_owned();
        Document {
            text,
            source,
            hash,
            language,
            url: None,
            title: None,
            date: None,
            domain: None,
            score: None,
        }
    }
}

/// File name of a split's documents.
pub(crate) fn documents_file(split: Split) -> String {
    format!("{}.jsonl.zst", split.name())
}

/// The file of dropped documents, where the recipe keeps them.
pub(crate) const DROPPED_FILE: &str = "dropped.jsonl.zst";

/// A document that was dropped, where `keep_dropped` keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedDocument {
    /// The filter that dropped it.
    pub filter: String,
    /// The reason.
    pub reason: String,
    /// Its source.
    pub source: String,
    /// Its text, redacted where the recipe redacts.
    pub text: String,
}

/// Compression level: of files that are kept or passed on, and of files that are read once.
const LEVEL: i32 = 3;
/// Bytes that zstd reads at a time.
const PACKED_BUFFER_BYTES: usize = 128 << 10;
pub(crate) const PASSING_LEVEL: i32 = 1;

/// Writes documents one by one.
pub(crate) struct JsonLinesWriter {
    path: PathBuf,
    encoder: zstd::Encoder<'static, Box<dyn FsFile>>,
}

impl JsonLinesWriter {
    pub fn create(fs: &dyn Fs, path: &Path) -> Result<JsonLinesWriter> {
        JsonLinesWriter::create_at(LEVEL, fs, path)
    }

    pub fn create_at(level: i32, fs: &dyn Fs, path: &Path) -> Result<JsonLinesWriter> {
        let begin = || {
            let mut encoder = zstd::Encoder::new(fs.create(path)?, level)?;
            encoder.include_checksum(true)?;
            Ok(encoder)
        };
        let encoder = begin().map_err(zstandard::told).map_err(store::Error::io("write", path))?;
        Ok(JsonLinesWriter { path: path.to_owned(), encoder })
    }

    pub fn write(&mut self, document: &Document) -> Result<()> {
        self.write_line(document)
    }

    pub fn write_line(&mut self, document: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(document).map_err(std::io::Error::other).and_then(|mut line| {
            line.push('\n');
            self.encoder.write_all(line.as_bytes())
        });
        Ok(line.map_err(zstandard::told).map_err(store::Error::io("write", &self.path))?)
    }

    pub fn finish(self) -> Result<()> {
        let path = self.path;
        let end = self.encoder.finish().and_then(|mut file| file.flush());
        Ok(end.map_err(zstandard::told).map_err(store::Error::io("write", &path))?)
    }
}

/// Documents of a file, read one by one.
pub struct Documents<T = Document> {
    kind: PhantomData<T>,
    path: PathBuf,
    lines: BufReader<Zstandard<BufReader<Box<dyn FsReader>>>>,
    line: String,
}

/// Opens the documents of `split` in a folder that [`crate::prepare`] made. The manifest is not checked here:
/// the stages that build on the folder do it.
///
/// # Errors
/// A file that is not there.
pub fn documents(fs: &dyn Fs, folder: &Path, split: Split) -> Result<Documents> {
    read_documents(fs, &folder.join(documents_file(split)))
}

/// The documents that were dropped; none, where the recipe does not keep them.
///
/// # Errors
/// A file that cannot be read.
pub fn dropped_documents(fs: &dyn Fs, folder: &Path) -> Result<Option<Documents<DroppedDocument>>> {
    let path = folder.join(DROPPED_FILE);
    fs.exists(&path).then(|| open(fs, &path)).transpose()
}

pub(crate) fn read_documents(fs: &dyn Fs, path: &Path) -> Result<Documents> {
    open(fs, path)
}

pub(crate) fn open<T>(fs: &dyn Fs, path: &Path) -> Result<Documents<T>> {
    let open = || Zstandard::over(BufReader::with_capacity(PACKED_BUFFER_BYTES, fs.open(path)?));
    let decoder = open().map_err(store::Error::io("read", path))?;
    Ok(Documents {
        kind: PhantomData,
        path: path.to_owned(),
        lines: BufReader::new(decoder),
        line: String::new(),
    })
}

impl<T> Documents<T> {
    /// Passes over the next `count` lines without looking into them.
    pub(crate) fn pass_over(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            if self.lines.skip_until(b'\n').map_err(|error| self.unreadable(error))? == 0 {
                return Err(self.damaged(&"it ends early"));
            }
        }
        Ok(())
    }

    /// Skips `count` documents and returns the next.
    pub(crate) fn after(&mut self, count: u64) -> Result<T>
    where
        T: DeserializeOwned,
    {
        self.pass_over(count)?;
        self.next().unwrap_or_else(|| Err(self.damaged(&"it ends early")))
    }

    /// A system without memory damages nothing.
    fn unreadable(&self, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::OutOfMemory => store::Error::io("unpack", &self.path)(error).into(),
            _ => self.damaged(&error),
        }
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> Error {
        Error::corrupt(&self.path, Fault::Documents(error.to_string()))
    }
}

impl<T: DeserializeOwned> Iterator for Documents<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        self.line.clear();
        match self.lines.read_line(&mut self.line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&self.line).map_err(|error| self.damaged(&error))),
            Err(error) => Some(Err(self.unreadable(error))),
        }
    }
}

/// Runs `work` over the texts of one split, for consumers that take plain texts (training a tokenizer), and
/// returns the first error of reading, if there was one, in place of the work's result.
///
/// # Errors
/// Errors of reading.
pub fn texts<T>(
    fs: &dyn Fs,
    folder: &Path,
    split: Split,
    work: impl FnOnce(&mut dyn Iterator<Item = String>) -> T,
) -> Result<T> {
    let failed = RefCell::new(None);
    let mut texts = documents(fs, folder, split)?.map_while(|document| match document {
        Ok(document) => Some(document.text),
        Err(error) => {
            *failed.borrow_mut() = Some(error);
            None
        }
    });
    let result = work(&mut texts);
    drop(texts);
    failed.into_inner().map_or(Ok(result), Err)
}

/// The hash of the documents' manifest, once every byte of them is checked. Nothing is repaired: another
/// process may be making them.
pub(crate) fn checked_documents(fs: &dyn Fs, folder: &Path) -> Result<String> {
    let manifest = Manifest::read(fs, folder).map_err(|error| match error.kind() {
        store::ErrorKind::NotFound => Error::corrupt(folder, Fault::NoDocuments),
        _ => error.into(),
    })?;
    if manifest.stage != DOCUMENTS_STAGE {
        return Err(Error::corrupt(folder, Fault::OtherStage(manifest.stage)));
    }
    manifest.verify(fs, folder)?;
    Ok(manifest.hash())
}
