//! One bit of one file of a project, then a command: never a panic, a hang or a training that begins anew in silence, and never another
//! result than without the flip unless it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use compute::rng::Rng;
use serde_json::{Map, Value};

use super::Field;
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

/// Where a project lies when it is tried.
const PLACE: &str = "tried";

/// A project to damage, what may be damaged, and what each command makes of it whole.
struct Victim {
    project: Project,
    /// Files by what they are for, so that many small ones of a kind do not crowd out the others.
    files: BTreeMap<&'static str, Vec<PathBuf>>,
    outcomes: Vec<Outcome>,
}

/// What a command came to.
struct Outcome {
    ended: Ended,
    /// What it says, without times.
    said: Vec<Value>,
    bits: Bits,
}

/// Runs the attack.
pub fn run(field: &mut Field) -> Result<()> {
    let (finished, ..) = project::undisturbed(field)?;
    let half = project::half_trained(field, "half")?;
    let victims = [Victim::new(field, finished)?, Victim::new(field, half)?];
    while let Some((case, mut rng)) = field.next() {
        let victim = &victims[rng.below(2) as usize];
        let kinds: Vec<&'static str> = victim.files.keys().copied().collect();
        let kind = kinds[rng.below(kinds.len() as u64) as usize];
        let file = &victim.files[kind][rng.below(victim.files[kind].len() as u64) as usize];
        let number = rng.below(COMMANDS.len() as u64) as usize;
        let project = victim.project.copied(field, PLACE)?;
        let bit = flip(&project.folder.join(file), &mut rng)?;
        let damaged = project.copied(field, "damaged")?;
        let outcome = Outcome::of(&project, COMMANDS[number])?;
        field.did(1);
        if let Some(problem) = judge(kind, COMMANDS[number], &outcome, &victim.outcomes[number]) {
            let what =
                format!("bit {bit} of {}, then `{}`: {problem}", file.display(), COMMANDS[number].join(" "));
            field.fail(case, what, Some(&damaged.folder))?;
        }
    }
    Ok(())
}

impl Victim {
    fn new(field: &Field, project: Project) -> Result<Victim> {
        let mut outcomes = Vec::new();
        for command in COMMANDS {
            // In the same place, since messages name it.
            let outcome = Outcome::of(&project.copied(field, PLACE)?, command)?;
            let again = Outcome::of(&project.copied(field, PLACE)?, command)?;
            ensure!(
                outcome.ended.warnings() == again.ended.warnings() && outcome.said == again.said,
                "{command:?} says something else each time: {:?} and {:?}",
                outcome.ended,
                again.ended
            );
            ensure!(outcome.ended.outrage().is_none(), "{command:?} of a whole project: {:?}", outcome.ended);
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
        Ok(Victim { project, files, outcomes })
    }
}

/// What a file is for; `None` for what is only looked at by people, or holds nothing.
fn kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let text = path.to_str()?;
    Some(match name {
        "text2llm.toml" => "recipe",
        "meta.json" => "meta",
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
        // Of a training, what it leaves; of the others, what they say.
        let said = ended.events().filter(|_| !of_training).map(timeless).collect();
        let mut bits = if of_training { project.bits()? } else { Bits::new() };
        let average = project.folder.join("model-average/model.safetensors");
        if command[0] == "average" && average.exists() {
            bits.insert("model-average".to_owned(), std::fs::read(average)?);
        }
        Ok(Outcome { ended, said, bits })
    }
}

/// Without what differs from run to run: times, rates, memory, numbers of processes, places.
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

/// What must not be.
fn judge(kind: &str, command: &[&str], outcome: &Outcome, whole: &Outcome) -> Option<String> {
    let ended = &outcome.ended;
    if let Some(outrage) = ended.outrage() {
        return Some(outrage);
    }
    let known = whole.ended.warnings();
    if ended.warnings().iter().any(|warning| !known.contains(warning)) {
        return None;
    }
    if ended.code != whole.ended.code {
        return Some(format!("exit code {:?} without a word, not {:?}", ended.code, whole.ended.code));
    }
    // A recipe and texts are the user's to change, and metrics are a log of what was.
    let is_own = match kind {
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
        return Some(format!("it began at step {first} and not {usual}, without a word"));
    }
    if let Some(difference) = project::difference(&outcome.bits, &whole.bits) {
        return Some(format!("without a word, {difference}"));
    }
    (outcome.said != whole.said).then(|| {
        let place = outcome.said.iter().zip(&whole.said).find(|(a, b)| a != b);
        format!("without a word, other output: {place:?}").chars().take(700).collect()
    })
}
