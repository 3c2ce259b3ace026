//! An allocator that counts what is held, for programs that measure what a call allocates.
//!
//! It lives here because `compute` is the one crate that may use `unsafe`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator with a count of the bytes that are held. A program turns it on by
/// `#[global_allocator] static HEAP: Counting = Counting;`. Memory that C libraries take is not counted.
pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    /// Bytes that are allocated now, in a program whose global allocator this is.
    pub fn held_bytes() -> usize {
        HELD.load(Ordering::Relaxed)
    }

    /// The most bytes that were allocated at once since [`Counting::begin_peak`].
    pub fn peak_bytes() -> usize {
        PEAK.load(Ordering::Relaxed)
    }

    /// Allocations so far, grown ones included.
    pub fn allocations() -> usize {
        ALLOCATIONS.load(Ordering::Relaxed)
    }

    /// Measures the peak anew from here.
    pub fn begin_peak() {
        PEAK.store(Counting::held_bytes(), Ordering::Relaxed);
    }

    fn took(bytes: usize) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(held, Ordering::Relaxed);
    }

    fn gave(bytes: usize) {
        HELD.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is the system allocator's, with the arguments it came with; the counts are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            Counting::took(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            Counting::took(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(block, layout) };
        Counting::gave(layout.size());
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            // Large blocks are moved by the page table, without a second copy.
            Counting::gave(layout.size());
            Counting::took(size);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_given_back() {
        let layout = Layout::array::<u8>(1 << 20).expect("a megabyte");
        Counting::begin_peak();
        let before = Counting::held_bytes();
        // SAFETY: the layout is not empty; the block is freed with the layout that it then has.
        unsafe {
            let block = Counting.alloc(layout);
            assert_eq!(Counting::held_bytes() - before, 1 << 20);
            let moved = Counting.realloc(block, layout, 3 << 20);
            assert_eq!(Counting::held_bytes() - before, 3 << 20);
            Counting.dealloc(moved, Layout::array::<u8>(3 << 20).expect("three"));
            let zeroed = Counting.alloc_zeroed(layout);
            assert_eq!(Counting::held_bytes() - before, 1 << 20);
            Counting.dealloc(zeroed, layout);
        }
        assert_eq!(Counting::held_bytes(), before);
        assert!(Counting::peak_bytes() >= before + (3 << 20));
    }
}
