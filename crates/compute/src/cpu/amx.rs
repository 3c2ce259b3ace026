//! f32 products on Intel's AMX tiles, which multiply bfloat16: each f32 is the sum of three bfloat16 (8 + 8 +
//! 8 bits of mantissa).
//!
//! Of the nine partial products the six that reach f32's last bit are summed, in f32: a·b ≈ h·h + h·m + m·h +
//! m·m + h·l + l·h. The error is that of an f32 product (the suite holds it to the same tolerance), at 2.7
//! times the rate of AVX-512's f32 units. Source: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial
//! Intelligence Datatype", ARITH 2019. The intrinsics are not stable in Rust, the instructions assemble.

use super::avx512::{mask, transpose};
use super::avx512bf16;
use super::gemm::MicroKernel;
use super::instruction_set::{has_amx, has_avx512_bf16};
use super::view::{Output, Start, View};
use crate::tensor::DType;
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Proof by construction that the CPU has AMX-BF16 and AVX512-BF16, and that the process may use the tiles.
#[derive(Clone, Copy)]
pub(super) struct Amx {
    _private: (),
}

/// Bytes of a tile: 16 rows of 64 bytes.
const TILE: usize = 1024;
/// A panel's bytes for one block of k: three terms × two tiles.
const BLOCK: usize = 6 * TILE;
/// k of one tile.
const DEPTH_UNIT: usize = 32;
const SIDE: usize = 32;

#[repr(C, align(64))]
struct TileConfiguration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: TileConfiguration = TileConfiguration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Amx {
    /// The kernel, if this CPU and this kernel of Linux let the process use the tiles.
    pub fn detect() -> Option<Amx> {
        (has_avx512_bf16() && has_amx()).then_some(Amx { _private: () })
    }
}

impl MicroKernel for Amx {
    const ROWS: usize = SIDE;
    const COLUMNS: usize = SIDE;
    const DEPTH_UNIT: usize = DEPTH_UNIT;
    /// A panel of 96 KB; both come from L2, ahead of their use.
    const DEPTH: usize = 512;

    fn a_panel_bytes(depth: usize) -> usize {
        depth.div_ceil(DEPTH_UNIT) * BLOCK
    }

    fn b_panel_bytes(depth: usize) -> usize {
        depth.div_ceil(DEPTH_UNIT) * BLOCK
    }

    unsafe fn pack_a(self, a: View, to: *mut u8) {
        // SAFETY: the CPU has the features (`self` exists); the caller gives valid shapes and room.
        unsafe { pack_a(a, to) }
    }

    unsafe fn pack_b(self, b: View, to: *mut u8) {
        // SAFETY: as above.
        unsafe { pack_b(b, to) }
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
        let blocks = depth.div_ceil(DEPTH_UNIT);
        // SAFETY: as above; `enter` configured the tiles on this thread.
        unsafe { tile(c, rows, columns, || multiply_panels(blocks, a, b)) }
    }

    unsafe fn enter(self) {
        // SAFETY: the configuration is valid for palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly)) };
    }

    unsafe fn leave(self) {
        // SAFETY: frees the tile state; nothing of it is used after.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

#[repr(align(64))]
struct Edge([f32; SIDE * SIDE]);

/// Fills the four sums.
unsafe fn load_start(c: Output) {
    let Some((from, row_stride)) = c.added() else {
        // SAFETY: tiles are configured.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem))
        };
        return;
    };
    // SAFETY: 32 × 32 floats at the given stride are valid: the caller handles edges elsewhere.
    unsafe {
        asm!(
            "tileloadd tmm0, [{top} + {stride}]",
            "tileloadd tmm1, [{top} + {stride} + 64]",
            "tileloadd tmm2, [{bottom} + {stride}]",
            "tileloadd tmm3, [{bottom} + {stride} + 64]",
            top = in(reg) from,
            bottom = in(reg) from.add(16 * row_stride),
            stride = in(reg) row_stride * 4,
            options(nostack, readonly)
        );
    }
}

unsafe fn store(to: *mut f32, row_stride: usize) {
    // SAFETY: as `load_start`.
    unsafe {
        asm!(
            "tilestored [{top} + {stride}], tmm0",
            "tilestored [{top} + {stride} + 64], tmm1",
            "tilestored [{bottom} + {stride}], tmm2",
            "tilestored [{bottom} + {stride} + 64], tmm3",
            top = in(reg) to,
            bottom = in(reg) to.add(16 * row_stride),
            stride = in(reg) row_stride * 4,
            options(nostack)
        );
    }
}

/// Fills, multiplies and stores one tile of C.
///
/// # Safety
/// The tiles are configured; C holds rows × columns; `multiply` adds to the four sums.
unsafe fn tile(c: Output, rows: usize, columns: usize, multiply: impl FnOnce()) {
    // SAFETY: the caller's promise.
    unsafe {
        if rows == SIDE && columns == SIDE && c.dtype == DType::F32 {
            load_start(c);
            multiply();
            store(c.f32(), c.row_stride);
            return;
        }
        let mut edge = MaybeUninit::<Edge>::uninit();
        let pointer: *mut f32 = edge.as_mut_ptr().cast();
        load_start(Output {
            pointer: pointer.cast(),
            dtype: DType::F32,
            row_stride: SIDE,
            start: Start::Zero,
        });
        multiply();
        store(pointer, SIDE);
        // The four stores wrote all of it.
        store_edge(edge.assume_init_ref(), c, rows, columns);
    }
}

/// Adds what it starts from to a whole tile's result and stores the part of C that exists, as f32 or as
/// bfloat16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn store_edge(edge: &Edge, c: Output, rows: usize, columns: usize) {
    for row in 0..rows {
        let at = &edge.0[row * SIDE..(row + 1) * SIDE];
        // SAFETY: 32 floats a row; the store is masked to the columns that exist.
        unsafe {
            let sum = [_mm512_loadu_ps(at.as_ptr()), _mm512_loadu_ps(at.as_ptr().add(16))];
            avx512bf16::store_row(c, row, sum, columns);
        }
    }
}

/// Brings a tile of the next block to L1: its lines come from L2, and a core whose L1 is shared with another
/// thread's work waits for each of them otherwise. Past the panel's end it is a hint without effect.
macro_rules! prefetch {
    ($panel:literal, $tile:literal) => {
        prefetch!($panel, $tile, "6144")
    };
    ($panel:literal, $tile:literal, $block:literal) => {
        concat!(
            ".irp line, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960\n",
            "prefetcht0 [",
            $panel,
            " + ",
            $block,
            " + 1024 * ",
            $tile,
            " + \\line]\n",
            ".endr"
        )
    };
}

/// Six partial products a block. Each step changes one operand only: 14 tile loads for 24 products.
unsafe fn multiply_panels(blocks: usize, a: *const u8, b: *const u8) {
    // SAFETY: both panels hold `blocks` blocks of six tiles.
    unsafe {
        asm!(
            "2:",
            // high · low
            "tileloadd tmm4, [{a} + {s}]",
            "tileloadd tmm6, [{b} + {s} + 4096]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {s} + 5120]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {s} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            prefetch!("{a}", "0"),
            "tileloadd tmm6, [{b} + {s} + 2048]",
            "tdpbf16ps tmm3, tmm5, tmm7",
            prefetch!("{a}", "1"),
            "tileloadd tmm7, [{b} + {s} + 3072]",
            // high · middle
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            prefetch!("{a}", "2"),
            "tileloadd tmm6, [{b} + {s}]",
            "tdpbf16ps tmm3, tmm5, tmm7",
            prefetch!("{a}", "3"),
            "tileloadd tmm7, [{b} + {s} + 1024]",
            // high · high
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            prefetch!("{a}", "4"),
            "tileloadd tmm4, [{a} + {s} + 4096]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            prefetch!("{a}", "5"),
            "tileloadd tmm5, [{a} + {s} + 5120]",
            // low · high
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            prefetch!("{b}", "0"),
            "tileloadd tmm4, [{a} + {s} + 2048]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            prefetch!("{b}", "1"),
            "tileloadd tmm5, [{a} + {s} + 3072]",
            // middle · high
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            prefetch!("{b}", "2"),
            "tileloadd tmm6, [{b} + {s} + 2048]",
            "tdpbf16ps tmm3, tmm5, tmm7",
            prefetch!("{b}", "3"),
            "tileloadd tmm7, [{b} + {s} + 3072]",
            // middle · middle
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            prefetch!("{b}", "4"),
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            prefetch!("{b}", "5"),
            "add {a}, 6144",
            "add {b}, 6144",
            "dec {blocks}",
            "jnz 2b",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            blocks = inout(reg) blocks => _,
            s = in(reg) 64usize,
            options(nostack, readonly)
        );
    }
}

/// The three terms of each lane, still in f32: high carries the leading 8 bits, middle the next 8, low the
/// rest.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn split(x: __m512) -> [__m512; 3] {
    let high = round(x);
    let rest = _mm512_sub_ps(x, high);
    let middle = round(rest);
    [high, middle, _mm512_sub_ps(rest, middle)]
}

/// To the nearest bfloat16, as f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round(x: __m512) -> __m512 {
    // SAFETY: both types are plain bits of one size.
    let half: __m256i = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
}

/// 16 rows × 16 k (`k_at`) of A as 16 vectors along k, zeros outside.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rows_of_a(a: View, row: usize, k_at: usize) -> [__m512; 16] {
    let rows = a.rows.saturating_sub(row).min(16);
    let depth = a.columns.saturating_sub(k_at).min(16);
    let mut block = [_mm512_setzero_ps(); 16];
    let from = a.elements::<f32>().wrapping_add(row * a.row_stride + k_at * a.column_stride);
    // SAFETY: masked or counted to what exists.
    unsafe {
        if a.column_stride == 1 {
            for (i, x) in block.iter_mut().enumerate().take(rows) {
                *x = _mm512_maskz_loadu_ps(mask(depth), from.wrapping_add(i * a.row_stride));
            }
            return block;
        }
        if a.row_stride == 1 {
            for (p, x) in block.iter_mut().enumerate().take(depth) {
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add((p + ROWS_AHEAD) * a.column_stride).cast());
                *x = _mm512_maskz_loadu_ps(mask(rows), from.add(p * a.column_stride));
            }
            return transpose(block);
        }
        let mut values = [[0.0f32; 16]; 16];
        for (i, row) in values.iter_mut().enumerate().take(rows) {
            for (p, value) in row.iter_mut().enumerate().take(depth) {
                *value = *from.add(i * a.row_stride + p * a.column_stride);
            }
        }
        for (x, row) in block.iter_mut().zip(&values) {
            *x = _mm512_loadu_ps(row.as_ptr());
        }
    }
    block
}

/// Lines ahead of the walk along k: rows lie far apart, so the hardware's prefetcher sees too many streams.
const AHEAD: usize = 64;
/// The same for a walk down a column of rows.
const ROWS_AHEAD: usize = 64;

/// Tiles of A: 16 rows of 32 consecutive k, bfloat16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_a(a: View, to: *mut u8) {
    for block in 0..a.columns.div_ceil(DEPTH_UNIT) {
        let k_at = block * DEPTH_UNIT;
        for tile in 0..2 {
            let at =
                |term: usize, i: usize| to.wrapping_add(block * BLOCK + (term * 2 + tile) * TILE + i * 64);
            let whole = a.column_stride == 1 && a.rows >= (tile + 1) * 16 && a.columns >= k_at + DEPTH_UNIT;
            // SAFETY: the view and the panel's room are the caller's promise.
            unsafe {
                if whole {
                    for i in 0..16 {
                        let from = a.elements::<f32>().add((tile * 16 + i) * a.row_stride + k_at);
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD + 16).cast());
                        store_row_of_a(_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)), |term| {
                            at(term, i)
                        });
                    }
                    continue;
                }
                let left = rows_of_a(a, tile * 16, k_at);
                let right = rows_of_a(a, tile * 16, k_at + 16);
                for i in 0..16 {
                    store_row_of_a(left[i], right[i], |term| at(term, i));
                }
            }
        }
    }
}

/// # Safety
/// `to` points to 64 aligned bytes for each term.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn store_row_of_a(left: __m512, right: __m512, to: impl Fn(usize) -> *mut u8) {
    let (left, right) = (split(left), split(right));
    for term in 0..3 {
        let both = _mm512_cvtne2ps_pbh(right[term], left[term]);
        // SAFETY: the caller's promise; both types are plain bits of one size.
        unsafe { _mm512_store_si512(to(term).cast(), std::mem::transmute::<__m512bh, __m512i>(both)) };
    }
}

/// Tiles of B: 16 rows, each a pair of k, of 16 columns with the even k in the low half.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_b(b: View, to: *mut u8) {
    for block in 0..b.rows.div_ceil(DEPTH_UNIT) {
        for tile in 0..2 {
            for half in 0..2 {
                let k_at = block * DEPTH_UNIT + half * 16;
                let at = |term: usize, pair: usize| {
                    to.wrapping_add(block * BLOCK + (term * 2 + tile) * TILE + (half * 8 + pair) * 64)
                };
                let whole = b.column_stride == 1 && b.columns >= (tile + 1) * 16 && b.rows >= k_at + 16;
                // SAFETY: as `pack_a`.
                unsafe {
                    if whole {
                        for pair in 0..8 {
                            let from = b.elements::<f32>().add((k_at + 2 * pair) * b.row_stride + tile * 16);
                            let (even, odd) =
                                (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(b.row_stride)));
                            store_pair_of_b(even, odd, |term| at(term, pair));
                        }
                        continue;
                    }
                    let by_k = if b.column_stride == 1 {
                        rows_of_a(b, k_at, tile * 16)
                    } else {
                        // Seen from its transpose, B's columns are rows along k.
                        transpose(rows_of_a(b.transposed(), tile * 16, k_at))
                    };
                    for pair in 0..8 {
                        store_pair_of_b(by_k[2 * pair], by_k[2 * pair + 1], |term| at(term, pair));
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`store_row_of_a`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn store_pair_of_b(even: __m512, odd: __m512, to: impl Fn(usize) -> *mut u8) {
    let (even, odd) = (split(even), split(odd));
    for term in 0..3 {
        let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(round(even[term])));
        let high = _mm512_castps_si512(round(odd[term]));
        // SAFETY: the caller's promise.
        unsafe { _mm512_store_si512(to(term).cast(), _mm512_or_si512(low, high)) };
    }
}

/// bfloat16 products on the tiles: one partial product where [`Amx`] takes six.
#[derive(Clone, Copy)]
pub(super) struct AmxBf16(pub Amx);

/// A bfloat16 panel's bytes for one block of k: two tiles.
const BF16_BLOCK: usize = 2 * TILE;

impl MicroKernel for AmxBf16 {
    const ROWS: usize = SIDE;
    const COLUMNS: usize = SIDE;
    const DEPTH_UNIT: usize = DEPTH_UNIT;
    /// A panel of 32 KB.
    const DEPTH: usize = 512;

    fn a_panel_bytes(depth: usize) -> usize {
        depth.div_ceil(DEPTH_UNIT) * BF16_BLOCK
    }

    fn b_panel_bytes(depth: usize) -> usize {
        depth.div_ceil(DEPTH_UNIT) * BF16_BLOCK
    }

    unsafe fn pack_a(self, a: View, to: *mut u8) {
        // SAFETY: the CPU has the features (`self` exists); the caller gives valid shapes and room.
        unsafe { pack_bf16(a, to, true) }
    }

    unsafe fn pack_b(self, b: View, to: *mut u8) {
        // SAFETY: as above.
        unsafe { pack_bf16(b.transposed(), to, false) }
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
        let blocks = depth.div_ceil(DEPTH_UNIT);
        // SAFETY: as above; `enter` configured the tiles on this thread.
        unsafe { tile(c, rows, columns, || multiply_bf16_panels(blocks, a, b)) }
    }

    fn reads_in_place(self, a: View) -> bool {
        a.dtype == DType::Bf16
            && a.column_stride == 1
            && a.rows == SIDE
            && a.columns.is_multiple_of(DEPTH_UNIT)
    }

    unsafe fn multiply_in_place(self, a: View, b: *const u8, c: Output, columns: usize) {
        // SAFETY: as `multiply`; the view holds 32 rows of whole blocks.
        unsafe { tile(c, SIDE, columns, || multiply_bf16_rows(a, b)) }
    }

    unsafe fn enter(self) {
        // SAFETY: passed on.
        unsafe { self.0.enter() }
    }

    unsafe fn leave(self) {
        // SAFETY: passed on.
        unsafe { self.0.leave() }
    }
}

/// Tiles of 16 rows × 32 k, or of 16 pairs × 16 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_bf16(view: View, to: *mut u8, by_rows: bool) {
    for block in 0..view.columns.div_ceil(DEPTH_UNIT) {
        // SAFETY: the view and the panel's room are the caller's promise; a tile is a block of lines, on a
        // cache line's bound.
        unsafe {
            let tiles = &mut *to.add(block * BF16_BLOCK).cast::<[avx512bf16::Block; 2]>();
            avx512bf16::both_halves(view, block * DEPTH_UNIT, by_rows, tiles);
        }
    }
}

/// Four products a block from four tile loads, two of them from A's own rows.
unsafe fn multiply_bf16_rows(a: View, b: *const u8) {
    let stride = a.row_stride * 2;
    // SAFETY: 32 rows of whole blocks of 32 k; the panel of B holds as many blocks.
    unsafe {
        asm!(
            "2:",
            "lea {next}, [{top} + 64]",
            "tileloadd tmm4, [{top} + {stride}]",
            "tileloadd tmm6, [{b} + {s}]",
            ".rept 16",
            "prefetcht0 [{next}]",
            "add {next}, {stride}",
            ".endr",
            "tileloadd tmm7, [{b} + {s} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            prefetch!("{b}", "0", "2048"),
            "tileloadd tmm5, [{bottom} + {stride}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            ".rept 16",
            "prefetcht0 [{next}]",
            "add {next}, {stride}",
            ".endr",
            "tdpbf16ps tmm2, tmm5, tmm6",
            prefetch!("{b}", "1", "2048"),
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {top}, 64",
            "add {bottom}, 64",
            "add {b}, 2048",
            "dec {blocks}",
            "jnz 2b",
            top = inout(reg) a.pointer => _,
            bottom = inout(reg) a.pointer.add(16 * stride) => _,
            b = inout(reg) b => _,
            blocks = inout(reg) a.columns / DEPTH_UNIT => _,
            next = out(reg) _,
            stride = in(reg) stride,
            s = in(reg) 64usize,
            options(nostack, readonly)
        );
    }
}

/// Four products a block from four tile loads.
unsafe fn multiply_bf16_panels(blocks: usize, a: *const u8, b: *const u8) {
    // SAFETY: both panels hold `blocks` blocks of two tiles.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm4, [{a} + {s}]",
            "tileloadd tmm6, [{b} + {s}]",
            prefetch!("{a}", "0", "2048"),
            "tileloadd tmm7, [{b} + {s} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            prefetch!("{b}", "0", "2048"),
            "tileloadd tmm5, [{a} + {s} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            prefetch!("{a}", "1", "2048"),
            "tdpbf16ps tmm2, tmm5, tmm6",
            prefetch!("{b}", "1", "2048"),
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {blocks}",
            "jnz 2b",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            blocks = inout(reg) blocks => _,
            s = in(reg) 64usize,
            options(nostack, readonly)
        );
    }
}
