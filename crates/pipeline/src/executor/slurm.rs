//! Ranks as tasks of Slurm job arrays, on a file system that all nodes share.
//!
//! A stage is a job array; its script is written next to the logs and can be submitted by hand too. Slurm's
//! accounting is not used, since many clusters have none: a task that succeeds writes a file with its job's
//! number, and the rank's manifest is checked in addition.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runs::report::{Phase, Reporter};
use store::atomic;
use store::fs::RealFs;

use super::{Executor, Failed, Launch, Work, cache, cannot_start, log_name, stopped};
use crate::project::quoted;
use crate::stages::DataStage;
use crate::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a shared file system may take to show files written by another node.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

/// Submits job arrays and waits for them.
pub struct Slurm {
    /// Options passed to `sbatch`: partition, time, memory.
    pub sbatch_options: Vec<String>,
}

impl Executor for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn run(&mut self, work: &Work<'_>, reporter: &mut dyn Reporter) -> Result<Vec<Failed>> {
        // It polls the flag itself, since it must cancel the job first.
        let _hold = work.launch.stop.hold();
        let script = self.write_script(work.launch, work.stage)?;
        let mut submit = Command::new("sbatch");
        submit.arg("--parsable");
        if work.stage.is_shared() {
            submit.arg(format!("--array={}", list(&work.ranks)));
        }
        let said = ask(submit.arg(&script))?.map_err(|said| Error::Environment {
            message: format!("sbatch rejected `{}`: {said}", script.display()),
        })?;
        // In a federation of clusters the output is `number;cluster`.
        let job = said.trim().split(';').next().unwrap_or_default().to_owned();
        reporter.note(Phase::Corpus, &format!("{}: job {job} submitted", work.stage));
        wait(work, &job, reporter)?;
        let ended_well = |rank: &usize| ended_file(work.launch, work.stage, &job, *rank).exists();
        let end = Instant::now() + VISIBLE_WITHIN;
        while !work.ranks.iter().all(ended_well) && Instant::now() < end {
            std::thread::sleep(LOOK_EVERY);
            // Listing a folder makes network file systems refresh it.
            drop(fs::read_dir(work.launch.logs()));
        }
        let failed = work.ranks.iter().filter(|rank| !ended_well(rank)).map(|&rank| {
            let words = work.launch.last_words(work.stage, rank);
            Failed { rank, why: format!("of job {job} failed or was cancelled; {words}") }
        });
        Ok(failed.collect())
    }
}

impl Slurm {
    fn write_script(&self, launch: &Launch<'_>, stage: DataStage) -> Result<PathBuf> {
        let path = launch.request.project.ranks().join(format!("{stage}.sbatch"));
        atomic::write(&RealFs, &path, self.script(launch, stage).as_bytes())?;
        Ok(path)
    }

    fn script(&self, launch: &Launch<'_>, stage: DataStage) -> String {
        let logs = launch.logs();
        // In Slurm, %a is the index of the task in the array.
        let log = logs.join(log_name(stage, if stage.is_shared() { "%a" } else { "0" }));
        let mut script = format!("#!/bin/sh\n#SBATCH --job-name=text2llm-{stage}\n");
        if stage.is_shared() {
            script += &format!("#SBATCH --array=0-{}\n", launch.ranks - 1);
        }
        script += "#SBATCH --requeue\n#SBATCH --open-mode=append\n";
        script += &format!("#SBATCH --output=\"{}\"\n", log.display());
        for option in &self.sbatch_options {
            script += &format!("#SBATCH {option}\n");
        }
        let command = launch.command(stage, "@RANK@");
        let words = std::iter::once(launch.program.display().to_string()).chain(command);
        let words: Vec<String> =
            words.map(|word| if word == "@RANK@" { "\"$RANK\"".to_owned() } else { quoted(&word) }).collect();
        script += "RANK=\"${SLURM_ARRAY_TASK_ID:-0}\"\nJOB=\"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}\"\n";
        if launch.share.is_none() {
            // Nodes need no access to the hub: the launcher has downloaded everything.
            script += "export HF_HUB_OFFLINE=1\n";
            script += &format!("export TEXT2LLM_CACHE={}\n", quoted(&cache().display().to_string()));
        }
        script += "unset TEXT2LLM_JSON TEXT2LLM_OUTPUT\n";
        // Slurm sets the number of CPUs of the task, even if it does not bind it to them.
        script += "export TEXT2LLM_THREADS=\"${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}\"\n";
        let ended = logs.join(format!("{stage}-"));
        script += &format!(
            "{} && : > {}\"$JOB-$RANK.ended\"\n",
            words.join(" "),
            quoted(&ended.display().to_string())
        );
        script
    }
}

/// The file written by a successful task.
fn ended_file(launch: &Launch<'_>, stage: DataStage, job: &str, rank: usize) -> PathBuf {
    launch.logs().join(format!("{stage}-{job}-{rank}.ended"))
}

/// Waits until the job has no task left.
fn wait(work: &Work<'_>, job: &str, reporter: &mut dyn Reporter) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    loop {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            if work.launch.stop.is_raised() {
                drop(ask(Command::new("scancel").arg(job))?);
                return Err(stopped());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        let mut queue = Command::new("squeue");
        let tasks = match ask(queue.args(["--noheader", "--array", "--format=%T %r", "--jobs", job]))? {
            Ok(tasks) => tasks,
            // Unknown to the controller: it ended a while ago.
            Err(said) if said.contains("Invalid job id") => return Ok(()),
            Err(said) => {
                // A restarting controller responds again soon.
                if told != said {
                    reporter.warning(Phase::Corpus, &format!("squeue: {said}"));
                    told = said;
                }
                continue;
            }
        };
        let left = tasks.lines().filter(|line| !line.trim().is_empty()).count();
        let total = work.ranks.len();
        reporter.progress(Phase::Corpus, total.saturating_sub(left) as u64, total as u64, "ranks");
        if left == 0 {
            return Ok(());
        }
        // The reason why it is pending, other than priority.
        let reason = tasks
            .lines()
            .filter_map(|line| line.strip_prefix("PENDING "))
            .find(|reason| !matches!(*reason, "None" | "Resources" | "Priority" | "BeginTime"));
        if let Some(reason) = reason
            && told != reason
        {
            reporter
                .warning(Phase::Corpus, &format!("job {job} is pending: {reason} (`squeue --jobs {job}`)"));
            told = reason.to_owned();
        }
    }
}

/// The output of a Slurm command; the inner error is its error output.
fn ask(command: &mut Command) -> Result<std::result::Result<String, String>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        cannot_start(&program, &error, "run this on a machine that can submit Slurm jobs")
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
}

/// Task indices in Slurm's notation: `0-3,7`.
fn list(ranks: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &rank in ranks {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => parts.push((rank, rank)),
        }
    }
    let part = |(first, last): (usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_numbers_as_slurm_reads_them() {
        for (ranks, wanted) in
            [(&[0, 1, 2, 3][..], "0-3"), (&[5], "5"), (&[0, 2, 3, 9], "0,2-3,9"), (&[], "")]
        {
            assert_eq!(list(ranks), wanted);
        }
    }
}
