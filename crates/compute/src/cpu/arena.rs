//! The CPU's one allocation, and typed looks into it.

use crate::tensor::{DType, Tensor};
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Zeroed bytes on a page boundary. Pages are not touched until a kernel writes them.
pub(super) struct Arena {
    pointer: *mut u8,
    bytes: usize,
}

// SAFETY: the arena owns its bytes; access goes through `Cpu`, which hands disjoint parts to threads.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

const PAGE: usize = 4096;

impl Arena {
    pub fn empty() -> Arena {
        Arena { pointer: std::ptr::null_mut(), bytes: 0 }
    }

    /// `None` when the memory is not to be had.
    pub fn new(bytes: usize) -> Option<Arena> {
        if bytes == 0 {
            return Some(Arena::empty());
        }
        let layout = Layout::from_size_align(bytes, PAGE).ok()?;
        // SAFETY: the size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        (!pointer.is_null()).then_some(Arena { pointer, bytes })
    }

    fn at(&self, t: Tensor, dtype: DType) -> *mut u8 {
        t.expect(dtype);
        let elements = if t.is_empty() { 0 } else { (t.rows - 1) * t.row_stride + t.columns };
        assert!(
            t.offset + elements * dtype.size() <= self.bytes,
            "{t:?} lies outside the arena of {} bytes",
            self.bytes
        );
        self.pointer.wrapping_add(t.offset)
    }

    /// Pointer to element (0, 0); every element of `t` lies in the arena.
    pub fn f32(&self, t: Tensor) -> *mut f32 {
        self.at(t, DType::F32).cast()
    }

    pub fn slice(&self, t: Tensor) -> &[f32] {
        assert!(t.is_contiguous());
        // SAFETY: `at` checked the range; kernels have finished, since each waits for its threads.
        unsafe { std::slice::from_raw_parts(self.f32(t), t.len()) }
    }

    pub fn slice_mut(&mut self, t: Tensor) -> &mut [f32] {
        assert!(t.is_contiguous());
        // SAFETY: as `slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.f32(t), t.len()) }
    }

    pub fn ids(&self, t: Tensor) -> &[u32] {
        assert!(t.is_contiguous());
        // SAFETY: as `slice`.
        unsafe { std::slice::from_raw_parts(self.at(t, DType::U32).cast(), t.len()) }
    }

    pub fn ids_mut(&mut self, t: Tensor) -> &mut [u32] {
        assert!(t.is_contiguous());
        // SAFETY: as `slice_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.at(t, DType::U32).cast(), t.len()) }
    }

    pub fn scalar(&self, t: Tensor) -> f64 {
        assert_eq!(t.len(), 1);
        // SAFETY: `at` checked the range; tensors start on cache lines, so f64 is aligned.
        unsafe { *self.at(t, DType::F64).cast::<f64>() }
    }

    pub fn set_scalar(&mut self, t: Tensor, value: f64) {
        assert_eq!(t.len(), 1);
        // SAFETY: as `scalar`, and `self` is borrowed exclusively.
        unsafe { *self.at(t, DType::F64).cast::<f64>() = value };
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: allocated in `new` with this size and alignment.
            unsafe { dealloc(self.pointer, Layout::from_size_align_unchecked(self.bytes, PAGE)) };
        }
    }
}
