//! A fork-join pool: workers spin a little, then park. One job at a time, cut in items that threads take from
//! a counter.
//!
//! The caller waits for items, not for workers: one that the system has put aside between items holds nobody
//! up, which counts on machines that do other work too. Results never depend on who takes which item, so
//! never on the thread count.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

/// What a job's items are given to, behind a thin pointer.
struct Job<'a> {
    f: &'a (dyn Fn(usize, usize) + Sync),
}

/// The job's number, its items and the next one to take in one word, so that taking an item proves which job
/// it belongs to.
#[derive(Clone, Copy)]
struct Ticket(u64);

const FIELD: u32 = 24;
const FIELD_MASK: u64 = (1 << FIELD) - 1;

impl Ticket {
    fn new(epoch: u64, items: usize) -> Ticket {
        Ticket(epoch << (2 * FIELD) | (items as u64) << FIELD)
    }

    fn epoch(self) -> u64 {
        self.0 >> (2 * FIELD)
    }

    fn item(self) -> Option<usize> {
        let (items, next) = (self.0 >> FIELD & FIELD_MASK, self.0 & FIELD_MASK);
        (next < items).then_some(next as usize)
    }
}

struct Shared {
    /// A [`Ticket`]; adding 1 takes an item.
    ticket: AtomicU64,
    /// Valid while an item of the current ticket is not completed.
    job: AtomicPtr<Job<'static>>,
    completed: AtomicUsize,
    panicked: AtomicBool,
    /// A job is under way: one at a time, and none from inside another.
    busy: AtomicBool,
    shutdown: AtomicBool,
    parked: Vec<AtomicBool>,
}

/// A fixed set of threads, the caller's included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(JoinHandle<()>, Thread)>,
}

/// Spins before a worker parks, some hundred microseconds: longer than the gaps inside a step, shorter than a
/// wait for input.
const SPINS: u32 = 20_000;

impl Pool {
    /// A pool of `threads` threads, at least one.
    pub fn new(threads: usize) -> Pool {
        let workers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(Ticket::new(0, 0).0),
            job: AtomicPtr::new(ptr::null_mut()),
            completed: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            parked: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers = (0..workers)
            // Threads the system refuses are done without; an index is only given to a worker that exists.
            .map_while(|index| {
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
        // Threads that find no item left may push the counter past the end, by one each.
        assert!(items + self.threads() < FIELD_MASK as usize, "{items} items");
        let shared = &*self.shared;
        assert!(!shared.busy.swap(true, Ordering::Acquire), "a job was given to a pool that has one");
        let job = Job { f };
        shared.completed.store(0, Ordering::Relaxed);
        shared.job.store(ptr::from_ref(&job).cast_mut().cast(), Ordering::Relaxed);
        let last = Ticket(shared.ticket.load(Ordering::Relaxed)).epoch();
        shared.ticket.store(Ticket::new((last + 1) & 0xFFFF, items).0, Ordering::SeqCst);
        self.wake();
        take_items(shared, 0);
        let mut spins = 0;
        while shared.completed.load(Ordering::Acquire) != items {
            spins += 1;
            if spins > SPINS {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        shared.busy.store(false, Ordering::Release);
        assert!(!shared.panicked.load(Ordering::Relaxed), "a compute kernel panicked");
    }

    fn wake(&self) {
        for (index, (_, thread)) in self.workers.iter().enumerate() {
            if self.shared.parked[index].swap(false, Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        let last = Ticket(self.shared.ticket.load(Ordering::Relaxed)).epoch();
        self.shared.ticket.store(Ticket::new((last + 1) & 0xFFFF, 0).0, Ordering::SeqCst);
        for (handle, thread) in self.workers.drain(..) {
            thread.unpark();
            // A worker's panic was reported by `run` already.
            drop(handle.join());
        }
    }
}

/// Takes items of whatever job is current until there is none, and returns that job's number.
fn take_items(shared: &Shared, thread: usize) -> u64 {
    loop {
        let ticket = Ticket(shared.ticket.fetch_add(1, Ordering::AcqRel));
        let Some(item) = ticket.item() else { return ticket.epoch() };
        // SAFETY: this thread holds an item of the current job, so `run` has stored its pointer and waits for
        // the item.
        let job = unsafe { &*shared.job.load(Ordering::Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| (job.f)(item, thread))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.completed.fetch_add(1, Ordering::Release);
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    // The end is asked for by a flag that is set before the last ticket: a worker that looks for items at
    // that very moment takes the last ticket for one it has seen.
    let moved = |seen| {
        Ticket(shared.ticket.load(Ordering::SeqCst)).epoch() != seen || shared.shutdown.load(Ordering::SeqCst)
    };
    loop {
        let mut spins = 0;
        while !moved(seen) {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            shared.parked[index].store(true, Ordering::SeqCst);
            // The ticket may have moved between the last look and the flag: look again before sleeping.
            if !moved(seen) {
                std::thread::park();
            }
            shared.parked[index].store(false, Ordering::SeqCst);
        }
        if shared.shutdown.load(Ordering::SeqCst) {
            return;
        }
        seen = take_items(shared, index + 1);
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

    /// A worker may be looking for items of the last job when the pool ends.
    #[test]
    fn ends_whatever_its_workers_do() {
        for round in 0..3000 {
            let pool = Pool::new(3);
            for _ in 0..round % 4 {
                pool.run(4, &|_, _| {});
            }
            if round % 50 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
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
