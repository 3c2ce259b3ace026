//! The rest of a file that somebody is still writing.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom};
use std::path::Path;

/// From byte `at` on. A byte that is no text becomes `?`, so that the text is as long as what it was read from and offsets hold.
pub fn read_from(path: &Path, at: u64) -> Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(text(bytes))
}

fn text(mut bytes: Vec<u8>) -> String {
    loop {
        match String::from_utf8(bytes) {
            Ok(text) => return text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                bytes = error.into_bytes();
                // A character that is not written to its end yet is cut here as well.
                bytes[at] = b'?';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_keeps_its_length() {
        assert_eq!(text(b"a\xff\xfe\xc3\xa9b\xc3".to_vec()), "a??éb?");
    }
}
