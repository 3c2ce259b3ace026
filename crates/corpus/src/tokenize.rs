//! The tokens stage: documents become shards of ids.

use std::collections::BTreeMap;
use std::path::Path;

use runs::report::{Phase, Reporter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::atomic;
use store::fs::Fs;
use store::stage::Stage;
use tokenizer::{Batches, Tokenizer, Usage, UsageReport};
use tokens::{
    MixOptions, MixedSource, Mixer, ShardWriter, Split, TOKENS_STAGE, TokenCounts, Vocabulary, bytes_per_id,
};

use crate::document::checked_documents;
use crate::ranks::encode::{BATCH_BYTES, PieceReader, Pieces};
use crate::{Document, Ranks, Result, documents};

pub(crate) const REPORT_FILE: &str = "report.json";
const STAGE_VERSION: u32 = 1;
/// A shard is closed after the document that reaches this.
pub(crate) const SHARD_TOKENS: u64 = 100_000_000;

/// `report.json` of the tokens folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenSummary {
    /// Training split.
    pub train: TokenCounts,
    /// Validation split.
    pub validation: TokenCounts,
    /// Bytes an id on disk.
    pub bytes_per_id: usize,
    /// The mix, by entry of `data.paths`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mix: BTreeMap<String, MixedSource>,
    /// How well the vocabulary fits, over both splits.
    pub usage: UsageReport,
    /// Whether the stage was already done and its folder still good.
    #[serde(skip)]
    pub reused: bool,
}

/// A mix, and the seed that chooses the documents of broken epochs.
#[derive(Clone, Copy, Debug)]
pub struct Mix<'a> {
    /// The recipe's, or a training phase's own.
    pub options: &'a MixOptions,
    /// `data.seed`.
    pub seed: u64,
}

/// Tokenizes the documents in `documents_folder` into `out`. If `out` is up to date, it is left unchanged.
///
/// # Errors
/// Documents that are missing or damaged; the disk.
pub fn tokenize(
    fs: &dyn Fs,
    documents_folder: &Path,
    tokenizer: &Tokenizer,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<TokenSummary> {
    let origin = Origin { documents_folder, tokenizer, mix: None, pieces: None };
    tokenize_into(fs, origin, out, SHARD_TOKENS, reporter)
}

/// Like [`tokenize`], with training documents repeated as `mix` needs. The documents must have been prepared
/// with a mix, so that they record their entry. Validation is not mixed.
///
/// # Errors
/// Errors of [`tokenize`]; a mix that selects nothing.
pub fn tokenize_mixed(
    fs: &dyn Fs,
    documents_folder: &Path,
    tokenizer: &Tokenizer,
    mix: Mix<'_>,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<TokenSummary> {
    let origin = Origin { documents_folder, tokenizer, mix: Some(mix), pieces: None };
    tokenize_into(fs, origin, out, SHARD_TOKENS, reporter)
}

/// The same folder, byte for byte, with the ids that ranks have left ([`crate::encode_rank`]), mixed or not.
///
/// # Errors
/// Errors of [`tokenize_mixed`]; ranks that are missing, or that encoded other documents or with another
/// tokenizer.
pub fn tokenize_encoded(
    fs: &dyn Fs,
    documents_folder: &Path,
    tokenizer: &Tokenizer,
    mix: Option<Mix<'_>>,
    ranks: &Ranks<'_>,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<TokenSummary> {
    let origin = Origin { documents_folder, tokenizer, mix, pieces: Some(ranks) };
    tokenize_into(fs, origin, out, SHARD_TOKENS, reporter)
}

/// Inputs of token shards.
#[derive(Clone, Copy)]
struct Origin<'a> {
    documents_folder: &'a Path,
    tokenizer: &'a Tokenizer,
    mix: Option<Mix<'a>>,
    /// Ranks that have encoded the documents.
    pieces: Option<&'a Ranks<'a>>,
}

fn tokenize_into(
    fs: &dyn Fs,
    origin: Origin<'_>,
    out: &Path,
    shard_tokens: u64,
    reporter: &mut dyn Reporter,
) -> Result<TokenSummary> {
    let Origin { documents_folder, tokenizer, mix, pieces } = origin;
    let documents_hash = checked_documents(fs, documents_folder)?;
    let stage = stage(&documents_hash, tokenizer, mix, shard_tokens);
    if stage.current(fs, out)?.is_some() {
        let summary: TokenSummary = atomic::read_json(fs, &out.join(REPORT_FILE))?;
        return Ok(TokenSummary { reused: true, ..summary });
    }

    let pieces = pieces.map(|ranks| Pieces::verify(fs, ranks, &documents_hash, tokenizer)).transpose()?;
    let staged = stage.begin(fs, out)?;
    let mut usage = Usage::new(tokenizer);
    let mut done = 0;
    let mut counts = [TokenCounts::default(); 2];
    let mut mixed = BTreeMap::new();
    let batches = tokenizer.batches();
    for split in Split::ALL {
        let mut writer = ShardWriter::new(fs, staged.path(), split, vocabulary(tokenizer), shard_tokens);
        let mut ids = match &pieces {
            Some(pieces) => Ids::Read(pieces.open(fs, split)?),
            None => Ids::Encode(&batches),
        };
        let mut progress = |bytes: u64| {
            done += bytes;
            reporter.progress(Phase::Corpus, done, 0, "bytes tokenized");
        };
        match mix.filter(|_| split == Split::Train) {
            Some(mix) => {
                let mut mixer = Mixer::new(fs, staged.path(), mix.seed)?;
                let mut write = |ids: &[u32], document: &Document| {
                    let source = document.domain.as_deref().unwrap_or_default();
                    Ok(mixer.push(ids, source, &document.hash)?)
                };
                encode_split(fs, documents_folder, split, &mut ids, &mut write, &mut usage, &mut progress)?;
                mixed = mixer.finish(mix.options, |ids| writer.write(ids))?;
            }
            None => {
                let mut write = |ids: &[u32], _: &Document| Ok(writer.write(ids)?);
                encode_split(fs, documents_folder, split, &mut ids, &mut write, &mut usage, &mut progress)?;
            }
        }
        counts[split as usize] = writer.finish()?;
    }
    let summary = TokenSummary {
        train: counts[Split::Train as usize],
        validation: counts[Split::Validation as usize],
        bytes_per_id: bytes_per_id(tokenizer.vocab_size()),
        mix: mixed,
        usage: usage.report(),
        reused: false,
    };
    atomic::write_json(fs, &staged.path().join(REPORT_FILE), &summary)?;
    reporter.kept(Phase::Corpus, &staged.commit(stage.manifest())?);
    Ok(summary)
}

pub(crate) fn vocabulary(tokenizer: &Tokenizer) -> Vocabulary<'_> {
    Vocabulary {
        vocab_size: tokenizer.vocab_size(),
        tokenizer_hash: tokenizer.hash(),
        // A tokenizer of another program may have a BOS that it does not put before texts.
        bos_id: tokenizer.bos_id().filter(|bos| tokenizer.prefix_ids().contains(bos)),
        eos_id: tokenizer.eos_id(),
        pad_id: tokenizer.pad_id().or(tokenizer.eos_id()).unwrap_or(0),
    }
}

/// The shards of these documents by this tokenizer and mix, as their manifest has them.
pub fn tokens_stage(documents_hash: &str, tokenizer: &Tokenizer, mix: Option<Mix<'_>>) -> Stage {
    stage(documents_hash, tokenizer, mix, SHARD_TOKENS)
}

fn stage(documents_hash: &str, tokenizer: &Tokenizer, mix: Option<Mix<'_>>, shard_tokens: u64) -> Stage {
    let inputs = BTreeMap::from([
        ("documents".to_owned(), documents_hash.to_owned()),
        ("tokenizer".to_owned(), tokenizer.hash().to_owned()),
    ]);
    let mut options = json!({ "stage_version": STAGE_VERSION, "shard_tokens": shard_tokens });
    if let Some(mix) = mix {
        options["mix"] = json!({ "options": mix.options, "seed": mix.seed });
    }
    Stage { name: TOKENS_STAGE, options, inputs }
}

/// Source of documents' ids.
enum Ids<'a> {
    Encode(&'a Batches<'a>),
    Read(PieceReader<'a>),
}

impl Ids<'_> {
    /// Of the next documents.
    fn of(&mut self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        match self {
            Ids::Encode(batches) => Ok(batches.encode(texts)?),
            Ids::Read(pieces) => texts.iter().map(|_| pieces.next_document()).collect(),
        }
    }
}

fn encode_split(
    fs: &dyn Fs,
    folder: &Path,
    split: Split,
    ids: &mut Ids<'_>,
    write: &mut dyn FnMut(&[u32], &Document) -> Result<()>,
    usage: &mut Usage,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut batch: Vec<Document> = Vec::new();
    let mut bytes = 0;
    let mut flush = |batch: &mut Vec<Document>, bytes: &mut usize| -> Result<()> {
        let texts: Vec<&str> = batch.iter().map(|document| document.text.as_str()).collect();
        for (ids, document) in ids.of(&texts)?.iter().zip(batch.iter()) {
            usage.add(ids, &document.text, document.language.as_deref());
            write(ids, document)?;
        }
        progress(*bytes as u64);
        batch.clear();
        *bytes = 0;
        Ok(())
    };
    for document in documents(fs, folder, split)? {
        let document = document?;
        bytes += document.text.len();
        batch.push(document);
        if bytes >= BATCH_BYTES {
            flush(&mut batch, &mut bytes)?;
        }
    }
    flush(&mut batch, &mut bytes)
}

#[cfg(test)]
mod tests {
    use compute::Batch;
    use runs::report::NoReport;
    use store::fs::RealFs;
    use tokenizer::{Kind, Normalizer, TokenizerOptions};
    use tokens::{Loader, LoaderOptions, TokenDataset};

    use super::*;
    use crate::{CorpusOptions, prepare};

    #[test]
    fn shards_read_as_one_stream() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let lines: String = (0..50).map(|i| format!("{{\"text\": \"document {}\"}}\n", i * i)).collect();
        std::fs::write(root.join("a.jsonl"), lines).expect("a file");
        let options = CorpusOptions { paths: vec!["a.jsonl".into()], ..CorpusOptions::default() };
        prepare(&RealFs, &options, root, &root.join("documents"), &mut NoReport).expect("documents");
        let options = TokenizerOptions { kind: Kind::Byte, ..TokenizerOptions::default() };
        let tokenizer =
            tokenizer::train([""; 0], &options, &Normalizer::text(), &mut NoReport).expect("a tokenizer");

        let mut streams = Vec::new();
        for (shard_tokens, shards) in [(1_000_000, 1), (100, 7), (1, 48)] {
            let out = root.join("tokens");
            let documents_folder = &root.join("documents");
            let origin = Origin { documents_folder, tokenizer: &tokenizer, mix: None, pieces: None };
            let summary = tokenize_into(&RealFs, origin, &out, shard_tokens, &mut NoReport).expect("tokens");
            assert_eq!((summary.train.shards, summary.reused), (shards, false));
            let dataset = TokenDataset::open(&RealFs, &out, Split::Train, tokenizer.hash()).expect("shards");
            let options = LoaderOptions { batch_size: 2, sequence_length: 16, seed: 1, shuffle: true };
            let mut loader = Loader::new(&dataset, options).expect("a loader");
            let mut batches: Vec<Batch> = dataset.batches(3, 20).map(|batch| batch.unwrap()).collect();
            for _ in 0..40 {
                let mut batch = Batch::default();
                loader.next_batch(&mut batch).expect("a batch");
                batches.push(batch);
            }
            streams.push(batches);
        }
        assert!(streams.iter().all(|stream| *stream == streams[0]));
    }
}
