//! File formats that other programs read: safetensors, GGUF, Hugging Face configuration files, PEFT adapters,
//! the model card, and plots.
//!
//! Nothing here knows how a model computes, and nothing trusts a file: every size is checked before it is
//! allocated. Non-goals: where files belong (that is `store` and the pipeline), and the tokenizer's files
//! (those are `tokenizer`'s). Reading order: `safetensors`, `hf`, `peft`, `gguf`, `model_card`, `plot`.

mod error;
mod fields;
pub mod gguf;
pub mod hf;
pub mod model_card;
pub mod peft;
pub mod plot;
pub mod safetensors;

pub use error::{Error, ErrorKind, Result};
