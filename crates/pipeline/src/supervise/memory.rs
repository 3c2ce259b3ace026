//! When memory runs out: whether it was the worker's end, and what would take less of it.

use std::time::{Duration, Instant};

use compute::Target;
use runs::run::RunDir;
use store::fs::RealFs;

use crate::meta::RunMeta;
use crate::plan::{self, Plan};
use crate::project::Project;

/// A worker that was killed ends within so long of the count's rise.
const TOGETHER: Duration = Duration::from_secs(10);
/// Less of it is not worth the time that recomputing takes.
const WORTH_SHARE: f64 = 0.05;

/// The system's count of processes killed for want of memory, watched: a kill while the worker lived on was
/// another's.
pub(super) struct Kills {
    count: u64,
    rose: Option<Instant>,
}

impl Kills {
    pub fn watch() -> Kills {
        Kills { count: store::system::out_of_memory_kills().unwrap_or(0), rose: None }
    }

    pub fn look(&mut self) {
        let count = store::system::out_of_memory_kills().unwrap_or(0);
        if count > self.count {
            self.rose = Some(Instant::now());
        }
        self.count = count;
    }

    /// Whether one came just before now.
    pub fn came_just_now(&mut self) -> bool {
        self.look();
        self.rose.is_some_and(|at| at.elapsed() <= TOGETHER)
    }
}

fn plan(project: &Project, run: &RunDir, target: Target, recompute: bool) -> Option<Plan> {
    let mut meta = RunMeta::read(&RealFs, run).ok()?;
    meta.recipe.train.recompute = recompute;
    let tokens = crate::text::prepared_tokens(project).map_or(0, |prepared| prepared.train_tokens);
    Some(plan::of_shape(&meta.recipe, meta.model?, tokens, target))
}

/// Switches recomputation on in the run's record, where that is off and takes less memory; says so.
pub(super) fn recompute_from_now_on(project: &Project, run: &RunDir, target: Target) -> Option<String> {
    let mut meta = RunMeta::read(&RealFs, run).ok()?;
    if meta.recipe.train.recompute {
        return None;
    }
    let kept = plan(project, run, target, false)?.memory.total_bytes;
    let recomputed = plan(project, run, target, true)?.memory.total_bytes;
    if recomputed as f64 > (1.0 - WORTH_SHARE) * kept as f64 {
        return None;
    }
    // The worker is gone; whoever took its place has its own say.
    let _lock = run.lock().ok()?;
    meta.recipe.train.recompute = true;
    meta.write(&RealFs, run).ok()?;
    Some(format!(
        "memory ran out: from here on layers are computed again in the backward (train.recompute), which takes about {} MB instead of \
         {} MB and about a quarter more time, and changes no bit of the run",
        recomputed / 1_000_000,
        kept / 1_000_000
    ))
}

/// What the run needs and which settings would fit, for a diagnosis.
pub(super) fn remedy(project: &Project, run: &RunDir, target: Target) -> Option<String> {
    let recompute = RunMeta::read(&RealFs, run).ok()?.recipe.train.recompute;
    let plan = plan(project, run, target, recompute)?;
    let needed = plan.memory.total_bytes / 1_000_000;
    let free = plan.memory.available_bytes? / 1_000_000;
    Some(match (&plan.fits_with, plan.memory_shortage()) {
        (Some(flags), _) => {
            format!("it needs about {needed} MB and {free} MB are free: a new run fits with {flags}")
        }
        (None, Some(shortage)) => shortage,
        (None, None) => format!(
            "it needs about {needed} MB and {free} MB are free now: another program took the memory then, so keep that one away"
        ),
    })
}
