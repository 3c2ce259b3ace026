//! Writes documents as often as a mix needs.
//!
//! The number of repetitions is only known when all documents are encoded, so ids are kept in a file. Epochs
//! are written one after another, so that copies of a document are as far apart as possible. Memory: 16 bytes
//! per document.

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use store::fs::{Fs, FsFile};

use crate::ids::{read_ids, write_ids};
use crate::mix::{self, MixOptions, MixedSource};
use crate::{Error, Result};

const WAITING_FILE: &str = "mix.tmp";

/// Documents that are not written yet.
pub struct Mixer<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    file: BufWriter<Box<dyn FsFile>>,
    seed: u64,
    names: Vec<String>,
    documents: Vec<Waiting>,
}

struct Waiting {
    ids: u32,
    source: u32,
    place: f64,
}

impl<'a> Mixer<'a> {
    /// Stores waiting documents in a file in `folder`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn new(fs: &'a dyn Fs, folder: &Path, seed: u64) -> Result<Mixer<'a>> {
        let path = folder.join(WAITING_FILE);
        let file = fs.create(&path).map_err(store::Error::io("write", &path))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Mixer { fs, path, file, seed, names: Vec::new(), documents: Vec::new() })
    }

    /// Adds the ids of a document of the source `name`; `hash` is that of its text.
    ///
    /// # Errors
    /// I/O errors.
    pub fn push(&mut self, ids: &[u32], name: &str, hash: &str) -> Result<()> {
        let source = match self.names.iter().position(|known| known == name) {
            Some(at) => at,
            None => {
                self.names.push(name.to_owned());
                self.names.len() - 1
            }
        };
        write_ids(&mut self.file, ids.iter().copied(), 4).map_err(store::Error::io("write", &self.path))?;
        let place = mix::place(self.seed, hash);
        self.documents.push(Waiting { ids: ids.len() as u32, source: source as u32, place });
        Ok(())
    }

    /// Passes each document to `write` as often as the mix needs.
    ///
    /// # Errors
    /// A mix that selects nothing; errors of `write`; I/O errors.
    pub fn finish(
        self,
        options: &MixOptions,
        mut write: impl FnMut(&[u32]) -> Result<()>,
    ) -> Result<BTreeMap<String, MixedSource>> {
        let Mixer { fs, path, mut file, names, documents, .. } = self;
        file.flush().map_err(store::Error::io("write", &path))?;
        drop(file);
        // BOS and EOS are written with each.
        let mut tokens: BTreeMap<String, u64> = names.iter().map(|name| (name.clone(), 0)).collect();
        let mut counts = vec![0u64; names.len()];
        for document in &documents {
            counts[document.source as usize] += 1;
            *tokens.entry(names[document.source as usize].clone()).or_default() +=
                u64::from(document.ids) + 2;
        }
        let mut plan = mix::plan(&tokens, options);
        let epochs: Vec<f64> = names.iter().map(|name| plan[name].epochs).collect();
        let passes = epochs.iter().fold(0.0f64, |most, &epochs| most.max(epochs)).ceil() as u64;
        let mut written = vec![0u64; names.len()];
        for pass in 0..passes {
            let opened = fs.open(&path).map_err(store::Error::io("read", &path))?;
            let mut waiting = BufReader::with_capacity(1 << 20, opened);
            for document in &documents {
                let ids = read_ids(&mut waiting, document.ids as usize, 4)
                    .map_err(store::Error::io("read", &path))?;
                let source = document.source as usize;
                if document.place < epochs[source] - pass as f64 {
                    write(&ids)?;
                    written[source] += ids.len() as u64 + 2;
                }
            }
        }
        fs.remove_file(&path).map_err(store::Error::io("remove", &path))?;
        if written.iter().sum::<u64>() == 0 {
            return Err(Error::NothingMixed { sources: names });
        }
        for (at, name) in names.iter().enumerate() {
            if let Some(source) = plan.get_mut(name) {
                (source.documents, source.tokens) = (counts[at], written[at]);
            }
        }
        Ok(plan)
    }
}
