//! Tests of guarantees on this machine, with the program itself: exact resume after SIGKILL (`verify`), and
//! many kills at random moments (`chaos`).
//!
//! A test creates a scratch project next to the real one, trains the same recipe with and without kills in
//! separate processes, and compares the files byte for byte. The real project is not touched.

mod chaos;
mod verify;

use compute::Target;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use runs::metrics::Metric;
use runs::run::RunDir;
use serde::Serialize;
use store::fs::{Fs, RealFs};
use train::{Checkpoints, StopFlag};

use crate::project::Project;
use crate::stopped::Stopped;
use crate::{Error, Result};
use recipe::Recipe;

pub use chaos::{Chaos, chaos};
pub use verify::{VerifiedResume, verify_resume};

/// Options of a test.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// The scratch project is created in this project's folder, on its disk.
    pub project: &'a Project,
    /// The recipe; the test sets its steps, checkpoints and samples.
    pub recipe: &'a Recipe,
    /// The folder that relative corpus paths start from.
    pub base_dir: &'a Path,
    /// Path of the program.
    pub program: PathBuf,
    /// Optimizer steps per run.
    pub steps: u64,
    /// Device and threads.
    pub target: Target,
    /// Raised to cancel the test; nothing is left behind then either.
    pub stop: StopFlag,
}

/// The comparison of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// "weights", "moments", "loader and state", "metrics".
    pub what: &'static str,
    /// Bytes compared.
    pub bytes: u64,
    /// Whether they are equal.
    pub equal: bool,
}

/// The scratch project; removed when dropped, unless kept.
struct Scratch {
    project: Project,
    program: PathBuf,
    target: Target,
    stop: StopFlag,
    keep: bool,
}

/// Makes a recipe's paths absolute, so that they are found from any folder.
fn take_along(recipe: &mut Recipe, base_dir: &Path) {
    let absolute = |path: &str| {
        let there = base_dir.join(path);
        let is_of_disk = path != corpus::SAMPLE && (there.exists() || path.contains(['*', '?', '[']));
        if is_of_disk { there.display().to_string() } else { path.to_owned() }
    };
    let data = &mut recipe.data;
    let of_phases = recipe.train.phase.iter_mut().filter_map(|phase| phase.mix.as_mut());
    for mix in data.mix.iter_mut().chain(of_phases) {
        mix.weights = mix.weights.iter().map(|(path, weight)| (absolute(path), *weight)).collect();
    }
    let lists = data.filters.url_block_lists.iter_mut();
    let sets = data.decontaminate.iter_mut().flat_map(|options| &mut options.against);
    let classifier = data.classifier.iter_mut().map(|options| &mut options.model);
    let perplexity = data.perplexity.iter_mut().map(|options| &mut options.model);
    let of_data = data.paths.iter_mut().chain(lists).chain(sets).chain(classifier).chain(perplexity);
    let examples = recipe.finetune.iter_mut().flat_map(|options| {
        let template = options.chat_template.iter_mut();
        options.data.iter_mut().chain(&mut options.validation).chain(template)
    });
    for path in of_data.chain(examples).chain(&mut recipe.train.init) {
        *path = absolute(path);
    }
}

impl Scratch {
    /// Writes the test's recipe to a new folder.
    fn new(trial: &Trial<'_>, checkpoint_every: u64) -> Result<Scratch> {
        let root = trial.project.root().join(format!("{}{}", crate::sweep::TRIAL, std::process::id()));
        let mut recipe = trial.recipe.clone();
        take_along(&mut recipe, trial.base_dir);
        let options = &mut recipe.train;
        options.set_steps(trial.steps);
        (options.checkpoint_every, options.validate_every) = (checkpoint_every, (trial.steps / 3).max(1));
        (options.sample_every, options.sample_prompts, options.sample_conversations) = (0, Vec::new(), 0);
        // It must run to its end.
        options.early_stopping = 0;
        recipe.notify = recipe::NotifyOptions::default();
        let project = Project::new(root);
        store::atomic::write(&RealFs, &project.recipe_file(), recipe.to_toml().as_bytes())?;
        Ok(Scratch {
            project,
            program: trial.program.clone(),
            target: trial.target,
            stop: trial.stop.clone(),
            keep: false,
        })
    }

    fn start(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            // Environment settings would change the test's recipe.
            if name.to_string_lossy().starts_with("TEXT2LLM_") && name != "TEXT2LLM_CPU" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .args(["--json", "--yes", "--threads", &self.target.threads.to_string()])
            .args(["--device", self.target.word()])
            .args(["--project".as_ref(), self.project.root().as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::Environment {
                message: format!("cannot start `{}`: {error}", self.program.display()),
            })
    }

    /// Runs a command to its end.
    fn finish(&self, arguments: &[&str]) -> Result<()> {
        let mut last_error = String::new();
        let mut child = self.start(arguments)?;
        each_line(&mut child, |line| {
            if line["event"] == "error" {
                last_error = line["message"].as_str().unwrap_or_default().to_owned();
            }
            !self.stop.is_raised()
        });
        if self.stop.is_raised() {
            // Ctrl-C reaches the child too; SIGTERM does not.
            let _ = child.kill();
        }
        let ended = child.wait();
        self.check_stop()?;
        match ended {
            Ok(status) if status.success() => Ok(()),
            ended => Err(Error::Environment {
                message: format!(
                    "`text2llm {}` failed in the trial: {ended:?} {last_error}",
                    arguments.join(" ")
                ),
            }),
        }
    }

    /// The error of a cancelled test.
    fn check_stop(&self) -> Result<()> {
        if self.stop.is_raised() {
            // Its scratch folder is removed.
            return Err(Stopped { phase: None, steps: None, command: None }.into());
        }
        Ok(())
    }

    fn newest_run(&self) -> Result<RunDir> {
        RunDir::find(&RealFs, &self.project.runs(), "latest").map_err(Error::from)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = match self.keep {
            // Otherwise the next command would take it for a leftover of a kill.
            true => std::fs::write(self.project.root().join(store::sweep::KEPT), ""),
            // Leftovers of a test only use disk space.
            false => RealFs.remove_dir_all(self.project.root()),
        };
    }
}

/// Passes each event to the callback until it returns.
fn each_line(child: &mut Child, mut heard: impl FnMut(&serde_json::Value) -> bool) {
    let Some(stdout) = child.stdout.take() else { return };
    for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
        if let Ok(value) = serde_json::from_str(&line)
            && !heard(&value)
        {
            return;
        }
    }
}

/// Compares the final states of two runs.
fn compare(whole: &RunDir, other: &RunDir, step: u64) -> Result<Vec<Compared>> {
    let read = |run: &RunDir, file: &str| {
        let path = Checkpoints::new(&RealFs, &run.checkpoints()).path(step).join(file);
        RealFs.read(&path).map_err(store::Error::io("read", &path))
    };
    let mut compared = Vec::new();
    let averaged =
        Checkpoints::new(&RealFs, &whole.checkpoints()).path(step).join("average.safetensors").exists();
    let average = averaged.then_some(("weight average", "average.safetensors"));
    let files = [
        ("weights", "weights.safetensors"),
        ("moments", "moments.safetensors"),
        ("loader and state", "trainer.json"),
    ];
    for (what, file) in files.into_iter().chain(average) {
        let (a, b) = (read(whole, file)?, read(other, file)?);
        compared.push(Compared { what, bytes: a.len() as u64, equal: a == b });
    }
    let (a, b) = (timeless(whole)?, timeless(other)?);
    let bytes = RealFs.file_bytes(&whole.metrics()).unwrap_or(0);
    compared.push(Compared { what: "metrics", bytes, equal: a == b });
    Ok(compared)
}

/// A run's metrics without times and system values.
fn timeless(run: &RunDir) -> Result<Vec<Metric>> {
    let mut metrics = runs::metrics::read(&RealFs, &run.metrics())?;
    for metric in &mut metrics {
        match metric {
            Metric::Step(record) => {
                (record.tokens_per_s, record.elapsed_s, record.eta_s, record.rss_bytes) = (0.0, 0.0, 0.0, 0);
            }
            Metric::Validation(record) => record.seconds = 0.0,
            Metric::EpochFinished(record) => record.seconds = 0.0,
            _ => {}
        }
    }
    Ok(metrics)
}
