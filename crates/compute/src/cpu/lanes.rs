//! The f32 micro-kernel of CPUs without AVX-512: 6 rows × 16 columns of C, for AVX2, for NEON, and for
//! whatever the compiler finds.
//!
//! A panel of A holds, for each k, its 6 rows; short rows along k are multiplied where they lie, unpacked.

use super::gemm::MicroKernel;
#[cfg(target_arch = "x86_64")]
use super::instruction_set::has_avx2;
use super::vector::{Baseline, Vector, transpose4};
use super::view::{Output, View};
use std::marker::PhantomData;

const ROWS: usize = 6;
/// Rows of A as short as attention's are not worth packing.
const IN_PLACE_DEPTH: usize = 128;
/// Of every kind's tile.
const COLUMNS: usize = 16;

/// Tiles of 6 × 16, which are `N` vectors wide. Exists only where the CPU has the vectors.
pub(super) struct Lanes<V, const N: usize> {
    _vector: PhantomData<fn() -> V>,
}

impl<V, const N: usize> Clone for Lanes<V, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, const N: usize> Copy for Lanes<V, N> {}

/// 6 × 16 in 12 of 16 registers.
#[cfg(target_arch = "x86_64")]
pub(super) type Avx2 = Lanes<std::arch::x86_64::__m256, 2>;

/// 6 × 16: in 24 of 32 registers where that is NEON.
pub(super) type Portable = Lanes<Baseline, { COLUMNS / Baseline::WIDTH }>;

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The kernel, if this CPU runs it and the rest of what [`super::InstructionSet::Avx2`] stands for.
    pub fn detect() -> Option<Avx2> {
        has_avx2().then_some(Lanes { _vector: PhantomData })
    }
}

impl Portable {
    /// The kernel, which every CPU of the architecture runs.
    pub fn new() -> Portable {
        Lanes { _vector: PhantomData }
    }
}

/// A block of A: packed, or rows along k that stand so many elements apart.
#[derive(Clone, Copy)]
pub(super) enum APanel {
    Packed(*const f32),
    InPlace(*const f32, usize),
}

/// A tile's function, compiled for the vectors' features.
pub(super) trait Tile<const N: usize>: Vector {
    /// R rows of C.
    ///
    /// # Safety
    /// As [`MicroKernel::multiply`].
    unsafe fn tile<const R: usize>(depth: usize, a: APanel, b: *const f32, c: Output, columns: usize);
}

/// A macro, since a generic function's sums would not stay in registers: its vectors are known too late.
macro_rules! tile {
    ($vector:ty, $n:expr $(, $features:literal)?) => {
        impl Tile<{ $n }> for $vector {
            $(#[target_feature(enable = $features)])?
            unsafe fn tile<const R: usize>(depth: usize, a: APanel, b: *const f32, c: Output, columns: usize) {
                type V = $vector;
                const N: usize = $n;
                // SAFETY: A holds R × depth, B's panel depth × N vectors; C holds R × columns.
                unsafe {
                    let mut sums = [[V::zero(); N]; R];
                    let mut b = b;
                    macro_rules! step {
                        (|$i:ident| $x:expr) => {
                            let mut row = [V::zero(); N];
                            for (j, row) in row.iter_mut().enumerate() {
                                *row = V::load_f32(b.add(j * V::WIDTH));
                            }
                            for ($i, sums) in sums.iter_mut().enumerate() {
                                let x = V::splat($x);
                                for (sum, b) in sums.iter_mut().zip(row) {
                                    *sum = sum.multiply_add(x, b);
                                }
                            }
                            b = b.add(COLUMNS);
                        };
                    }
                    match a {
                        APanel::Packed(mut a) => {
                            for _ in 0..depth {
                                step!(|i| *a.add(i));
                                a = a.add(ROWS);
                            }
                        }
                        APanel::InPlace(a, stride) => {
                            for p in 0..depth {
                                step!(|i| *a.add(i * stride + p));
                            }
                        }
                    }
                    let added = c.added();
                    for (i, sums) in sums.into_iter().enumerate() {
                        let to = c.f32().wrapping_add(i * c.row_stride);
                        let added = added.map(|(from, row_stride)| from.wrapping_add(i * row_stride));
                        if columns == COLUMNS {
                            for (j, sum) in sums.into_iter().enumerate() {
                                let at = j * V::WIDTH;
                                let sum = match added {
                                    Some(from) => sum.add(V::load_f32(from.add(at))),
                                    None => sum,
                                };
                                sum.store(to.add(at));
                            }
                            continue;
                        }
                        let mut whole = [0.0f32; COLUMNS];
                        for (j, sum) in sums.into_iter().enumerate() {
                            sum.store(whole.as_mut_ptr().add(j * V::WIDTH));
                        }
                        for (j, &value) in whole.iter().enumerate().take(columns) {
                            *to.add(j) = match added {
                                Some(from) => value + *from.add(j),
                                None => value,
                            };
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile!(std::arch::x86_64::__m256, 2, "avx2,fma");
tile!(Baseline, COLUMNS / Baseline::WIDTH);

impl<V: Tile<N>, const N: usize> Lanes<V, N> {
    unsafe fn by_rows(self, rows: usize, depth: usize, a: APanel, b: *const u8, c: Output, columns: usize) {
        let b = b.cast();
        macro_rules! by_rows {
            ($($r:literal)*) => { match rows { $($r => V::tile::<$r>(depth, a, b, c, columns),)* _ => {} } };
        }
        // SAFETY: passed on; `self` exists.
        unsafe { by_rows!(1 2 3 4 5 6) }
    }
}

impl<V: Tile<N>, const N: usize> MicroKernel for Lanes<V, N> {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = {
        assert!(N * V::WIDTH == COLUMNS);
        COLUMNS
    };
    const DEPTH_UNIT: usize = 1;
    const DEPTH: usize = 256;

    fn a_panel_bytes(depth: usize) -> usize {
        depth * ROWS * 4
    }

    fn b_panel_bytes(depth: usize) -> usize {
        depth * COLUMNS * 4
    }

    unsafe fn pack_a(self, a: View, to: *mut u8) {
        // SAFETY: passed on; a panel of A is one of Aᵀ.
        unsafe { pack::<ROWS>(a.transposed(), to.cast()) }
    }

    unsafe fn pack_b(self, b: View, to: *mut u8) {
        // SAFETY: passed on.
        unsafe { pack::<COLUMNS>(b, to.cast()) }
    }

    unsafe fn multiply(
        self,
        depth: usize,
        a: *const u8,
        b: *const u8,
        c: Output,
        rows: usize,
        columns: usize,
    ) {
        // SAFETY: passed on.
        unsafe { self.by_rows(rows, depth, APanel::Packed(a.cast()), b, c, columns) }
    }

    fn reads_in_place(self, a: View) -> bool {
        a.column_stride == 1 && a.columns <= IN_PLACE_DEPTH
    }

    unsafe fn multiply_in_place(self, a: View, b: *const u8, c: Output, columns: usize) {
        let rows = APanel::InPlace(a.elements(), a.row_stride);
        // SAFETY: passed on.
        unsafe { self.by_rows(a.rows, a.columns, rows, b, c, columns) }
    }
}

/// Lays up to `W` columns out row by row; missing columns are zeros.
unsafe fn pack<const W: usize>(from: View, to: *mut f32) {
    let (depth, columns, start) = (from.rows, from.columns, from.elements::<f32>());
    // SAFETY: reads stay inside the view; the panel holds depth × W.
    unsafe {
        let to = std::slice::from_raw_parts_mut(to.cast::<[f32; W]>(), depth);
        if from.column_stride == 1 && columns == W {
            for (p, to) in to.iter_mut().enumerate() {
                *to = start.add(p * from.row_stride).cast::<[f32; W]>().read_unaligned();
            }
            return;
        }
        if columns < W {
            to.fill([0.0; W]);
        }
        let mut first = 0;
        if from.row_stride == 1 {
            while first + 4 <= columns {
                let quad = [0, 1, 2, 3].map(|j| start.add((first + j) * from.column_stride));
                let (blocks, rest) = to.as_chunks_mut::<4>();
                for (block, to) in blocks.iter_mut().enumerate() {
                    let rows = transpose4(quad.map(|column| column.add(4 * block)));
                    for (to, row) in to.iter_mut().zip(rows) {
                        to[first..first + 4].copy_from_slice(&row);
                    }
                }
                for (p, to) in rest.iter_mut().enumerate() {
                    let p = 4 * blocks.len() + p;
                    for (j, column) in quad.into_iter().enumerate() {
                        to[first + j] = *column.add(p);
                    }
                }
                first += 4;
            }
        }
        for j in first..columns {
            let column = start.add(j * from.column_stride);
            for (p, to) in to.iter_mut().enumerate() {
                to[j] = *column.add(p * from.row_stride);
            }
        }
    }
}
