//! Handles into a device's arena. A handle is (offset, dtype, shape): plain data, never a host slice.

use quant::BlockFormat;

/// Rows of blocks that a device may interleave.
pub const INTERLEAVED_ROWS: usize = 16;

/// Element types a device stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// bfloat16: what products read and layers pass on in mixed precision.
    Bf16,
    /// Weights for decoding in blocks of eight-bit integers (see [`quant`]), (out, in), read by
    /// products only.
    Q8_0,
    /// The same with four bits.
    Q4_0,
    /// Frozen weights of training in blocks of four bits (NormalFloat), (out, in), read by copies only.
    Nf4,
    /// Unsigned 32-bit integers: token ids and positions.
    U32,
    /// 64-bit float: sums that leave the device (losses, norms).
    F64,
}

impl DType {
    /// Bytes an element takes.
    ///
    /// # Panics
    /// For types that come in blocks.
    pub const fn size(self) -> usize {
        match self {
            DType::Bf16 => 2,
            DType::F32 | DType::U32 => 4,
            DType::F64 => 8,
            DType::Q8_0 | DType::Q4_0 | DType::Nf4 => panic!("blocks have no size of one element"),
        }
    }

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
            DType::Nf4 => "nf4",
            DType::U32 => "u32",
            DType::F64 => "f64",
        }
    }

    /// Those whose elements come in blocks.
    pub const BLOCKS: [DType; 3] = [DType::Q8_0, DType::Q4_0, DType::Nf4];

    /// Whether elements come in blocks with a scale of their own.
    pub const fn is_blocks(self) -> bool {
        matches!(self, DType::Q8_0 | DType::Q4_0 | DType::Nf4)
    }

    /// The format of its blocks.
    ///
    /// # Panics
    /// For types that have none.
    pub const fn block_format(self) -> BlockFormat {
        match self {
            DType::Q8_0 => BlockFormat::Q8_0,
            DType::Q4_0 => BlockFormat::Q4_0,
            DType::Nf4 => BlockFormat::Nf4,
            _ => panic!("this type has no blocks"),
        }
    }

    /// Bytes of a contiguous matrix. A device may interleave the rows of blocks, so their number is rounded
    /// up.
    pub const fn bytes(self, rows: usize, columns: usize) -> usize {
        if self.is_blocks() {
            let row = self.block_format().bytes_of(columns);
            return rows.div_ceil(INTERLEAVED_ROWS).saturating_mul(INTERLEAVED_ROWS).saturating_mul(row);
        }
        rows.saturating_mul(columns).saturating_mul(self.size())
    }

    /// Whether a matrix of this shape, or a part of a larger one, can be kept in this type.
    pub const fn holds(self, rows: usize, columns: usize) -> bool {
        !self.is_blocks()
            || (columns.is_multiple_of(self.block_format().values()) && rows.is_multiple_of(INTERLEAVED_ROWS))
    }
}

/// A matrix (rows × columns) in the arena; a vector is one row. Rows may be spaced wider than they are long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Byte offset of element (0, 0) in the arena.
    pub offset: usize,
    /// Element type.
    pub dtype: DType,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Elements from one row's start to the next.
    pub row_stride: usize,
}

impl Tensor {
    /// Number of elements.
    pub const fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the elements follow each other without gaps.
    pub const fn is_contiguous(&self) -> bool {
        self.row_stride == self.columns || self.rows <= 1
    }

    /// The view of columns `start..start + len`.
    #[must_use]
    pub fn column_range(&self, start: usize, len: usize) -> Tensor {
        assert!(start + len <= self.columns, "columns {start}+{len} of {}", self.columns);
        Tensor { offset: self.offset + start * self.dtype.size(), columns: len, ..*self }
    }

    /// The view of rows `start..start + len`.
    #[must_use]
    pub fn row_range(&self, start: usize, len: usize) -> Tensor {
        assert!(start + len <= self.rows, "rows {start}+{len} of {}", self.rows);
        assert!(self.dtype.holds(start, self.columns), "rows from {start} on of {self:?}");
        Tensor { offset: self.offset + self.dtype.bytes(start, self.row_stride), rows: len, ..*self }
    }

    /// The same contiguous elements with another shape.
    #[must_use]
    pub fn reshape(&self, rows: usize, columns: usize) -> Tensor {
        assert!(self.is_contiguous() && rows * columns == self.len(), "{self:?} as {rows}×{columns}");
        Tensor { rows, columns, row_stride: columns, ..*self }
    }
}

/// Hands out offsets of one arena, in the order asked: the memory plan and the allocation are the same walk.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    bytes: usize,
}

/// Every tensor starts on a cache line of its own.
const ALIGNMENT: usize = 64;
/// Half of what one way of a usual first cache holds.
const CACHE_PERIOD: usize = 2048;

impl Layout {
    /// An empty arena.
    pub fn new() -> Layout {
        Layout::default()
    }

    /// Room for rows × columns elements. Sizes beyond the address space add up to more than any device has,
    /// and are refused there.
    pub fn reserve(&mut self, dtype: DType, rows: usize, columns: usize) -> Tensor {
        let offset = self.bytes;
        let bytes = dtype.bytes(rows, columns);
        let rounded = bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(rounded);
        Tensor { offset, dtype, rows, columns, row_stride: columns }
    }

    /// As [`Layout::reserve`], with rows spaced a cache line wider where they would all begin in the same few
    /// sets of a cache: products that read 16 or 32 rows at once would then drive each other's lines out.
    pub fn reserve_spaced(&mut self, dtype: DType, rows: usize, columns: usize) -> Tensor {
        let row_bytes = columns.saturating_mul(dtype.size());
        let pad = if row_bytes.is_multiple_of(CACHE_PERIOD) { ALIGNMENT / dtype.size() } else { 0 };
        let whole = self.reserve(dtype, rows, columns.saturating_add(pad));
        Tensor { columns, ..whole }
    }

    /// Bytes handed out so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
