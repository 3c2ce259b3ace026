//! The thread pool of encoding and counting; it uses fewer threads if the system does not provide all.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Limits the threads of encoding and training; 0: all. Must be called before the first of either.
pub fn set_threads(threads: usize) {
    ASKED.store(threads, Ordering::Relaxed);
}

/// Runs `work` in this crate's pool. Rayon's own pool ends the program if a thread cannot be started, and
/// cannot be retried.
pub fn with<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    if rayon::current_thread_index().is_some() {
        // Already in the pool, or in one of the caller's.
        return work();
    }
    match POOL.get_or_init(as_many_as_there_are) {
        Some(pool) => pool.install(work),
        None => {
            // No thread could be started: this one becomes the pool, once.
            let _own = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            work()
        }
    }
}

/// What `work` makes of each item, on all threads, in order.
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    with(|| items.into_par_iter().map(work).collect())
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
