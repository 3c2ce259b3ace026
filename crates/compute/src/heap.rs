//! The heap: its free pages given back to the system, and who is told when it gives none.
//!
//! It lives here because `compute` is the one crate that may use `unsafe`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The system's allocator, which calls [`on_refusal`]'s function before a request that cannot be met ends the program: without it a library
/// would abort without a word of which limit was reached. Made the program's with `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Telling;

static TOLD: OnceLock<fn(usize)> = OnceLock::new();
static TELLING: AtomicBool = AtomicBool::new(false);

/// From now on, `tell` hears the bytes of an allocation that the system refuses, on the thread that asked for them. It is called once, may
/// allocate a little itself where it has let go of something before, and is meant to end the process; where it returns, the allocation
/// fails as it always does. The first call counts.
pub fn on_refusal(tell: fn(usize)) {
    let _ = TOLD.set(tell);
}

#[cold]
fn refused(bytes: usize) {
    if let Some(tell) = TOLD.get()
        && !TELLING.swap(true, Ordering::SeqCst)
    {
        tell(bytes);
    }
}

// SAFETY: every call goes to the system's allocator with the same arguments, and its answer is given back as it is.
unsafe impl GlobalAlloc for Telling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc(layout) };
        if pointer.is_null() {
            refused(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if pointer.is_null() {
            refused(layout.size());
        }
        pointer
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(pointer, layout, bytes) };
        if moved.is_null() {
            refused(bytes);
        }
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) };
    }
}

/// Gives back what was freed and is kept for later: what preparing data leaves would otherwise stand beside a training's memory for
/// as long as that takes. Only glibc keeps so much; elsewhere nothing is done.
pub fn give_back_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc's function takes any number, touches free memory only and may be called from any thread (malloc_trim(3)).
        unsafe { malloc_trim(0) };
    }
}
