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

    /// A training in the background, seen to train.
    #[track_caller]
    fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) {
        let quiet = ["--set", "train.sample_every=0", "--set", "train.validate_every=0"];
        let arguments = ["train", "--detach"].iter().chain(&quiet).chain(arguments);
        let finished = self.0.run_with(arguments, |command| {
            command.env("TEXT2LLM_RESUME_PAUSE_MS", "1").envs(environment.iter().copied());
        });
        assert_eq!(finished.code, 0, "{}", finished.stderr);
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
        signal("-KILL", pid);
        pid
    }

    fn weights(&self) -> Vec<u8> {
        let status = self.status();
        let run = std::path::PathBuf::from(status["path"].as_str().expect("a path"));
        let step = status["total_steps"].as_u64().expect("a number");
        std::fs::read(run.join(format!("checkpoints/step-{step:08}/weights.safetensors"))).expect("the end")
    }
}

fn signal(which: &str, process: u64) {
    let sent = std::process::Command::new("kill").args([which, &process.to_string()]).status();
    assert!(sent.expect("kill exists").success());
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
            assert!(refused.stderr.contains("running"), "{}", refused.stderr);
            let stopped: Value = serde_json::from_str(stopped.last_line()).expect("JSON");
            assert_eq!(stopped["step"], stopped["checkpoint_step"], "{stopped}");
            assert!(stopped["seconds"].as_f64().expect("measured") < 10.0, "{stopped}");
            assert!(job.0.run("stop").expect(1).stderr.contains("nothing to stop"));
        }
    }
    job.0.run("resume --detach").expect(0);
    job.until("the end", |status| {
        status["status"] == "completed" && status["alive"] == false && status["supervisor_pid"].is_null()
    });
    assert!(job.weights() == whole.weights());
    assert!(job.0.run("logs").expect(0).stdout.contains("completed at step 600 of 600"));
    assert!(job.0.run("logs -n 1").expect(0).stdout.lines().count() == 1);
    let refused = job.0.run("rm latest").expect(1).stderr;
    assert!(refused.contains("--yes"), "{refused}");
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
    // Told after the record is written.
    let mut heard = String::new();
    while std::time::Instant::now() < until && !heard.contains("\"event\":\"failed\"") {
        heard = String::from_utf8(job.0.read("heard.jsonl")).expect("text");
        std::thread::sleep(Duration::from_millis(25));
    }
    assert_eq!(
        heard.matches("\"event\":\"resumed\"").count() as u64,
        metadata["resume_count"].as_u64().expect("counted")
    );
    assert_eq!(heard.matches("\"event\":\"failed\"").count(), 1, "{heard}");
}

#[test]
fn a_worker_that_hangs_is_ended_and_resumed() {
    let job = Background::new();
    job.start(
        &["--set", "train.steps=5000000", "--set", "train.checkpoint_every=50"],
        &[("TEXT2LLM_HANG_AFTER_MS", "1500")],
    );
    job.until("a checkpoint", |status| status["checkpoint_step"].as_u64() >= Some(50));
    let stopped = job.status()["pid"].as_u64().expect("a number");
    signal("-STOP", stopped);
    let status = job.until("a resume", |status| {
        status["resume_count"] == 1
            && status["pid"].as_u64() != Some(stopped)
            && status["tokens_per_s"].as_f64() > Some(0.0)
    });
    assert!(status["step"].as_u64() >= Some(50), "it does not start over: {status}");
    let path = std::path::PathBuf::from(status["path"].as_str().expect("a path"));
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(path.join("resume_metadata.json")).expect("kept"))
            .expect("JSON");
    assert_eq!(metadata["last_crash"]["kind"], "hang", "{metadata}");
    assert!(
        metadata["last_crash"]["message"].as_str().expect("told").contains("no activity for"),
        "{metadata}"
    );
    // One that works through the same patience is left alone.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(job.status()["resume_count"], 1);
}

#[test]
fn a_worker_without_its_supervisor_is_left_to_work_and_can_be_stopped() {
    let job = Background::new();
    job.start(&["--set", "train.steps=5000000"], &[]);
    let before = job.0.read("job/job.json");
    let record: Value = serde_json::from_slice(&before).expect("JSON");
    signal("-KILL", record["pid"].as_u64().expect("a number"));
    job.until("the supervisor's end", |status| status["supervisor_pid"].is_null());
    let second = job.0.run("resume --detach").expect(1);
    assert!(second.stderr.contains("without a supervisor"), "{}", second.stderr);
    assert_eq!(job.0.read("job/job.json"), before, "its record stays");
    let stopped = job.0.run("stop --json").expect(0);
    let stopped: Value = serde_json::from_str(stopped.last_line()).expect("JSON");
    assert_eq!(
        (&stopped["status"], &stopped["step"]),
        (&"stopped".into(), &stopped["checkpoint_step"]),
        "{stopped}"
    );
}

#[test]
fn of_racing_starts_one_wins_and_the_others_are_told() {
    let job = Background::new();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            job.0.command(["train", "--detach", "--set", "train.steps=5000000"]).spawn().expect("starts")
        })
        .collect();
    let ends: Vec<_> = starts.into_iter().map(|start| start.wait_with_output().expect("ours")).collect();
    let (won, lost): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.status.success());
    assert_eq!(won.len(), 1, "{ends:?}");
    for end in lost {
        let words = String::from_utf8_lossy(&end.stderr);
        assert!(end.status.code() == Some(1) && words.contains("running"), "{words}");
    }
    assert!(String::from_utf8_lossy(&won[0].stderr).contains("Training has started"), "{won:?}");
}

#[test]
fn a_recipe_s_command_runs_only_after_a_yes_and_hears_of_a_corpus_that_fails() {
    let job = Background::new();
    job.0.write("heard.sh", "#!/bin/sh\ncat >> heard.jsonl\n");
    let recipe = format!("{}\n[notify]\ncommand = [\"sh\", \"heard.sh\"]\n", crate::TINY);
    job.0.write("text2llm.toml", recipe);
    let told = job.0.run("run --detach --corpus-path missing.txt").expect(3);
    assert!(
        told.stderr.contains(r#"["sh", "heard.sh"]"#) && told.stderr.contains("--yes"),
        "{}",
        told.stderr
    );
    assert!(!job.0.path().join("heard.jsonl").exists());
    job.0.run("run --detach --yes --corpus-path missing.txt").expect(3);
    let heard = String::from_utf8(job.0.read("heard.jsonl")).expect("text");
    assert!(heard.contains("\"event\":\"failed\"") && heard.contains("missing.txt"), "{heard}");

    let hidden = format!("true {}; sh evil.sh\\u001b[2J", " ".repeat(2000));
    let recipe = format!("{}\n[notify]\ncommand = [\"sh\", \"-c\", \"{hidden}\"]\n", crate::TINY);
    job.0.write("text2llm.toml", recipe);
    let told = job.0.run("run --detach --corpus-path missing.txt").expect(3);
    assert!(told.stderr.contains("will not run") && told.stderr.contains("characters"), "{}", told.stderr);
    assert!(!told.stderr.contains("evil.sh") && told.stderr.len() < 2000, "{}", told.stderr);
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
    let state = serde_json::json!({ "status": "running", "step": 3, "total_steps": 9, "pid": 1 });
    let path = job.0.path().join("sealed.json");
    store::sealed::write(&store::fs::RealFs, &path, &state).expect("written");
    let state = std::fs::read_to_string(path).expect("text");
    for i in 0..1000 {
        job.0.write(&format!("runs/20260101-{i:06}-x/state.json"), &state);
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
