//! A stop on request is told as one, in every phase and whoever is asked: the worker, its supervisor, both,
//! or a command in the foreground.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Sandbox;

use crate::{sandbox, write_tiny};

/// Promised for a stop in any phase.
const SOON: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);

#[expect(clippy::print_stderr)]
fn measured(what: &str, took: Duration) {
    eprintln!("{what}: {:.2} s", took.as_secs_f64());
}

fn signal(which: &str, process: u64) {
    // One that has ended meanwhile is no matter.
    let _ = Command::new("kill").args([which, &process.to_string()]).status().expect("kill exists");
}

/// A recipe whose validation and export take seconds.
fn write_slow_to_finish(sandbox: &Sandbox) {
    write_tiny(sandbox);
    let prompts: Vec<String> = (0..700).map(|number| format!("the river {number} ")).collect();
    let recipe = crate::TINY
        .replace("prompts = [\"the river \"]", &format!("prompts = {}", serde_json::json!(prompts)))
        .replace("sample_tokens = 8", "sample_tokens = 2");
    sandbox.write("text2llm.toml", recipe);
}

/// Text whose preparing takes seconds.
fn write_slow_to_prepare(sandbox: &Sandbox) {
    write_tiny(sandbox);
    for seed in 0..LARGE {
        sandbox.write(&large(seed), testkit::text(2_000_000, seed));
    }
}

const LARGE: u64 = 30;

fn large(number: u64) -> String {
    format!("corpus/large-{number:02}.txt")
}

struct Job {
    sandbox: Sandbox,
    launcher: Child,
}

impl Job {
    fn start(write: fn(&Sandbox)) -> Job {
        let sandbox = sandbox();
        write(&sandbox);
        sandbox.write("heard.sh", "#!/bin/sh\ncat >> heard.jsonl\n");
        let arguments =
            ["run", "--detach", "--yes", "--threads", "1", "--set", "notify.command=[\"sh\", \"heard.sh\"]"];
        let launcher = sandbox.command(arguments).env("TEXT2LLM_RESUME_PAUSE_MS", "1").spawn();
        Job { launcher: launcher.expect("the program starts"), sandbox }
    }

    fn console(&self) -> String {
        let bytes = std::fs::read(self.sandbox.path().join("job/console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn record(&self) -> Value {
        std::fs::read(self.sandbox.path().join("job/job.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "{what} did not come: {}\n{}", self.record(), self.console());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn status(&self) -> Value {
        serde_json::from_str(self.sandbox.run("status --json").expect(0).last_line()).expect("JSON")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.sandbox.run("stop");
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

/// What is asked to stop.
const TARGETS: [&[&str]; 3] = [&["worker_pid"], &["pid"], &["worker_pid", "pid"]];

fn stopped_in(title: &str, write: fn(&Sandbox), trained: bool) {
    for target in TARGETS {
        let job = Job::start(write);
        let header = format!("] {title}");
        job.until(title, || job.console().contains(&header) && job.record()["worker_pid"].is_u64());
        // Not just at its first instruction.
        std::thread::sleep(Duration::from_millis(150));
        let record = job.record();
        let asked = Instant::now();
        for process in target {
            signal("-TERM", record[process].as_u64().expect("a number"));
        }
        job.until("the end", || !job.record()["exit_code"].is_null());
        let took = asked.elapsed();
        let case = format!("{title}, {target:?}: {}\n{}", job.record(), job.console());
        assert!(took < SOON, "{took:?}: {case}");
        measured(&format!("{title}, {target:?}"), took);
        let record = job.record();
        assert_eq!((&record["status"], &record["exit_code"]), (&"stopped".into(), &143.into()), "{case}");
        assert_eq!(record["resumes"], 0, "{case}");
        assert!(!job.console().contains("error:"), "{case}");
        // Told after the record is written.
        let heard = || {
            let bytes = std::fs::read(job.sandbox.path().join("heard.jsonl")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        job.until("a notification", || heard().ends_with('\n'));
        assert!(heard().contains("\"event\":\"stopped\"") && heard().lines().count() == 1, "{}", heard());

        let status = job.status();
        assert_eq!((&status["status"], &status["failure"]), (&"stopped".into(), &Value::Null), "{case}");
        assert_eq!(status["job"]["status"], "stopped", "{status}");
        let message = status["message"].as_str().expect("told");
        let of_phase = |phase: &str| message.contains(&format!("in the {} phase", phase.to_lowercase()));
        // A fast machine may have gone on to the next phase by the time it is asked.
        assert!(of_phase(title) || (title == "Validation" && of_phase("Export")), "{message}");
        let listed = job.sandbox.run("list --json").expect(0);
        assert!(listed.stdout.contains("\"status\":\"stopped\""), "{}", listed.stdout);
        let told = job.sandbox.run("status").expect(0).stdout;
        if trained {
            assert!(status["missing"].as_array().expect("a list").contains(&"export".into()), "{status}");
            let run = status["run_id"].as_str().expect("told");
            assert!(told.contains("stopped; trained, ") && told.contains(&format!("resume {run}")), "{told}");
        } else {
            assert!(told.contains("status      stopped"), "{told}");
        }
        let tagged = job.sandbox.run("status --output agent").expect(0).stdout;
        assert!(tagged.contains("status=\"stopped\""), "{tagged}");

        // And then just what is missing is done; of the corpus little, so that it takes no time.
        for number in 0..LARGE {
            let _ = std::fs::remove_file(job.sandbox.path().join(large(number)));
        }
        let finished = job.sandbox.run("run --resume --json --set validate.prompts=[\"the\"]").expect(0);
        assert_eq!(finished.stdout.contains("\"event\":\"step\""), !trained, "{case}");
        let status = job.status();
        assert_eq!((&status["status"], &status["missing"]), (&"completed".into(), &serde_json::json!([])));
        assert!(job.sandbox.path().join("model/model.safetensors").exists());
        assert_eq!(job.sandbox.run("list --json").expect(0).stdout.lines().count(), 2, "one run");
    }
}

#[test]
fn a_stop_while_the_corpus_is_prepared_is_no_failure() {
    stopped_in("Corpus", write_slow_to_prepare, false);
}

#[test]
fn a_stop_while_the_model_is_validated_is_no_failure() {
    stopped_in("Validation", write_slow_to_finish, true);
}

#[test]
fn a_stop_while_the_model_is_exported_is_no_failure() {
    stopped_in("Export", write_slow_to_finish, true);
}

#[test]
fn a_stop_while_training_is_no_failure_whoever_is_asked() {
    for target in TARGETS {
        let job = Job::start(|sandbox| {
            write_tiny(sandbox);
            let recipe = crate::TINY.replace("steps = 40", "steps = 5000000");
            sandbox.write("text2llm.toml", recipe);
        });
        job.until("a step", || {
            job.sandbox.run("status --json").stdout.contains("\"status\":\"running\"")
                && job.status()["step"] != 0
        });
        let (record, asked) = (job.record(), Instant::now());
        for process in target {
            signal("-TERM", record[process].as_u64().expect("a number"));
        }
        job.until("the end", || !job.record()["exit_code"].is_null());
        assert!(asked.elapsed() < SOON, "{target:?}: {:?}", asked.elapsed());
        let (record, status) = (job.record(), job.status());
        assert_eq!((&record["status"], &record["exit_code"]), (&"stopped".into(), &143.into()), "{record}");
        assert_eq!((&status["status"], &status["step"]), (&"stopped".into(), &status["checkpoint_step"]));
        assert!(!job.console().contains("error:"), "{}", job.console());
    }
}

/// A command in the foreground, asked to stop as soon as a line of its stdout or stderr says that it works.
#[track_caller]
fn stopped_in_the_foreground(sandbox: &Sandbox, arguments: &str, which: &str, code: i32) -> String {
    let mut command = sandbox.command(arguments.split_whitespace());
    command.stdout(std::fs::File::create(sandbox.path().join("out.txt")).expect("writable"));
    command.stderr(std::fs::File::create(sandbox.path().join("err.txt")).expect("writable"));
    let mut child = command.spawn().expect("the program starts");
    std::thread::sleep(Duration::from_millis(700));
    let asked = Instant::now();
    signal(which, child.id().into());
    let ended = child.wait().expect("ours");
    let took = asked.elapsed();
    let words = String::from_utf8_lossy(&sandbox.read("err.txt")).into_owned();
    assert_eq!(ended.code(), Some(code), "{arguments}: {ended}\n{words}");
    assert!(took < SOON, "{arguments}: {took:?}");
    assert!(words.contains("stopped on request") && !words.contains("error:"), "{arguments}: {words}");
    measured(arguments, took);
    words
}

#[test]
fn commands_in_the_foreground_end_with_the_shell_s_code() {
    let sandbox = sandbox();
    write_slow_to_prepare(&sandbox);
    let told = stopped_in_the_foreground(&sandbox, "data prepare", "-TERM", 143);
    assert!(told.contains("text2llm data prepare"), "{told}");
    let told = stopped_in_the_foreground(&sandbox, "train", "-TERM", 143);
    assert!(told.contains("text2llm train --resume"), "{told}");
    stopped_in_the_foreground(&sandbox, "run --json", "-INT", 130);
    assert!(String::from_utf8_lossy(&sandbox.read("out.txt")).contains("\"event\":\"stopped\""));
    stopped_in_the_foreground(&sandbox, "bench --steps 100000", "-TERM", 143);
    write_tiny(&sandbox);
    std::fs::remove_dir_all(sandbox.path().join("corpus")).expect("there");
    write_tiny(&sandbox);
    sandbox.run("run --fresh").expect(0);
    let endless = "generate --prompt the --max-new-tokens 100000000 --ignore-end --temperature 0";
    stopped_in_the_foreground(&sandbox, endless, "-INT", 130);
}

#[test]
fn a_request_stops_a_run_in_the_foreground_in_any_phase() {
    for (title, write) in [
        ("Corpus", write_slow_to_prepare as fn(&Sandbox)),
        ("Validation", write_slow_to_finish as fn(&Sandbox)),
    ] {
        let sandbox = sandbox();
        write(&sandbox);
        let mut command = sandbox.command(["run"]);
        command.stderr(std::fs::File::create(sandbox.path().join("err.txt")).expect("writable"));
        let mut child = command.spawn().expect("the program starts");
        let began = Instant::now();
        while !String::from_utf8_lossy(&sandbox.read("err.txt")).contains(&format!("] {title}")) {
            assert!(began.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(150));
        let asked = Instant::now();
        let stopped = sandbox.run("stop --json").expect(0);
        let stopped: Value = serde_json::from_str(stopped.last_line()).expect("JSON");
        assert_eq!(stopped["status"], "stopped", "{stopped}");
        assert_eq!(child.wait().expect("ours").code(), Some(143));
        assert!(asked.elapsed() < SOON);
    }
}

#[test]
fn a_trained_run_says_what_is_missing_and_resume_makes_it() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    // By a recipe that is not the project's, and not the newest run when it goes on.
    sandbox.write("other.toml", crate::TINY.replace("steps = 40", "steps = 12"));
    sandbox.run("train other.toml").expect(0);
    let run = |status: &str| -> String {
        let status: Value = serde_json::from_str(status).expect("JSON");
        status["run_id"].as_str().expect("told").to_owned()
    };
    let first = run(sandbox.run("status --json").expect(0).last_line());
    sandbox.run("train --set train.steps=7").expect(0);
    let status = sandbox.run(&format!("status {first}")).expect(0);
    let command = format!("trained; validation and export are missing: `text2llm resume {first}`");
    assert!(status.stdout.contains(&command), "{}", status.stdout);
    let finished = sandbox.run(&format!("resume {first} --json")).expect(0);
    assert!(!finished.stdout.contains("\"event\":\"step\""), "{}", finished.stdout);
    let results: Value = serde_json::from_slice(&sandbox.read("evals/results.json")).expect("JSON");
    assert_eq!((&results["run_id"], &results["checkpoint_step"]), (&first.clone().into(), &12.into()));
    assert!(sandbox.run(&format!("status {first}")).expect(0).stdout.contains("status      completed"));
    // `run --resume` takes the newest one's recipe too.
    let finished = sandbox.run("run --resume --json").expect(0);
    assert!(!finished.stdout.contains("\"event\":\"step\""), "{}", finished.stdout);
    let results: Value = serde_json::from_slice(&sandbox.read("evals/results.json")).expect("JSON");
    assert_eq!(results["checkpoint_step"], 7);

    sandbox.run("train").expect(0);
    assert!(sandbox.run("list").expect(0).stdout.contains("trained"));
    let finished = sandbox.run("run --json").expect(0);
    assert!(!finished.stdout.contains("\"event\":\"step\""), "{}", finished.stdout);
    assert!(sandbox.run("status").expect(0).stdout.contains("status      completed"));
    std::fs::remove_dir_all(sandbox.path().join("model")).expect("there");
    assert!(sandbox.run("status").expect(0).stdout.contains("trained; export is missing"));
    let finished = sandbox.run("resume --json").expect(0);
    assert!(!finished.stdout.contains("\"event\":\"step\""), "{}", finished.stdout);
}

#[test]
fn an_executor_is_stopped_in_what_it_does_itself() {
    if !testkit::has_program("curl") {
        return;
    }
    // Object storage that never answers.
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let arguments = "data prepare --executor local --ranks 1 --corpus-path s3://lab/raw/";
    let mut command = sandbox.command(arguments.split(' '));
    command
        .env("AWS_ENDPOINT_URL", format!("http://{}", server.local_addr().expect("bound")))
        .env("AWS_ACCESS_KEY_ID", "AKID")
        .env("AWS_SECRET_ACCESS_KEY", "very-secret")
        .env("AWS_REGION", "lab")
        .env_remove("AWS_PROFILE");
    let child = command.spawn().expect("the program starts");
    let _asked = server.accept().expect("it lists");
    let asked = Instant::now();
    signal("-TERM", child.id().into());
    let ended = child.wait_with_output().expect("ours");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(143), "{told}");
    assert!(asked.elapsed() < SOON && told.contains("stopped on request"), "{told}");
}

#[test]
fn a_stop_does_not_wait_for_somebody_who_does_not_read() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let mut command = sandbox.command(["run", "--json", "--set", "train.steps=5000000"]);
    command.stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let unread = child.stdout.take();
    let status = || -> Value {
        let told = sandbox.run("status --json").expect(0);
        serde_json::from_str(told.last_line()).expect("JSON")
    };
    let written = || {
        let run = status()["path"].as_str()?.to_owned();
        Some(std::fs::metadata(std::path::Path::new(&run).join("metrics.jsonl")).ok()?.len())
    };
    // Until the pipe is full, and the run gets no further.
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "it does not wait");
        let before = written();
        std::thread::sleep(Duration::from_secs(1));
        if before.is_some_and(|bytes| bytes > 0) && written() == before {
            break;
        }
    }
    let asked = Instant::now();
    signal("-TERM", child.id().into());
    let ended = loop {
        if let Some(ended) = child.try_wait().expect("ours") {
            break ended;
        }
        if asked.elapsed() > SOON {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(ended.code(), Some(143));
    let status = status();
    assert_eq!((&status["status"], &status["step"]), (&"stopped".into(), &status["checkpoint_step"]));
    drop(unread);
}
