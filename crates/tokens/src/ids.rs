//! Ids as bytes: little-endian, two or four bytes each.

use std::io::{Read, Write};

/// Bytes that an id below `vocab_size` takes: 2 or 4.
pub fn bytes_per_id(vocab_size: usize) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// Writes ids with this many bytes each. A document's ids are never copied as a whole.
pub fn write_ids(
    file: &mut impl Write,
    ids: impl Iterator<Item = u32>,
    bytes_per_id: usize,
) -> std::io::Result<()> {
    let (mut bytes, mut filled) = ([0; 4096], 0);
    for id in ids {
        bytes[filled..filled + bytes_per_id].copy_from_slice(&id.to_le_bytes()[..bytes_per_id]);
        filled += bytes_per_id;
        if filled == bytes.len() {
            file.write_all(&bytes)?;
            filled = 0;
        }
    }
    file.write_all(&bytes[..filled])
}

/// Reads this many ids.
pub fn read_ids(file: &mut impl Read, count: usize, bytes_per_id: usize) -> std::io::Result<Vec<u32>> {
    let mut bytes = [0; 4096];
    // A count from a damaged file takes no more memory than the file has bytes.
    let mut ids = Vec::with_capacity(count.min(1 << 20));
    while ids.len() < count {
        let part = &mut bytes[..4096.min((count - ids.len()).saturating_mul(bytes_per_id))];
        file.read_exact(part)?;
        let id = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |id, &byte| id << 8 | u32::from(byte));
        ids.extend(part.chunks_exact(bytes_per_id).map(id));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_were_written() {
        for (count, bytes_per_id) in [(0, 2), (2048, 2), (5000, 2), (1024, 4), (5000, 4)] {
            let ids: Vec<u32> = (0..count).map(|id| id * 13).collect();
            let mut file = Vec::new();
            write_ids(&mut file, ids.iter().copied(), bytes_per_id).expect("written");
            assert_eq!(file.len(), ids.len() * bytes_per_id);
            let mut rest = &file[..];
            assert_eq!(read_ids(&mut rest, ids.len(), bytes_per_id).expect("read"), ids);
            assert!(rest.is_empty() && read_ids(&mut rest, 1, bytes_per_id).is_err());
        }
    }
}
