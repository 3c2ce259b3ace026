//! GPT-2's byte alphabet: each of the 256 bytes is written as one printable character.
//!
//! Vocabularies on disk use it, so that tokens that are not valid UTF-8 can be written in JSON.

use std::sync::LazyLock;

/// Bytes that occur in UTF-8: all but C0, C1 and F5…FF.
pub const UTF8_BYTES: usize = 243;

/// The character of each byte: itself if printable, otherwise one from U+0100 upwards.
static CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("invariant: below U+0200 every code is a character")
    })
});

/// The character of a byte.
pub fn character(byte: u8) -> char {
    CHARACTERS[usize::from(byte)]
}

/// All bytes in the order of their characters.
pub fn in_order() -> impl Iterator<Item = u8> {
    ('\0'..'\u{200}').filter_map(byte)
}

/// The byte of a character, if any.
pub fn byte(character: char) -> Option<u8> {
    static BYTES: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
        let mut bytes = vec![None; 512];
        for byte in 0..=255u8 {
            bytes[self::character(byte) as usize] = Some(byte);
        }
        bytes
    });
    BYTES.get(character as usize).copied().flatten()
}

/// Encodes bytes in the alphabet.
pub fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| character(byte)).collect()
}

/// Decodes text in the alphabet; `None` if a character is not in it.
pub fn unspell(spelling: &str) -> Option<Vec<u8>> {
    spelling.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_library_s_and_reverses() {
        let ours: std::collections::BTreeSet<char> = (0..=255).map(character).collect();
        let theirs = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert_eq!(ours, theirs.into_iter().collect());
        assert_eq!((character(b' '), character(b'\n'), character(b'a')), ('Ġ', 'Ċ', 'a'));
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unspell(&spell(&all)).unwrap(), all);
        assert_eq!(unspell("a b"), None);
    }
}
