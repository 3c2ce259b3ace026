//! The CPU's one allocation, and typed looks into it.

use super::vector::Element;
use crate::tensor::{DType, Tensor};
use memmap2::MmapMut;

/// Zeroed bytes, on huge pages where the system has them. Pages are not touched until a kernel writes them.
pub(super) struct Arena {
    /// `None` when empty. Never looked at as a slice: kernels share it between threads through pointers.
    _map: Option<MmapMut>,
    pointer: *mut u8,
    bytes: usize,
}

// SAFETY: the arena owns its bytes; access goes through `Cpu`, which hands disjoint parts to threads.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    pub fn empty() -> Arena {
        Arena { _map: None, pointer: std::ptr::null_mut(), bytes: 0 }
    }

    /// `None` when the memory is not to be had.
    pub fn new(bytes: usize) -> Option<Arena> {
        if bytes == 0 {
            return Some(Arena::empty());
        }
        let mut map = MmapMut::map_anon(bytes).ok()?;
        // Packing walks matrices a page or more a row: with 4 KB pages it waits for the TLB. Only a hint, so
        // a refusal is fine.
        #[cfg(target_os = "linux")]
        drop(map.advise(memmap2::Advice::HugePage));
        let pointer = map.as_mut_ptr();
        Some(Arena { _map: Some(map), pointer, bytes })
    }

    fn at(&self, t: Tensor, dtype: DType) -> *mut u8 {
        t.expect(dtype);
        let bytes = match dtype {
            _ if t.is_empty() => 0,
            _ if dtype.is_blocks() => dtype.bytes(t.rows, t.columns),
            _ => ((t.rows - 1) * t.row_stride + t.columns) * dtype.size(),
        };
        assert!(t.offset + bytes <= self.bytes, "{t:?} lies outside the arena of {} bytes", self.bytes);
        self.pointer.wrapping_add(t.offset)
    }

    /// Pointer to element (0, 0); every element of `t` lies in the arena.
    pub fn elements<E: Element>(&self, t: Tensor) -> *mut E {
        self.at(t, E::DTYPE).cast()
    }

    pub fn f32(&self, t: Tensor) -> *mut f32 {
        self.elements(t)
    }

    /// As `elements`, for whatever number type `t` has.
    pub fn bytes(&self, t: Tensor) -> *mut u8 {
        self.at(t, t.dtype)
    }

    pub fn typed<E: Element>(&self, t: Tensor) -> &[E] {
        assert!(t.is_contiguous());
        // SAFETY: `at` checked the range; kernels have finished, since each waits for its threads.
        unsafe { std::slice::from_raw_parts(self.elements(t), t.len()) }
    }

    pub fn typed_mut<E: Element>(&mut self, t: Tensor) -> &mut [E] {
        assert!(t.is_contiguous());
        // SAFETY: as `typed`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.elements(t), t.len()) }
    }

    /// The cells of a matrix of blocks.
    pub fn block_bytes_mut(&mut self, t: Tensor) -> &mut [u8] {
        assert!(t.is_contiguous());
        // SAFETY: as `typed_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.at(t, t.dtype), t.dtype.bytes(t.rows, t.columns)) }
    }

    pub fn slice(&self, t: Tensor) -> &[f32] {
        self.typed(t)
    }

    pub fn slice_mut(&mut self, t: Tensor) -> &mut [f32] {
        self.typed_mut(t)
    }

    pub fn ids(&self, t: Tensor) -> &[u32] {
        assert!(t.is_contiguous());
        // SAFETY: as `typed`.
        unsafe { std::slice::from_raw_parts(self.at(t, DType::U32).cast(), t.len()) }
    }

    pub fn ids_mut(&mut self, t: Tensor) -> &mut [u32] {
        assert!(t.is_contiguous());
        // SAFETY: as `typed_mut`.
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
