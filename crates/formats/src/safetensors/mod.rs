//! Safetensors: named tensors in one file, an 8-byte header length, a JSON header, then the data.
//!
//! [`write()`] streams one tensor at a time, so a model is never held twice; [`Reader`] checks the whole
//! header against the file's size before it reads a value. Both work on f32 in memory and convert at the
//! file. [`WeightFiles`] reads a folder, whose weights may be in several files. Non-goals: sub-byte types.
//! Format: <https://github.com/huggingface/safetensors>.

mod folder;
mod header;
mod reader;
mod writer;

pub use ::safetensors::Dtype;
pub use folder::{INDEX_FILE, WEIGHTS_FILE, WeightFiles};
pub use header::TensorEntry;
pub use reader::Reader;
pub use writer::{TensorSpec, write};

/// The metadata that `transformers` asks of a model's weights: `{"format": "pt"}`.
pub fn pytorch_metadata() -> std::collections::BTreeMap<String, String> {
    std::collections::BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}
