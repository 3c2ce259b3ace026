//! Packed streams, unpacked behind a guard: who unpacks to far more than text ever does is a decompression
//! bomb, and reading stops there. The guard is asked at every read, so a bomb costs tens of megabytes of
//! unpacking, not gigabytes.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::kind::Packing;
use crate::zstandard::{LARGEST_WINDOW_BYTES, LargeWindow, Zstandard, shortage};

/// More unpacked bytes for each packed one are a bomb: prose has 3 to 5, logs up to 50, a bomb of gzip 1,000.
pub const LARGEST_RATIO: u64 = 200;
/// So much may be unpacked whatever the ratio: a short file of one repeated line is harmless.
pub const HARMLESS_BYTES: u64 = 16 << 20;
/// Small, since what is buffered counts as used.
const BUFFER_BYTES: usize = 64 << 10;
/// As large a dictionary as zstd's window, and what goes with it; `xz -9e` makes one of 64 MB.
const XZ_MEMORY_KB: u32 = (LARGEST_WINDOW_BYTES >> 10) as u32 + (1 << 10);
/// What its reader says of a larger one.
const XZ_MEMORY_SAID: &str = "needed memory too big for mem_limit_kb";
/// So many documents, and lines and members that are none, are harmless in any file; more than one for each
/// of its bytes beyond them are made to cost: packed, a million empty lines take no room.
const HARMLESS_ITEMS: u64 = 1 << 18;

/// What all streams within one file may unpack to, together: archives nest, and their members may overlap.
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    most_items: u64,
    items: AtomicU64,
    is_short_of_memory: AtomicBool,
}

impl Budget {
    /// For a file of so many bytes.
    pub fn of(file_bytes: u64) -> Arc<Budget> {
        // Twice, since an archive's members may be packed again.
        let limit = 4 * HARMLESS_BYTES + file_bytes.saturating_mul(2 * LARGEST_RATIO);
        let most_items = HARMLESS_ITEMS + file_bytes;
        Arc::new(Budget {
            limit,
            used: AtomicU64::new(0),
            most_items,
            items: AtomicU64::new(0),
            is_short_of_memory: AtomicBool::new(false),
        })
    }

    /// Counts a document, or a line or member that is none; whether that is still within.
    pub fn take_item(&self) -> bool {
        self.items.fetch_add(1, Ordering::Relaxed) < self.most_items
    }

    /// Whether so many rows are more than the file can mean.
    pub fn is_crowd(&self, rows: u64) -> bool {
        rows > self.most_items
    }

    /// Whether more than was allowed has come.
    pub fn is_crowded(&self) -> bool {
        self.items.load(Ordering::Relaxed) > self.most_items
    }

    /// Whether some stream got no memory: then its file is not known to be damaged.
    pub fn is_short_of_memory(&self) -> bool {
        self.is_short_of_memory.load(Ordering::Relaxed)
    }

    /// Notes an error that says nothing of the file.
    fn seen(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::OutOfMemory {
            self.is_short_of_memory.store(true, Ordering::Relaxed);
        }
        error
    }

    /// Takes what was unpacked; whether that is still within.
    pub fn take(&self, bytes: u64) -> bool {
        self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit
    }
}

/// The error of a file of more documents than it has room for.
#[derive(Debug)]
pub struct Crowd;

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "decompresses to more rows or text than allowed for a file of its size ({HARMLESS_ITEMS} rows \
             plus one per byte; {} MB plus {} bytes per byte): if it is genuine, unpack it, or write \
             repeated rows once",
            (4 * HARMLESS_BYTES) >> 20,
            2 * LARGEST_RATIO
        )
    }
}

impl std::error::Error for Crowd {}

/// The error of a bomb.
#[derive(Debug)]
struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decompresses to more than {LARGEST_RATIO} times its size, as decompression bombs do")
    }
}

impl std::error::Error for Bomb {}

/// What is wrong with a packed stream, in words that follow its name.
pub fn damage(error: &io::Error, documents: u64) -> String {
    let told = |cause: &(dyn std::error::Error + 'static)| {
        let is_ours = cause.is::<Bomb>() || cause.is::<Crowd>() || cause.is::<LargeWindow>();
        is_ours.then(|| cause.to_string())
    };
    find(error, told).unwrap_or_else(|| {
        format!(
            "is damaged or truncated after {documents} documents ({error}): download it again, or remove it \
             from data.paths"
        )
    })
}

/// Whether more was unpacked, or would be found, than a file of its size can mean.
pub fn is_bomb(error: &io::Error) -> bool {
    find(error, |cause| (cause.is::<Bomb>() || cause.is::<Crowd>()).then_some(())).is_some()
}

/// Looks through an error's causes: they come wrapped in those of the readers above.
fn find<T>(error: &io::Error, wanted: impl Fn(&(dyn std::error::Error + 'static)) -> Option<T>) -> Option<T> {
    let mut cause: &(dyn std::error::Error + 'static) = error.get_ref()?;
    loop {
        if let Some(found) = wanted(cause) {
            return Some(found);
        }
        cause = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => inner,
            None => cause.source()?,
        };
    }
}

/// Whether a member that claims these sizes is a bomb.
pub fn claims_a_bomb(packed_bytes: u64, unpacked_bytes: u64) -> Option<String> {
    (unpacked_bytes > allowance(packed_bytes)).then(|| Bomb.to_string())
}

fn allowance(packed_bytes: u64) -> u64 {
    HARMLESS_BYTES.saturating_add(packed_bytes.saturating_mul(LARGEST_RATIO))
}

/// Counts what is taken of a stream.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    count: Rc<Cell<u64>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Unpacked bytes, up to where they become a bomb.
pub struct Guard<'a> {
    inner: Box<dyn Read + 'a>,
    packed_bytes: Rc<Cell<u64>>,
    unpacked_bytes: u64,
    budget: Arc<Budget>,
}

impl<'a> Guard<'a> {
    /// Over a stream that was unpacked from so many bytes.
    pub fn new(inner: Box<dyn Read + 'a>, packed_bytes: u64, budget: &Arc<Budget>) -> Guard<'a> {
        Guard {
            inner,
            packed_bytes: Rc::new(Cell::new(packed_bytes)),
            unpacked_bytes: 0,
            budget: Arc::clone(budget),
        }
    }
}

impl Read for Guard<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).map_err(|error| self.budget.seen(error))?;
        self.unpacked_bytes += read as u64;
        if self.budget.is_crowded() {
            return Err(io::Error::other(Crowd));
        }
        let within = self.budget.take(read as u64);
        if !within || self.unpacked_bytes > allowance(self.packed_bytes.get()) {
            return Err(io::Error::other(Bomb));
        }
        Ok(read)
    }
}

/// The members of a gzip stream, one after another. A damaged one gives its error once; reading goes on at
/// what looks like the next: web archives have a member for each record.
struct Members<R> {
    /// `None` while a member's end is left behind.
    open: Option<flate2::bufread::GzDecoder<Resumed<R>>>,
}

/// A member's mark, and how it is packed.
const GZIP_MARK: [u8; 3] = [0x1f, 0x8b, 8];

impl<R: BufRead> Members<R> {
    fn over(packed: R) -> Members<R> {
        Members { open: Some(flate2::bufread::GzDecoder::new(Resumed { mark: &[], inner: packed })) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.open else { return Ok(0) };
            let read = member.read(buffer);
            if matches!(read, Ok(1..)) || buffer.is_empty() {
                return read;
            }
            let Some(mut packed) = self.open.take().map(flate2::bufread::GzDecoder::into_inner) else {
                return Ok(0);
            };
            if read.is_err() {
                packed.pass_to_mark()?;
            }
            if !packed.fill_buf()?.is_empty() {
                self.open = Some(flate2::bufread::GzDecoder::new(packed));
            }
            read?;
        }
    }
}

/// A packed stream after the mark of a member, which is given once more.
struct Resumed<R> {
    mark: &'static [u8],
    inner: R,
}

impl<R: BufRead> Resumed<R> {
    /// Passes over all up to the next mark, or to the end.
    fn pass_to_mark(&mut self) -> io::Result<()> {
        let mut known = 0;
        self.mark = &[];
        while known < GZIP_MARK.len() {
            let Some(&byte) = self.inner.fill_buf()?.first() else { return Ok(()) };
            self.inner.consume(1);
            known = match byte {
                byte if byte == GZIP_MARK[known] => known + 1,
                byte => usize::from(byte == GZIP_MARK[0]),
            };
        }
        self.mark = &GZIP_MARK;
        Ok(())
    }
}

impl<R: BufRead> Read for Resumed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let read = bytes.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Resumed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.mark.is_empty() { self.inner.fill_buf() } else { Ok(self.mark) }
    }

    fn consume(&mut self, amount: usize) {
        if self.mark.is_empty() {
            self.inner.consume(amount);
        } else {
            self.mark = &self.mark[amount..];
        }
    }
}

/// The bytes of a gzip stream whose members are read one by one, a damaged one passed over after its error.
pub fn members<'a>(packed: &'a mut dyn Read, budget: &Arc<Budget>) -> Box<dyn Read + 'a> {
    let count = Rc::new(Cell::new(0));
    let counted = Counted { inner: packed, count: Rc::clone(&count) };
    let inner = Box::new(Members::over(BufReader::with_capacity(BUFFER_BYTES, counted)));
    Box::new(Guard { inner, packed_bytes: count, unpacked_bytes: 0, budget: Arc::clone(budget) })
}

/// An xz stream, whose wants of memory are told apart.
struct Xz<R>(R);

impl<R: Read> Read for Xz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory if error.to_string().contains(XZ_MEMORY_SAID) => {
                io::Error::other(LargeWindow {
                    bytes: None,
                    remedy: "decompress it first (`xz -d`), or compress it again (`xz -9`)",
                })
            }
            io::ErrorKind::OutOfMemory => shortage("xz"),
            _ => error,
        })
    }
}

/// The bytes of a packed stream.
pub fn unpack<'a>(
    packing: Packing,
    packed: &'a mut dyn Read,
    budget: &Arc<Budget>,
) -> io::Result<Box<dyn Read + 'a>> {
    let count = Rc::new(Cell::new(0));
    let counted = Counted { inner: packed, count: Rc::clone(&count) };
    let packed = BufReader::with_capacity(BUFFER_BYTES, counted);
    let inner: Box<dyn Read + 'a> = match packing {
        Packing::None => return Ok(Box::new(packed)),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(Zstandard::over(packed).map_err(|error| budget.seen(error))?),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        Packing::Xz => Box::new(Xz(lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY_KB))),
    };
    Ok(Box::new(Guard { inner, packed_bytes: count, unpacked_bytes: 0, budget: Arc::clone(budget) }))
}

/// Bytes read to distinguish text from other content.
pub const SNIFFED_BYTES: u64 = 64 << 10;

/// How a packed stream begins once it is unpacked.
pub fn unpacked_start(packing: Packing, packed: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    unpack(packing, packed, &Budget::of(0))?.take(SNIFFED_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bombs_stop_early_and_repetitive_text_does_not() {
        let bomb = gzip(&vec![b'a'; 100 << 20]);
        let budget = Budget::of(bomb.len() as u64);
        let mut packed = bomb.as_slice();
        let mut unpacked = unpack(Packing::Gzip, &mut packed, &budget).unwrap();
        let mut out = Vec::new();
        let error = unpacked.read_to_end(&mut out).unwrap_err();
        assert!(is_bomb(&error) && damage(&error, 0).contains("bombs"), "{error}");
        assert!(out.len() < 64 << 20, "{}", out.len());

        let harmless = gzip(&vec![b'a'; 4 << 20]);
        let mut packed = harmless.as_slice();
        let mut unpacked = unpack(Packing::Gzip, &mut packed, &Budget::of(1)).unwrap();
        assert_eq!(io::copy(&mut unpacked, &mut io::sink()).unwrap(), 4 << 20);
    }

    #[test]
    fn members_after_a_damaged_one_are_read() {
        let text: Vec<String> =
            (0..3).map(|at| format!("member {at}: {}", "words of it ".repeat(9000))).collect();
        let packed: Vec<Vec<u8>> = text.iter().map(|text| gzip(text.as_bytes())).collect();
        let read = |packed: Vec<u8>| {
            let mut packed = packed.as_slice();
            let mut unpacked = members(&mut packed, &Budget::of(1 << 20));
            let (mut out, mut errors) = (Vec::new(), 0);
            while unpacked.read_to_end(&mut out).is_err() {
                errors += 1;
                assert!(errors < 10);
            }
            (String::from_utf8_lossy(&out).into_owned(), errors)
        };
        assert_eq!(read(packed.concat()), (text.concat(), 0));
        let mut damaged = packed.clone();
        damaged[1][0] = 0;
        assert_eq!(read(damaged.concat()), (format!("{}{}", text[0], text[2]), 1));
        let mut damaged = packed.clone();
        let middle = damaged[1].len() / 2;
        damaged[1][middle..middle + 4].fill(0xff);
        let (out, errors) = read(damaged.concat());
        assert!(out.ends_with(&text[2]) && out.starts_with(&text[0]) && errors >= 1, "{errors}");
        let cut = [packed[0].as_slice(), &packed[1][..packed[1].len() / 2]].concat();
        assert_eq!(read(cut).1, 1);
    }

    /// A decoder that gets no memory fails before it reads.
    #[test]
    fn a_want_of_memory_is_noted_where_a_stream_is_opened() {
        struct Short;
        impl Read for Short {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(shortage("zstd"))
            }
        }
        let budget = Budget::of(1);
        assert!(unpack(Packing::Zstd, &mut Short, &budget).is_err());
        assert!(budget.is_short_of_memory());
    }

    #[test]
    fn a_wrapped_bomb_is_known() {
        let wrapped = io::Error::other(io::Error::other(Bomb));
        assert!(is_bomb(&wrapped));
        assert!(!is_bomb(&io::Error::other("else")) && !is_bomb(&io::ErrorKind::UnexpectedEof.into()));
    }
}
