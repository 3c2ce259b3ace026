//! Base ids before training: the special tokens, then the bytes.

use crate::{TokenizerOptions, byte_level};

/// The base ids.
pub struct Base {
    /// Id of each byte; `None` for a byte that never occurs in UTF-8 and was omitted to save space.
    pub byte_ids: [Option<u32>; 256],
    /// Number of special tokens and bytes; trained tokens follow.
    pub len: usize,
}

impl Base {
    /// Special tokens first, then the bytes in the order of their characters, as in the library (ids break
    /// ties between pairs, so the order affects training). All 256 if there is space, as other programs
    /// expect; only those of UTF-8 if `vocab_size` is too small.
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

    /// The texts of all base ids.
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
