//! Measures memory and speed of generation in a separate process: the program's own `generate`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use runs::report::{Phase, Reporter};
use runs::run::RunDir;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use train::StopFlag;

use crate::generate::{Extent, Generator, Options};
use crate::stages::Request;
use crate::{Error, Result};

/// Memory and speed of generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// Number of measurements.
    pub runs: usize,
    /// Tokens per measurement.
    pub tokens: usize,
    /// Peak resident memory of the process, in MB (10^6 bytes).
    pub rss_mb: f64,
    /// 95th percentile of the latency.
    pub p95_ms: f64,
    /// Median latency.
    pub median_ms: f64,
    /// Whether a separate process was measured, rather than the training process.
    pub own_process: bool,
}

/// Time between two checks of the measuring process.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Measures generation from a run's checkpoint; `None` if a stop was requested.
pub(crate) fn generation(
    request: &Request<'_>,
    run: &RunDir,
    step: u64,
    prompt: &str,
    stop: &StopFlag,
    reporter: &mut dyn Reporter,
) -> Result<Option<Generation>> {
    let options = &request.recipe.validate;
    if let Some(program) = &request.generator {
        let mut command = Command::new(program);
        command
            .args(["generate", "--json", "--ignore-end", "--temperature", "0"])
            .args(["--project".as_ref(), request.project.root().as_os_str()])
            .args(["--run", &run.id(), "--checkpoint", &step.to_string()])
            .args(["--threads", &request.target.threads.to_string(), "--device", request.target.word()])
            .args(["--repeat", &options.latency_runs.to_string()])
            .args(["--max-new-tokens", &options.latency_tokens.to_string()])
            .arg(format!("--prompt={prompt}"));
        match measured(command, stop) {
            Ok(generation) => return Ok(generation),
            Err(why) => reporter.warning(
                Phase::Validation,
                &format!("could not measure generation in a separate process ({why}); measuring in this one"),
            ),
        }
    }
    let extent = Extent::new([prompt], options.latency_tokens);
    let mut generator = Generator::open_run(run, &step.to_string(), request.target, None, &extent)?;
    let greedy = Options { ignore_end: true, ..Options::greedy(options.latency_tokens) };
    let mut times_ms = Vec::new();
    for _ in 0..options.latency_runs {
        let start = Instant::now();
        generator.generate(prompt, &greedy, &mut |_| true)?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let rss = store::system::rss_bytes().ok_or_else(|| Error::Environment {
        message: "this system does not report the resident memory of a process".to_owned(),
    })?;
    Ok(Some(figures(times_ms, options.latency_tokens, rss as f64 / 1e6, false)))
}

/// `None` if a stop was requested. Polling the flag also shows the watchdog that this process waits and does
/// not hang.
fn measured(mut command: Command, stop: &StopFlag) -> std::result::Result<Option<Generation>, String> {
    let in_words = |error: std::io::Error| error.to_string();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(in_words)?;
    let pipes = all_of(child.stdout.take()).and_then(|out| Ok((out, all_of(child.stderr.take())?)));
    let (stdout, stderr) = pipes.map_err(|error| {
        // Its output is not read.
        let _ = child.kill();
        let _ = child.wait();
        in_words(error)
    })?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(in_words)? {
            break status;
        }
        if stop.is_raised() {
            let _ = child.kill();
            child.wait().map_err(in_words)?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    // Ctrl-C reaches both processes, and either may exit first.
    if stop.is_raised() {
        return Ok(None);
    }
    if !status.success() {
        return Err(format!("{status}: {}", stderr.lines().next().unwrap_or("no message")));
    }
    let last = stdout.lines().last().ok_or("it printed nothing")?;
    let value: Value = serde_json::from_str(last).map_err(|error| error.to_string())?;
    let times_ms: Vec<f64> = value["latencies_ms"]
        .as_array()
        .ok_or("it printed no latencies")?
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    let tokens = value["tokens"].as_u64().ok_or("it printed no token count")? as usize;
    let rss = value["peak_rss_bytes"].as_f64().ok_or("it printed no resident memory")?;
    if times_ms.is_empty() {
        return Err("it printed no latencies".to_owned());
    }
    Ok(Some(figures(times_ms, tokens, rss / 1e6, true)))
}

/// The output of a process, read as it comes so that it never blocks.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> std::io::Result<JoinHandle<String>> {
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        // Output before an error is returned.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn figures(mut times_ms: Vec<f64>, tokens: usize, rss_mb: f64, own_process: bool) -> Generation {
    times_ms.sort_by(f64::total_cmp);
    Generation {
        runs: times_ms.len(),
        tokens,
        rss_mb,
        p95_ms: percentile(&times_ms, 0.95),
        median_ms: percentile(&times_ms, 0.5),
        own_process,
    }
}

/// The smallest value that at least `share` of the sorted values do not exceed (nearest rank).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&twenty, 0.95), 19.0);
        assert_eq!(percentile(&twenty, 0.5), 10.0);
        assert_eq!(percentile(&[7.0], 0.95), 7.0);
        assert!(percentile(&[], 0.95).is_nan());
    }
}
