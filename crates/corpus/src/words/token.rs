//! A word in a text.

/// A word's place in a text, and of which classes its bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Start, in bytes.
    pub start: u32,
    /// End, in bytes.
    pub end: u32,
    /// Classes of bytes: [`super::LETTER`], [`super::DIGIT`], [`super::WIDE`].
    pub classes: u8,
}
