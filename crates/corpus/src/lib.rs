//! From files of text to token shards.
//!
//! [`prepare`] reads folders, globs and files, extracts the main text of pages, repairs and normalizes text,
//! applies filters and deduplication, splits off a validation set and writes the documents; [`tokenize`]
//! writes token shards of them. The output of each stage is a folder with a manifest, and its bytes depend
//! only on inputs and options.
//!
//! Reading order: `options`, `sources` (which files), `kind`, `read` (bytes to raw documents), `extract`,
//! `clean`, `repair`, `filter`, `contamination`, `dedup`, `redact`, `document_filter` (one document),
//! `decisions` (all of them, in order), `document_writer`, `prepare`, `split`, then `tokenize`, and `ranks`
//! (the same on many machines). `examples`: chat data for fine-tuning.

pub mod classifier;
mod clean;
pub mod contamination;
mod decisions;
pub mod dedup;
mod document;
mod document_filter;
mod document_writer;
mod error;
pub mod examples;
pub mod extract;
pub mod filter;
#[cfg(test)]
mod growth;
mod kind;
mod language;
mod options;
#[cfg(feature = "pdf")]
mod pdf;
pub mod perplexity;
mod prepare;
mod quarantine;
mod ranks;
mod read;
pub mod redact;
pub mod repair;
mod report;
mod report_page;
mod rules;
mod sample;
mod sources;
mod split;
mod stdin;
pub mod survey;
mod tokenize;
mod words;
mod zstandard;

pub use document::{
    DOCUMENTS_STAGE, Document, Documents, DroppedDocument, documents, dropped_documents, texts,
};
pub use error::{Error, ErrorKind, Fault, NothingLeft, RankFault, Result};
pub use options::{CorpusOptions, Normalize, RemoteEntry, RemoteFile};
pub use prepare::{documents_by, documents_stage, prepare, prepare_filtered};
pub use quarantine::{NotFollowed, Quarantined};
pub use ranks::encode::{ENCODE_STAGE, EncodeSummary, encode_rank, encode_stage};
pub use ranks::filter::{FILTER_STAGE, FilterSummary, filter_by, filter_rank, filter_stage, sources_of_rank};
pub use ranks::{Rank, Ranks};
pub use report::{Cluster, CorpusSummary, Drops, Redactions, Sample, SplitCounts, UnicodeRepairs};
pub use report_page::inspection_page;
pub use sample::SAMPLE;
pub use sources::{inputs, text_bytes};
pub use tokenize::{Mix, TokenSummary, tokenize, tokenize_encoded, tokenize_mixed, tokens_stage};
