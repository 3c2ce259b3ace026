//! Zstandard streams, whose wants of memory are told apart from damage: a frame may ask for a window of 2 GB,
//! and the system may give none.

use std::fmt;
use std::io::{self, BufRead, Read};

/// What a frame may ask to look back on: what zstd itself grants unless it is told otherwise, and what its
/// highest level uses.
pub const LARGEST_WINDOW_BYTES: u64 = 1 << WINDOW_LOG;
const WINDOW_LOG: u32 = 27;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What the library says of both; its errors have no kinds.
const WINDOW_SAID: &str = "Frame requires too much memory for decoding";
const MEMORY_SAID: &str = "Allocation error : not enough memory";
/// What its Rust layer says where the first allocation of a context fails.
const CONTEXT_SAID: &str = "zstd could not allocate a decompression context";

/// A stream needs more memory than allowed.
#[derive(Debug)]
pub struct LargeWindow {
    /// The requested amount, if known.
    pub bytes: Option<u64>,
    /// How it is unpacked or packed by other means.
    pub remedy: &'static str,
}

impl fmt::Display for LargeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = LARGEST_WINDOW_BYTES >> 20;
        match self.bytes {
            Some(bytes) => {
                write!(f, "needs a decompression window of {} MB, more than the {limit} MB", bytes >> 20)?
            }
            None => write!(f, "needs a decompression window larger than the {limit} MB")?,
        }
        write!(f, " that are allowed: {}", self.remedy)
    }
}

impl std::error::Error for LargeWindow {}

/// The error of a system that gives no more memory.
pub fn shortage(library: &str) -> io::Error {
    let message = format!(
        "{library} is out of memory: raise the limit of the process (`ulimit -v`, or that of its \
         container), or free some memory"
    );
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}

/// An error of the library, as what it is.
pub fn told(error: io::Error) -> io::Error {
    match error.to_string().as_str() {
        MEMORY_SAID | CONTEXT_SAID => shortage("zstd"),
        WINDOW_SAID => io::Error::other(large_window(None)),
        _ => error,
    }
}

fn large_window(bytes: Option<u64>) -> LargeWindow {
    LargeWindow {
        bytes,
        remedy: "decompress it first (`zstd -d --long=31`), or compress it again (`zstd --long=27`)",
    }
}

/// An unpacked stream.
pub struct Zstandard<R: BufRead> {
    inner: zstd::Decoder<'static, R>,
}

impl<R: BufRead> Zstandard<R> {
    /// Over a packed one.
    ///
    /// # Errors
    /// A first frame with too large a window; no memory.
    pub fn over(mut packed: R) -> io::Result<Zstandard<R>> {
        if let Some(bytes) = window_bytes(packed.fill_buf()?).filter(|&bytes| bytes > LARGEST_WINDOW_BYTES) {
            return Err(io::Error::other(large_window(Some(bytes))));
        }
        let mut inner = zstd::Decoder::with_buffer(packed).map_err(told)?;
        inner.window_log_max(WINDOW_LOG).map_err(told)?;
        Ok(Zstandard { inner })
    }
}

impl<R: BufRead> Read for Zstandard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(told)
    }
}

/// The window that a frame asks for (RFC 8878, 3.1.1.1); `None` where `start` is no frame's.
fn window_bytes(start: &[u8]) -> Option<u64> {
    let header = start.strip_prefix(&MAGIC)?;
    let (&descriptor, fields) = header.split_first()?;
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let &window = fields.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // The whole content is the window; its size follows the dictionary's number.
    let content = fields.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    let number = |length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(content.get(..length)?);
        Some(u64::from_le_bytes(bytes))
    };
    match descriptor >> 6 {
        0 => number(1),
        1 => number(2).map(|bytes| bytes + 256),
        2 => number(4),
        _ => number(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(window_log: u32, text: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(text).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Zstandard::over(packed)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn windows_up_to_the_limit_are_read_and_larger_ones_told() {
        let text = b"some text ".repeat(100);
        assert_eq!(unpacked(&packed(27, &text)).unwrap(), text);
        let error = unpacked(&packed(28, &text)).unwrap_err().to_string();
        assert!(
            error.contains("window of 256 MB") && error.contains("the 128 MB") && error.contains("--long"),
            "{error}"
        );
        // Of a later frame, where the first one is in order.
        let two = [packed(20, &text), packed(28, &text)].concat();
        let mut out = Vec::new();
        let error = Zstandard::over(&two[..]).unwrap().read_to_end(&mut out).unwrap_err().to_string();
        assert!(error.contains("larger than the 128 MB") && out == text, "{error}");
        // Skippable frames and other bytes have none.
        assert_eq!(window_bytes(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), None);
        assert_eq!(window_bytes(b""), None);
    }

    #[test]
    fn windows_of_frames_that_know_their_size_are_their_size() {
        for length in [0usize, 200, 300, 70_000] {
            let packed = zstd::bulk::compress(&vec![b'x'; length], 1).unwrap();
            let window = window_bytes(&packed).unwrap();
            assert!(window >= length as u64 && window <= 1 << 20, "{length}: {window}");
            assert_eq!(unpacked(&packed).unwrap().len(), length);
        }
        // 2^40 bytes in one segment.
        let claims = [&MAGIC[..], &[0xe0], &(1u64 << 40).to_le_bytes()].concat();
        assert!(unpacked(&claims).unwrap_err().to_string().contains("window of 1048576 MB"));
    }
}
