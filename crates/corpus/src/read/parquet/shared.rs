//! The file as the `parquet` crate reads it, whose lengths are looked over before it believes them.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use store::fs::FsReader;

use super::thrift;

/// A page may unpack to so much more than the whole file has.
const LARGEST_RATIO: u64 = 4;
const HARMLESS_PAGE_BYTES: u64 = 32 << 20;
/// Inflating gives no more bytes for each.
const LARGEST_GZIP_RATIO: u64 = 1032;
/// A text of a dictionary takes 32 bytes beside its own.
const HARMLESS_DICTIONARY_VALUES: u64 = 1 << 20;
const FILE_BYTES_PER_DICTIONARY_VALUE: u64 = 16;

/// The file, as the crate wants it: read from many places.
#[derive(Clone)]
pub struct Shared {
    pub file: Arc<Mutex<Box<dyn FsReader>>>,
    pub bytes: u64,
}

impl Shared {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut file = self.file.lock().map_err(|_| std::io::Error::other("a reader failed"))?;
        file.seek(SeekFrom::Start(at))?;
        file.read(buffer)
    }

    /// Bytes that lie in the file.
    fn bytes_at(&self, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            return Err(std::io::Error::other("it points past its end"));
        }
        let mut out = vec![0; length];
        self.place(at).read_exact(&mut out)?;
        Ok(out)
    }

    fn place(&self, at: u64) -> FileRegion {
        FileRegion { file: self.clone(), at }
    }

    /// Looks at the schema before the crate recurses into it.
    pub fn check_footer(&self) -> Result<(), String> {
        let cut = || "is not a Parquet file, or is truncated".to_owned();
        let at = self.bytes.checked_sub(8).ok_or_else(cut)?;
        let end = self.bytes_at(at, 8).map_err(|error| error.to_string())?;
        let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
        if &end[4..] != b"PAR1" || length > at {
            return Err(cut());
        }
        let footer = self.bytes_at(at - length, length as usize).map_err(|error| error.to_string())?;
        thrift::check_schema(&footer)
    }

    /// Looks at the headers of a column's pages before the crate allocates by them.
    pub fn check_pages(&self, column: &ColumnChunkMetaData) -> Result<(), String> {
        let first = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let (Ok(mut at), Ok(length)) = (u64::try_from(first), u64::try_from(column.compressed_size())) else {
            return Err("a column starts before the file".to_owned());
        };
        let end =
            at.checked_add(length).filter(|&end| end <= self.bytes).ok_or("a column ends past the file")?;
        let largest = HARMLESS_PAGE_BYTES + LARGEST_RATIO * self.bytes;
        while at < end {
            let (header, header_bytes) = self.page_header(at, end)?;
            if header.unpacked_bytes > largest {
                return Err(format!(
                    "a page claims {} bytes, too many for a file of {}",
                    header.unpacked_bytes, self.bytes
                ));
            }
            // A text in a dictionary takes four bytes at least.
            let most_texts = HARMLESS_DICTIONARY_VALUES + self.bytes / FILE_BYTES_PER_DICTIONARY_VALUE;
            if header.dictionary_values > most_texts.min(header.unpacked_bytes / 4) {
                return Err("a dictionary claims more entries than fit into it".to_owned());
            }
            let is_gzip = matches!(column.compression(), Compression::GZIP(_));
            if is_gzip && header.packed_bytes.saturating_mul(LARGEST_GZIP_RATIO) > largest {
                self.check_gzip(at + header_bytes as u64, &header)?;
            }
            at = (at + header_bytes as u64)
                .checked_add(header.packed_bytes)
                .filter(|&next| next <= end)
                .ok_or("a page ends past its column")?;
        }
        Ok(())
    }

    /// Whether a page inflates to what it claims: the crate inflates it to the end first, and looks then.
    fn check_gzip(&self, at: u64, header: &thrift::PageHeader) -> Result<(), String> {
        let packed = self
            .place(at.saturating_add(header.plain_bytes))
            .take(header.packed_bytes.saturating_sub(header.plain_bytes));
        let inflated = flate2::read::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, packed));
        let wanted = header.unpacked_bytes.saturating_sub(header.plain_bytes);
        // The reader itself reports damage.
        match std::io::copy(&mut inflated.take(wanted + 1), &mut std::io::sink()) {
            Ok(found) if found > wanted => Err("a page decompresses to more than it claims".to_owned()),
            _ => Ok(()),
        }
    }

    fn page_header(&self, at: u64, end: u64) -> Result<(thrift::PageHeader, usize), String> {
        // Nearly all fit into the first try; statistics make some longer.
        for window in [512, 64 << 10] {
            let length = window.min(end - at) as usize;
            let bytes = self.bytes_at(at, length).map_err(|error| error.to_string())?;
            match thrift::page_header(&bytes) {
                Some(header) => return Ok(header),
                None if length < window as usize => break,
                None => {}
            }
        }
        Err("a page's header is damaged".to_owned())
    }
}

impl Length for Shared {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Shared {
    type T = BufReader<FileRegion>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::with_capacity(64 << 10, self.place(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(self.bytes_at(start, length)?.into())
    }
}

/// A place in the file, to read on from.
pub struct FileRegion {
    file: Shared,
    at: u64,
}

impl Read for FileRegion {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What the crate says, or that it gave up on the file in a way of its own.
pub fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    store::panics::catch(read).unwrap_or_else(|| Err("the reader failed on it".to_owned()))
}

pub fn said(error: ParquetError) -> String {
    let mut said = error.to_string();
    said.truncate(said.floor_char_boundary(300));
    said
}
