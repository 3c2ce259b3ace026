//! One split's shards, checked against their manifest and mapped into memory.

use std::path::Path;

use compute::Batch;
use compute::mapped::MappedFile;
use store::fs::Fs;
use store::manifest::{self, Manifest};
use store::{ErrorKind as StoreErrorKind, atomic, stage};

use super::header::{FORMAT, Header, Shard, ends_file, header_file, ids_file};
use super::loader::{Windows, fill_row, pad_row};
use crate::{Error, Result, Split, TOKENS_STAGE};

/// The tokens of one split as one stream: documents end to end, each as BOS, its tokens, EOS.
#[derive(Debug)]
pub struct TokenDataset {
    header: Header,
    shards: Vec<MappedShard>,
    hash: String,
}

#[derive(Debug)]
struct MappedShard {
    ids: MappedFile,
    ends: MappedFile,
    /// Of the stream.
    first_token: u64,
    counts: Shard,
}

impl TokenDataset {
    /// Opens the shards of `split` in the folder that [`crate::tokenize`] made, after checking every byte of them.
    ///
    /// # Errors
    /// A folder that is missing, damaged, or made by another tokenizer than that of `expected_tokenizer_hash`.
    pub fn open(
        fs: &dyn Fs,
        folder: &Path,
        split: Split,
        expected_tokenizer_hash: &str,
    ) -> Result<TokenDataset> {
        stage::repair(fs, folder)?;
        let manifest = Manifest::read(fs, folder).map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => {
                Error::corrupt(folder, "holds no finished token shards: run the data stage again")
            }
            StoreErrorKind::Corrupt => Error::corrupt(folder, format!("{error}: run the data stage again")),
            _ => error.into(),
        })?;
        if manifest.stage != TOKENS_STAGE {
            return Err(Error::corrupt(folder, format!("holds `{}`, not token shards", manifest.stage)));
        }
        let checked = |name: String| check_file(fs, folder, &manifest, name);
        checked(header_file(split))?;
        let header_path = folder.join(header_file(split));
        let header: Header = atomic::read_json(fs, &header_path)?;
        if header.format != FORMAT || !matches!(header.bytes_per_token, 2 | 4) {
            let message =
                format!("has format {}, this program reads {FORMAT}: tokenize again", header.format);
            return Err(Error::corrupt(&header_path, message));
        }
        if header.tokenizer_hash != expected_tokenizer_hash {
            let message = format!(
                "was made by another tokenizer ({}…, wanted {}…): tokenize the documents again with this one",
                &header.tokenizer_hash.chars().take(12).collect::<String>(),
                &expected_tokenizer_hash.chars().take(12).collect::<String>()
            );
            return Err(Error::corrupt(&header_path, message));
        }
        let mut first_token = 0;
        let mut shards = Vec::new();
        for (number, counts) in header.shards.iter().enumerate() {
            let (ids, ends) = (ids_file(split, number), ends_file(split, number));
            checked(ids.clone())?;
            checked(ends.clone())?;
            let map = |name: &str| {
                MappedFile::open(&folder.join(name)).map_err(store::Error::io("map", &folder.join(name)))
            };
            let shard =
                MappedShard { ids: map(&ids)?, ends: map(&ends)?, first_token, counts: counts.clone() };
            shard.check(header.bytes_per_token).map_err(|message| {
                Error::corrupt(&folder.join(&ends), format!("{message}: tokenize again"))
            })?;
            first_token += counts.tokens;
            shards.push(shard);
        }
        if first_token != header.tokens {
            return Err(Error::corrupt(&header_path, "its counts do not add up: tokenize again"));
        }
        Ok(TokenDataset { header, shards, hash: manifest.hash() })
    }

    /// Tokens, BOS and EOS included.
    pub fn token_count(&self) -> u64 {
        self.header.tokens
    }

    /// Documents.
    pub fn document_count(&self) -> u64 {
        self.header.documents
    }

    /// Tokens that have a target to learn: all but the last of each document.
    pub fn trained_token_count(&self) -> u64 {
        self.header.tokens - self.header.documents
    }

    /// Ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.header.vocab_size
    }

    /// The hash of the folder's manifest: names documents, tokenizer and shards together.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The hash of the tokenizer that made the shards.
    pub fn tokenizer_hash(&self) -> &str {
        &self.header.tokenizer_hash
    }

    /// All tokens once, in order, in batches of the given shape; what does not fill the last row or batch is padding of
    /// weight 0. The same batches every time.
    pub fn batches(
        &self,
        batch_size: usize,
        sequence_length: usize,
    ) -> impl Iterator<Item = Batch> + use<'_> {
        let windows = Windows::in_order(self.token_count(), sequence_length);
        let count = windows.count();
        (0..count).step_by(batch_size.max(1)).map(move |first| {
            let mut batch = Batch::new(batch_size, sequence_length);
            for row in 0..batch_size {
                match first + row as u64 {
                    window if window < count => fill_row(self, windows.span(window), &mut batch, row),
                    _ => pad_row(self, &mut batch, row, 0),
                }
            }
            batch
        })
    }

    pub(super) fn pad_id(&self) -> u32 {
        self.header.pad_id
    }

    pub(super) fn bos_id(&self) -> u32 {
        self.header.bos_id
    }

    /// Where the document that holds `position` ends, in the stream.
    pub(super) fn document_end(&self, position: u64) -> u64 {
        let shard = self.shard(position);
        let ends = shard.ends();
        let document = ends.partition_point(|&end| end <= position - shard.first_token);
        shard.first_token + ends[document]
    }

    /// Copies the tokens from `position` on; they must lie within one document.
    pub(super) fn copy(&self, position: u64, out: &mut [u32]) {
        let shard = self.shard(position);
        let first = (position - shard.first_token) as usize;
        if self.header.bytes_per_token == 2 {
            let ids =
                shard.ids.u16_at(first * 2, out.len()).expect("invariant: documents lie within their shard");
            for (out, &id) in out.iter_mut().zip(ids) {
                *out = id.into();
            }
        } else {
            let ids =
                shard.ids.u32_at(first * 4, out.len()).expect("invariant: documents lie within their shard");
            out.copy_from_slice(ids);
        }
    }

    fn shard(&self, position: u64) -> &MappedShard {
        let after = self.shards.partition_point(|shard| shard.first_token <= position);
        &self.shards[after - 1]
    }
}

impl MappedShard {
    fn ends(&self) -> &[u64] {
        self.ends.u64_at(0, self.counts.documents as usize).expect("invariant: checked when opened")
    }

    /// That the index and the counts describe the ids.
    fn check(&self, bytes_per_token: usize) -> std::result::Result<(), &'static str> {
        let ids_bytes = self.ids.as_bytes().len() as u64;
        if Some(ids_bytes) != self.counts.tokens.checked_mul(bytes_per_token as u64) {
            return Err("the number of ids is not the header's");
        }
        let documents = usize::try_from(self.counts.documents).unwrap_or(usize::MAX);
        let ends = self.ends.u64_at(0, documents).filter(|ends| ends.len() * 8 == self.ends.as_bytes().len());
        let Some(ends) = ends else { return Err("the number of documents is not the header's") };
        let rises =
            ends.first().is_some_and(|&first| first > 0) && ends.windows(2).all(|pair| pair[0] < pair[1]);
        if !rises || ends.last() != Some(&self.counts.tokens) {
            return Err("the document ends are not in order");
        }
        Ok(())
    }
}

fn check_file(fs: &dyn Fs, folder: &Path, manifest: &Manifest, name: String) -> Result<()> {
    let path = folder.join(&name);
    let remedy =
        format!("delete the folder `{}` and run again: it is made anew from the documents", folder.display());
    let Some(record) = manifest.outputs.get(&name) else {
        return Err(Error::corrupt(&path, format!("is not in the manifest; {remedy}")));
    };
    let bytes = match fs.file_bytes(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::corrupt(&path, format!("is missing; {remedy}")));
        }
        Err(error) => return Err(store::Error::io("read", &path)(error).into()),
    };
    if bytes != record.bytes {
        let message = format!("has {bytes} bytes where the manifest says {}; {remedy}", record.bytes);
        return Err(Error::corrupt(&path, message));
    }
    if manifest::hash_file(fs, &path)? != record.blake3 {
        return Err(Error::corrupt(&path, format!("is damaged: its BLAKE3 is not the manifest's; {remedy}")));
    }
    Ok(())
}
