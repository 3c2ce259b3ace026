//! `cargo xtask attack`: reliability tests that break things on purpose and check what the program promises.
//!
//! Six attacks, one file each: `kills` (SIGKILL at random moments), `syscalls` (SIGKILL at single system
//! calls), `errors` (system calls that fail), `flips` (single bits of a project's files), `mutations`
//! (damaged files for every reader), `requests` (hostile requests to the dashboard). A case is a function of
//! the seed and its number, so one case can be repeated alone; only timing depends on the machine. Reading
//! order: here, `campaign`, `project`, `watched`, `kills`, then the others.

mod arguments;
mod campaign;
mod copy;
mod errors;
mod flips;
mod kills;
mod mutations;
mod project;
mod requests;
mod strace;
mod syscalls;
mod watched;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::python;
pub use arguments::Arguments;
use arguments::Attack;
use campaign::Campaign;

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
        run_attack(attack, &mut campaign).with_context(|| format!("the attack `{}`", attack.name()))?;
        let seconds = begun.elapsed().as_secs_f64();
        match &campaign.skipped {
            Some(why) if std::env::var_os("TEXT2LLM_REQUIRE_ALL").is_some_and(|value| value == "1") => {
                bail!("TEXT2LLM_REQUIRE_ALL=1 forbids skipping the attack `{}`: {why}", attack.name());
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

fn run_attack(attack: Attack, campaign: &mut Campaign) -> Result<()> {
    match attack {
        Attack::Kills => kills::run(campaign),
        Attack::Syscalls => syscalls::run(campaign),
        Attack::Errors => errors::run(campaign),
        Attack::Flips => flips::run(campaign),
        Attack::Mutations => mutations::run(campaign),
        Attack::Requests => requests::run(campaign),
    }
}
