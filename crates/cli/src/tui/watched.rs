//! Reads one run: its state, its growing metrics, the end of its log. Files may be half-written, truncated by
//! a resume, or deleted at any moment; whatever can be read is shown.

use std::path::Path;

use runs::run::{RunDir, RunState};
use runs::watch::MetricsWatch;
use store::fs::RealFs;
use store::lock::RunLock;
use store::tail::read_from;

use crate::output::plain_line;

/// Bytes read from the end of the log.
const LOG_BYTES: u64 = 16 << 10;

/// One run, as read from its files.
#[derive(Debug, Default)]
pub struct Watched {
    pub run_id: String,
    /// `None` if it cannot be read or the run is gone.
    pub state: Option<RunState>,
    /// Process id of the worker that locks the run.
    pub process: Option<u32>,
    pub metrics: MetricsWatch,
    pub log: Vec<String>,
}

impl Watched {
    /// A run before its first refresh.
    pub fn new(run_id: &str) -> Watched {
        Watched { run_id: run_id.to_owned(), ..Watched::default() }
    }

    /// Reads what was added since the last call.
    pub fn refresh(&mut self, runs: &Path) {
        let path = runs.join(&self.run_id);
        let Ok(run) = RunDir::open(&RealFs, &path) else {
            (self.state, self.process) = (None, None);
            return;
        };
        self.state = run.state(&RealFs).ok();
        self.process = RunLock::holder(&path);
        while self.metrics.refresh(&run.metrics()).more {}
        // A log contains text written by models.
        self.log = tail(&run.log(), LOG_BYTES)
            .unwrap_or_default()
            .lines()
            .map(|line| plain_line(line).into_owned())
            .collect();
    }

    /// Samples from the log, newest last.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.log.iter().filter_map(|line| line.split_once(": sample ").map(|(_, sample)| sample))
    }
}

/// The end of a file, starting at the beginning of a line.
fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    let text = read_from(path, length.saturating_sub(bytes))?;
    match length > bytes {
        true => Ok(text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())),
        false => Ok(text),
    }
}
