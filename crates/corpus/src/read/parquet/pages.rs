//! Pages on their way from the crate's reader to its decoders: what a page's own bytes claim is looked at in
//! between, since the decoders allocate by it, and who reads the rows is told how many may be decoded at a
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

use super::thrift;

/// Decoded copies that are held at a time.
pub const BATCH_BYTES: usize = 16 << 20;
/// Delta encodings take four to twelve bytes a value for lengths, which a run of equal ones says in none.
const HARMLESS_VALUES: u64 = 2 << 20;
const FILE_BYTES_PER_VALUE: u64 = 8;

/// What is left of the page at hand.
#[derive(Default)]
pub struct AtHand {
    rows: AtomicUsize,
    /// No value that is copied when it is decoded is longer; 0 where values are slices of the page.
    longest_copy: AtomicUsize,
}

impl AtHand {
    /// So many rows may be decoded at once. Of a page that has not been seen yet, one: decoding it brings the
    /// page.
    pub fn step(&self) -> usize {
        let rows = BATCH_BYTES.checked_div(self.longest_copy.load(Relaxed)).unwrap_or(usize::MAX);
        self.rows.load(Relaxed).min(rows).max(1)
    }

    /// Says that rows of it were decoded.
    pub fn took(&self, rows: usize) {
        self.rows.store(self.rows.load(Relaxed).saturating_sub(rows), Relaxed);
    }
}

/// The pages of a column.
pub struct Pages {
    inner: Box<dyn PageReader>,
    at_hand: Arc<AtHand>,
    /// Whether values may be missing, and so levels stand before them.
    has_levels: bool,
    most_values: u64,
}

impl Pages {
    pub fn over(
        inner: Box<dyn PageReader>,
        has_levels: bool,
        file_bytes: u64,
        at_hand: &Arc<AtHand>,
    ) -> Pages {
        let most_values = HARMLESS_VALUES + file_bytes / FILE_BYTES_PER_VALUE;
        Pages { inner, at_hand: Arc::clone(at_hand), has_levels, most_values }
    }

    fn look(&self, page: &Page) -> std::result::Result<(), &'static str> {
        let (rows, encoding, values) = match page {
            Page::DictionaryPage { .. } => return Ok(()),
            Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } => {
                (*num_values, *encoding, after_levels(buf, self.has_levels, *def_level_encoding))
            }
            Page::DataPageV2 {
                buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, ..
            } => {
                let levels = (*def_levels_byte_len as usize).saturating_add(*rep_levels_byte_len as usize);
                (*num_values, *encoding, buf.get(levels..))
            }
        };
        let longest_copy = match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY => {
                let most = u64::from(rows).min(self.most_values);
                let values = values.ok_or("a page's levels are damaged")?;
                let prefixes = thrift::packed_integers(values).ok_or("a page's lengths are damaged")?;
                let is_shared = encoding == Encoding::DELTA_BYTE_ARRAY;
                let counts = match is_shared {
                    true => thrift::packed_integers(values.get(prefixes.bytes..).unwrap_or_default())
                        .map(|suffixes| suffixes.count.max(prefixes.count)),
                    false => Some(prefixes.count),
                };
                if counts.ok_or("a page's lengths are damaged")? > most {
                    return Err("a page claims more values than fit into it");
                }
                // A value is put together of others' bytes and its own, all of the page.
                if is_shared { values.len() } else { 0 }
            }
            _ => 0,
        };
        self.at_hand.rows.store(rows as usize, Relaxed);
        self.at_hand.longest_copy.store(longest_copy, Relaxed);
        Ok(())
    }
}

/// The values of a page of the first version. Nobody writes the deprecated bit-packed levels beside delta
/// encodings.
fn after_levels(page: &Bytes, has_levels: bool, encoding: Encoding) -> Option<&[u8]> {
    if !has_levels {
        return Some(page);
    }
    if encoding != Encoding::RLE {
        return None;
    }
    let length = u32::from_le_bytes(page.get(..4)?.try_into().ok()?);
    page.get(4usize.checked_add(length as usize)?..)
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            self.look(page).map_err(|reason| ParquetError::General(reason.to_owned()))?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }
}
