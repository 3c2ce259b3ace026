//! The threads of encoding and counting: as many as the system gives, where it does not give all.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Uses at most so many threads for encoding and training; 0: all. To be called before the first of either.
pub fn set_threads(threads: usize) {
    ASKED.store(threads, Ordering::Relaxed);
}

/// Runs `work` with the threads of this crate. Rayon's own pool ends the program where a thread is refused,
/// and cannot be tried again.
pub fn with<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    if rayon::current_thread_index().is_some() {
        // In the pool already, or in one that the caller has chosen.
        return work();
    }
    match POOL.get_or_init(as_many_as_there_are) {
        Some(pool) => pool.install(work),
        None => {
            // Not one thread: this one becomes its own pool, once.
            let _own = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            work()
        }
    }
}

fn as_many_as_there_are() -> Option<ThreadPool> {
    let mut threads = match ASKED.load(Ordering::Relaxed) {
        0 => store::system::available_threads(),
        asked => asked,
    };
    loop {
        if let Ok(pool) = ThreadPoolBuilder::new().num_threads(threads).build() {
            return Some(pool);
        }
        if threads == 1 {
            return None;
        }
        threads /= 2;
    }
}
