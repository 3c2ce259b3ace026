//! Round trips, hostile files, and what transformers wrote.

mod config;
mod plot;
mod safetensors;
