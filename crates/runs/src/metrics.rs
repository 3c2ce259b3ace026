//! `metrics.jsonl`: one JSON line per step, validation, epoch or sample, appended during a run.
//!
//! Resuming from a checkpoint truncates the file to the checkpoint's step, so that no step occurs twice. An
//! incomplete last line (a crash during a write) is removed too.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::report::{StepRecord, ValidationRecord};
use store::fs::{Fs, FsFile};
use store::{Error, Result};

/// File name in a run's folder.
pub const FILE_NAME: &str = "metrics.jsonl";

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// An optimizer step.
    Step(StepRecord),
    /// A pass over the validation set.
    Validation(ValidationRecord),
    /// A complete epoch.
    EpochFinished(EpochRecord),
    /// A generated sample.
    Sample(SampleRecord),
}

/// A sample of the model at a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The step it follows.
    pub step: u64,
    /// The prompt.
    pub prompt: String,
    /// The generated text, without the prompt.
    pub text: String,
}

/// One epoch of a run's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// The step that completed it.
    pub step: u64,
    /// Mean loss over the epoch's trained tokens, in nats per token.
    pub train_loss: f64,
    /// Validation loss after the epoch, if there is a validation set.
    pub validation_loss: Option<f64>,
    /// Trained tokens of the epoch.
    pub tokens: u64,
    /// Seconds, validation included.
    pub seconds: f64,
}

impl Metric {
    /// The step after which the line was written.
    pub fn step(&self) -> u64 {
        match self {
            Metric::Step(record) => record.step,
            Metric::Validation(record) => record.step,
            Metric::EpochFinished(record) => record.step,
            Metric::Sample(record) => record.step,
        }
    }
}

/// The file, open for appending.
pub struct MetricsLog {
    path: PathBuf,
    file: Box<dyn FsFile>,
    // Lines not written yet because of a full disk; in bytes, because a write may stop within a line.
    waiting: Vec<u8>,
}

impl MetricsLog {
    /// Opens the file, keeping lines up to and including `last_step` (0 for a new run).
    pub fn open(fs: &dyn Fs, path: &Path, last_step: u64) -> Result<MetricsLog> {
        if fs.exists(path) {
            let text = fs.read(path).map_err(Error::io("read", path))?;
            let (_, kept) = parse(&text, last_step);
            if kept < text.len() {
                fs.set_len(path, kept as u64).map_err(Error::io("cut", path))?;
            }
        }
        let file = fs.append(path).map_err(Error::io("open", path))?;
        Ok(MetricsLog { path: path.to_owned(), file, waiting: Vec::new() })
    }

    /// Appends a line. On an error (a full disk) the line is kept in memory and written with the next
    /// successful call.
    pub fn append(&mut self, metric: &Metric) -> Result<()> {
        serde_json::to_writer(&mut self.waiting, metric).map_err(|error| Error::Unwritable {
            path: self.path.clone(),
            form: "JSON",
            message: error.to_string(),
        })?;
        self.waiting.push(b'\n');
        self.flush()
    }

    /// Writes the lines in memory.
    pub fn flush(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            match self.file.write(&self.waiting) {
                Ok(0) => return Err(Error::io("write", &self.path)(std::io::ErrorKind::WriteZero.into())),
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("write", &self.path)(error)),
            }
        }
        Ok(())
    }

    /// Writes the lines in memory and syncs the file.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync().map_err(Error::io("flush", &self.path))
    }
}

/// All complete lines of the file; empty if it does not exist.
pub fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<Metric>> {
    if !fs.exists(path) {
        return Ok(Vec::new());
    }
    let text = fs.read(path).map_err(Error::io("read", path))?;
    Ok(parse(&text, u64::MAX).0)
}

/// The lines up to an incomplete last one or one beyond `last_step`, and their size in bytes. A complete line
/// that cannot be parsed stays in the file and is skipped: one damaged line must not cost all after it.
fn parse(text: &[u8], last_step: u64) -> (Vec<Metric>, usize) {
    let mut metrics = Vec::new();
    let mut kept = 0;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let whole = line.ends_with(b"\n");
        match serde_json::from_slice::<Metric>(line) {
            Ok(metric) if whole && metric.step() <= last_step => metrics.push(metric),
            Err(_) if whole => {}
            _ => break,
        }
        kept += line.len();
    }
    (metrics, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::fs::faulty::{Fault, MemoryFs};

    fn line(step: u64) -> Metric {
        Metric::Validation(ValidationRecord {
            step,
            epoch: 0.1 * step as f64,
            loss: 1.0 / 3.0,
            perplexity: 1.4,
            best: true,
            in_phase: None,
            seconds: 0.5,
        })
    }

    fn written(disk: &MemoryFs, steps: impl IntoIterator<Item = u64>) -> MetricsLog {
        let mut log = MetricsLog::open(disk, Path::new("/m"), 0).unwrap();
        for step in steps {
            log.append(&line(step)).unwrap();
        }
        log
    }

    fn steps(disk: &MemoryFs) -> Vec<u64> {
        read(disk, Path::new("/m")).unwrap().iter().map(Metric::step).collect()
    }

    #[test]
    fn resuming_cuts_back_to_the_checkpoint() {
        let disk = MemoryFs::new();
        drop(written(&disk, 1..=9));
        let mut log = MetricsLog::open(&disk, Path::new("/m"), 5).unwrap();
        log.append(&line(6)).unwrap();
        assert_eq!(steps(&disk), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&disk, Path::new("/m")).unwrap()[2], line(3), "numbers read back exactly");
    }

    #[test]
    fn a_torn_line_is_cut_wherever_it_was_torn() {
        let disk = MemoryFs::new();
        drop(written(&disk, 1..=2));
        let whole = disk.read(Path::new("/m")).unwrap();
        for length in 0..whole.len() {
            disk.mutate(Path::new("/m"), |bytes| *bytes = whole[..length].to_vec());
            let expected = usize::from(length >= whole.len() / 2);
            assert_eq!(steps(&disk).len(), expected, "cut at {length}");
            let mut log = MetricsLog::open(&disk, Path::new("/m"), 9).unwrap();
            log.append(&line(7)).unwrap();
            assert_eq!(steps(&disk).len(), expected + 1);
        }
    }

    #[test]
    fn a_full_disk_delays_lines_but_loses_none() {
        let disk = MemoryFs::new();
        let mut log = written(&disk, 1..=1);
        disk.set_capacity(Some(disk.used_bytes() + 10));
        assert_eq!(log.append(&line(2)).unwrap_err().kind(), store::ErrorKind::StorageFull);
        assert!(log.append(&line(3)).is_err());
        disk.set_capacity(None);
        log.append(&line(4)).unwrap();
        assert_eq!(steps(&disk), [1, 2, 3, 4]);

        disk.fail_at(disk.calls(), Fault::Error(std::io::ErrorKind::Other));
        assert!(log.append(&line(5)).is_err());
        log.flush().unwrap();
        assert_eq!(steps(&disk), [1, 2, 3, 4, 5]);
    }
}
