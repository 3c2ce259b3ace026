//! Token shards: written by `tokenize`, read by `dataset`, served in windows by `loader`.
//!
//! `train-00000.bin` holds ids as raw little-endian u16 (u32 beyond 65,536 ids), documents end to end, each
//! as BOS, its tokens, EOS; `train-00000.idx` the ends of its documents as little-endian u64, counted in
//! tokens from the shard's start; `train.json` says how to read them. No document spans two shards.

pub mod dataset;
pub mod header;
pub mod loader;
mod mixer;
pub mod pieces;
pub mod tokenize;
mod verified;
