//! A fork-join pool: workers spin a little, then park. One job at a time, cut in items that threads take from a counter.
//!
//! Results never depend on who takes which item, so they never depend on the thread count.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

type Job = *const (dyn Fn(usize, usize) + Sync);

struct Shared {
    /// Counts jobs; workers wait for it to move.
    epoch: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    items: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have not finished the current job.
    running: AtomicUsize,
    panicked: AtomicBool,
    shutdown: AtomicBool,
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is written only by the thread inside `run` while no worker is running (`running == 0`), and read by workers only
// after they have seen the epoch move, which is stored after the write.
unsafe impl Sync for Shared {}
// SAFETY: the raw job pointer is only followed during `run`, which outlives every use.
unsafe impl Send for Shared {}

/// A fixed set of threads, the caller's included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
}

/// About 100 µs of spinning before a worker parks: longer than the gaps inside a step, shorter than a wait for input.
const SPINS: u32 = 20_000;

impl Pool {
    /// A pool of `threads` threads, at least one.
    pub fn new(threads: usize) -> Pool {
        let workers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            items: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            parked: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers = (0..workers)
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                let spawned = std::thread::Builder::new()
                    .name(format!("compute-{}", index + 1))
                    .spawn(move || worker(&shared, index));
                spawned.ok().map(|handle| {
                    let thread = handle.thread().clone();
                    (handle, thread)
                })
            })
            .collect();
        Pool { shared, workers }
    }

    /// Number of threads that work, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(item, thread)` for every item in `0..items`, and returns when all are done.
    pub fn run(&self, items: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        if self.workers.is_empty() || items <= 1 {
            for item in 0..items {
                f(item, 0);
            }
            return;
        }
        let shared = &*self.shared;
        // SAFETY: no worker runs between jobs, so nobody reads `job` now; the lifetime is erased only until this call returns,
        // and it returns after `running` is 0 again.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<*const (dyn Fn(usize, usize) + Sync + '_), Job>(
                std::ptr::from_ref(f),
            ));
        }
        shared.items.store(items, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (index, (_, thread)) in self.workers.iter().enumerate() {
            if shared.parked[index].swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| take_items(shared, f, 0)));
        let mut spins = 0;
        while shared.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins > SPINS {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.panicked.load(Ordering::Relaxed), "a compute thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker's panic was reported by `run` already.
            drop(handle.join());
        }
    }
}

fn take_items(shared: &Shared, f: &(dyn Fn(usize, usize) + Sync), thread: usize) {
    let items = shared.items.load(Ordering::Relaxed);
    loop {
        let item = shared.next.fetch_add(1, Ordering::Relaxed);
        if item >= items {
            return;
        }
        f(item, thread);
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::SeqCst) == seen {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            shared.parked[index].store(true, Ordering::SeqCst);
            // The epoch may have moved between the last look and the flag: look again before sleeping.
            if shared.epoch.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            shared.parked[index].store(false, Ordering::SeqCst);
        }
        seen += 1;
        if shared.shutdown.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the epoch moved, so `job` was written before and stays valid until this worker lowers `running`.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job {
            // SAFETY: as above.
            let f = unsafe { &*job };
            if catch_unwind(AssertUnwindSafe(|| take_items(shared, f, index + 1))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once_whatever_the_threads() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for items in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                pool.run(items, &|item, thread| {
                    assert!(thread < threads);
                    counts[item].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn wakes_from_parking() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicUsize::new(0);
            pool.run(100, &|item, _| {
                sum.fetch_add(item, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 4950);
        }
    }
}
