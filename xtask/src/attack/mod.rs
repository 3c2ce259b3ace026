//! `cargo xtask attack`: reliability tests that break things on purpose and check what the program promises.
//!
//! Six attacks, one file each: `kills` (SIGKILL at random moments), `syscalls` (SIGKILL at single system
//! calls), `errors` (system calls that fail), `flips` (single bits of a project's files), `mutations`
//! (damaged files for every reader), `requests` (hostile requests to the dashboard). A case is a function of
//! the seed and its number, so one case can be repeated alone; only timing depends on the machine. Reading
//! order: here, `project`, `watched`, `kills`, then the others.

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

/// Which attacks to run, for how long, and from which seed.
#[derive(Args)]
pub struct Arguments {
    /// Only these attacks
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Attack>,
    /// Time of each attack
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// A fixed number of cases instead of a time limit: the numbers of a release
    #[arg(long, conflicts_with = "seconds")]
    full: bool,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Repeat this case only
    #[arg(long, value_name = "NUMBER", requires = "only")]
    case: Option<u64>,
    /// Start at this case
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with = "case")]
    from: u64,
    /// Also write the results to a file, as JSON
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
    /// System calls fail, once or from some call on
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

    fn run(self, campaign: &mut Campaign) -> Result<()> {
        match self {
            Attack::Kills => kills::run(campaign),
            Attack::Syscalls => syscalls::run(campaign),
            Attack::Errors => errors::run(campaign),
            Attack::Flips => flips::run(campaign),
            Attack::Mutations => mutations::run(campaign),
            Attack::Requests => requests::run(campaign),
        }
    }
}

/// A case that broke a promise.
struct Failure {
    case: u64,
    /// What happened, in words.
    what: String,
    /// Copy of the files that repeat it.
    kept: Option<PathBuf>,
}

/// One attack in progress: which cases, its scratch folder, its results.
struct Campaign {
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
    limit: Option<Duration>,
    /// When the first case began: what comes before it costs none of the time.
    begun: Option<Instant>,
    told: Instant,
    count: u64,
    failures: Vec<Failure>,
    skipped: Option<String>,
    notes: BTreeMap<String, u64>,
}

impl Campaign {
    /// How many failures keep their files; the others can be repeated by number.
    const MOST_KEPT: usize = 50;

    fn new(attack: Attack, arguments: &Arguments, program: &Path) -> Result<Campaign> {
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
    fn next(&mut self) -> Option<(u64, Rng)> {
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
    fn did(&mut self, count: u64) {
        self.count += count;
    }

    /// Counts an observation that is no failure; listed at the end.
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

/// Runs the attacks.
///
/// # Errors
/// When any case failed.
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
        let mut campaign = Campaign::new(attack, arguments, &program)?;
        attack.run(&mut campaign).with_context(|| format!("the attack `{}`", attack.name()))?;
        let seconds = begun.elapsed().as_secs_f64();
        match &campaign.skipped {
            Some(why) if std::env::var_os("TEXT2LLM_REQUIRE_ALL").is_some_and(|value| value == "1") => {
                bail!("TEXT2LLM_REQUIRE_ALL=1 forbids to skip the attack `{}`: {why}", attack.name());
            }
            Some(why) => println!("{}: skipped: {why}", attack.name()),
            None => println!(
                "{}: {}, {} failed, {seconds:.0} s",
                attack.name(),
                campaign.count,
                campaign.failures.len()
            ),
        }
        for (note, count) in &campaign.notes {
            println!("  {count} × {note}");
        }
        failed += campaign.failures.len();
        let failures: Vec<_> = campaign
            .failures
            .iter()
            .map(|failure| json!({ "case": failure.case, "what": failure.what, "kept": failure.kept }))
            .collect();
        results.push(json!({
            "attack": attack.name(), "seed": campaign.seed, "count": campaign.count, "seconds": seconds,
            "skipped": campaign.skipped, "notes": campaign.notes, "failures": failures,
        }));
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)?;
    }
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    Ok(())
}
