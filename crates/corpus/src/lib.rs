//! From files of text to batches of tokens.
//!
//! [`prepare`] reads folders, globs and files, repairs and normalises text, drops duplicates, splits off a validation set
//! and leaves cleaned documents; [`tokenize`] makes token shards of them; [`TokenDataset`] maps the shards and [`Loader`]
//! serves them shuffled. Each stage is a folder with a manifest, and its bytes are a function of inputs and options alone.
//!
//! Not here yet: extraction from HTML or PDF, quality filters, near-duplicates, mixing of sources.
//!
//! Reading order: `options`, `sources` (which files), `read` (bytes to raw documents), `clean`, `prepare`, `split`, then
//! `tokens` (shards, dataset, loader).

mod clean;
mod document;
mod error;
mod language;
mod options;
mod prepare;
mod read;
mod report;
mod sample;
mod sources;
mod split;
mod tokens;

pub use document::{Document, Documents, Split, documents, texts};
pub use error::{Error, ErrorKind, Result};
pub use options::{CorpusOptions, Normalize};
pub use prepare::{DOCUMENTS_STAGE, prepare};
pub use report::{CorpusSummary, Quarantined, SplitCounts};
pub use sample::SAMPLE;
pub use sources::{inputs, text_bytes};
pub use tokens::dataset::TokenDataset;
pub use tokens::loader::{Loader, LoaderCursor, LoaderOptions};
pub use tokens::tokenize::{TOKENS_STAGE, TokenCounts, TokenSummary, tokenize};
