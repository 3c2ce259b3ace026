//! The token shards of one split, verified against their manifest when they are opened and whenever they are
//! read.

use std::path::Path;

use compute::Batch;
use store::fs::Fs;
use store::manifest::Manifest;
use store::{Damage, ErrorKind as StoreErrorKind};

use crate::header::{
    BEGINS_SECOND, FORMAT, Header, Shard, TRAINED, ends_file, header_file, ids_file, mask_file,
};
use crate::packing::pack;
use crate::verified::VerifiedFile;
use crate::windows::{Span, Windows, windows_per_epoch};
use crate::{Error, Fault, Result, Split, TOKENS_STAGE};

/// The tokens of one split: a stream of documents end to end, each as BOS, its tokens, EOS; or examples with
/// masks.
#[derive(Debug)]
pub struct TokenDataset {
    header: Header,
    shards: Vec<OpenShard>,
    /// Where each example ends in the stream; empty if documents are no examples.
    example_ends: Vec<u64>,
    hash: String,
}

/// The rows of an epoch.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// Windows over the stream.
    Windows(Windows),
    /// Examples of each row.
    Packed(Vec<Vec<u32>>),
}

impl Rows {
    pub fn count(&self) -> u64 {
        match self {
            Rows::Windows(windows) => windows.count(),
            Rows::Packed(rows) => rows.len() as u64,
        }
    }
}

#[derive(Debug)]
struct OpenShard {
    ids: VerifiedFile,
    ends: VerifiedFile,
    mask: Option<VerifiedFile>,
    /// The last document end of each block of `ends`, to find the block of a position.
    last_ends: Vec<u64>,
    /// Number of tokens in the stream.
    first_token: u64,
}

impl TokenDataset {
    /// Opens the shards of `split` in a folder of the stage [`TOKENS_STAGE`], after verifying every byte.
    /// Files next to it are ignored: another process may be making the folder again.
    ///
    /// # Errors
    /// A folder that is missing, damaged, or made with another tokenizer than `expected_tokenizer_hash`.
    pub fn open(
        fs: &dyn Fs,
        folder: &Path,
        split: Split,
        expected_tokenizer_hash: &str,
    ) -> Result<TokenDataset> {
        let manifest = Manifest::read(fs, folder).map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => Error::corrupt(folder, Fault::NoShards),
            _ => error.into(),
        })?;
        if manifest.stage != TOKENS_STAGE {
            return Err(Error::corrupt(folder, Fault::OtherStage(manifest.stage)));
        }
        let open = |name: &str| open_file(fs, folder, &manifest, name);
        let header_path = folder.join(header_file(split));
        let header_source = open(&header_file(split))?;
        let mut bytes = vec![0; header_source.bytes() as usize];
        header_source.read(0, &mut bytes)?;
        let header: Header = serde_json::from_slice(&bytes)
            .map_err(|error| Error::corrupt(&header_path, Fault::Header(error.to_string())))?;
        if header.format != FORMAT {
            let format = Fault::Format { found: header.format, known: FORMAT };
            return Err(Error::corrupt(&header_path, format));
        }
        if !matches!(header.bytes_per_token, 2 | 4) {
            let message = format!("an id cannot have {} bytes", header.bytes_per_token);
            return Err(Error::corrupt(&header_path, Fault::Header(message)));
        }
        if header.tokenizer_hash != expected_tokenizer_hash {
            let (made_by, wanted) = (header.tokenizer_hash, expected_tokenizer_hash.to_owned());
            return Err(Error::corrupt(&header_path, Fault::OtherTokenizer { made_by, wanted }));
        }
        let mut first_token = 0;
        let mut shards = Vec::new();
        let mut example_ends = Vec::new();
        for (number, counts) in header.shards.iter().enumerate() {
            let (ids, ends) = (ids_file(split, number), ends_file(split, number));
            let mask = header.examples.then(|| open(&mask_file(split, number))).transpose()?;
            let files = (open(&ids)?, open(&ends)?, mask);
            let shard = OpenShard::new(files, first_token, counts, header.bytes_per_token)?
                .map_err(|fault| Error::corrupt(&folder.join(&ends), fault))?;
            if header.examples {
                example_ends.extend(shard.all_ends()?.into_iter().map(|end| first_token + end));
            }
            first_token += counts.tokens;
            shards.push(shard);
        }
        if first_token != header.tokens {
            return Err(Error::corrupt(&header_path, Fault::Counts));
        }
        Ok(TokenDataset { header, shards, example_ends, hash: manifest.hash() })
    }

    /// Number of tokens, BOS and EOS included.
    pub fn token_count(&self) -> u64 {
        self.header.tokens
    }

    /// Number of documents.
    pub fn document_count(&self) -> u64 {
        self.header.documents
    }

    /// Number of tokens that are predicted: all but the first of each document; of examples, those of the
    /// masks.
    pub fn trained_token_count(&self) -> u64 {
        self.header.trained_tokens
    }

    /// Whether documents are examples, which are served whole.
    pub fn has_examples(&self) -> bool {
        self.header.examples
    }

    /// Sequences of T tokens that serve every token once; 0 if there are fewer tokens than one sequence.
    pub fn sequences(&self, sequence_length: usize) -> u64 {
        match self.rows(sequence_length) {
            Rows::Packed(rows) => rows.len() as u64,
            Rows::Windows(_) => windows_per_epoch(self.token_count(), sequence_length),
        }
    }

    /// The rows that serve every token once, in order.
    pub(crate) fn rows(&self, sequence_length: usize) -> Rows {
        if !self.header.examples {
            return Rows::Windows(Windows::in_order(self.token_count(), sequence_length));
        }
        let starts = std::iter::once(&0).chain(&self.example_ends);
        let lengths: Vec<u32> =
            self.example_ends.iter().zip(starts).map(|(end, start)| (end - start) as u32).collect();
        Rows::Packed(pack(&lengths, sequence_length))
    }

    /// The ids of an example before its first trained token: the prompt of what is trained first. Empty where
    /// nothing comes before it, and for documents that are no examples.
    ///
    /// # Errors
    /// A file that has changed; I/O errors.
    pub fn prompt(&self, example: u64) -> Result<Vec<u32>> {
        let number = example as usize;
        let Some(&end) = self.example_ends.get(number) else { return Ok(Vec::new()) };
        let start = number.checked_sub(1).map_or(0, |before| self.example_ends[before]);
        let marks = self.marks(start, (end - start) as usize)?;
        let mut ids = vec![0; marks.iter().position(|&mark| mark == TRAINED).unwrap_or(0)];
        if !ids.is_empty() {
            self.copy(start, &mut ids)?;
        }
        Ok(ids)
    }

    /// Vocabulary size.
    pub fn vocab_size(&self) -> usize {
        self.header.vocab_size
    }

    /// The hash of the folder's manifest: identifies documents, tokenizer and shards together.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The hash of the tokenizer that made the shards.
    pub fn tokenizer_hash(&self) -> &str {
        &self.header.tokenizer_hash
    }

    /// All tokens once, in order, in batches of the given shape; the last row and batch are padded with
    /// weight 0. Always the same batches. Errors are those of changed files, or I/O errors.
    pub fn batches(
        &self,
        batch_size: usize,
        sequence_length: usize,
    ) -> impl Iterator<Item = Result<Batch>> + use<'_> {
        self.spread_batches(batch_size, sequence_length, u64::MAX)
    }

    /// Like [`TokenDataset::batches`], but only a number of sequences spread evenly over all tokens: a sample
    /// in which every source has its share, even if sources are consecutive.
    pub fn spread_batches(
        &self,
        batch_size: usize,
        sequence_length: usize,
        sequences: u64,
    ) -> impl Iterator<Item = Result<Batch>> + use<'_> {
        let rows = self.rows(sequence_length);
        let all = rows.count();
        let count = sequences.min(all);
        let window =
            move |number: u64| (u128::from(number) * u128::from(all) / u128::from(count.max(1))) as u64;
        (0..count).step_by(batch_size.max(1)).map(move |first| {
            let mut batch = Batch::new(batch_size, sequence_length);
            for row in 0..batch_size {
                match first + row as u64 {
                    number if number < count => self.fill(&rows, window(number), &mut batch, row)?,
                    _ => self.pad_row(&mut batch, row, 0),
                }
            }
            Ok(batch)
        })
    }

    /// The end of the document at `position`, in the stream.
    fn document_end(&self, position: u64) -> Result<u64> {
        let shard = self.shard(position);
        Ok(shard.first_token + shard.document_end(position - shard.first_token)?)
    }

    /// Copies the tokens from `position`; they must be within one document.
    fn copy(&self, position: u64, out: &mut [u32]) -> Result<()> {
        let shard = self.shard(position);
        let width = self.header.bytes_per_token;
        let mut bytes = vec![0; out.len() * width];
        shard.ids.read((position - shard.first_token) * width as u64, &mut bytes)?;
        match width {
            2 => {
                for (out, id) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *out = u16::from_le_bytes([id[0], id[1]]).into();
                }
            }
            _ => {
                for (out, id) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *out = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
                }
            }
        }
        Ok(())
    }

    /// Writes one of the rows to a row of a batch.
    pub(crate) fn fill(&self, rows: &Rows, number: u64, batch: &mut Batch, row: usize) -> Result<()> {
        match rows {
            Rows::Windows(windows) => self.fill_window(windows.span(number), batch, row),
            Rows::Packed(rows) => self.fill_examples(&rows[number as usize], batch, row),
        }
    }

    /// Writes whole examples to a row, each from its beginning as far as the row reaches.
    fn fill_examples(&self, examples: &[u32], batch: &mut Batch, row: usize) -> Result<()> {
        let (first, capacity) = (row * batch.sequence_length, batch.sequence_length);
        let mut at = 0;
        for &example in examples {
            let end = self.example_ends[example as usize];
            let start = (example as usize).checked_sub(1).map_or(0, |before| self.example_ends[before]);
            let len = ((end - start) as usize).min(capacity - at);
            let place = first + at..first + at + len;
            self.copy(start, &mut batch.tokens[place.clone()])?;
            let marks = self.marks(start, len)?;
            let mut document = at as u32;
            for (offset, to) in place.enumerate() {
                let next = (offset + 1 < len).then(|| (batch.tokens[to + 1], marks[offset + 1] == TRAINED));
                let (target, is_trained) = next.unwrap_or((self.header.pad_id, false));
                (batch.targets[to], batch.weights[to]) = (target, f32::from(u8::from(is_trained)));
                if marks[offset] == BEGINS_SECOND {
                    document = (at + offset) as u32;
                }
                batch.document_starts[to] = document;
            }
            at += len;
        }
        self.pad_row(batch, row, at);
        Ok(())
    }

    /// The marks of the tokens from `position`: what is predicted in training, and where the second of a pair
    /// begins. They must be within one example.
    fn marks(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        let shard = self.shard(position);
        let mut bytes = vec![0; len];
        if let Some(mask) = &shard.mask {
            mask.read(position - shard.first_token, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Writes a window to a row: runs of tokens, each within one document.
    fn fill_window(&self, span: Span, batch: &mut Batch, row: usize) -> Result<()> {
        let first = row * batch.sequence_length;
        let (mut position, mut at) = (span.start, 0);
        while at < span.len {
            let end = self.document_end(position)?;
            let run = ((end - position) as usize).min(span.len - at);
            let ends_document = position + run as u64 == end;
            let place = first + at..first + at + run;
            self.copy(position, &mut batch.tokens[place.clone()])?;
            // Each target is the next token; within the run these are available.
            batch.targets[place.start..place.end - 1]
                .copy_from_slice(&batch.tokens[place.start + 1..place.end]);
            let last = &mut batch.targets[place.end - 1..place.end];
            if ends_document {
                // Its weight is 0.
                last[0] = self.header.bos_id.unwrap_or(self.header.pad_id);
            } else {
                self.copy(position + run as u64, last)?;
            }
            batch.document_starts[place.clone()].fill(at as u32);
            batch.weights[place.clone()].fill(1.0);
            if ends_document {
                batch.weights[place.end - 1] = 0.0;
            }
            at += run;
            position = (position + run as u64) % self.token_count();
        }
        self.pad_row(batch, row, span.len);
        Ok(())
    }

    /// Pads a row from `at`; each padding token is a document of its own with weight 0.
    fn pad_row(&self, batch: &mut Batch, row: usize, at: usize) {
        let (first, end) = (row * batch.sequence_length, (row + 1) * batch.sequence_length);
        batch.tokens[first + at..end].fill(self.header.pad_id);
        batch.targets[first + at..end].fill(self.header.pad_id);
        batch.weights[first + at..end].fill(0.0);
        for place in first + at..end {
            batch.document_starts[place] = (place - first) as u32;
        }
    }

    fn shard(&self, position: u64) -> &OpenShard {
        let after = self.shards.partition_point(|shard| shard.first_token <= position);
        &self.shards[after - 1]
    }
}

impl OpenShard {
    /// Opens a shard if its index and counts match its ids; otherwise returns the reason.
    fn new(
        (ids, ends, mask): (VerifiedFile, VerifiedFile, Option<VerifiedFile>),
        first_token: u64,
        counts: &Shard,
        bytes_per_token: usize,
    ) -> Result<std::result::Result<OpenShard, Fault>> {
        if Some(ids.bytes()) != counts.tokens.checked_mul(bytes_per_token as u64) {
            return Ok(Err(Fault::Ids));
        }
        if Some(ends.bytes()) != counts.documents.checked_mul(END_BYTES as u64) {
            return Ok(Err(Fault::Documents));
        }
        if mask.as_ref().is_some_and(|mask| mask.bytes() != counts.tokens) {
            return Ok(Err(Fault::Masks));
        }
        let (mut before, mut rises) = (0, true);
        let mut last_ends = Vec::with_capacity(ends.blocks());
        for number in 0..ends.blocks() {
            ends.with_block(number, |block| {
                for end in ends_of(block) {
                    rises &= end > before;
                    before = end;
                }
            })?;
            last_ends.push(before);
        }
        if !rises || before != counts.tokens || counts.documents == 0 {
            return Ok(Err(Fault::Ends));
        }
        Ok(Ok(OpenShard { ids, ends, mask, last_ends, first_token }))
    }

    /// The ends of all documents, in the shard.
    fn all_ends(&self) -> Result<Vec<u64>> {
        let mut ends = Vec::new();
        for number in 0..self.ends.blocks() {
            self.ends.with_block(number, |block| ends.extend(ends_of(block)))?;
        }
        Ok(ends)
    }

    /// The end of the document at token `position` of this shard, in the shard.
    fn document_end(&self, position: u64) -> Result<u64> {
        let block = self.last_ends.partition_point(|&end| end <= position);
        self.ends.with_block(block, |block| {
            let (mut low, mut high) = (0, block.len() / END_BYTES);
            while low < high {
                let middle = (low + high) / 2;
                if end_at(block, middle) <= position { low = middle + 1 } else { high = middle }
            }
            end_at(block, low)
        })
    }
}

/// Bytes per document end in the index: little-endian u64.
const END_BYTES: usize = 8;

fn end_at(block: &[u8], number: usize) -> u64 {
    let bytes = &block[number * END_BYTES..(number + 1) * END_BYTES];
    bytes.iter().rev().fold(0, |end, &byte| end << 8 | u64::from(byte))
}

fn ends_of(block: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0..block.len() / END_BYTES).map(|number| end_at(block, number))
}

/// Opens a file of the folder and verifies every byte.
fn open_file(fs: &dyn Fs, folder: &Path, manifest: &Manifest, name: &str) -> Result<VerifiedFile> {
    let path = folder.join(name);
    let damaged = |damage| store::Error::Corrupt { path: path.clone(), damage };
    let record = manifest.outputs.get(name).ok_or_else(|| damaged(Damage::Unlisted))?;
    let bytes = fs.file_bytes(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged(Damage::Missing),
        _ => store::Error::io("read", &path)(error),
    })?;
    if bytes != record.bytes {
        return Err(damaged(Damage::Size { wanted: record.bytes, found: bytes }).into());
    }
    VerifiedFile::open(fs, &path, record)
}
