//! A transfer's bytes into a file, never more of them than were announced.
//!
//! Curl hands them over on a pipe: it stops by itself only at lengths that the same server claims, and older
//! ones not even there.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{broken, shown};
use crate::{Error, Result};

/// Interval of progress reports.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// Bytes that are taken from the pipe at a time.
const PIECE_BYTES: usize = 256 << 10;
/// After the limit, this many more bytes are read to see whether the response ends: error messages are short.
const LOOKED_ON_BYTES: u64 = 64 << 10;

/// The end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// By itself, with no more than was announced.
    Ended,
    /// It exceeded the limit, and nothing was kept: total bytes so far, and whether that was the end.
    TooMuch { delivered: u64, ended: bool },
}

/// Appends a transfer to a file that has `announced` bytes when complete. `progress` gets its size as it
/// grows. If the transfer is longer, the file is removed.
pub(crate) fn receive(
    from: &mut dyn Read,
    place: &str,
    part: &Path,
    announced: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Received> {
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(part)
        .map_err(store::Error::io("write", part))?;
    let mut bytes = size(part);
    let (mut piece, mut told_at) = (vec![0; PIECE_BYTES], Instant::now());
    loop {
        let read = match from.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| broken(place, &error.to_string()))?,
        };
        if read == 0 {
            progress(bytes);
            return Ok(Received::Ended);
        }
        bytes += read as u64;
        if bytes > announced {
            drop(file);
            std::fs::remove_file(part).map_err(store::Error::io("remove", part))?;
            let more = std::io::copy(&mut from.take(LOOKED_ON_BYTES), &mut std::io::sink()).unwrap_or(0);
            return Ok(Received::TooMuch { delivered: bytes + more, ended: more < LOOKED_ON_BYTES });
        }
        file.write_all(&piece[..read]).map_err(store::Error::io("write", part))?;
        if told_at.elapsed() > TOLD_EVERY {
            told_at = Instant::now();
            progress(bytes);
        }
    }
}

/// The error of a transfer that brings more than was announced.
pub(crate) fn too_much(place: &str, announced: u64, delivered: u64) -> Error {
    Error::TooMuch { place: shown(place), announced, delivered }
}

/// How much of a file is there.
pub(crate) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_was_announced() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("a.part");
        let mut heard = 0;
        let mut get = |from: &mut dyn Read, announced| {
            receive(from, "x", &part, announced, &mut |bytes| heard = bytes)
                .map_err(|error| error.to_string())
        };
        assert_eq!(get(&mut b"abc".as_slice(), 5), Ok(Received::Ended));
        assert_eq!(get(&mut b"de".as_slice(), 5), Ok(Received::Ended));
        assert_eq!(std::fs::read(&part).unwrap(), b"abcde");
        assert_eq!(get(&mut b"fg".as_slice(), 5), Ok(Received::TooMuch { delivered: 7, ended: true }));
        assert!(!part.exists());
        let endless = get(&mut std::io::repeat(b'x'), 1 << 20);
        assert!(matches!(endless, Ok(Received::TooMuch { delivered, ended: false }) if delivered < 2 << 20));
        assert!(!part.exists());
        assert_eq!(heard, 5);
    }
}
