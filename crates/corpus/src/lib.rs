//! From files of text to batches of tokens.
//!
//! [`prepare`] reads folders, globs and files, finds the main text of pages, repairs and normalises text, drops what filters
//! and deduplication tell it to, splits off a validation set and leaves cleaned documents; [`tokenize`] makes token shards of them; [`TokenDataset`] maps the shards and [`Loader`]
//! serves them shuffled. Each stage is a folder with a manifest, and its bytes are a function of inputs and options alone.
//!
//! Not here yet: redaction, mixing of sources.
//!
//! Reading order: `options`, `sources` (which files), `kind`, `read` (bytes to raw documents), `extract`, `clean`, `filter`, `dedup`,
//! `judge` (one document), `keeper` (all of them), `prepare`, `split`, then
//! `tokens` (shards, dataset, loader).

mod clean;
pub mod dedup;
mod document;
mod error;
pub mod extract;
pub mod filter;
mod judge;
mod keeper;
mod kind;
mod language;
mod options;
#[cfg(feature = "pdf")]
mod pdf;
mod prepare;
mod read;
mod report;
mod report_page;
mod sample;
mod sources;
mod split;
mod stdin;
mod tokens;
mod words;

pub use document::{Document, Documents, Split, documents, texts};
pub use error::{Error, ErrorKind, Result};
pub use options::{CorpusOptions, Normalize, RemoteEntry, RemoteFile};
pub use prepare::{DOCUMENTS_STAGE, prepare};
pub use report::{Cluster, CorpusSummary, Drops, Quarantined, Sample, SplitCounts};
pub use sample::SAMPLE;
pub use sources::{inputs, text_bytes};
pub use tokens::dataset::TokenDataset;
pub use tokens::loader::{Loader, LoaderCursor, LoaderOptions};
pub use tokens::tokenize::{TOKENS_STAGE, TokenCounts, TokenSummary, tokenize};
