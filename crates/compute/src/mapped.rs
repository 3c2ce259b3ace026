//! Read-only memory-mapped files behind a safe face.
//!
//! It lives here because `compute` is the one crate that may use `unsafe`. Non-goal: writing through a mapping.

use std::fs::File;
use std::io;
use std::path::Path;

/// A file mapped read-only. Typed views assume a little-endian host, which is what the formats on disk use.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<memmap2::Mmap>,
}

#[cfg(target_endian = "big")]
compile_error!("token shards and weights are mapped as little-endian");

impl MappedFile {
    /// Maps the whole file.
    ///
    /// # Errors
    /// What the operating system says about opening or mapping it.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: the mapping is private to this process and read-only. The files mapped are immutable once written: they are
        // swapped in by rename, never truncated in place, so the pages stay valid while the mapping lives.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile { map: Some(map) })
    }

    /// The file's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// `len` values of u16 from `byte_offset`; `None` when out of range or misaligned.
    pub fn u16_at(&self, byte_offset: usize, len: usize) -> Option<&[u16]> {
        self.view(byte_offset, len)
    }

    /// `len` values of u32 from `byte_offset`; `None` when out of range or misaligned.
    pub fn u32_at(&self, byte_offset: usize, len: usize) -> Option<&[u32]> {
        self.view(byte_offset, len)
    }

    /// `len` values of u64 from `byte_offset`; `None` when out of range or misaligned.
    pub fn u64_at(&self, byte_offset: usize, len: usize) -> Option<&[u64]> {
        self.view(byte_offset, len)
    }

    /// `len` values of f32 from `byte_offset`; `None` when out of range or misaligned.
    pub fn f32_at(&self, byte_offset: usize, len: usize) -> Option<&[f32]> {
        self.view(byte_offset, len)
    }

    fn view<T: Plain>(&self, byte_offset: usize, len: usize) -> Option<&[T]> {
        let end = byte_offset.checked_add(len.checked_mul(size_of::<T>())?)?;
        let bytes = self.as_bytes().get(byte_offset..end)?;
        // SAFETY: `Plain` types have no invalid bit patterns and no padding.
        let (before, values, after) = unsafe { bytes.align_to::<T>() };
        (before.is_empty() && after.is_empty()).then_some(values)
    }
}

/// Types for which every bit pattern is a value.
trait Plain {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for f32 {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_views_check_range_and_alignment() {
        let path = std::env::temp_dir().join(format!("text2llm-mapped-{}", std::process::id()));
        std::fs::write(&path, [1u8, 0, 2, 0, 3, 0]).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(file.u16_at(0, 3), Some(&[1u16, 2, 3][..]));
        assert_eq!(file.u16_at(2, 2), Some(&[2u16, 3][..]));
        assert_eq!(file.u16_at(1, 1), None);
        assert_eq!(file.u16_at(0, 4), None);
        assert_eq!(file.u32_at(0, usize::MAX), None);
        std::fs::remove_file(&path).unwrap();
    }
}
