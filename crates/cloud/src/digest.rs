//! Hashes that others announce, as they write them: lower-case hex.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::Digest;

/// Of a file's bytes, after what `hasher` has taken before them.
pub fn of_file(path: &Path, mut hasher: impl Digest) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Lower-case hex.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
