//! As much of Thrift's compact protocol as it takes to look at a Parquet file's claims before they are
//! believed.

/// Structures nest no deeper in any real file; deeper schemas would exhaust the stack of who recurses into
/// them.
const DEEPEST: u32 = 64;

/// What a page claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageHeader {
    pub unpacked_bytes: u64,
    pub packed_bytes: u64,
    pub dictionary_values: u64,
    /// Bytes before its values that are never packed, in pages of the second version.
    pub plain_bytes: u64,
}

/// The header that `bytes` begin with, and its length; `None` where it is damaged or longer.
pub fn page_header(bytes: &[u8]) -> Option<(PageHeader, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let mut header = PageHeader::default();
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (2, I32) => header.unpacked_bytes = u64::try_from(reader.integer()?).ok()?,
            (3, I32) => header.packed_bytes = u64::try_from(reader.integer()?).ok()?,
            (7, STRUCT) => {
                let mut last = 0;
                while let Some((id, kind)) = reader.field(&mut last)? {
                    match (id, kind) {
                        (1, I32) => header.dictionary_values = u64::try_from(reader.integer()?).ok()?,
                        _ => reader.skip(kind, DEEPEST)?,
                    }
                }
            }
            (8, STRUCT) => {
                let mut last = 0;
                while let Some((id, kind)) = reader.field(&mut last)? {
                    match (id, kind) {
                        (5 | 6, I32) => header.plain_bytes += u64::try_from(reader.integer()?).ok()?,
                        _ => reader.skip(kind, DEEPEST)?,
                    }
                }
            }
            _ => reader.skip(kind, DEEPEST)?,
        }
    }
    Some((header, reader.at))
}

/// Whether a footer's schema is one that may be recursed into.
pub fn check_schema(footer: &[u8]) -> Result<(), String> {
    match schema_depth(footer) {
        Some(depth) if depth <= DEEPEST as usize => Ok(()),
        Some(depth) => Err(format!("its columns are nested {depth} deep")),
        None => Err("its footer is damaged".to_owned()),
    }
}

fn schema_depth(footer: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes: footer, at: 0 };
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        if (id, kind) != (2, LIST) {
            reader.skip(kind, DEEPEST)?;
            continue;
        }
        // Groups whose children are still to come: the schema is written depth first.
        let (mut open, mut deepest): (Vec<i64>, usize) = (Vec::new(), 0);
        let (size, kind) = reader.list()?;
        for _ in 0..size {
            if kind != STRUCT {
                return None;
            }
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            let (mut children, mut last) = (0, 0);
            while let Some((id, kind)) = reader.field(&mut last)? {
                match (id, kind) {
                    (5, I32) => children = reader.integer()?,
                    _ => reader.skip(kind, DEEPEST)?,
                }
            }
            if children > 0 {
                open.push(children);
                deepest = deepest.max(open.len());
            }
        }
        return Some(deepest);
    }
    None
}

/// What a run of integers in blocks (DELTA_BINARY_PACKED) claims to hold, and how long it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    pub count: u64,
    pub bytes: usize,
}

/// The run of integers that `bytes` begin with. Its head is not Thrift, but written in the same variable
/// integers.
pub fn packed_integers(bytes: &[u8]) -> Option<Packed> {
    let mut reader = Reader { bytes, at: 0 };
    let block = reader.variable()?;
    let parts = reader.variable()?;
    let count = reader.variable()?;
    reader.variable()?;
    let values_a_part = block.checked_div(parts).filter(|&values| values > 0)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        reader.variable()?;
        let widths = reader.at;
        reader.jump(parts)?;
        for &width in &bytes[widths..reader.at] {
            // What follows the last value may have any width and is not there.
            if left == 0 {
                break;
            }
            reader.jump(u64::from(width).checked_mul(values_a_part)? / 8)?;
            left = left.saturating_sub(values_a_part);
        }
    }
    Some(Packed { count, bytes: reader.at })
}

const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn variable(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A zigzag integer.
    fn integer(&mut self) -> Option<i64> {
        let value = self.variable()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field's number and type; the inner `None` ends the structure.
    fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *last = match byte >> 4 {
            0 => self.integer()?,
            delta => *last + i64::from(delta),
        };
        Some(Some((*last, byte & 0x0f)))
    }

    fn list(&mut self) -> Option<(u64, u8)> {
        let byte = self.byte()?;
        let size = if byte >> 4 == 15 { self.variable()? } else { u64::from(byte >> 4) };
        // An element takes a byte at least.
        (size <= (self.bytes.len() - self.at) as u64).then_some((size, byte & 0x0f))
    }

    fn jump(&mut self, length: u64) -> Option<()> {
        let at = self.at.checked_add(usize::try_from(length).ok()?)?;
        (at <= self.bytes.len()).then(|| self.at = at)
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 => Some(()),
            3 => self.jump(1),
            4..=6 => self.variable().map(|_| ()),
            7 => self.jump(8),
            8 => {
                let length = self.variable()?;
                self.jump(length)
            }
            9 | 10 => {
                let (size, kind) = self.list()?;
                for _ in 0..size {
                    // Truth values take a byte in lists.
                    if kind <= 2 { self.jump(1)? } else { self.skip(kind, depth)? }
                }
                Some(())
            }
            11 => {
                let size = self.variable()?;
                if size == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                for _ in 0..size {
                    self.skip(kinds >> 4, depth)?;
                    self.skip(kinds & 0x0f, depth)?;
                }
                Some(())
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_is_read_and_never_past_its_bytes() {
        // type 0, sizes 1000 and 300, a dictionary of 7 values.
        let header = [0x15, 0, 0x15, 0xd0, 0x0f, 0x15, 0xd8, 0x04, 0x4c, 0x15, 0x0e, 0, 0, 0xff];
        let wanted =
            PageHeader { unpacked_bytes: 1000, packed_bytes: 300, dictionary_values: 7, plain_bytes: 0 };
        assert_eq!(page_header(&header), Some((wanted, 13)));
        for cut in 0..13 {
            assert_eq!(page_header(&header[..cut]), None, "{cut}");
        }
        // A binary that claims 2^62 bytes, a list that claims as many.
        assert_eq!(page_header(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]), None);
        assert_eq!(page_header(&[0x19, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]), None);
        assert_eq!(page_header(&[0x1c; 5000]), None, "structures nested without end");
    }

    #[test]
    fn runs_of_integers_are_measured() {
        // Blocks of 128 in 4 parts: 34 integers after the first need a part of width 1 and one of width 2.
        let mut run = vec![0x80, 0x01, 4, 35, 0, 0, 1, 2, 9, 9];
        run.extend([0; 4 + 8]);
        assert_eq!(packed_integers(&run), Some(Packed { count: 35, bytes: 22 }));
        assert_eq!(packed_integers(&run[..21]), None, "cut off");
        assert_eq!(packed_integers(&[0x80, 0x01, 4, 1, 7, 9]), Some(Packed { count: 1, bytes: 5 }));
        let many = [0x80, 0x80, 0x80, 0x80, 0x20, 1, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0, 0];
        assert_eq!(packed_integers(&many).map(|run| run.count), Some(1 << 32));
        assert_eq!(packed_integers(&[0, 1, 9, 0, 0, 0]), None, "parts of nothing");
    }

    #[test]
    fn deep_schemas_are_refused() {
        let group = [0x55, 0x02, 0];
        let schema = |groups: usize| {
            let mut footer = vec![0x29, 0xfc];
            let count = groups + 1;
            footer.extend([(count & 0x7f) as u8 | 0x80, (count >> 7) as u8]);
            (0..groups).for_each(|_| footer.extend(group));
            footer.extend([0, 0]);
            footer
        };
        assert_eq!(schema_depth(&schema(3)), Some(3));
        assert!(check_schema(&schema(3)).is_ok());
        assert!(check_schema(&schema(5000)).unwrap_err().contains("5000 deep"));
        assert!(check_schema(b"").is_err());
    }
}
