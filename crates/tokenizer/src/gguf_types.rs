//! Constants of GGUF's tokenizers, and the error of a key.

use crate::Error;

/// Token types of GGUF.
pub const NORMAL: i32 = 1;
pub const UNKNOWN: i32 = 2;
pub const CONTROL: i32 = 3;
pub const USER_DEFINED: i32 = 4;
pub const UNUSED: i32 = 5;
pub const BYTE: i32 = 6;
/// SentencePiece's space.
pub const SPACE: char = '▁';

/// What is wrong with a key below `tokenizer.ggml`.
pub fn gguf(key: &str, problem: String) -> Error {
    Error::Gguf { key: key.to_owned(), problem }
}
