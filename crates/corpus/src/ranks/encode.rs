//! The encode stage: a rank turns its part of the documents into ids, which the tokens stage puts together.
//!
//! A file a split: for each document the number of its ids as little-endian u32, then the ids as they stand
//! in shards. BOS and EOS are added with the shards, where mixes and reports are made too, so that this is
//! the same code with one process and with many.

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use runs::report::{Phase, Reporter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::atomic;
use store::fs::{Fs, FsFile, FsReader};
use store::manifest::Manifest;
use store::stage::Stage;
use tokenizer::Tokenizer;
use tokens::{Split, bytes_per_id, read_ids, write_ids};

use crate::document::checked_documents;
use crate::ranks::even_shares;
use crate::{CorpusSummary, Document, Error, Fault, Rank, Ranks, Result, documents};

/// The stage's name in its manifests.
pub const ENCODE_STAGE: &str = "encode";

/// Documents are encoded in parallel, this much text at a time.
pub const BATCH_BYTES: usize = 8 << 20;

const REPORT_FILE: &str = "report.json";
/// Raised when the same documents and tokenizer would give other files.
const STAGE_VERSION: u32 = 1;

/// `report.json` of a rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeSummary {
    /// Documents of its share, of both splits.
    pub documents: u64,
    /// Their ids, without BOS and EOS.
    pub tokens: u64,
    /// Whether it was already done and its folder still good.
    #[serde(skip)]
    pub reused: bool,
}

/// Encodes a rank's part of the documents in `documents_folder`. If its folder is up to date, it is left
/// unchanged.
///
/// # Errors
/// Documents that are missing or damaged, or that change meanwhile; the disk.
pub fn encode_rank(
    fs: &dyn Fs,
    documents_folder: &Path,
    tokenizer: &Tokenizer,
    folder: &Path,
    rank: Rank,
    reporter: &mut dyn Reporter,
) -> Result<EncodeSummary> {
    let documents_hash = checked_documents(fs, documents_folder)?;
    let stage = encode_stage(&documents_hash, tokenizer, rank);
    let out = Ranks { folder, of: rank.of() }.of_rank(ENCODE_STAGE, rank.number());
    if stage.current(fs, &out)?.is_some() {
        let summary: EncodeSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
        return Ok(EncodeSummary { reused: true, ..summary });
    }
    // What is stale must not be taken for done while this one works.
    store::stage::remove(fs, &out, ENCODE_STAGE)?;

    let counted: CorpusSummary = atomic::read_json(fs, &documents_folder.join("report.json"))?;
    let staged = stage.begin(fs, &out)?;
    let (mut summary, batches) = (EncodeSummary::default(), tokenizer.batches());
    for split in Split::ALL {
        let count = match split {
            Split::Train => counted.train.documents,
            Split::Validation => counted.validation.documents,
        };
        let share = share(count, rank);
        let mut texts = documents(fs, documents_folder, split)?;
        texts.pass_over(share.start)?;
        let mut writer = PieceWriter::create(fs, staged.path(), split, tokenizer)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for number in share.clone() {
            let Document { text, .. } = texts.next().transpose()?.ok_or_else(|| {
                let message = format!("it ends before document {number}");
                Error::corrupt(documents_folder, Fault::Documents(message))
            })?;
            bytes += text.len();
            batch.push(text);
            if bytes >= BATCH_BYTES || number + 1 == share.end {
                for ids in batches.encode(&batch)? {
                    writer.write(&ids)?;
                    summary.documents += 1;
                    summary.tokens += ids.len() as u64;
                }
                reporter.progress(
                    Phase::Corpus,
                    number + 1 - share.start,
                    share.end - share.start,
                    "documents",
                );
                batch.clear();
                bytes = 0;
            }
        }
        writer.finish()?;
    }
    atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
    // Another process may have prepared other documents meanwhile.
    let now = Manifest::read(fs, documents_folder).map(|manifest| manifest.hash());
    if !now.is_ok_and(|hash| hash == documents_hash) {
        return Err(Error::corrupt(documents_folder, Fault::DocumentsChanged));
    }
    staged.commit(stage.manifest())?;
    Ok(summary)
}

/// A rank's ids of these documents by this tokenizer, as their manifest has them.
pub fn encode_stage(documents_hash: &str, tokenizer: &Tokenizer, rank: Rank) -> Stage {
    let options = json!({ "stage_version": STAGE_VERSION, "rank": rank.number(), "of": rank.of() });
    let inputs = BTreeMap::from([
        ("documents".to_owned(), documents_hash.to_owned()),
        ("tokenizer".to_owned(), tokenizer.hash().to_owned()),
    ]);
    Stage { name: ENCODE_STAGE, options, inputs }
}

/// A rank's documents of a split, by number.
fn share(documents: u64, rank: Rank) -> Range<u64> {
    even_shares(documents, rank.of()).nth(rank.number()).unwrap_or_default()
}

fn pieces_file(split: Split) -> String {
    format!("{}.pieces", split.name())
}

struct PieceWriter {
    path: PathBuf,
    file: BufWriter<Box<dyn FsFile>>,
    bytes_per_id: usize,
}

impl PieceWriter {
    fn create(fs: &dyn Fs, folder: &Path, split: Split, tokenizer: &Tokenizer) -> Result<PieceWriter> {
        let path = folder.join(pieces_file(split));
        let file = fs.create(&path).map_err(store::Error::io("write", &path))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(PieceWriter { path, file, bytes_per_id: bytes_per_id(tokenizer.vocab_size()) })
    }

    fn write(&mut self, ids: &[u32]) -> Result<()> {
        let count = (ids.len() as u32).to_le_bytes();
        let written = self
            .file
            .write_all(&count)
            .and_then(|()| write_ids(&mut self.file, ids.iter().copied(), self.bytes_per_id));
        Ok(written.map_err(store::Error::io("write", &self.path))?)
    }

    fn finish(mut self) -> Result<()> {
        Ok(self.file.flush().map_err(store::Error::io("write", &self.path))?)
    }
}

/// The output of all ranks, for the current documents and tokenizer.
pub struct Pieces<'a> {
    ranks: &'a Ranks<'a>,
    bytes_per_id: usize,
}

impl<'a> Pieces<'a> {
    /// Checks every byte of every rank.
    pub fn verify(
        fs: &dyn Fs,
        ranks: &'a Ranks<'a>,
        documents_hash: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Pieces<'a>> {
        ranks.verify(fs, |rank| encode_stage(documents_hash, tokenizer, rank))?;
        Ok(Pieces { ranks, bytes_per_id: bytes_per_id(tokenizer.vocab_size()) })
    }

    /// The ids of a split's documents, in their order.
    pub fn open(&self, fs: &'a dyn Fs, split: Split) -> Result<PieceReader<'a>> {
        let path = |number| self.ranks.of_rank(ENCODE_STAGE, number).join(pieces_file(split));
        let mut files: Vec<PathBuf> = (0..self.ranks.of).map(path).collect();
        files.reverse();
        Ok(PieceReader { fs, waiting: files, open: None, bytes_per_id: self.bytes_per_id })
    }
}

/// Reads one rank's file after another.
pub struct PieceReader<'a> {
    fs: &'a dyn Fs,
    /// The next one last.
    waiting: Vec<PathBuf>,
    open: Option<(PathBuf, BufReader<Box<dyn FsReader>>)>,
    bytes_per_id: usize,
}

impl PieceReader<'_> {
    /// The ids of the next document.
    pub fn next_document(&mut self) -> Result<Vec<u32>> {
        let ended = || Error::RanksEndEarly { stage: ENCODE_STAGE };
        loop {
            if let Some((path, file)) = &mut self.open
                && let Some(ids) =
                    read_document(file, self.bytes_per_id).map_err(store::Error::io("read", path))?
            {
                return Ok(ids);
            }
            let path = self.waiting.pop().ok_or_else(ended)?;
            let file = self.fs.open(&path).map_err(store::Error::io("read", &path))?;
            self.open = Some((path, BufReader::with_capacity(1 << 20, file)));
        }
    }
}

/// The next document's ids; `None` at the file's end.
fn read_document(file: &mut impl Read, bytes_per_id: usize) -> std::io::Result<Option<Vec<u32>>> {
    let mut count = [0; 4];
    if file.read(&mut count[..1])? == 0 {
        return Ok(None);
    }
    file.read_exact(&mut count[1..])?;
    read_ids(file, u32::from_le_bytes(count) as usize, bytes_per_id).map(Some)
}
