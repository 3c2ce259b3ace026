//! What is read of one run: its state, its metrics as they grow, the end of its log. Files may be half-written, cut back by a
//! resume, or gone at any moment; what can be read is shown.

use std::path::Path;

use store::fs::RealFs;
use store::lock::RunLock;
use store::metrics::Metric;
use store::report::StepRecord;
use store::run::{RunDir, RunState};

use crate::tail::read_from;

/// Of the log.
const LOG_BYTES: u64 = 16 << 10;
/// At most, of a curve: beyond it neighbours are averaged.
const POINTS: usize = 4096;

/// A curve that stays small however long the run: each point is the mean of `stride` steps.
#[derive(Debug)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    stride: usize,
    waiting: Vec<(f64, f64)>,
}

impl Default for Curve {
    fn default() -> Curve {
        Curve { points: Vec::new(), stride: 1, waiting: Vec::new() }
    }
}

impl Curve {
    /// Adds a point.
    pub fn push(&mut self, step: f64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.waiting.push((step, value));
        if self.waiting.len() < self.stride {
            return;
        }
        self.points.push(mean(&self.waiting));
        self.waiting.clear();
        if self.points.len() >= POINTS {
            self.points = self.points.chunks(2).map(mean).collect();
            self.stride *= 2;
        }
    }

    /// The points, oldest first.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    (x / count, y / count)
}

/// One run as its files tell of it.
#[derive(Debug, Default)]
pub struct Watched {
    pub run_id: String,
    /// `None` where it cannot be read, or is gone.
    pub state: Option<RunState>,
    /// Who holds it.
    pub process: Option<u32>,
    pub losses: Curve,
    pub validations: Curve,
    pub last_step: Option<StepRecord>,
    pub log: Vec<String>,
    read_bytes: u64,
}

impl Watched {
    /// Nothing is read yet.
    pub fn new(run_id: &str) -> Watched {
        Watched { run_id: run_id.to_owned(), ..Watched::default() }
    }

    /// Reads what is new.
    pub fn refresh(&mut self, runs: &Path) {
        let path = runs.join(&self.run_id);
        let Ok(run) = RunDir::open(&RealFs, &path) else {
            (self.state, self.process) = (None, None);
            return;
        };
        self.state = run.state(&RealFs).ok();
        self.process = RunLock::holder(&path);
        self.read_metrics(&run.metrics());
        self.log = tail(&run.log(), LOG_BYTES).unwrap_or_default().lines().map(plain).collect();
    }

    fn read_metrics(&mut self, path: &Path) {
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if length < self.read_bytes {
            // Cut back by a resume.
            let run_id = std::mem::take(&mut self.run_id);
            *self = Watched { state: self.state.take(), process: self.process, ..Watched::new(&run_id) };
        }
        let Ok(text) = read_from(path, self.read_bytes) else { return };
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        self.read_bytes += whole as u64;
        for line in text[..whole].lines() {
            // A line that is not understood is of a newer program or torn; the curve has a gap.
            match serde_json::from_str(line) {
                Ok(Metric::Step(record)) => {
                    self.losses.push(record.step as f64, record.loss);
                    self.last_step = Some(record);
                }
                Ok(Metric::Validation(record)) => self.validations.push(record.step as f64, record.loss),
                _ => {}
            }
        }
    }

    /// Lines of the log that hold samples, newest last.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.log.iter().filter_map(|line| line.split_once(": sample ").map(|(_, sample)| sample))
    }
}

/// The end of a file, from a line's beginning on.
fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    let text = read_from(path, length.saturating_sub(bytes))?;
    match length > bytes {
        true => Ok(text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())),
        false => Ok(text),
    }
}

/// Without what could steer the terminal: a log holds text of models.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}
