//! Follows a run's metrics while they are written: each call reads from where the last one ended, and memory
//! use is bounded however long the run.
//!
//! The file may end within a line, be truncated by a resume, or be deleted at any moment; whatever can be
//! read is used. For display (terminal, dashboard); decisions use `metrics`, which reads the whole file.

use std::collections::VecDeque;
use std::path::Path;

use crate::metrics::{Metric, SampleRecord};
use crate::report::StepRecord;
use store::tail;

/// Maximum number of points of a curve; beyond it neighbors are averaged.
const POINTS: usize = 4096;
/// Number of newest samples kept.
const SAMPLES: usize = 256;
/// Bytes read per call.
const LOOK_BYTES: u64 = 4 << 20;

/// The columns of a point of [`MetricsWatch::steps`].
pub const STEP_COLUMNS: [&str; 7] =
    ["step", "loss", "learning_rate", "gradient_norm", "tokens_per_s", "rss_bytes", "elapsed_s"];

/// Converts a step to a point of a curve.
pub fn step_point(record: &StepRecord) -> [f64; STEP_COLUMNS.len()] {
    [
        record.step as f64,
        record.loss,
        record.learning_rate,
        record.gradient_norm,
        record.tokens_per_s,
        record.rss_bytes as f64,
        record.elapsed_s,
    ]
}

/// A curve of bounded size: each point is the mean of `stride` steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve<const N: usize> {
    points: Vec<[f64; N]>,
    stride: usize,
    waiting: Vec<[f64; N]>,
}

impl<const N: usize> Default for Curve<N> {
    fn default() -> Curve<N> {
        Curve { points: Vec::new(), stride: 1, waiting: Vec::new() }
    }
}

impl<const N: usize> Curve<N> {
    /// Adds a point; non-finite points are skipped.
    pub fn push(&mut self, point: [f64; N]) {
        if point.iter().any(|value| !value.is_finite()) {
            return;
        }
        self.waiting.push(point);
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

    /// The points, oldest first; the last one may cover fewer steps.
    pub fn points(&self) -> impl Iterator<Item = [f64; N]> {
        let last = (!self.waiting.is_empty()).then(|| mean(&self.waiting));
        self.points.iter().copied().chain(last)
    }
}

fn mean<const N: usize>(points: &[[f64; N]]) -> [f64; N] {
    let count = points.len().max(1) as f64;
    std::array::from_fn(|column| points.iter().map(|point| point[column]).sum::<f64>() / count)
}

/// The result of a call.
#[derive(Debug, Default)]
pub struct Look {
    /// Whether everything starts again: the file was truncated, replaced, or deleted.
    pub restarted: bool,
    /// New metrics.
    pub added: Vec<Metric>,
    /// Whether there is more to read.
    pub more: bool,
}

/// Follows one run's `metrics.jsonl`.
#[derive(Debug, Default)]
pub struct MetricsWatch {
    /// Steps, as [`step_point`]s.
    pub steps: Curve<{ STEP_COLUMNS.len() }>,
    /// Validations: step and loss.
    pub validations: Curve<2>,
    /// Samples, newest last.
    pub samples: VecDeque<SampleRecord>,
    /// The newest step.
    pub last_step: Option<StepRecord>,
    read_bytes: u64,
    /// The line that ends at `read_bytes`: if it has changed, the file was replaced.
    last_line: String,
}

impl MetricsWatch {
    /// Reads new lines, in portions.
    pub fn refresh(&mut self, path: &Path) -> Look {
        let mut look = Look::default();
        // Only a regular file: a pipe would never end, and a link may lead anywhere.
        let plain = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file);
        let length = plain.map_or(0, |metadata| metadata.len());
        let from = self.read_bytes - self.last_line.len() as u64;
        if length == self.read_bytes && length == 0 {
            return look;
        }
        let mut text = match length < self.read_bytes {
            true => String::new(),
            false => tail::some_lines_from(path, from, LOOK_BYTES).unwrap_or_default(),
        };
        if !text.starts_with(&self.last_line) || length < self.read_bytes {
            *self = MetricsWatch::default();
            look.restarted = true;
            text = tail::some_lines_from(path, 0, LOOK_BYTES).unwrap_or_default();
        }
        let old = self.last_line.len();
        if text.len() == old && length > self.read_bytes + LOOK_BYTES {
            // A line longer than a portion comes in pieces.
            text += &tail::some_lines_from(path, self.read_bytes, LOOK_BYTES).unwrap_or_default();
        }
        let added = &text[old..];
        for line in added.lines() {
            // A line that cannot be parsed is of a newer version or incomplete; the curve has a gap.
            if let Ok(metric) = serde_json::from_str(line) {
                self.take(&metric);
                look.added.push(metric);
            }
        }
        if !added.is_empty() {
            self.read_bytes += added.len() as u64;
            // A line longer than a portion is skipped.
            let last_at = text.strip_suffix('\n').map(|lines| lines.rfind('\n').map_or(0, |at| at + 1));
            text[last_at.unwrap_or(text.len())..].clone_into(&mut self.last_line);
            look.more = self.read_bytes < length;
        }
        look
    }

    fn take(&mut self, metric: &Metric) {
        match metric {
            Metric::Step(record) => {
                self.steps.push(step_point(record));
                self.last_step = Some(record.clone());
            }
            Metric::Validation(record) => self.validations.push([record.step as f64, record.loss]),
            Metric::Sample(record) => {
                if self.samples.len() == SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back(record.clone());
            }
            Metric::EpochFinished(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, elapsed_s: f64) -> String {
        let record = StepRecord {
            step,
            total_steps: 10,
            epoch: 0.5,
            loss: 2.0,
            learning_rate: 1e-3,
            gradient_norm: 0.5,
            tokens_per_s: 10.0,
            tokens_seen: step,
            elapsed_s,
            eta_s: 1.0,
            rss_bytes: 1,
        };
        serde_json::to_string(&Metric::Step(record)).unwrap() + "\n"
    }

    fn steps(watch: &MetricsWatch) -> Vec<u64> {
        watch.steps.points().map(|point| point[0] as u64).collect()
    }

    #[test]
    fn a_line_longer_than_a_look_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        // An odd byte first, so that looks end within characters.
        let long = format!("x{}\n", "é".repeat(LOOK_BYTES as usize));
        std::fs::write(&path, format!("{}{long}{}", line(1, 1.0), line(2, 2.0))).unwrap();
        let mut watch = MetricsWatch::default();
        let mut found = 0;
        for _ in 0..4 {
            found += watch.refresh(&path).added.len();
        }
        assert_eq!((found, watch.last_step.as_ref().map(|record| record.step)), (2, Some(2)));
    }

    #[test]
    fn a_curve_stays_small_and_keeps_its_mean() {
        let mut curve = Curve::<2>::default();
        for i in 0..100_001 {
            curve.push([f64::from(i), 3.0]);
        }
        curve.push([5.0, f64::NAN]);
        let points: Vec<[f64; 2]> = curve.points().collect();
        assert!(points.len() > POINTS / 4 && points.len() <= POINTS, "{}", points.len());
        assert!(points.is_sorted_by(|a, b| a[0] < b[0]), "oldest first");
        assert_eq!(points.last().unwrap()[0], 100_000.0, "the newest step is there");
        assert!(points.iter().all(|point| point[1] == 3.0));
    }

    #[test]
    fn what_grows_is_read_on_and_a_torn_line_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut watch = MetricsWatch::default();
        assert!(watch.refresh(&path).added.is_empty(), "not there yet");
        let whole: String = (1..=4).map(|step| line(step, 1.0)).collect();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let look = watch.refresh(&path);
            assert!(!look.restarted, "cut at {cut}");
        }
        assert_eq!(steps(&watch), [1, 2, 3, 4]);
        std::fs::write(&path, whole.clone() + "not JSON\n\u{fffd}\n" + &line(5, 1.0)).unwrap();
        assert_eq!(watch.refresh(&path).added.len(), 1);
        assert_eq!(steps(&watch), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_file_that_was_cut_back_is_read_anew_even_when_it_has_grown_since() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut watch = MetricsWatch::default();
        let first: String = (1..=4).map(|step| line(step, 1.0)).collect();
        std::fs::write(&path, &first).unwrap();
        watch.refresh(&path);
        std::fs::write(&path, line(1, 1.0)).unwrap();
        assert!(watch.refresh(&path).restarted);
        assert_eq!(steps(&watch), [1]);

        std::fs::write(&path, &first).unwrap();
        watch.refresh(&path);
        let again: String = line(1, 1.0) + &(2..=6).map(|step| line(step, 2.0)).collect::<String>();
        std::fs::write(&path, again).unwrap();
        assert!(watch.refresh(&path).restarted, "lines of the same length, another session's");
        assert_eq!(steps(&watch), [1, 2, 3, 4, 5, 6]);

        std::fs::remove_file(&path).unwrap();
        assert!(watch.refresh(&path).restarted);
        assert!(steps(&watch).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("metrics.jsonl"), folder.path().join("elsewhere"));
        std::fs::write(&elsewhere, line(1, 1.0)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let mut watch = MetricsWatch::default();
        assert!(watch.refresh(&path).added.is_empty());
        assert!(watch.last_step.is_none());
    }
}
