//! A project that came from somebody else: links, pipes and folders under the names that the program writes
//! to.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::{Finished, Sandbox};

use crate::{TINY, sandbox, write_tiny};

const PRECIOUS: &str = "precious\n";

/// Runs the program; a command that waits for a pipe would never end.
#[track_caller]
fn run_in_time(sandbox: &Sandbox, arguments: &str, umask: &str) -> Finished {
    let started = Instant::now();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("umask {umask}; exec timeout 60 \"$0\" {arguments}"),
            env!("CARGO_BIN_EXE_text2llm"),
        ])
        .current_dir(sandbox.path())
        .env("NO_COLOR", "1");
    let output = command.output().expect("sh starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let finished = Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert_ne!(finished.code, 124, "`{arguments}` hangs: {}", finished.stderr);
    assert!(started.elapsed() < Duration::from_secs(60), "`{arguments}`");
    finished
}

fn plant(kind: &str, path: &Path, victim: &Path) {
    let _ = std::fs::remove_file(path);
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    match kind {
        "a symbolic link" => symlink(victim, path).expect("linked"),
        "a named pipe" => {
            assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo exists").success());
        }
        _ => std::fs::create_dir(path).expect("made"),
    }
}

/// A run that was stopped in its middle, to be resumed.
fn stopped_run(sandbox: &Sandbox) -> std::path::PathBuf {
    write_tiny(sandbox);
    assert!(sandbox.run_and_kill("train --json", |line| line.contains("checkpoint_saved")));
    let runs = std::fs::read_dir(sandbox.path().join("runs")).expect("a run");
    runs.map(|run| run.expect("listed").path()).next().expect("a run")
}

#[test]
fn what_is_planted_under_our_names_is_neither_followed_nor_waited_for() {
    let sandbox = sandbox();
    let victim = sandbox.path().join("victim");
    std::fs::write(&victim, PRECIOUS).expect("written");
    let run = stopped_run(&sandbox);
    let kept = sandbox.path().join("kept");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").args(["-r", "--"]).arg(from).arg(to).status();
        assert!(copied.expect("cp exists").success());
    };
    copy(&run, &kept);
    // What is refused, by which command, and what is replaced instead (written under another name first).
    let in_run = |name: &str| run.join(name);
    let root = sandbox.path();
    for (path, command, refused) in [
        (in_run("run.lock"), "resume", true),
        (in_run("metrics.jsonl"), "resume", true),
        (in_run("train.log"), "resume", true),
        (root.join("data/run.lock"), "resume", true),
        (root.join("job/run.lock"), "resume --detach", true),
        (root.join("job/console.log"), "resume --detach", true),
        (root.join("data/heartbeat"), "resume", false),
        (root.join("data/stop.request"), "resume", false),
        (root.join("job/stop.request"), "stop", false),
        (root.join("training_metrics.json"), "resume", false),
        (root.join("text2llm.toml"), "new . --yes", true),
    ] {
        for kind in ["a symbolic link", "a named pipe", "a folder"] {
            let _ = std::fs::remove_dir_all(&run);
            copy(&kept, &run);
            sandbox.write("text2llm.toml", TINY);
            plant(kind, &path, &victim);
            let finished = run_in_time(&sandbox, command, "022");
            let told =
                format!("{kind} at {}, `{command}`: {}{}", path.display(), finished.stdout, finished.stderr);
            assert_eq!(std::fs::read_to_string(&victim).expect("there"), PRECIOUS, "{told}");
            if refused {
                assert_ne!(finished.code, 0, "{told}");
                let name = path.file_name().expect("a name").to_string_lossy();
                assert!(finished.stderr.contains(name.as_ref()) && finished.stderr.contains(kind), "{told}");
                assert!(finished.stderr.contains("Move it away"), "{told}");
            }
            for looking in ["status", "list", "logs", "logs --console"] {
                run_in_time(&sandbox, looking, "022");
            }
            assert_eq!(std::fs::read_to_string(&victim).expect("there"), PRECIOUS, "{told}");
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

#[test]
fn runs_may_lie_on_another_disk() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    std::fs::create_dir(sandbox.path().join("elsewhere")).expect("made");
    symlink("elsewhere", sandbox.path().join("runs")).expect("linked");
    run_in_time(&sandbox, "train --set train.steps=8", "022").expect(0);
    assert_eq!(std::fs::read_dir(sandbox.path().join("elsewhere")).expect("there").count(), 1);
}

#[test]
fn runs_and_jobs_are_for_their_owner_and_models_for_all() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    run_in_time(&sandbox, "run --detach --set train.steps=200", "000").expect(0);
    let started = Instant::now();
    while !sandbox.path().join("model/manifest.json").exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no model");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let of = |name: &str| sandbox.path().join(name);
    assert_eq!(mode(&of("runs")), 0o700);
    assert_eq!(mode(&of("job")), 0o700);
    let mut files = Vec::new();
    let run = std::fs::read_dir(of("runs")).expect("there").next().expect("a run").expect("listed").path();
    assert_eq!((mode(&run), mode(&run.join("checkpoints"))), (0o700, 0o700));
    for folder in [run, of("job")] {
        files.extend(std::fs::read_dir(folder).expect("there").map(|entry| entry.expect("listed").path()));
    }
    files.retain(|path| path.is_file());
    assert!(files.len() >= 7, "{files:?}");
    for path in files {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    for name in ["model", "evals"] {
        assert_eq!(mode(&of(name)), 0o777, "{name}: as the umask says");
    }
    assert_eq!(mode(&of("model/config.json")), 0o666);
}
