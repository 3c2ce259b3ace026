//! Where a text that is too long is cut.

/// Where to cut a buffer that is full, and whether that is within a document: after the last separator, else
/// after the last line, else before the last whole character.
pub fn cut_place(buffer: &[u8], separator: &[u8]) -> (usize, bool) {
    if !separator.is_empty() {
        let found = memchr::memmem::rfind(buffer, separator);
        if let Some(at) = found {
            return (at + separator.len(), false);
        }
    }
    if let Some(at) = memchr::memrchr(b'\n', buffer) {
        return (at + 1, true);
    }
    let is_start = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    let start = (buffer.len().saturating_sub(4)..buffer.len()).rev().find(|&at| is_start(buffer[at]));
    (start.filter(|&at| at > 0).unwrap_or(buffer.len()), true)
}
