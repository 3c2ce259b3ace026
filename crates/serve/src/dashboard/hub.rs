//! Reads the disk once for all clients, and only while there are clients.
//!
//! A client has a position in the data, not a copy: `feed` finds what it was not sent yet by numbers, so many
//! or slow clients cost no memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use runs::metrics::Metric;
use runs::run::RunDir;
use runs::watch::MetricsWatch;
use serde_json::{Value, json};
use store::fs::RealFs;
use tokio::sync::{Notify, watch};

use super::files;
use super::shown::Shown;

/// Time between two reads of the shown runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time between two reads of the list of runs: a minimum, and a multiple of its duration.
const LIST_EVERY: Duration = Duration::from_secs(1);
const LIST_SHARE: u32 = 100;
/// Time between two reads of the machine's load.
const MACHINE_EVERY: Duration = Duration::from_secs(5);
/// Number of a run's newest metrics kept for clients that have the earlier ones.
pub const RECENT: usize = 4096;

/// Data read once for all clients.
pub struct Hub {
    pub shown: Shown,
    /// Runs that clients show, with the number of clients of each; also the total number of clients.
    wanted: Mutex<Wanted>,
    seen: Mutex<Seen>,
    /// Number of reads.
    looked: watch::Sender<u64>,
    wake: Notify,
}

#[derive(Default)]
struct Wanted {
    clients: usize,
    runs: HashMap<String, usize>,
}

/// The data. Each item has the number of the read at which it last changed.
#[derive(Default)]
pub struct Seen {
    pub look: u64,
    pub rows: BTreeMap<String, (u64, Value)>,
    /// Ids in order, oldest first, and when their set changed.
    pub ids: (u64, Vec<String>),
    pub machine: (u64, Value),
    pub runs: HashMap<String, SeenRun>,
}

/// A run that clients show.
#[derive(Default)]
pub struct SeenRun {
    pub metrics: MetricsWatch,
    /// Number of times that its metrics started again.
    pub generation: u64,
    /// Newest metrics, and the number of the first.
    pub recent: VecDeque<Metric>,
    pub first: u64,
    pub standing: (u64, Value),
}

impl SeenRun {
    /// The number of the next metric.
    pub fn next(&self) -> u64 {
        self.first + self.recent.len() as u64
    }
}

/// A client's registration; dropped with it.
pub struct Subscription {
    hub: Arc<Hub>,
    runs: Vec<String>,
}

impl Subscription {
    /// Registers the runs to read.
    pub fn new(hub: &Arc<Hub>, runs: &[String]) -> Subscription {
        let mut wanted = held(&hub.wanted);
        wanted.clients += 1;
        for run in runs {
            *wanted.runs.entry(run.clone()).or_default() += 1;
        }
        hub.wake.notify_one();
        drop(wanted);
        Subscription { hub: Arc::clone(hub), runs: runs.to_vec() }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut wanted = held(&self.hub.wanted);
        wanted.clients -= 1;
        for run in &self.runs {
            if let Some(count) = wanted.runs.get_mut(run) {
                *count -= 1;
            }
        }
        wanted.runs.retain(|_, count| *count > 0);
    }
}

/// Locks; a panicked holder cannot have left a partial change.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub fn new(shown: Shown) -> Hub {
        Hub {
            shown,
            wanted: Mutex::default(),
            seen: Mutex::default(),
            looked: watch::Sender::new(0),
            wake: Notify::new(),
        }
    }

    /// Notifies of each read.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.looked.subscribe()
    }

    /// The data, unless a read is in progress: the answering thread must not wait for a disk.
    pub fn seen(&self) -> Option<MutexGuard<'_, Seen>> {
        match self.seen.try_lock() {
            Ok(seen) => Some(seen),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Reads repeatedly while there are clients.
    pub async fn look_on(self: Arc<Hub>) {
        let mut due = Due { list: Instant::now(), machine: Instant::now() };
        loop {
            let left = held(&self.wanted).clients == 0;
            if left {
                // Runs that no client shows take no memory.
                held(&self.seen).runs.clear();
                self.wake.notified().await;
                continue;
            }
            let hub = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let look = hub.look(&mut due);
                (due, look)
            });
            // A panic in a read is a bug that the panic hook has reported; the next read goes on.
            let more = match looked.await {
                Ok((next, more)) => {
                    due = next;
                    more
                }
                Err(_) => {
                    due = Due { list: Instant::now(), machine: Instant::now() };
                    false
                }
            };
            self.looked.send_modify(|looks| *looks += 1);
            if !more {
                // A new client does not have to wait.
                let _ = tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await;
            }
        }
    }

    /// Reads what is due; returns whether there is more to read.
    fn look(&self, due: &mut Due) -> bool {
        let wanted: Vec<String> = held(&self.wanted).runs.keys().cloned().collect();
        let mut seen = held(&self.seen);
        seen.look += 1;
        let look = seen.look;
        let started = Instant::now();
        if started >= due.list {
            self.look_at_list(&mut seen, look);
            due.list = Instant::now() + LIST_EVERY.max(started.elapsed() * LIST_SHARE);
        }
        if started >= due.machine {
            let machine = machine(&self.shown.runs);
            if seen.machine.1 != machine {
                seen.machine = (look, machine);
            }
            due.machine = started + MACHINE_EVERY;
        }
        seen.runs.retain(|id, _| wanted.contains(id));
        let mut more = false;
        for id in wanted {
            let run = seen.runs.entry(id.clone()).or_default();
            more |= self.look_at_run(run, &id, look);
        }
        more
    }

    fn look_at_list(&self, seen: &mut Seen, look: u64) {
        // An unreadable folder shows no runs.
        let list = runs::run::list(&RealFs, &self.shown.runs).unwrap_or_default();
        let ids: Vec<String> = list.iter().map(|run| run.run_id.clone()).collect();
        for run in list {
            let row = json!({ "run_id": run.run_id, "state": run.state });
            if seen.rows.get(&run.run_id).is_none_or(|(_, known)| *known != row) {
                seen.rows.insert(run.run_id, (look, row));
            }
        }
        if seen.ids.1 != ids || seen.ids.0 == 0 {
            seen.rows.retain(|id, _| ids.contains(id));
            seen.ids = (look, ids);
        }
    }

    fn look_at_run(&self, run: &mut SeenRun, id: &str, look: u64) -> bool {
        let folder = files::find(&self.shown.runs, id);
        let metrics = folder.as_ref().map_or_else(PathBuf::new, RunDir::metrics);
        let found = run.metrics.refresh(&metrics);
        if found.restarted {
            run.generation += 1;
            run.recent.clear();
            run.first = 0;
        }
        run.recent.extend(found.added);
        let old = run.recent.len().saturating_sub(RECENT);
        run.recent.drain(..old);
        run.first += old as u64;
        let standing = folder.and_then(|folder| (self.shown.standing)(&folder)).unwrap_or_default();
        if run.standing.1 != standing || run.standing.0 == 0 {
            run.standing = (look, standing);
        }
        found.more
    }
}

/// Time of the next read.
#[derive(Clone, Copy)]
struct Due {
    list: Instant,
    machine: Instant,
}

fn machine(runs: &std::path::Path) -> Value {
    // Rounded, so that clients do not get an event for every memory page.
    let rounded = |bytes: Option<u64>| bytes.map(|bytes| bytes / 10_000_000 * 10_000_000);
    json!({
        "cpu": store::system::cpu_model(),
        "threads": store::system::available_threads(),
        "load": store::system::load_average().map(|load| (10.0 * load).round() / 10.0),
        "available_memory_bytes": rounded(store::system::available_memory_bytes()),
        "free_disk_bytes": rounded(store::system::free_disk_bytes(runs)),
    })
}
