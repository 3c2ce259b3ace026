//! Writes a split's shards.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::atomic;
use store::fs::{Fs, FsFile};

use crate::header::{
    BEGINS_SECOND, FORMAT, Header, Shard, TRAINED, ends_file, header_file, ids_file, mask_file,
};
use crate::ids::{bytes_per_id, write_ids};
use crate::{Result, Split};

/// Counts of a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Number of documents.
    pub documents: u64,
    /// Number of ids, with BOS and EOS where documents have them.
    pub tokens: u64,
    /// Number of ids that are predicted in training.
    pub trained_tokens: u64,
    /// Number of shards.
    pub shards: usize,
}

/// The tokenizer in a header.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// Vocabulary size.
    pub vocab_size: usize,
    /// BLAKE3 of tokenizer.json.
    pub tokenizer_hash: &'a str,
    /// BOS, if documents begin with it.
    pub bos_id: Option<u32>,
    /// EOS, if there is one: documents end with it.
    pub eos_id: Option<u32>,
    /// Id of PAD.
    pub pad_id: u32,
}

/// Writes one split's shards and, at the end, its header.
pub struct ShardWriter<'a> {
    fs: &'a dyn Fs,
    folder: &'a Path,
    split: Split,
    header: Header,
    open: Option<OpenShard>,
    shard_tokens: u64,
}

struct OpenShard {
    ids: (PathBuf, BufWriter<Box<dyn FsFile>>),
    ends: (PathBuf, BufWriter<Box<dyn FsFile>>),
    /// Of examples.
    mask: Option<(PathBuf, BufWriter<Box<dyn FsFile>>)>,
    counts: Shard,
}

impl<'a> ShardWriter<'a> {
    /// A writer to `folder`, which must exist; a shard is closed after the document that reaches
    /// `shard_tokens`.
    pub fn new(
        fs: &'a dyn Fs,
        folder: &'a Path,
        split: Split,
        vocabulary: Vocabulary<'_>,
        shard_tokens: u64,
    ) -> ShardWriter<'a> {
        let header = Header {
            format: FORMAT,
            bytes_per_token: bytes_per_id(vocabulary.vocab_size),
            vocab_size: vocabulary.vocab_size,
            tokenizer_hash: vocabulary.tokenizer_hash.to_owned(),
            bos_id: vocabulary.bos_id,
            eos_id: vocabulary.eos_id,
            pad_id: vocabulary.pad_id,
            examples: false,
            documents: 0,
            tokens: 0,
            trained_tokens: 0,
            shards: Vec::new(),
        };
        ShardWriter { fs, folder, split, header, open: None, shard_tokens }
    }

    /// A writer of examples, by [`ShardWriter::write_example`].
    #[must_use]
    pub fn of_examples(mut self) -> ShardWriter<'a> {
        self.header.examples = true;
        self
    }

    /// Writes one document's ids, between BOS and EOS where there are such tokens. A document without any id
    /// is left out.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&mut self, ids: &[u32]) -> Result<()> {
        let Header { bytes_per_token, bos_id, eos_id, .. } = self.header;
        let count = ids.len() as u64 + [bos_id, eos_id].iter().flatten().count() as u64;
        if count == 0 {
            return Ok(());
        }
        let shard = self.shard()?;
        shard.counts.documents += 1;
        shard.counts.tokens += count;
        shard.counts.trained_tokens += count - 1;
        let (path, file) = &mut shard.ids;
        let all = bos_id.into_iter().chain(ids.iter().copied()).chain(eos_id);
        write_ids(file, all, bytes_per_token).map_err(store::Error::io("write", path))?;
        let (path, file) = &mut shard.ends;
        file.write_all(&shard.counts.tokens.to_le_bytes()).map_err(store::Error::io("write", path))?;
        if shard.counts.tokens >= self.shard_tokens {
            self.close()?;
        }
        Ok(())
    }

    /// Writes one example as it is; `mask` says which of its ids are predicted in training. The first one
    /// cannot be: nothing comes before it.
    ///
    /// # Errors
    /// I/O errors.
    ///
    /// # Panics
    /// If there is no id, or not one mask for each.
    pub fn write_example(&mut self, ids: &[u32], mask: &[bool]) -> Result<()> {
        let marks: Vec<u8> = mask.iter().map(|&trained| u8::from(trained)).collect();
        self.write_marked(ids, &marks)
    }

    /// Writes two examples that are always served together, one after the other.
    ///
    /// # Errors
    /// I/O errors.
    ///
    /// # Panics
    /// As [`ShardWriter::write_example`].
    pub fn write_pair(&mut self, first: (&[u32], &[bool]), second: (&[u32], &[bool])) -> Result<()> {
        let ids = [first.0, second.0].concat();
        let mut marks: Vec<u8> = first.1.iter().chain(second.1).map(|&trained| u8::from(trained)).collect();
        // A target that no token of its document precedes.
        marks[first.0.len()] = BEGINS_SECOND;
        self.write_marked(&ids, &marks)
    }

    fn write_marked(&mut self, ids: &[u32], mask: &[u8]) -> Result<()> {
        assert!(!ids.is_empty() && ids.len() == mask.len(), "invariant: a mask for each id");
        let bytes_per_token = self.header.bytes_per_token;
        let shard = self.shard()?;
        shard.counts.documents += 1;
        shard.counts.tokens += ids.len() as u64;
        shard.counts.trained_tokens += mask[1..].iter().filter(|&&mark| mark == TRAINED).count() as u64;
        let (path, file) = &mut shard.ids;
        write_ids(file, ids.iter().copied(), bytes_per_token).map_err(store::Error::io("write", path))?;
        let (path, file) = &mut shard.ends;
        file.write_all(&shard.counts.tokens.to_le_bytes()).map_err(store::Error::io("write", path))?;
        if let Some((path, file)) = &mut shard.mask {
            file.write_all(mask).map_err(store::Error::io("write", path))?;
        }
        if shard.counts.tokens >= self.shard_tokens {
            self.close()?;
        }
        Ok(())
    }

    fn shard(&mut self) -> Result<&mut OpenShard> {
        let (number, split) = (self.header.shards.len(), self.split);
        let create = |name: String| -> Result<_> {
            let path = self.folder.join(name);
            let file = self.fs.create(&path).map_err(store::Error::io("write", &path))?;
            Ok((path, BufWriter::with_capacity(1 << 20, file)))
        };
        if self.open.is_none() {
            let counts = Shard { documents: 0, tokens: 0, trained_tokens: 0 };
            let (ids, ends) = (create(ids_file(split, number))?, create(ends_file(split, number))?);
            let mask = self.header.examples.then(|| create(mask_file(split, number))).transpose()?;
            self.open = Some(OpenShard { ids, ends, mask, counts });
        }
        Ok(self.open.as_mut().expect("invariant: just opened"))
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut shard) = self.open.take() else { return Ok(()) };
        for (path, file) in [&mut shard.ids, &mut shard.ends].into_iter().chain(&mut shard.mask) {
            file.flush().map_err(store::Error::io("write", path))?;
        }
        self.header.documents += shard.counts.documents;
        self.header.tokens += shard.counts.tokens;
        self.header.trained_tokens += shard.counts.trained_tokens;
        self.header.shards.push(shard.counts);
        Ok(())
    }

    /// Writes the header.
    ///
    /// # Errors
    /// I/O errors.
    pub fn finish(mut self) -> Result<TokenCounts> {
        self.close()?;
        atomic::write_json(self.fs, &self.folder.join(header_file(self.split)), &self.header)?;
        let Header { documents, tokens, trained_tokens, shards, .. } = self.header;
        Ok(TokenCounts { documents, tokens, trained_tokens, shards: shards.len() })
    }
}
