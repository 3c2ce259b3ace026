//! Tokenizers: training, files for other programs, and encoding and decoding with any program's tokenizer.
//!
//! Encoding is Hugging Face's `tokenizers`; BPE merges are trained by our own code (`merges`), because the
//! library breaks ties by the iteration order of a randomly seeded map, and here a vocabulary is a function
//! of the text alone.
//!
//! Ids of trained tokenizers are the same for every kind: `<PAD>` 0, `<BOS>` 1, `<EOS>` 2, `<UNK>` 3, then
//! the reserved chat tokens, then the alphabet, then trained tokens. BOS and EOS are where `LlamaConfig`
//! expects them, and zero-filled memory is padding. `vocab_size` counts all of them. Control tokens for chats
//! are reserved so that a later fine-tuning needs no new embedding rows.
//!
//! Tokenizers of other programs may lack any of these tokens. They are run by the library as a whole
//! (`library`), so ids are Hugging Face's; what it or `decoder` does not do as transformers 5 does is refused
//! by name. Files of strangers are bounded in size, the library's panics are caught, and regular expressions
//! that take too long are errors (`patterns`).
//!
//! Reading order: `options`, `vocabulary`, `normalizer`, `split`, `words`, `merges`, `pieces` (unigram),
//! `file`, `tokenizer`; then `own`, `folder`, `library`, `steps`, `patterns`, `decoder` and `gguf` for those
//! of others, `gguf_export` for llama.cpp; `chat` for chat templates and conversations.

mod batches;
mod byte_level;
pub mod chat;
mod classes;
mod decoder;
mod error;
mod file;
mod folder;
mod gguf;
mod gguf_export;
mod gguf_merges;
mod gguf_pre;
mod gguf_types;
mod library;
mod merges;
mod nfc;
mod normalizer;
mod options;
mod own;
mod patterns;
mod pieces;
mod split;
mod steps;
mod stream;
mod table;
mod threads;
mod tokenizer;
mod train;
mod usage;
mod vocabulary;
mod words;

pub use batches::Batches;
pub use classes::unicode_ranges;
pub use error::{Error, ErrorKind, Result};
pub use file::{CONFIG_FILE, SPECIAL_TOKENS_FILE, TOKENIZER_FILE};
pub use gguf::{GgufFacts, GgufTokenizer};
pub use gguf_export::GgufExport;
pub use normalizer::Normalizer;
pub use options::{Kind, PreTokenizer, SpecialTokens, TokenizerOptions};
pub use split::LONGEST_PIECE_BYTES;
pub use stream::StreamDecoder;
pub use threads::{map as map_on_threads, set_threads};
pub use tokenizer::Tokenizer;
pub use train::train;
pub use usage::{LanguageUsage, Usage, UsageReport};
