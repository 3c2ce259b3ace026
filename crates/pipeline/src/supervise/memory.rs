//! Out of memory: whether it caused the worker's exit, and which settings need less.

use std::time::{Duration, Instant};

use compute::Target;
use runs::run::RunDir;
use store::fs::RealFs;

use crate::meta::RunMeta;
use crate::plan::{self, Plan};
use crate::project::Project;

/// Maximum time between a rise of the count and the exit of the killed worker.
const TOGETHER: Duration = Duration::from_secs(10);
/// Smaller savings are not worth the time of recomputation.
const WORTH_SHARE: f64 = 0.05;

/// Watches the system's count of out-of-memory kills: a kill while the worker lived on was another process's.
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

    /// Whether one occurred just before now.
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

/// Enables recomputation in the run's record if it is off and saves memory; returns a message.
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
    // The worker has exited; if another one has started, it decides itself.
    let _lock = run.lock().ok()?;
    meta.recipe.train.recompute = true;
    meta.write(&RealFs, run).ok()?;
    Some(format!(
        "out of memory: activations are recomputed in the backward pass from here on (train.recompute), \
         which needs about {} MB instead of {} MB and about a quarter more time, and keeps the run \
         bit-identical",
        recomputed / 1_000_000,
        kept / 1_000_000
    ))
}

/// The run's memory need and settings that would fit, for a diagnosis.
pub(super) fn remedy(project: &Project, run: &RunDir, target: Target) -> Option<String> {
    let recompute = RunMeta::read(&RealFs, run).ok()?.recipe.train.recompute;
    let plan = plan(project, run, target, recompute)?;
    let needed = plan.memory.total_bytes / 1_000_000;
    let free = plan.memory.available_bytes? / 1_000_000;
    Some(match (&plan.fits_with, plan.memory_shortage()) {
        (Some(flags), _) => {
            format!("training needs about {needed} MB, and {free} MB are free: a new run fits with {flags}")
        }
        (None, Some(shortage)) => shortage,
        (None, None) => format!(
            "training needs about {needed} MB, and {free} MB are free now: another program used the memory \
             at that time; do not run both at once"
        ),
    })
}
