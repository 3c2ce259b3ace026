//! GGUF, the file of llama.cpp and Ollama: keys and values, tensor infos, then blocks of quantized weights.
//!
//! [`Reader`] checks the whole header against the file's size before it reads a weight, and hands tensors out
//! raw or as f32; [`config()`] and [`tensor_name`] put Hugging Face's names on what it holds. [`write()`]
//! streams one tensor at a time; [`Layout`] says which keys and tensors llama.cpp wants of a model. Read are
//! versions 2 and 3, written is 3, little-endian. Non-goals: split files, and the tokenizer's keys beyond
//! their raw values. Reading order: `header`, `metadata`, `tensor_type`, `reader`, `names`, `config`,
//! `writer`, `layout`. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod config;
mod header;
mod layout;
mod metadata;
mod names;
mod reader;
mod tensor_type;
mod writer;

pub use config::config;
pub use header::TensorInfo;
pub use layout::{Layout, Source};
pub use metadata::{Array, Metadata, Value};
pub use names::{row_order, tensor_name};
pub use quant::BlockFormat;
pub use reader::Reader;
pub use tensor_type::TensorType;
pub use writer::{TensorSpec, write};
