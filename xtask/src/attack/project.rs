//! A project that trains in a third of a second, and the checks of its result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use compute::rng::Rng;
use store::fs::RealFs;
use store::manifest::Manifest;
use train::Checkpoints;

use super::campaign::Campaign;
use super::copy::copy;
use super::watched::{Ended, LIMIT, Watched};

/// Steps between checkpoints of the recipe below.
pub const CHECKPOINT_EVERY: u64 = 5;
const RECIPE: &str = r#"name = "tiny"
[data]
paths = ["corpus"]
[tokenizer]
vocab_size = 280
[model]
depth = 1
[train]
steps = 24
batch_size = 4
sequence_length = 32
validate_every = 10
checkpoint_every = 5
sample_every = 12
sample_prompts = ["the "]
sample_max_new_tokens = 4
[validate]
prompts = ["the river "]
sample_tokens = 4
latency_runs = 1
"#;
/// Folders that a stage makes, with a manifest.
const STAGES: [&str; 5] = ["data/documents", "tokenizer", "data/tokens", "evals", "model"];

/// About `bytes` of English-like prose in lines.
pub fn text(bytes: usize, rng: &mut Rng) -> String {
    const WORDS: [&str; 16] = [
        "the", "river", "runs", "over", "stones", "and", "under", "a", "bridge", "where", "children",
        "count", "boats", "at", "noon", "evening",
    ];
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(WORDS[rng.below(WORDS.len() as u64) as usize]);
        text.push(if rng.below(12) == 0 { '\n' } else { ' ' });
    }
    text
}

/// A project folder and the program that works on it.
pub struct Project {
    pub folder: PathBuf,
    program: PathBuf,
}

/// Results that must be bit-identical to those of an undisturbed run: file names and contents.
pub type Bits = BTreeMap<String, Vec<u8>>;

impl Project {
    /// A new one in the scratch folder.
    pub fn new(campaign: &Campaign, name: &str) -> Result<Project> {
        let folder = campaign.folder(name)?;
        std::fs::create_dir_all(folder.join("corpus"))?;
        std::fs::write(folder.join("text2llm.toml"), RECIPE)?;
        for number in 0..12 {
            let mut rng = Rng::from_parts(1, "text", &[number]);
            std::fs::write(folder.join(format!("corpus/{number:02}.txt")), text(2000, &mut rng))?;
        }
        Ok(Project { folder, program: campaign.program.clone() })
    }

    /// A copy in the scratch folder.
    pub fn copied(&self, campaign: &Campaign, name: &str) -> Result<Project> {
        let folder = campaign.folder(name)?;
        copy(&self.folder, &folder)?;
        Ok(Project { folder, program: self.program.clone() })
    }

    /// The program on this project, without the caller's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.dress(&mut command);
        command.args(arguments);
        command
    }

    /// The same under strace, with `options` before it.
    pub fn traced(&self, options: &[String], arguments: &[&str]) -> Command {
        let mut command = Command::new("strace");
        self.dress(&mut command);
        command.arg("-f").args(options).arg("--").arg(&self.program).args(arguments);
        command
    }

    fn dress(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TEXT2LLM_") {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.folder).env("NO_COLOR", "1").env("COLUMNS", "100");
    }

    /// Runs `run --resume` to completion and compares the result; what is wrong, if anything.
    pub fn finish(&self, wanted: &Bits) -> Result<Option<String>> {
        let ended = Watched::start(&mut self.command(&["run", "--json", "--resume"]))?
            .end(LIMIT + Duration::from_secs(20))?;
        if let Some(crash) = ended.crash() {
            return Ok(Some(format!("`run --resume`: {crash}")));
        }
        if ended.code != Some(0) {
            return Ok(Some(format!("`run --resume` ended with {:?}: {}", ended.code, ended.last_words())));
        }
        if let Some(difference) = difference(&self.bits()?, wanted) {
            return Ok(Some(format!("the result differs: {difference}")));
        }
        Ok(self.rubbish()?.map(|left| format!("a temporary file is left: {left}")))
    }

    /// The newest run's folder.
    pub fn newest_run(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join("runs")).ok()?;
        let names = entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        names.map(|entry| entry.path()).max()
    }

    /// The newest checkpoint of the newest run that is whole.
    pub fn newest_checkpoint(&self) -> Option<u64> {
        let folder = self.newest_run()?.join("checkpoints");
        let checkpoints = Checkpoints::new(&RealFs, &folder);
        let steps = checkpoints.steps().ok()?;
        steps.into_iter().rev().find(|&step| checkpoints.verify(step).is_ok())
    }

    /// The last step that the newest run's metrics know.
    pub fn reached(&self) -> u64 {
        let Some(run) = self.newest_run() else { return 0 };
        let metrics = runs::metrics::read(&RealFs, &run.join(runs::metrics::FILE_NAME)).unwrap_or_default();
        metrics.iter().map(runs::metrics::Metric::step).max().unwrap_or(0)
    }

    /// The stage folders that verify against their manifests.
    pub fn whole_stages(&self) -> Vec<&'static str> {
        let is_whole = |stage: &&str| {
            let folder = self.folder.join(stage);
            Manifest::read(&RealFs, &folder).is_ok_and(|manifest| manifest.verify(&RealFs, &folder).is_ok())
        };
        STAGES.into_iter().filter(is_whole).collect()
    }

    /// The last checkpoint and the exported model, where they are whole.
    pub fn bits(&self) -> Result<Bits> {
        let mut bits = Bits::new();
        if let (Some(run), Some(step)) = (self.newest_run(), self.newest_checkpoint()) {
            let checkpoint = run.join(format!("checkpoints/step-{step:08}"));
            for name in ["weights.safetensors", "moments.safetensors", "trainer.json"] {
                bits.insert(format!("checkpoint/{name}"), std::fs::read(checkpoint.join(name))?);
            }
        }
        if self.whole_stages().contains(&"model") {
            let model = self.folder.join("model");
            for name in store::manifest::list_files(&RealFs, &model)? {
                // These contain times.
                if !matches!(name.as_str(), "README.md" | store::manifest::FILE_NAME) {
                    bits.insert(format!("model/{name}"), std::fs::read(model.join(&name))?);
                }
            }
        }
        Ok(bits)
    }

    /// A temporary file or folder that a killed process left.
    fn rubbish(&self) -> Result<Option<String>> {
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if [".partial", ".old", ".tmp", ".deleting"].iter().any(|end| name.contains(end)) {
                    return Ok(Some(entry.path().display().to_string()));
                }
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(None)
    }
}

/// The first file that differs or is missing.
pub fn difference(bits: &Bits, wanted: &Bits) -> Option<String> {
    wanted.iter().find_map(|(name, bytes)| match bits.get(name) {
        Some(found) if found == bytes => None,
        Some(_) => Some(format!("{name} has other bytes")),
        None => Some(format!("{name} is not there, or not whole")),
    })
}

/// A project trained without interference, its output and its results.
pub fn undisturbed(campaign: &Campaign) -> Result<(Project, Ended, Bits)> {
    let project = Project::new(campaign, "undisturbed")?;
    let ended = Watched::start(&mut project.command(&["run", "--json"]))?.end(Duration::from_secs(60))?;
    ensure!(ended.code == Some(0), "the undisturbed run failed: {}", ended.last_words());
    let bits = project.bits()?;
    ensure!(bits.len() > 6, "the undisturbed run left only {:?}", bits.keys());
    Ok((project, ended, bits))
}

/// A project that was killed after a checkpoint, in the middle of its training.
pub fn half_trained(campaign: &Campaign, name: &str) -> Result<Project> {
    let project = Project::new(campaign, name)?;
    let mut watched = Watched::start(&mut project.command(&["run", "--json"]))?;
    let reached = |said: &str| said.contains("\"event\":\"step\",\"step\":13,");
    ensure!(watched.wait_until(Duration::from_secs(60), reached)?, "it ended before it was killed");
    watched.kill();
    watched.end(LIMIT)?;
    ensure!(project.newest_checkpoint().is_some(), "it was killed before its first checkpoint");
    Ok(project)
}
