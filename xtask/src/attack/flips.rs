//! One flipped bit in one file of a project, then one command: never a panic, a hang or a silent restart at
//! step 0, and never a different result without a warning or an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use compute::rng::Rng;
use serde_json::{Map, Value};

use super::campaign::Campaign;
use super::project::{self, Bits, Project};
use super::watched::{Ended, LIMIT, Watched};

const COMMANDS: [&[&str]; 8] = [
    &["run", "--json"],
    &["run", "--json", "--resume"],
    &["resume", "--json", "--more-steps", "3"],
    &["generate", "--json", "--prompt", "the ", "--max-new-tokens", "8", "--temperature", "0"],
    &["status", "--json"],
    &["list", "--json"],
    &["data", "stats", "--json"],
    &["average", "--json"],
];

/// Name of the folder in which commands run.
const PLACE: &str = "tried";

/// A project to damage, the files that can be damaged, and the outcome of each command without damage.
struct Subject {
    project: Project,
    /// Its training is complete, so that a changed recipe or text starts a new run.
    is_finished: bool,
    /// Files by kind: a kind is drawn first, so that one with many files is not drawn more often.
    files: BTreeMap<&'static str, Vec<PathBuf>>,
    outcomes: Vec<Outcome>,
}

/// The outcome of a command.
struct Outcome {
    ended: Ended,
    /// Its events without times and other volatile values; empty for commands that train.
    said: Vec<Value>,
    bits: Bits,
}

/// Runs the attack.
pub fn run(campaign: &mut Campaign) -> Result<()> {
    let (finished, ..) = project::undisturbed(campaign)?;
    let half = project::half_trained(campaign, "half")?;
    let subjects = [Subject::new(campaign, finished, true)?, Subject::new(campaign, half, false)?];
    while let Some((case, mut rng)) = campaign.next() {
        let subject = &subjects[rng.below(2) as usize];
        let kinds: Vec<&'static str> = subject.files.keys().copied().collect();
        let kind = kinds[rng.below(kinds.len() as u64) as usize];
        let file = &subject.files[kind][rng.below(subject.files[kind].len() as u64) as usize];
        let number = rng.below(COMMANDS.len() as u64) as usize;
        let project = subject.project.copied(campaign, PLACE)?;
        let bit = flip(&project.folder.join(file), &mut rng)?;
        let damaged = project.copied(campaign, "damaged")?;
        let outcome = Outcome::of(&project, COMMANDS[number])?;
        campaign.did(1);
        if let Some(problem) = subject.judge(kind, number, &outcome) {
            let what =
                format!("bit {bit} of {}, then `{}`: {problem}", file.display(), COMMANDS[number].join(" "));
            campaign.fail(case, what, Some(&damaged.folder))?;
        }
    }
    Ok(())
}

impl Subject {
    fn new(campaign: &Campaign, project: Project, is_finished: bool) -> Result<Subject> {
        let mut outcomes = Vec::new();
        for command in COMMANDS {
            // In the same folder as the flips, since messages contain its path.
            let outcome = Outcome::of(&project.copied(campaign, PLACE)?, command)?;
            let again = Outcome::of(&project.copied(campaign, PLACE)?, command)?;
            ensure!(
                outcome.ended.warnings() == again.ended.warnings() && outcome.said == again.said,
                "{command:?} is not deterministic: {:?} and {:?}",
                outcome.ended,
                again.ended
            );
            ensure!(outcome.ended.crash().is_none(), "{command:?} of a whole project: {:?}", outcome.ended);
            outcomes.push(outcome);
        }
        let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let mut names: Vec<_> =
                std::fs::read_dir(project.folder.join(&folder))?.collect::<std::io::Result<_>>()?;
            names.sort_by_key(std::fs::DirEntry::file_name);
            for entry in names {
                let path = folder.join(entry.file_name());
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    folders.push(path);
                } else if let Some(kind) = kind(&path).filter(|_| metadata.len() > 0) {
                    files.entry(kind).or_default().push(path);
                }
            }
        }
        Ok(Subject { project, is_finished, files, outcomes })
    }

    /// What is wrong with the outcome of command `number` after a flip in a file of this kind.
    fn judge(&self, kind: &str, number: usize, outcome: &Outcome) -> Option<String> {
        let (command, whole) = (COMMANDS[number], &self.outcomes[number]);
        let ended = &outcome.ended;
        if let Some(crash) = ended.crash() {
            return Some(crash);
        }
        let known = whole.ended.warnings();
        if ended.warnings().iter().any(|warning| !known.contains(warning)) {
            return None;
        }
        if ended.code != whole.ended.code {
            return Some(format!("exit code {:?} without an error, not {:?}", ended.code, whole.ended.code));
        }
        // Users change recipes and texts, so another result is right; metrics are a log that decides nothing.
        let is_own = match kind {
            "recipe" | "corpus" if self.is_finished => matches!(command[0], "run" | "data"),
            "recipe" | "corpus" => command == ["run", "--json"] || command[0] == "data",
            "metrics" => true,
            _ => false,
        };
        if is_own {
            return None;
        }
        if let (Some(first), Some(usual)) = (ended.first_step(), whole.ended.first_step())
            && first < usual
        {
            return Some(format!("it silently began at step {first} instead of {usual}"));
        }
        if let Some(difference) = project::difference(&outcome.bits, &whole.bits) {
            return Some(format!("without a warning, {difference}"));
        }
        // A result that no longer verifies is told as missing.
        let missing = |said: &[Value]| -> usize {
            let stages = said.iter().map(|event| {
                let missing = &event["missing"];
                missing.as_array().or_else(|| missing["stages"].as_array()).map_or(0, Vec::len)
            });
            stages.sum()
        };
        if missing(&outcome.said) > missing(&whole.said) {
            return None;
        }
        (outcome.said != whole.said).then(|| {
            let place = outcome.said.iter().zip(&whole.said).find(|(a, b)| a != b);
            format!("without a warning, other output: {place:?}").chars().take(700).collect()
        })
    }
}

/// The kind of a file; `None` for reports, plots, logs and locks, which no command reads back.
fn kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let text = path.to_str()?;
    Some(match name {
        "text2llm.toml" => "recipe",
        "meta.json" => "meta",
        "meta.copy.json" => "copy of meta",
        "state.json" => "state",
        "metrics.jsonl" => "metrics",
        "manifest.json" => "manifest",
        _ if text.starts_with("corpus/") => "corpus",
        _ if text.contains("checkpoints/") => "checkpoint",
        _ if text.contains("tokenizer/") => "tokenizer",
        _ if text.starts_with("data/documents/") && !name.ends_with(".html") => "documents",
        _ if text.starts_with("data/tokens/") => "shards",
        _ if text.starts_with("model/") && name != "README.md" => "model",
        _ => return None,
    })
}

fn flip(path: &Path, rng: &mut Rng) -> Result<u64> {
    let mut bytes = std::fs::read(path)?;
    let bit = rng.below(8 * bytes.len() as u64);
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    std::fs::write(path, bytes)?;
    Ok(bit)
}

impl Outcome {
    fn of(project: &Project, command: &[&str]) -> Result<Outcome> {
        let ended = Watched::start(&mut project.command(command))?.end(LIMIT)?;
        let of_training = matches!(command[0], "run" | "resume");
        let said = ended.events().filter(|_| !of_training).map(timeless).collect();
        let mut bits = if of_training { project.bits()? } else { Bits::new() };
        let average = project.folder.join("model-average/model.safetensors");
        if command[0] == "average" && average.exists() {
            bits.insert("model-average".to_owned(), std::fs::read(average)?);
        }
        Ok(Outcome { ended, said, bits })
    }
}

/// Removes what differs between equal runs: times, rates, memory, process ids, paths.
fn timeless(event: Value) -> Value {
    let volatile = |key: &str| {
        let ends = ["_s", "_at", "_bytes", "_ms", "path", "pid", "source", "seconds", "seed", "latencies_ms"];
        ends.iter().any(|end| key.ends_with(end))
    };
    match event {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, _)| !volatile(key));
            Value::Object(kept.map(|(key, value)| (key, timeless(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(timeless).collect(),
        other => other,
    }
}
