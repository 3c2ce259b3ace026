//! Round trips, hostile files, and what transformers wrote.
#![allow(clippy::unwrap_used)] // a test says what broke by panicking

mod config;
mod gguf;
mod gguf_file;
mod gguf_writer;
mod plot;
mod safetensors;
