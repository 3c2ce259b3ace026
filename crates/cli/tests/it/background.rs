//! Runs in the background: started, watched, stopped, resumed after crashes, given up, deleted.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Sandbox;

use crate::{sandbox, write_tiny};

/// Ends what a failed test leaves behind.
struct Background(Sandbox);

impl Background {
    fn new() -> Background {
        let sandbox = sandbox();
        write_tiny(&sandbox);
        Background(sandbox)
    }

    fn status(&self) -> Value {
        serde_json::from_str(self.0.run("status --json").expect(0).last_line()).expect("JSON")
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            let console = || self.0.read("job/console.log");
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{what} did not come: {status}\n{}",
                String::from_utf8_lossy(&console())
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// kill -9 of the worker; its number.
    fn kill_worker(&self, not: u64) -> u64 {
        let status = self.until("a worker", |status| {
            status["alive"] == true && status["status"] == "running" && status["pid"].as_u64() != Some(not)
        });
        let pid = status["pid"].as_u64().expect("a number");
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.expect("kill exists").success());
        pid
    }

    fn weights(&self) -> Vec<u8> {
        let status = self.status();
        let run = std::path::PathBuf::from(status["path"].as_str().expect("a path"));
        let step = status["total_steps"].as_u64().expect("a number");
        std::fs::read(run.join(format!("checkpoints/step-{step:08}/weights.safetensors"))).expect("the end")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.run("stop");
    }
}

#[test]
fn a_job_is_detached_stopped_resumed_and_ends_in_the_same_bits() {
    let whole = Background::new();
    whole.0.run("train --set train.steps=600").expect(0);

    let job = Background::new();
    let started =
        job.0.run("train --set train.steps=600 --set train.checkpoint_every=50 --detach --json").expect(0);
    let seen: Value = serde_json::from_str(started.last_line()).expect("JSON");
    assert!(seen["step"].as_u64().expect("seen to train") > 0 && seen["run_id"].is_string(), "{seen}");
    let status = job.status();
    if status["status"] == "running" {
        assert!(
            status["learning_rate"].as_f64().expect("told") > 0.0 && status["device"] == "cpu",
            "{status}"
        );
        let again = job.0.run("run --detach").expect(1);
        assert!(again.stderr.contains("supervisor"), "{}", again.stderr);
        let refused = job.0.run("rm latest --yes");
        let stopped = job.0.run("stop --json");
        if stopped.code == 0 {
            assert!(refused.stderr.contains("at work"), "{}", refused.stderr);
            let stopped: Value = serde_json::from_str(stopped.last_line()).expect("JSON");
            assert_eq!(stopped["step"], stopped["checkpoint_step"], "{stopped}");
            assert!(stopped["seconds"].as_f64().expect("measured") < 10.0, "{stopped}");
            assert!(job.0.run("stop").expect(1).stderr.contains("nothing to stop"));
        }
    }
    job.0.run("resume --detach").expect(0);
    job.until("the end", |status| status["status"] == "completed" && status["alive"] == false);
    assert!(job.weights() == whole.weights());
    assert!(job.0.run("logs").expect(0).stdout.contains("completed at step 600 of 600"));
    assert!(job.0.run("logs -n 1").expect(0).stdout.lines().count() == 1);
    assert!(job.0.run("rm latest").expect(1).stderr.contains("--yes"));
    job.0.run("rm latest --yes").expect(0);
    assert_eq!(job.0.run("list --json").expect(0).stdout.lines().count(), 1);
}

#[test]
fn a_killed_worker_is_resumed_and_a_crash_loop_is_ended() {
    let job = Background::new();
    job.0.write("heard.sh", "#!/bin/sh\ncat >> heard.jsonl\n");
    let finished = job.0.run_with(
        [
            "train",
            "--detach",
            "--set",
            "train.steps=5000000",
            "--set",
            "train.checkpoint_every=50",
            "--set",
            "train.sample_every=0",
            "--set",
            "train.validate_every=0",
            "--set",
            "notify.command=[\"sh\", \"heard.sh\"]",
        ],
        |command| {
            command.env("TEXT2LLM_RESUME_PAUSE_MS", "1");
        },
    );
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(
        finished.stderr.contains("status --watch") && finished.stderr.contains("left."),
        "{}",
        finished.stderr
    );

    let first = job.kill_worker(0);
    let status = job.until("a resume", |status| status["resume_count"] == 1 && status["alive"] == true);
    assert_ne!(status["pid"].as_u64(), Some(first));
    let went_on = job.until("progress", |status| {
        status["tokens_per_s"].as_f64() > Some(0.0) && status["pid"].as_u64() != Some(first)
    });
    assert!(went_on["step"].as_u64() >= Some(50), "it does not start over: {went_on}");

    // From here on no worker lives long enough for a checkpoint: those that are there are the last.
    let mut killed = job.kill_worker(0);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while std::time::Instant::now() < until {
        let job_record: Value = serde_json::from_slice(&job.0.read("job/job.json")).expect("JSON");
        if job_record["status"] == "given_up" {
            break;
        }
        if let Some(worker) = job_record["worker_pid"].as_u64().filter(|&pid| pid != killed) {
            // At once, before it trains.
            let _ = std::process::Command::new("kill").args(["-9", &worker.to_string()]).status();
            killed = worker;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let record: Value = serde_json::from_slice(&job.0.read("job/job.json")).expect("JSON");
    assert_eq!((&record["status"], &record["exit_code"]), (&"given_up".into(), &2.into()), "{record}");
    let status = job.status();
    assert_eq!((&status["status"], &status["failure"]), (&"failed".into(), &"crash_loop".into()), "{status}");
    let path = std::path::PathBuf::from(status["path"].as_str().expect("a path"));
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(path.join("resume_metadata.json")).expect("kept"))
            .expect("JSON");
    assert!(metadata["resume_count"].as_u64() >= Some(3), "{metadata}");
    assert_eq!(metadata["resumes_without_progress"], 3);
    assert_eq!(metadata["last_crash"]["kind"], "signal");
    assert!(metadata["diagnosis"].as_str().expect("told").contains("crash loop"), "{metadata}");
    let heard = String::from_utf8(job.0.read("heard.jsonl")).expect("text");
    assert_eq!(
        heard.matches("\"event\":\"resumed\"").count() as u64,
        metadata["resume_count"].as_u64().expect("counted")
    );
    assert_eq!(heard.matches("\"event\":\"failed\"").count(), 1, "{heard}");
}

#[test]
fn what_cannot_begin_is_told_by_the_one_who_starts_it() {
    let job = Background::new();
    let finished = job.0.run("run --detach --corpus-path missing.txt").expect(3);
    assert!(finished.stderr.contains("missing.txt"), "{}", finished.stderr);
    assert!(job.0.run("train --detach --set train.lr=1").expect(1).stderr.contains("learning_rate"));
    assert!(!job.0.path().join("job/run.lock").exists() || job.0.run("stop").code == 1);
}

#[test]
fn status_answers_at_once_among_a_thousand_runs() {
    let job = Background::new();
    let state = r#"{"status": "running", "step": 3, "total_steps": 9, "pid": 1}"#;
    for i in 0..1000 {
        job.0.write(&format!("runs/20260101-{i:06}-x/state.json"), state);
        job.0.write(&format!("runs/20260101-{i:06}-x/run.lock"), "1\n");
    }
    // `status` is promised in 50 ms; `list` looks at a thousand locks besides.
    for (arguments, most) in [("status", 0.05), ("list", 0.25)] {
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                job.0.run(arguments).expect(0);
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        eprintln!("{arguments} among 1000 runs: {:.1} ms", best * 1e3);
        assert!(best < most, "{arguments}: {best} s");
    }
}
