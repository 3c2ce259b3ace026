//! The token stream, as a ring, cut into windows.

/// The stream, as a ring, cut into windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    tokens: u64,
    sequence_length: u64,
    /// Where the first window begins.
    pub offset: u64,
}

/// A window: the position of its first token, and its number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u64,
    pub len: usize,
}

/// Windows per epoch over `tokens` tokens; 0 if there are fewer than one window.
pub fn windows_per_epoch(tokens: u64, sequence_length: usize) -> u64 {
    if tokens < sequence_length as u64 { 0 } else { Windows::in_order(tokens, sequence_length).count() }
}

impl Windows {
    pub fn in_order(tokens: u64, sequence_length: usize) -> Windows {
        Windows { tokens, sequence_length: sequence_length.max(1) as u64, offset: 0 }
    }

    pub fn count(&self) -> u64 {
        self.tokens.div_ceil(self.sequence_length)
    }

    pub fn span(&self, window: u64) -> Span {
        let before = window * self.sequence_length;
        let len = self.sequence_length.min(self.tokens - before) as usize;
        Span { start: (self.offset + before) % self.tokens, len }
    }
}
