//! `doctor --for` and the scripts in `scripts/`, with fake nvidia-smi, sysctl, system_profiler, tmux, cargo.
//! No test needs a network or a GPU.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::{Finished, Sandbox};

use crate::{sandbox, write_tiny_to};

/// What the scripts use of the system; nothing else is on PATH. macOS has no setsid.
const PROGRAMS: [&str; 24] = [
    "awk", "bash", "cat", "chmod", "cp", "date", "dirname", "env", "grep", "mkdir", "mkfifo", "mktemp", "mv",
    "nohup", "rm", "sed", "setsid", "sh", "sleep", "tail", "tee", "touch", "tr", "wc",
];

const RECIPE: &str = r#"
name = "tune"
[finetune]
data = ["chat.jsonl"]
validation_fraction = 0.1
[adapter]
rank = 2
[train]
init = "base/model"
steps = 20
batch_size = 2
sequence_length = 32
optimizer = "adamw"
validate_every = 0
sample_every = 0
checkpoint_every = 10
[validate]
prompts = ["Hi"]
sample_tokens = 4
latency_runs = 1
"#;

const H100: &str = "NVIDIA H100 80GB HBM3, 81559, 535.104.05";

/// A machine with chosen programs, and a project folder for a fine-tuning that takes a moment.
struct Machine {
    sandbox: Sandbox,
    binary: PathBuf,
}

impl Machine {
    fn new() -> Machine {
        let sandbox = sandbox();
        write_tiny_to(&sandbox, "base/");
        sandbox.run("run --project base --set train.steps=2 --set train.sample_every=0").expect(0);
        let examples: String =
            (0..40).map(|i| format!("{{\"prompt\": \"Hi {i}\", \"completion\": \" day {i}\"}}\n")).collect();
        sandbox.write("chat.jsonl", examples);
        sandbox.write("tune.toml", RECIPE);
        fs::create_dir(sandbox.path().join("bin")).expect("writable");
        let folders = std::env::var_os("PATH").expect("set");
        for name in PROGRAMS {
            let found =
                std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.exists());
            if let Some(found) = found {
                symlink(found, sandbox.path().join("bin").join(name)).expect("writable");
            }
        }
        Machine { sandbox, binary: PathBuf::from(env!("CARGO_BIN_EXE_text2llm")) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path().join(name)
    }

    /// Puts a shell script on PATH.
    fn fake(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path("bin").join(name);
        self.sandbox.write(&format!("bin/{name}"), format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its owner");
        path
    }

    fn fake_nvidia_smi(&self, gpus: &str, cuda: &str) {
        let body =
            format!("case \"$*\" in --query*) echo '{gpus}' ;; *) echo '| CUDA Version: {cuda} |' ;; esac");
        self.fake("nvidia-smi", &body);
    }

    fn fake_mac(&self, gigabytes: u64) {
        let bytes = gigabytes << 30;
        let body = format!("case $2 in hw.memsize) echo {bytes} ;; *) echo 'Apple M4 Pro' ;; esac");
        self.fake("sysctl", &body);
        self.fake("system_profiler", "echo '      Chip: Apple M4 Pro'");
    }

    fn doctor(&self, arguments: &str, environment: &[(&str, &str)]) -> Finished {
        let arguments = ["doctor", "--for"].into_iter().chain(arguments.split(' '));
        self.sandbox.run_with(arguments, |command| {
            command.env("PATH", self.path("bin")).env_remove("WANDB_API_KEY");
            command.envs(environment.iter().copied());
        })
    }

    /// The checks by name, each with its status and its line.
    fn checks(&self, arguments: &str, code: i32) -> Vec<(String, String, String)> {
        let finished = self.doctor(&format!("{arguments} --json"), &[]).expect(code);
        let lines: Vec<Value> =
            finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let summary = lines.iter().find(|line| line["event"] == "summary").expect("a summary");
        let checks: Vec<&Value> = lines.iter().filter(|line| line["event"] == "check").collect();
        let errors = checks.iter().filter(|check| check["status"] == "error").count();
        assert_eq!((&summary["checks"], &summary["errors"]), (&checks.len().into(), &errors.into()));
        assert_eq!(errors > 0, code == 1, "{}", finished.stdout);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        checks.iter().map(|check| (text(&check["name"]), text(&check["status"]), check.to_string())).collect()
    }

    /// The check of a name, which has this status and contains this word.
    #[track_caller]
    fn check(&self, arguments: &str, code: i32, name: &str, status: &str, word: &str) {
        let checks = self.checks(arguments, code);
        let found =
            checks.iter().find(|check| check.0 == name).unwrap_or_else(|| panic!("{name}: {checks:#?}"));
        assert!(found.1 == status && found.2.contains(word), "{status}, {word}: {checks:#?}");
    }

    fn script(&self, name: &str, arguments: &str) -> Finished {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
        let mut command = Command::new(self.path("bin/bash"));
        command.arg(script).args(arguments.split_whitespace()).current_dir(self.sandbox.path());
        command.env_clear().env("PATH", self.path("bin")).env("HOME", self.sandbox.path());
        command.env("TEXT2LLM_BINARY", &self.binary).env("CARGO_TARGET_DIR", self.path("target"));
        command
            .env("TRAINING_WATCH_STEPS", "5")
            .env("TRAINING_WATCH_S", "1")
            .env("TRAINING_WATCH_EVERY_S", "0.1");
        if self.binary.as_os_str().is_empty() {
            command.env_remove("TEXT2LLM_BINARY");
        }
        let output = command.stdin(Stdio::null()).output().expect("bash starts");
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or_default());
        Finished {
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn log(&self) -> String {
        let logs = fs::read_dir(self.path("tuned/logs")).expect("logs");
        let mut logs: Vec<PathBuf> = logs.map(|entry| entry.expect("listed").path()).collect();
        logs.retain(|path| path.extension().is_some_and(|end| end == "log"));
        logs.sort();
        fs::read_to_string(logs.last().expect("a log")).expect("text")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What a failed test leaves behind.
        self.sandbox.run("stop --project tuned");
    }
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
}

#[test]
fn a_recipe_that_can_run_passes_all_checks() {
    let machine = Machine::new();
    let finished = machine.doctor("tune.toml", &[]).expect(0);
    let names: Vec<&str> =
        finished.stdout.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["recipe", "device", "data", "model", "memory", "disk"], "{}", finished.stdout);
    contains(&finished.stderr, &["6 checks passed"]);
    // Files named on the command line are found from the current folder, as with `finetune`.
    machine.sandbox.write("elsewhere/tune.toml", RECIPE);
    machine.doctor("elsewhere/tune.toml", &[]).expect(1);
    machine.doctor("elsewhere/tune.toml --init base/model --data chat.jsonl", &[]).expect(0);
    // Without [finetune], the plan finds the text.
    machine.doctor("base/text2llm.toml --project elsewhere", &[]).expect(0);
    assert!(!machine.path("elsewhere/runs").exists());
}

#[test]
fn what_would_fail_is_told_with_a_remedy() {
    let machine = Machine::new();
    machine.sandbox.write("bad.toml", RECIPE.replace("steps =", "step ="));
    machine.check("bad.toml", 1, "recipe", "error", "bad.toml:10:1");
    machine.check("absent.toml", 1, "recipe", "error", "absent.toml");
    machine.check("tune.toml --data absent.jsonl", 1, "data", "error", "absent.jsonl");
    machine.check("tune.toml --data absent.jsonl", 1, "memory", "warning", "not checked");
    machine.check("tune.toml --init absent", 1, "model", "error", "--init MODEL");
    machine.sandbox.write("damaged/config.json", "{");
    machine.check("tune.toml --init damaged", 1, "model", "error", "config.json");
    machine.check("tune.toml --minimum-disk-gb 1e9", 1, "disk", "error", "free some space");
    let big = crate::TINY.replace("depth = 1", "size = \"100B\"").replace("corpus", "base/corpus");
    machine.sandbox.write("big.toml", big);
    machine.check("big.toml", 1, "memory", "error", "smaller model");
    let usage = machine.sandbox.run("doctor --machine mac").expect(1);
    contains(&usage.stderr, &["--for"]);
    contains(&machine.doctor("tune.toml --minimum-disk-gb=-1", &[]).expect(1).stderr, &["number of GB"]);
}

#[test]
fn a_key_is_needed_only_if_asked_for_and_never_printed() {
    let machine = Machine::new();
    for environment in [&[][..], &[("WANDB_API_KEY", "")]] {
        let finished = machine.doctor("tune.toml --wandb", environment).expect(1);
        contains(&finished.stdout, &["error    wandb      WANDB_API_KEY is not set"]);
    }
    for arguments in ["tune.toml --wandb", "tune.toml --wandb --json"] {
        let finished = machine.doctor(arguments, &[("WANDB_API_KEY", "0123secret")]).expect(0);
        contains(&finished.stdout, &["WANDB_API_KEY is set"]);
        assert!(!format!("{finished:?}").contains("0123secret"), "{finished:?}");
    }
}

#[test]
fn an_h100_is_recognized() {
    let machine = Machine::new();
    let arguments = "tune.toml --machine h100";
    machine.check(arguments, 1, "gpu", "error", "there is no nvidia-smi on PATH");
    for (gpus, cuda, name, status, word) in [
        (H100, "12.2", "gpu", "ok", "79 GiB"),
        (H100, "12.2", "cuda", "ok", "12.2"),
        (H100, "11.8", "cuda", "error", "older than 12.1"),
        ("NVIDIA A100-SXM4-80GB, 81920, 535.1", "12.2", "gpu", "error", "not an H100"),
        ("NVIDIA H100 80GB HBM3, 40000, 535.1", "12.2", "gpu", "error", "39 GiB"),
        ("", "12.2", "gpu", "error", "no GPU"),
    ] {
        machine.fake_nvidia_smi(gpus, cuda);
        // This build has no CUDA.
        machine.check(arguments, 1, name, status, word);
    }
    machine.check(arguments, 1, "device", "error", "--features cuda");
    // The memory is that of the GPU.
    machine.check(arguments, 1, "memory", "ok", "77.6 GB");
    machine.fake("nvidia-smi", "echo 'NVIDIA-SMI has failed to talk to the driver'; exit 9");
    machine.check(arguments, 1, "gpu", "error", "failed to talk to the driver");
}

#[test]
fn a_mac_is_recognized() {
    let machine = Machine::new();
    let arguments = "tune.toml --machine mac";
    machine.check(arguments, 1, "chip", "error", "this is not a Mac");
    for (gigabytes, code, status, word) in
        [(8, 1, "error", "insufficient"), (24, 0, "warning", "limited"), (64, 0, "ok", "sufficient")]
    {
        machine.fake_mac(gigabytes);
        machine.check(arguments, code, "ram", status, word);
    }
    machine.check(arguments, 0, "chip", "ok", "Apple M4 Pro");
    machine.check(arguments, 0, "duration", "warning", "hot");
    machine.fake("system_profiler", "echo '      Chip: Apple M1'");
    machine.check(arguments, 0, "chip", "warning", "Apple M1");
}

#[test]
fn compressed_examples_are_planned_by_their_decompressed_size() {
    let machine = Machine::new();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/weather-persona/cpu.toml");
    let init = format!("train.init={}", machine.path("base/model").display());
    let arguments =
        ["plan", "--json", "--no-calibration", "--set", "train.sequence_length=32", "--set", &init];
    let recipe = recipe.to_str().expect("UTF-8");
    let finished = machine.sandbox.run_with(arguments.into_iter().chain([recipe]), |_| {}).expect(0);
    let plan: Value = serde_json::from_str(finished.last_line()).expect("JSON");
    let counts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/synthetic/merge_metadata.json");
    let counts: Value = serde_json::from_slice(&fs::read(counts).expect("there")).expect("JSON");
    let bytes = &counts["files"]["final_train.jsonl.zst"]["uncompressed_bytes"];
    assert_eq!(plan["tokens"]["available"].as_u64(), bytes.as_u64().map(|bytes| bytes / 4));
}

#[test]
fn setup_uses_or_builds_the_version_of_the_checkout() {
    let mut machine = Machine::new();
    let arguments = "--config tune.toml --machine none --minimum-disk-gb 0.001";
    for _ in 0..2 {
        let finished = machine.script("setup_m4_local.sh", arguments).expect(0);
        contains(&finished.stdout, &["[SETUP-M4] checking tune.toml", "✅ model: ", "train_m4_local.sh"]);
    }
    let finished = machine.script("setup_runpod_h100.sh", "--config tune.toml").expect(1);
    contains(&finished.stderr, &["❌ ERROR: TEXT2LLM_BINARY=", "with CUDA"]);
    let real = std::mem::replace(&mut machine.binary, PathBuf::new());
    let finished = machine.script("setup_m4_local.sh", arguments).expect(1);
    contains(&finished.stderr, &["no cargo to build it", "rustup.rs"]);

    // An old program is on PATH; cargo builds this one.
    machine.fake("text2llm", "echo text2llm 0.0.1");
    let build = format!(
        "echo \"$*\" >> '{}'\nmkdir -p \"$CARGO_TARGET_DIR/release\"\ncp '{}' \"$CARGO_TARGET_DIR/release/text2llm\"",
        machine.path("cargo.log").display(),
        real.display()
    );
    machine.fake("cargo", &build);
    for _ in 0..2 {
        let finished = machine.script("setup_m4_local.sh", arguments).expect(0);
        contains(&finished.stdout, &["target/release/text2llm", "[SETUP-M4] ready"]);
    }
    let finished = machine.script("setup_runpod_h100.sh", "--config tune.toml").expect(1);
    contains(&finished.stderr, &["the build is not text2llm", "with CUDA"]);
    let built = fs::read_to_string(machine.path("cargo.log")).expect("built");
    assert_eq!(built, "build --release\nbuild --release --features cuda\n");
}

#[test]
fn setup_of_an_h100_checks_the_gpu() {
    let mut machine = Machine::new();
    let real = machine.binary.display().to_string();
    let with_cuda = format!(
        "[ \"$*\" != 'doctor --json' ] || {{ echo '{{\"cuda\":{{}}}}'; exit 0; }}\nexec '{real}' \"$@\""
    );
    machine.binary = machine.fake("with-cuda", &with_cuda);
    machine.fake_nvidia_smi(H100, "12.4");
    let finished = machine.script("setup_runpod_h100.sh", "--config tune.toml --minimum-disk-gb 1").expect(1);
    contains(&finished.stdout, &["[SETUP-H100] ", "✅ gpu: NVIDIA H100", "✅ cuda: ", "✅ disk: "]);
    contains(&finished.stderr, &["❌ ERROR: device: this program was built without CUDA"]);
    let finished =
        machine.script("train_h100_runpod.sh", "--config tune.toml --minimum-disk-gb 1e9").expect(1);
    contains(&finished.stderr, &["❌ ERROR: disk: "]);
    assert!(!finished.stdout.contains("[ETA]"), "{}", finished.stdout);
}

#[test]
fn training_in_the_foreground_ends_with_a_model() {
    let machine = Machine::new();
    machine.fake_mac(64);
    let arguments = "--config tune.toml --project tuned --foreground --usd-per-hour 2";
    let finished = machine.script("train_m4_local.sh", arguments).expect(0);
    contains(
        &finished.stdout,
        &[
            "✅ ram: ",
            "⚠️ WARNING: duration: ",
            "[ETA] about ",
            "USD (at 2.00 USD",
            "[TRAINING-M4-COMPLETE] ",
        ],
    );
    assert!(machine.path("tuned/model/adapter_model.safetensors").is_file());
    contains(&machine.log(), &["[7/7] Export", "Done in"]);
    assert!(!machine.path("tuned/logs/resume_metadata.json").exists(), "a finished run needs no record");
    let status = machine.script("check_training_status.sh", "--project tuned").expect(0);
    contains(&status.stdout, &["step 20 of 20, loss ", "✅ finished", "completed at step 20"]);
    let again = machine.script("train_m4_local.sh", arguments).expect(0);
    contains(&again.stdout, &["reusing it", "[TRAINING-M4-COMPLETE] "]);
    let background = machine.script("train_m4_local.sh", "--config tune.toml --project tuned").expect(0);
    contains(&background.stdout, &["[TRAINING-M4-COMPLETE] "]);
    machine.fake_mac(8);
    let refused = machine.script("train_m4_local.sh", arguments).expect(1);
    contains(&refused.stderr, &["❌ ERROR: ram: 8 GB of memory: insufficient"]);
}

#[test]
fn training_in_the_background_is_watched_stopped_and_continued() {
    let machine = Machine::new();
    let long = RECIPE
        .replace("steps = 20", "steps = 5000000")
        .replace("checkpoint_every = 10", "checkpoint_every = 50");
    machine.sandbox.write("long.toml", long);
    let asked = machine.path("tmux.log");
    machine.fake("tmux", &format!("echo \"$*\" >> '{}'; [ \"$1\" != kill-session ]", asked.display()));
    let arguments = "--config long.toml --project tuned --machine none --minimum-disk-gb 0.001";
    let start = || machine.script("train_h100_runpod.sh", arguments).expect(0);
    let started = start();
    contains(
        &started.stdout,
        &[
            "[TRAINING-H100-STARTED] run ",
            "[ETA] about ",
            "tmux attach -t text2llm-h100",
            "check_training_status.sh",
        ],
    );
    let asked = fs::read_to_string(asked).expect("asked");
    contains(&asked, &["new-session -d -s text2llm-h100 bash -c", "logs --console -f", "tee -a"]);
    let status = machine.script("check_training_status.sh", "--project tuned").expect(0);
    contains(&status.stdout, &["running on the cpu", "[ETA] about "]);
    contains(&start().stdout, &["already running"]);

    machine.sandbox.run("stop --project tuned").expect(0);
    let status = machine.script("check_training_status.sh", "--project tuned").expect(3);
    contains(&status.stdout, &["stopped on request"]);
    fs::remove_file(machine.path("bin/tmux")).expect("there");
    let again = start();
    contains(
        &again.stdout,
        &["continuing run", "⚠️ WARNING: there is no tmux", "[TRAINING-H100-STARTED] run "],
    );
    machine.sandbox.run("stop --project tuned").expect(0);
    let record: Value =
        serde_json::from_slice(&machine.sandbox.read("tuned/logs/resume_metadata.json")).expect("JSON");
    let attempts = record["attempts"].as_array().expect("a list");
    assert!(attempts.len() == 2 && attempts[0]["reached_step"].as_u64() > Some(0), "{record}");
    assert_eq!(attempts[1]["from_step"], attempts[0]["reached_step"], "{record}");
    // Written by the background process.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !machine.log().contains("supervisor: stopped at step") {
        assert!(std::time::Instant::now() < until, "{}", machine.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    contains(&machine.log(), &["[1/7] Prerequisites"]);
}

#[test]
fn three_starts_without_progress_are_a_crash_loop() {
    let mut machine = Machine::new();
    let real = machine.binary.display().to_string();
    let crashing = format!("[ \"$1\" != finetune ] || {{ echo crashed; exit 4; }}\nexec '{real}' \"$@\"");
    machine.binary = machine.fake("crashing", &crashing);
    let arguments = "--config tune.toml --project tuned --machine none --foreground";
    let start = || machine.script("train_m4_local.sh", arguments);
    for _ in 0..3 {
        contains(&start().expect(4).stderr, &["❌ ERROR: training ended with exit code 4 at step 0"]);
    }
    contains(&machine.log(), &["crashed"]);
    let refused = start().expect(2);
    contains(&refused.stderr, &["❌ ERROR: crash loop: the last 3 starts got no further than step 0"]);
    contains(&start().expect(2).stderr, &["crash loop"]);
    let record = "tuned/logs/resume_metadata.json";
    let attempts: Value = serde_json::from_slice(&machine.sandbox.read(record)).expect("JSON");
    assert_eq!(attempts["attempts"].as_array().map(Vec::len), Some(3), "{attempts}");
    contains(&attempts["attempts"][2]["time"].to_string(), &["T", "Z"]);
    fs::remove_file(machine.path(record)).expect("there");
    start().expect(4);
    // In the background, too, a training that does not start is told with its code.
    let background =
        machine.script("train_m4_local.sh", arguments.trim_end_matches(" --foreground")).expect(4);
    contains(&background.stderr, &["training did not start (exit code 4)"]);
}

#[test]
fn options_are_checked_and_explained() {
    let machine = Machine::new();
    let scripts = ["setup_runpod_h100.sh", "train_h100_runpod.sh", "setup_m4_local.sh", "train_m4_local.sh"];
    for script in scripts {
        let help = machine.script(script, "--help").expect(0);
        contains(&help.stdout, &["--config RECIPE", "--minimum-disk-gb", script]);
        for (arguments, word) in [
            ("--fast", "unknown option --fast"),
            ("--config", "--config needs a value"),
            ("--machine tpu", "h100, mac or none, not tpu"),
            ("--usd-per-hour much", "must be a number, not much"),
        ] {
            contains(&machine.script(script, arguments).expect(1).stderr, &["❌ ERROR: ", word]);
        }
    }
    let none = machine.script("check_training_status.sh", "--project tuned").expect(3);
    contains(&none.stderr, &["there is no run in"]);
}
