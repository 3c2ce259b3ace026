//! The corpus from files to shards.
#![allow(clippy::unwrap_used)] // a test says what broke by panicking

mod bad_input;
mod cleaning;
mod costs;
mod filters;
mod formats;
mod hostile;
mod memory;
mod near_duplicates;
mod pages;
mod prepare;
mod ranks;
mod samples;
mod spans;
mod tokenize;
mod walks;

use std::path::{Path, PathBuf};

use corpus::{CorpusOptions, CorpusSummary, Document};
use runs::report::NoReport;
use store::fs::RealFs;
use tokenizer::{Kind, Normalizer, Tokenizer, TokenizerOptions};
use tokens::Split;

/// A project folder with files in it.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &[u8])]) -> Project {
        let project = Project { folder: tempfile::tempdir().unwrap() };
        for (name, bytes) in files {
            project.write(name, bytes);
        }
        project
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn documents_folder(&self) -> PathBuf {
        self.path("data/documents")
    }

    fn tokens_folder(&self) -> PathBuf {
        self.path("data/tokens")
    }

    fn prepare(&self, options: &CorpusOptions) -> corpus::Result<CorpusSummary> {
        corpus::prepare(&RealFs, options, self.folder.path(), &self.documents_folder(), &mut NoReport)
    }

    fn documents(&self, split: Split) -> Vec<Document> {
        let documents = corpus::documents(&RealFs, &self.documents_folder(), split).unwrap();
        documents.collect::<corpus::Result<_>>().unwrap()
    }

    fn texts(&self, split: Split) -> Vec<String> {
        self.documents(split).into_iter().map(|document| document.text).collect()
    }
}

fn options(paths: &[&str]) -> CorpusOptions {
    CorpusOptions { paths: paths.iter().map(|&path| path.to_owned()).collect(), ..CorpusOptions::default() }
}

/// All in one split.
fn undivided(paths: &[&str]) -> CorpusOptions {
    CorpusOptions { validation_fraction: 0.0, ..options(paths) }
}

fn byte_tokenizer() -> Tokenizer {
    let options = TokenizerOptions { kind: Kind::Byte, ..TokenizerOptions::default() };
    tokenizer::train([""; 0], &options, &Normalizer::text(), &mut NoReport).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every file of a folder with its bytes.
fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = store::manifest::list_files(&RealFs, folder).unwrap();
    names.into_iter().map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}
