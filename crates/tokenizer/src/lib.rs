//! Tokenizers: training, files for other programs, encoding and decoding.
//!
//! Encoding is Hugging Face's `tokenizers`; BPE merges are trained by our own code (`merges`), because the
//! library breaks ties by the iteration order of a randomly seeded map, and here a vocabulary is a function
//! of the text alone.
//!
//! Ids are the same for every kind: `<PAD>` 0, `<BOS>` 1, `<EOS>` 2, `<UNK>` 3, then the reserved chat
//! tokens, then the alphabet, then trained tokens. BOS and EOS are where `LlamaConfig` expects them, and
//! zero-filled memory is padding. `vocab_size` counts all of them. The control tokens of chats are reserved so
//! that a later fine-tuning needs no new embedding rows.
//!
//! Reading order: `options`, `vocabulary`, `normalizer`, `split`, `words`, `merges`, `pieces` (unigram),
//! `file`, `tokenizer`; `chat` for chat templates and conversations.

mod byte_level;
pub mod chat;
mod classes;
mod error;
mod file;
mod merges;
mod nfc;
mod normalizer;
mod options;
mod pieces;
mod split;
mod stream;
mod threads;
mod tokenizer;
mod train;
mod usage;
mod vocabulary;
mod words;

pub use classes::unicode_ranges;
pub use error::{Error, ErrorKind, Result};
pub use file::{CONFIG_FILE, SPECIAL_TOKENS_FILE, TOKENIZER_FILE};
pub use normalizer::Normalizer;
pub use options::{Kind, PreTokenizer, SpecialTokens, TokenizerOptions};
pub use split::LONGEST_PIECE_BYTES;
pub use stream::StreamDecoder;
pub use threads::set_threads;
pub use tokenizer::{Batches, Tokenizer};
pub use train::train;
pub use usage::{LanguageUsage, Usage, UsageReport};
