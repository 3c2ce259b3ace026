//! A word in a text.

/// A word's place in a text, and of which classes its bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Its first byte.
    pub start: u32,
    /// The byte behind it.
    pub end: u32,
    /// Classes of bytes: [`super::LETTER`], [`super::DIGIT`], [`super::WIDE`].
    pub classes: u8,
}
