//! One attack in progress: which cases, and what came of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use compute::rng::Rng;

use super::arguments::{Arguments, Attack};
use super::copy::copy;
use crate::python;

/// A case that broke a promise.
pub struct Failure {
    pub case: u64,
    /// What happened, in words.
    pub what: String,
    /// Copy of the files that repeat it.
    pub kept: Option<PathBuf>,
}

/// One attack in progress: which cases, its scratch folder, its results.
pub struct Campaign {
    pub attack: Attack,
    pub program: PathBuf,
    /// On a file system in memory where there is one, so that flushes cost nothing.
    pub scratch: tempfile::TempDir,
    /// Where projects of failures are kept.
    pub kept: PathBuf,
    pub seed: u64,
    pub next_case: u64,
    pub only_case: bool,
    pub most: u64,
    pub limit: Option<Duration>,
    /// When the first case began: what comes before it costs none of the time.
    pub begun: Option<Instant>,
    pub told: Instant,
    pub count: u64,
    pub failures: Vec<Failure>,
    pub skipped: Option<String>,
    pub notes: BTreeMap<String, u64>,
}

impl Campaign {
    /// How many failures keep their files; the others can be repeated by number.
    const MOST_KEPT: usize = 50;

    /// Before its first case.
    pub fn new(attack: Attack, arguments: &Arguments, program: &Path) -> Result<Campaign> {
        let memory = Path::new("/dev/shm");
        let scratch = tempfile::Builder::new().prefix("text2llm-attack-").tempdir_in(memory);
        Ok(Campaign {
            attack,
            program: program.to_owned(),
            scratch: scratch.or_else(|_| tempfile::tempdir()).context("no folder for scratch files")?,
            kept: python::target_folder().join("attack"),
            seed: arguments.seed,
            next_case: arguments.case.unwrap_or(arguments.from),
            only_case: arguments.case.is_some(),
            most: if arguments.full { attack.full_count() } else { u64::MAX },
            limit: (!arguments.full && arguments.case.is_none())
                .then(|| Duration::from_secs(arguments.seconds)),
            begun: None,
            told: Instant::now(),
            count: 0,
            failures: Vec::new(),
            skipped: None,
            notes: BTreeMap::new(),
        })
    }

    /// The next case's number and random stream; `None` once the time or the number of cases is used up.
    pub fn next(&mut self) -> Option<(u64, Rng)> {
        let is_first = self.begun.is_none();
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let late = self.limit.is_some_and(|limit| !is_first && begun.elapsed() >= limit);
        if late || self.count >= self.most || (self.only_case && !is_first) {
            return None;
        }
        if self.told.elapsed() > Duration::from_secs(10) {
            self.told = Instant::now();
            println!("  {}: {} so far, {} failed", self.attack.name(), self.count, self.failures.len());
        }
        let case = self.next_case;
        self.next_case += 1;
        Some((case, Rng::from_parts(self.seed, self.attack.name(), &[case])))
    }

    /// Adds to the number of kills, calls, flips, files or requests that were tried.
    pub fn did(&mut self, count: u64) {
        self.count += count;
    }

    /// Counts an observation that is no failure; listed at the end.
    pub fn note(&mut self, what: impl Into<String>) {
        *self.notes.entry(what.into()).or_default() += 1;
    }

    /// A folder in the scratch folder that is not there yet.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path().join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(folder)
    }

    /// Records a failure and keeps a copy of `files`, a folder or a file.
    pub fn fail(&mut self, case: u64, what: impl Into<String>, files: Option<&Path>) -> Result<()> {
        let what = what.into();
        let name = self.attack.name();
        let mut kept = None;
        if let Some(files) = files.filter(|_| self.failures.len() < Self::MOST_KEPT) {
            let end = files.extension().map_or(String::new(), |end| format!(".{}", end.to_string_lossy()));
            let place = self.kept.join(format!("{name}-{}-{case}{end}", self.seed));
            copy(files, &place)?;
            kept = Some(place);
        }
        println!("  FAILED {name} {case}: {what}");
        println!("    again: cargo xtask attack --only {name} --seed {} --case {case}", self.seed);
        if let Some(kept) = &kept {
            println!("    files: {}", kept.display());
        }
        self.failures.push(Failure { case, what, kept });
        Ok(())
    }
}
