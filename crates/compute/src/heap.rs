//! The heap: its free pages given back to the system, and who is told when it gives none.
//!
//! It lives here because `compute` is the one crate that may use `unsafe`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The system's allocator, which calls [`on_refusal`]'s function before a request that cannot be met ends the
/// program: without it a library would abort without a word of which limit was reached. Made the program's
/// with `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Telling;

static TOLD: OnceLock<fn(usize)> = OnceLock::new();
static TELLING: AtomicBool = AtomicBool::new(false);

/// From now on, `tell` hears the bytes of an allocation that the system refuses, on the thread that asked for
/// them. It is called once, may allocate a little itself where it has let go of something before, and is
/// meant to end the process; where it returns, the allocation fails as it always does. The first call counts.
pub fn on_refusal(tell: fn(usize)) {
    let _ = TOLD.set(tell);
}

thread_local! {
    // Neither is dropped, so that allocations of a thread that ends may still look.
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, whose requests for memory may fail on this thread without the program ending: it looks at
/// what `try_reserve` returns.
pub fn where_refusal_is_handled<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_FAIL.set(self.0);
        }
    }
    let _restore = Restore(MAY_FAIL.replace(true));
    work()
}

#[cold]
fn refused(bytes: usize) {
    let Some(tell) = TOLD.get() else { return };
    if MAY_FAIL.get() {
        return;
    }
    if !TELLING.swap(true, Ordering::SeqCst) {
        IS_TELLING.set(true);
        tell(bytes);
        IS_TELLING.set(false);
    } else if !IS_TELLING.get() {
        // Another thread is ending the process, with a code and the limit's name: an abort here would
        // overtake it.
        std::thread::sleep(Duration::from_secs(30));
    }
}

// SAFETY: every call goes to the system's allocator with the same arguments, and its answer is given back as
// it is.
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

/// Gives back what was freed and is kept for later: what preparing data leaves would otherwise stand beside a
/// training's memory for as long as that takes. Only glibc keeps so much; elsewhere nothing is done.
pub fn give_back_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc's function takes any number, touches free memory only and may be called from any
        // thread (malloc_trim(3)).
        unsafe { malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static HEARD: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_refusal_is_told_once_and_not_where_it_is_handled() {
        on_refusal(|bytes| {
            HEARD.fetch_add(bytes, Ordering::SeqCst);
            // The words may need memory themselves.
            refused(1000);
        });
        where_refusal_is_handled(|| refused(1));
        assert_eq!(HEARD.load(Ordering::SeqCst), 0);
        refused(20);
        assert_eq!(HEARD.load(Ordering::SeqCst), 20);
    }
}
