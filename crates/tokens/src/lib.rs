//! Training input: token shards, data mixes, and the loader.
//!
//! A [`ShardWriter`] writes a split's shards; a [`Mixer`] gives it documents as often as a mix needs;
//! [`TokenDataset`] reads the shards; [`Loader`] serves them in shuffled windows.
//!
//! `train-00000.bin` contains ids as raw little-endian u16 (u32 beyond 65,536 ids), documents end to end,
//! each as BOS, its tokens, EOS; `train-00000.idx` the ends of its documents as little-endian u64, in tokens
//! from the shard's start; `train.json` is the header. No document spans two shards. Of examples (for
//! fine-tuning) `train-00000.mask` has a byte for each id, 1 if it is predicted in training; an example has
//! no BOS and EOS but its own, and is served whole, in rows with others.
//!
//! Reading order: `header` (the files), `ids`, `shards`, `mix`, `mixer`, `verified`, `windows`, `packing`,
//! `dataset`, `loader`.

mod dataset;
mod error;
mod header;
mod ids;
mod loader;
mod mix;
mod mixer;
mod packing;
mod shards;
mod split;
mod verified;
mod windows;

pub use dataset::TokenDataset;
pub use error::{Error, ErrorKind, Fault, Result};
pub use ids::{bytes_per_id, read_ids, write_ids};
pub use loader::{Loader, LoaderCursor, LoaderOptions};
pub use mix::{MixOptions, MixedSource, place};
pub use mixer::Mixer;
pub use packing::packed_sequences;
pub use shards::{ShardWriter, TokenCounts, Vocabulary};
pub use split::Split;
pub use windows::windows_per_epoch;

/// Name of the stage that makes shards, in its folder's manifest.
pub const TOKENS_STAGE: &str = "tokens";
