//! Reads the rest of a file that is still being written.

use std::io::{Read, Result, Seek, SeekFrom};
use std::path::Path;

use crate::fs::regular;

/// Text from byte `at` on. An invalid byte becomes `?`, so that the text has the same length and offsets stay
/// valid.
pub fn read_from(path: &Path, at: u64) -> Result<String> {
    let mut file = regular::read(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(text(&bytes))
}

/// Complete lines from byte `at` on; the rest comes with a later call.
pub fn lines_from(path: &Path, at: u64) -> Result<String> {
    let mut text = read_from(path, at)?;
    text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
    Ok(text)
}

/// Complete lines from byte `at` on, at most `most_bytes`; more come with the next call. A longer line is
/// returned in pieces, which no parser of lines accepts.
pub fn some_lines_from(path: &Path, at: u64, most_bytes: u64) -> Result<String> {
    let mut file = regular::read(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(most_bytes).read_to_end(&mut bytes)?;
    match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(newline) => bytes.truncate(newline + 1),
        None if (bytes.len() as u64) < most_bytes => bytes.clear(),
        None => {}
    }
    Ok(text(&bytes))
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        // An incomplete character is cut off here as well.
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_keeps_its_length() {
        assert_eq!(text(b"a\xff\xfe\xc3\xa9b\xc3"), "a??éb?");
    }
    #[test]
    fn lines_come_whole_and_in_portions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "one\ntwo\nthree").unwrap();
        assert_eq!(lines_from(&path, 0).unwrap(), "one\ntwo\n");
        assert_eq!(some_lines_from(&path, 0, 6).unwrap(), "one\n");
        assert_eq!(some_lines_from(&path, 4, 100).unwrap(), "two\n");
        assert_eq!(some_lines_from(&path, 8, 100).unwrap(), "", "its end is not written yet");
        assert_eq!(some_lines_from(&path, 8, 3).unwrap(), "thr", "too long for anything of ours");
    }
}
