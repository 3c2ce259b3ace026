//! Predicts memory and time of a training when it starts, and compares them at its end.

use compute::Target;
use runs::report::{Phase, Reporter};
use train::Outcome;

use crate::Result;
use crate::meta::RunMeta;
use crate::plan::{self, Plan};

/// Below this amount of work the time is not measured.
const WORTH_TIMING_FLOPS: f64 = 5e12;

/// Predictions for the remaining steps.
pub(crate) struct Forecast {
    /// Peak memory of this process; `None` on a GPU, where other memory counts.
    memory_bytes: Option<u64>,
    /// Resident file pages before training; pages added later are shards that training maps.
    file_bytes: u64,
    /// Speed of optimizer steps only, without validations and checkpoints.
    tokens_per_s: Option<f64>,
}

/// Reports whether the training fits and how long it takes from `done_steps` on.
///
/// # Errors
/// A shape that cannot be measured.
pub(crate) fn before(
    meta: &RunMeta,
    available_tokens: u64,
    done_steps: u64,
    target: Target,
    reporter: &mut dyn Reporter,
) -> Result<Option<Forecast>> {
    let Some(model) = &meta.model else { return Ok(None) };
    // Memory left over from preparing data is returned first.
    compute::heap::give_back_free_pages();
    let mut plan = plan::of_shape(&meta.recipe, model.clone(), available_tokens, target);
    if let Some(rss) = store::system::rss_bytes().filter(|_| target.is_cpu()) {
        plan.memory = plan.memory.begun_at(rss);
    }
    let share = 1.0 - (done_steps as f64 / plan.tokens.steps.max(1) as f64).min(1.0);
    if plan.flops.total * share >= WORTH_TIMING_FLOPS {
        plan.calibrate(target)?;
    }
    let tokens_per_s = plan.time.map(|time| time.tokens_per_s);
    let time = plan.time.map_or_else(
        || "training will be short".to_owned(),
        |time| format!("about {} of training, measured on this machine", duration(time.training_s * share)),
    );
    reporter.note(Phase::Training, &format!("{}; {time}", assessment(&plan)));
    let memory_bytes = target.is_cpu().then_some(plan.memory.total_bytes);
    let file_bytes = store::system::resident_file_bytes().unwrap_or(0);
    Ok(Some(Forecast { memory_bytes, file_bytes, tokens_per_s }))
}

/// "fits: …" or "does not fit: …".
pub fn assessment(plan: &Plan) -> String {
    if let Some(shortage) = plan.memory_shortage() {
        return format!("does not fit: {shortage}");
    }
    let free = plan
        .memory
        .available_bytes
        .map_or_else(String::new, |bytes| format!(" of {} MB free", bytes / 1_000_000));
    format!("fits: {} MB of memory{free}", plan.memory.total_bytes / 1_000_000)
}

impl Forecast {
    /// Compares the predictions with the measured values.
    pub fn compare(&self, outcome: &Outcome, reporter: &mut dyn Reporter) {
        let mut told = Vec::new();
        if let Some(expected) = self.tokens_per_s.filter(|_| outcome.tokens_per_s > 0.0) {
            told.push(format!(
                "speed {:.0} tokens/s, expected {expected:.0} ({:+.0} %)",
                outcome.tokens_per_s,
                100.0 * (outcome.tokens_per_s / expected - 1.0)
            ));
        }
        if let (Some(expected), Some(peak)) = (self.memory_bytes, store::system::peak_rss_bytes()) {
            let mapped = store::system::resident_file_bytes().unwrap_or(0).saturating_sub(self.file_bytes);
            let peak = peak.saturating_sub(mapped);
            told.push(format!(
                "peak RSS {} MB, expected {} ({:+.0} %)",
                peak / 1_000_000,
                expected / 1_000_000,
                100.0 * (peak as f64 / expected as f64 - 1.0)
            ));
        }
        if !told.is_empty() {
            reporter.note(Phase::Training, &told.join("; "));
        }
    }
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole / 60),
        7200..172_800 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}
