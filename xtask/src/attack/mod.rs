//! `cargo xtask attack`: the program killed, disturbed, damaged and flooded, as the machines and people it will meet do.
//!
//! Six attacks, each a file: `kills` at random moments, `syscalls` (killed at single system calls), `errors` (system calls that
//! fail), `flips` of single bits in a project, `mutations` of every input that is read, `requests` to the dashboard. All of it
//! is drawn from the seed and the number of a case, so that one case can be repeated alone; only timing is the machine's.
//! Reading order: here, `project`, `watched`, `kills`, then the others.

mod errors;
mod flips;
mod kills;
mod mutations;
mod project;
mod requests;
mod strace;
mod syscalls;
mod watched;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use compute::rng::Rng;
use serde_json::json;

use crate::python;

/// Which attacks, for how long, from which seed.
#[derive(Args)]
pub struct Arguments {
    /// Only these attacks
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Attack>,
    /// Time of each attack
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// As many cases as the attacks that found the defects of a release, however long that takes
    #[arg(long, conflicts_with = "seconds")]
    full: bool,
    /// What is drawn, and so which cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One case alone, by its number
    #[arg(long, value_name = "NUMBER", requires = "only")]
    case: Option<u64>,
    /// The first case
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with = "case")]
    from: u64,
    /// Also write the result to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program to attack [default: built from this repository]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// The attacks, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Attack {
    /// SIGKILL at random moments, and a resume
    Kills,
    /// SIGKILL at single system calls, and a resume
    Syscalls,
    /// Single system calls fail, once or from then on
    Errors,
    /// One bit of a project's files is flipped
    Flips,
    /// Damaged files for every reader
    Mutations,
    /// Malformed, huge, slow and foreign requests to the dashboard
    Requests,
}

impl Attack {
    const ALL: [Attack; 6] =
        [Attack::Kills, Attack::Syscalls, Attack::Errors, Attack::Flips, Attack::Mutations, Attack::Requests];

    fn name(self) -> &'static str {
        match self {
            Attack::Kills => "kills",
            Attack::Syscalls => "syscalls",
            Attack::Errors => "errors",
            Attack::Flips => "flips",
            Attack::Mutations => "mutations",
            Attack::Requests => "requests",
        }
    }

    /// What `--full` does of it.
    fn full_count(self) -> u64 {
        match self {
            Attack::Kills => 40,
            Attack::Syscalls => 340,
            Attack::Errors => 382,
            Attack::Flips => 4_560,
            Attack::Mutations => 336_000,
            Attack::Requests => 2_157,
        }
    }

    fn run(self, field: &mut Field) -> Result<()> {
        match self {
            Attack::Kills => kills::run(field),
            Attack::Syscalls => syscalls::run(field),
            Attack::Errors => errors::run(field),
            Attack::Flips => flips::run(field),
            Attack::Mutations => mutations::run(field),
            Attack::Requests => requests::run(field),
        }
    }
}

/// A promise that was not kept.
struct Failure {
    case: u64,
    what: String,
    kept: Option<PathBuf>,
}

/// Where an attack takes place: its cases, its scratch folder, what came of it.
struct Field {
    attack: Attack,
    program: PathBuf,
    /// On a file system in memory where there is one, so that flushes cost nothing.
    scratch: tempfile::TempDir,
    /// Where projects of failures are kept.
    kept: PathBuf,
    seed: u64,
    next_case: u64,
    only_case: bool,
    most: u64,
    deadline: Option<Instant>,
    told: Instant,
    count: u64,
    failures: Vec<Failure>,
    skipped: Option<String>,
    notes: BTreeMap<String, u64>,
}

impl Field {
    /// How many projects of failures are kept; the others can be made again from their numbers.
    const MOST_KEPT: usize = 20;

    fn new(attack: Attack, arguments: &Arguments, program: &Path) -> Result<Field> {
        let memory = Path::new("/dev/shm");
        let scratch = tempfile::Builder::new().prefix("text2llm-attack-").tempdir_in(memory);
        Ok(Field {
            attack,
            program: program.to_owned(),
            scratch: scratch.or_else(|_| tempfile::tempdir()).context("no folder for scratch files")?,
            kept: python::target_folder().join("attack"),
            seed: arguments.seed,
            next_case: arguments.case.unwrap_or(arguments.from),
            only_case: arguments.case.is_some(),
            most: if arguments.full { attack.full_count() } else { u64::MAX },
            deadline: (!arguments.full && arguments.case.is_none())
                .then(|| Instant::now() + Duration::from_secs(arguments.seconds)),
            told: Instant::now(),
            count: 0,
            failures: Vec::new(),
            skipped: None,
            notes: BTreeMap::new(),
        })
    }

    /// The next case and what it draws from, until there have been enough.
    fn next(&mut self) -> Option<(u64, Rng)> {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.count >= self.most || (self.only_case && self.count > 0) {
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

    /// Counts what was done.
    fn did(&mut self, count: u64) {
        self.count += count;
    }

    /// Counts something worth knowing that is no failure.
    fn note(&mut self, what: impl Into<String>) {
        *self.notes.entry(what.into()).or_default() += 1;
    }

    /// A folder in the scratch folder that is not there yet.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.path().join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(folder)
    }

    /// Records a failure and keeps a copy of `files`, a folder or a file.
    fn fail(&mut self, case: u64, what: impl Into<String>, files: Option<&Path>) -> Result<()> {
        let what = what.into();
        let name = self.attack.name();
        let mut kept = None;
        if let Some(files) = files.filter(|_| self.failures.len() < Self::MOST_KEPT) {
            let end = files.extension().map_or(String::new(), |end| format!(".{}", end.to_string_lossy()));
            let place = self.kept.join(format!("{name}-{}-{case}{end}", self.seed));
            project::copy(files, &place)?;
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

/// Runs the attacks; an error when any of them found something.
pub fn run(arguments: &Arguments) -> Result<()> {
    let program = match &arguments.program {
        Some(program) => program.canonicalize().with_context(|| format!("`{}`", program.display()))?,
        None => python::text2llm_binary()?.canonicalize()?,
    };
    let chosen: &[Attack] = if arguments.only.is_empty() { &Attack::ALL } else { &arguments.only };
    if arguments.case.is_some() && chosen.len() != 1 {
        bail!("--case repeats a case of one attack: name it with --only");
    }
    let mut failed = 0;
    let mut results = Vec::new();
    for &attack in chosen {
        let begun = Instant::now();
        let mut field = Field::new(attack, arguments, &program)?;
        attack.run(&mut field).with_context(|| format!("the attack `{}`", attack.name()))?;
        let seconds = begun.elapsed().as_secs_f64();
        match &field.skipped {
            Some(why) => println!("{}: skipped: {why}", attack.name()),
            None => println!(
                "{}: {}, {} failed, {seconds:.0} s",
                attack.name(),
                field.count,
                field.failures.len()
            ),
        }
        for (note, count) in &field.notes {
            println!("  {count} × {note}");
        }
        failed += field.failures.len();
        let failures: Vec<_> = field
            .failures
            .iter()
            .map(|failure| json!({ "case": failure.case, "what": failure.what, "kept": failure.kept }))
            .collect();
        results.push(json!({
            "attack": attack.name(), "seed": field.seed, "count": field.count, "seconds": seconds,
            "skipped": field.skipped, "notes": field.notes, "failures": failures,
        }));
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)?;
    }
    if failed > 0 {
        bail!("{failed} attacks found something");
    }
    Ok(())
}
