//! Which ids exist before anything is learned: the special tokens, then the bytes.

use crate::{TokenizerOptions, byte_level};

/// The ids given out before learning.
pub struct Base {
    /// Id of each byte; `None` for a byte that never occurs in UTF-8 and was left out to save room.
    pub byte_ids: [Option<u32>; 256],
    /// Special tokens and bytes together; learned tokens follow.
    pub len: usize,
}

impl Base {
    /// Special tokens first, then the bytes in the order of the characters that spell them, as the library
    /// has it (ties between pairs are decided by ids, so the order shows in what is learned). All 256 where
    /// there is room, as other programs expect; only those of UTF-8 where `vocab_size` is too tight for that.
    pub fn new(options: &TokenizerOptions, vocab_size: usize) -> Base {
        let special = options.special_spellings().len();
        let all = special + 256 <= vocab_size;
        let mut len = special;
        let mut byte_ids = [None; 256];
        for byte in byte_level::in_order() {
            if all || !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff) {
                byte_ids[usize::from(byte)] = Some(len as u32);
                len += 1;
            }
        }
        Base { byte_ids, len }
    }

    /// The spellings of all base ids.
    pub fn spellings(&self, options: &TokenizerOptions) -> Vec<String> {
        let special = options.special_spellings().into_iter().map(str::to_owned);
        let bytes = byte_level::in_order().filter(|&byte| self.byte_ids[usize::from(byte)].is_some());
        special.chain(bytes.map(|byte| byte_level::character(byte).to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte_level::UTF8_BYTES;

    #[test]
    fn the_tightest_vocabulary_leaves_out_bytes_that_cannot_occur() {
        let options = TokenizerOptions::default();
        let base = Base::new(&options, 256);
        assert_eq!(base.len, UTF8_BYTES + 8);
        assert_eq!(base.byte_ids[0xff], None);
        assert_eq!(base.byte_ids[usize::from(b'!')], Some(8));
        let base = Base::new(&options, 264);
        assert_eq!((base.len, base.byte_ids[0xad]), (264, Some(263)), "the soft hyphen is spelled last");
    }
}
