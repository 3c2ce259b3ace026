//! Records of a file, one after the other.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use store::fs::{Fs, FsReader};

use crate::kind::Packing;
use crate::read::unpack::{Budget, unpack};
use crate::{Error, Result};

/// A longer line is refused: a record is held several times while it is rendered.
const LONGEST_LINE_BYTES: u64 = 64 << 20;
/// A JSON file of a list is held as a whole.
const LARGEST_LIST_BYTES: u64 = 1 << 30;

/// Takes a record: its place, and its value or why it has none.
pub type Each<'a> = &'a mut dyn FnMut(&Place, std::result::Result<Value, String>) -> Result<()>;

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the recipe names it.
    pub file: String,
    /// Its line, or its number in a list or a table, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The files that entries of a recipe name, in order.
#[derive(Clone, Debug)]
pub struct Records {
    files: Vec<(String, PathBuf)>,
}

impl Records {
    /// Finds the files of `entries`, relative to `base_dir`; an entry may be a glob.
    ///
    /// # Errors
    /// An entry that names no file, or one of an unknown type.
    pub fn find(fs: &dyn Fs, entries: &[String], base_dir: &Path) -> Result<Records> {
        let mut files = Vec::new();
        for entry in entries {
            let path = base_dir.join(entry);
            let mut found = vec![path.clone()];
            if !fs.exists(&path) && entry.contains(['*', '?', '[']) {
                let pattern = path.to_string_lossy().into_owned();
                found =
                    glob::glob(&pattern).into_iter().flatten().filter_map(std::result::Result::ok).collect();
                found.sort();
            }
            found.retain(|path| fs.exists(path) && path.is_file());
            if found.is_empty() {
                return Err(Error::NoExamples { entry: entry.clone(), looked: path });
            }
            for path in found {
                let name = path.strip_prefix(base_dir).unwrap_or(&path).display().to_string();
                Form::of(&path).ok_or_else(|| Error::ExamplesForm { file: name.clone() })?;
                files.push((name, path));
            }
        }
        Ok(Records { files })
    }

    /// The files' names in messages, and their paths.
    pub fn files(&self) -> &[(String, PathBuf)] {
        &self.files
    }

    /// Bytes of all files after decompression; of a damaged file, its size.
    pub fn decompressed_bytes(&self, fs: &dyn Fs) -> u64 {
        let of = |path: &Path| {
            let bytes = fs.file_bytes(path).ok()?;
            let (_, packing) = Form::of(path).filter(|(_, packing)| *packing != Packing::None)?;
            let mut file = fs.open(path).ok()?;
            let mut unpacked = unpack(packing, &mut file, &Budget::of(bytes)).ok()?;
            std::io::copy(&mut unpacked, &mut std::io::sink()).ok()
        };
        let size = |path: &Path| of(path).or_else(|| fs.file_bytes(path).ok());
        self.files.iter().filter_map(|(_, path)| size(path)).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self, fs: &dyn Fs) -> u64 {
        self.files.iter().filter_map(|(_, path)| fs.file_bytes(path).ok()).sum()
    }

    /// Number of records.
    ///
    /// # Errors
    /// A file that cannot be read to its end.
    pub fn count(&self, fs: &dyn Fs) -> Result<u64> {
        let mut count = 0;
        self.each(fs, &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Passes every record to `each`: its place, and its value or why it has none.
    ///
    /// # Errors
    /// Those of `each`; a file that cannot be read to its end.
    pub fn each(&self, fs: &dyn Fs, each: Each<'_>) -> Result<()> {
        for (name, path) in &self.files {
            let Some((form, packing)) = Form::of(path) else { continue };
            let damaged = |message: String| Error::Source { source_name: name.clone(), message };
            let open = || fs.open(path).map_err(store::Error::io("read", path));
            let bytes = fs.file_bytes(path).map_err(store::Error::io("read", path))?;
            if form == Form::Parquet {
                rows(name, open()?, bytes, each)?;
                continue;
            }
            let mut file = open()?;
            let mut unpacked = unpack(packing, &mut file, &Budget::of(bytes))
                .map_err(|error| damaged(format!("cannot be unpacked: {error}")))?;
            match form {
                Form::Lines => lines(name, &mut unpacked, each)?,
                _ => list(name, &mut unpacked, each)?,
            }
        }
        Ok(())
    }
}

/// Whether the record `number`, from 0, is one of `wanted` that are spread evenly over `all`; 0: all are.
pub fn is_spread(number: u64, wanted: u64, all: u64) -> bool {
    let wanted = if wanted == 0 { all } else { wanted.min(all) };
    all == 0 || (number + 1) * wanted / all > number * wanted / all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    List,
    Parquet,
}

impl Form {
    fn of(path: &Path) -> Option<(Form, Packing)> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        let (name, packing) = [(".gz", Packing::Gzip), (".zst", Packing::Zstd)]
            .into_iter()
            .find_map(|(end, packing)| Some((name.strip_suffix(end)?, packing)))
            .unwrap_or((&name, Packing::None));
        let form = match name.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Form::Lines,
            "json" => Form::List,
            "parquet" if packing == Packing::None => Form::Parquet,
            _ => return None,
        };
        Some((form, packing))
    }
}

fn lines(name: &str, bytes: &mut dyn Read, each: Each<'_>) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, bytes);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let place = Place { file: name.to_owned(), line: number };
        let cut = |error: std::io::Error| Error::Source {
            source_name: place.to_string(),
            message: format!("cannot be read on: {error}"),
        };
        let read = reader.by_ref().take(LONGEST_LINE_BYTES + 1).read_until(b'\n', &mut line).map_err(cut)?;
        if read == 0 {
            break;
        }
        if line.len() as u64 > LONGEST_LINE_BYTES {
            let message = format!("is longer than {LONGEST_LINE_BYTES} bytes");
            return Err(Error::Source { source_name: place.to_string(), message });
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&line);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        each(&place, serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}")))?;
    }
    Ok(())
}

/// A JSON file: a list of records, or lines after all.
fn list(name: &str, bytes: &mut dyn Read, each: Each<'_>) -> Result<()> {
    let damaged = |message: String| Error::Source { source_name: name.to_owned(), message };
    let mut content = Vec::new();
    let read = bytes.take(LARGEST_LIST_BYTES + 1).read_to_end(&mut content);
    read.map_err(|error| damaged(format!("cannot be read: {error}")))?;
    if content.len() as u64 > LARGEST_LIST_BYTES {
        return Err(damaged("a JSON list of more than 1 GiB: write one record a line, as .jsonl".to_owned()));
    }
    let start = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content).trim_ascii_start();
    if !start.starts_with(b"[") {
        return lines(name, &mut &content[..], each);
    }
    let records: Vec<Value> =
        serde_json::from_slice(start).map_err(|error| damaged(format!("is not JSON: {error}")))?;
    for (number, record) in (1..).zip(records) {
        each(&Place { file: name.to_owned(), line: number }, Ok(record))?;
    }
    Ok(())
}

fn rows(name: &str, file: Box<dyn FsReader>, bytes: u64, each: Each<'_>) -> Result<()> {
    let damaged = |message: String| Error::Source { source_name: name.to_owned(), message };
    let mut number = 0;
    let mut failed = Ok(());
    let read = crate::read::parquet::values(file, bytes, &mut |row| {
        number += 1;
        let place = Place { file: name.to_owned(), line: number };
        failed = each(&place, Ok(row));
        failed.is_ok()
    });
    failed?;
    read.map_err(damaged)
}
