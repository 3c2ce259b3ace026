//! Matrices as products read and write them.

use super::packed_blocks;
use super::simd::scaled_copy;
use super::vector::{Element, with_element};
use crate::tensor::DType;

/// A strided matrix of f32 or bfloat16 in memory: element (r, c) stands r·row_stride + c·column_stride
/// elements after `pointer`. Or a matrix of blocks ([`super::packed_blocks`]), whose cells stand in that
/// order.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub pointer: *const u8,
    pub dtype: DType,
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl View {
    /// Its elements, which must be of this type.
    pub fn elements<E: Element>(self) -> *const E {
        assert_eq!(self.dtype, E::DTYPE);
        self.pointer.cast()
    }

    /// Where element (row, column) would be; of blocks, the cell that begins with it.
    pub fn at(self, row: usize, column: usize) -> *const u8 {
        if self.dtype.is_blocks() {
            let (row, column, stride) = if self.column_stride == 1 {
                (row, column, self.row_stride)
            } else {
                (column, row, self.column_stride)
            };
            return self.pointer.wrapping_add(packed_blocks::cell_offset(self.dtype, stride, row, column));
        }
        self.pointer.wrapping_add((row * self.row_stride + column * self.column_stride) * self.dtype.size())
    }

    /// Copies column `c`, whose elements must be neighbors: a weight's row.
    ///
    /// # Safety
    /// The view is valid.
    pub unsafe fn read_column(self, c: usize, to: &mut [f32]) {
        assert!(to.len() == self.rows);
        // SAFETY: passed on.
        unsafe { self.read_in_column(c, 0, to) }
    }

    /// The same from row `first` on; of blocks, whole ones.
    ///
    /// # Safety
    /// The view is valid.
    pub unsafe fn read_in_column(self, c: usize, first: usize, to: &mut [f32]) {
        assert!(self.row_stride == 1 && c < self.columns && first + to.len() <= self.rows);
        // SAFETY: passed on.
        unsafe {
            match self.dtype {
                DType::Q8_0 | DType::Q4_0 => {
                    packed_blocks::read_row(self.dtype, self.pointer, self.rows, (c, first), to);
                }
                DType::Nf4 => {
                    let format = self.dtype.block_format();
                    let at = self.pointer.add(format.bytes_of(c * self.column_stride + first));
                    let bytes = std::slice::from_raw_parts(at, format.bytes_of(to.len()));
                    let decode = format.decoder().expect("invariant: NF4 can be decoded");
                    decode(bytes, to);
                }
                dtype => with_element!(dtype, E => {
                    let from = self.at(first, c).cast::<E>();
                    scaled_copy(to, 1.0, std::slice::from_raw_parts(from, to.len()));
                }),
            }
        }
    }

    pub fn transposed(self) -> View {
        View {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The block of `rows` × `columns` at (`row`, `column`), which must lie inside.
    pub fn block(self, row: usize, column: usize, rows: usize, columns: usize) -> View {
        debug_assert!(row + rows <= self.rows && column + columns <= self.columns);
        View { pointer: self.at(row, column), rows, columns, ..self }
    }
}

/// Where a product goes. `Sync` by contract: threads write disjoint tiles.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub pointer: *mut u8,
    /// f32, or bfloat16 where the kernel can; a product's bfloat16 tile is written once, from a sum over all
    /// of k.
    pub dtype: DType,
    pub row_stride: usize,
    /// What the product is added to: nothing, C itself, or another matrix.
    pub start: Start,
}

/// The value a tile's sum starts from.
#[derive(Clone, Copy)]
pub(super) enum Start {
    Zero,
    Accumulate,
    Residual { pointer: *const f32, row_stride: usize },
}

impl Output {
    pub fn at(self, row: usize, column: usize) -> Output {
        let start = match self.start {
            Start::Residual { pointer, row_stride } => {
                Start::Residual { pointer: pointer.wrapping_add(row * row_stride + column), row_stride }
            }
            other => other,
        };
        let offset = (row * self.row_stride + column) * self.dtype.size();
        Output { pointer: self.pointer.wrapping_add(offset), start, ..self }
    }

    /// The f32 matrix that the product is added to, and how far its rows stand apart.
    #[inline(always)]
    pub fn added(self) -> Option<(*const f32, usize)> {
        match self.start {
            Start::Zero => None,
            Start::Accumulate if self.dtype != DType::F32 => None,
            Start::Accumulate => Some((self.f32().cast_const(), self.row_stride)),
            Start::Residual { pointer, row_stride } => Some((pointer, row_stride)),
        }
    }

    /// Whether the product is added to a bfloat16 C, which [`Output::added`] leaves out.
    #[inline(always)]
    pub fn adds_to_bf16(self) -> bool {
        matches!(self.start, Start::Accumulate) && self.dtype == DType::Bf16
    }

    /// Its elements, which must be f32.
    pub fn f32(self) -> *mut f32 {
        debug_assert_eq!(self.dtype, DType::F32);
        self.pointer.cast()
    }
}
