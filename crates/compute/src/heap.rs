//! The heap's free pages, given back to the system.
//!
//! It lives here because `compute` is the one crate that may use `unsafe`.

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
