//! Memory beside the arena, and pointers that threads share.

/// Growable bytes on cache-line boundaries.
#[derive(Default)]
pub(super) struct AlignedBuffer {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl AlignedBuffer {
    /// Its size.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }

    /// A pointer to at least `bytes` bytes; contents are whatever they were.
    pub fn ensure(&mut self, bytes: usize) -> *mut u8 {
        let lines = bytes.div_ceil(64);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 64]));
        }
        self.lines.as_mut_ptr().cast()
    }
}

/// A raw pointer that threads share while they touch disjoint parts.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub T);
// SAFETY: a statement of the user, who writes disjoint parts from different threads; every use says why.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// The value; a method so that closures capture the wrapper, not the field.
    pub fn get(&self) -> T {
        self.0
    }
}
