//! Limits that a system sets to a process end a run with an error that names them, or are got along with:
//! never with a panic or a signal.

use std::process::Command;

use runs::run::RunDir;
use store::fs::RealFs;
use testkit::{Finished, Sandbox};

use crate::{sandbox, write_tiny};

/// Runs the program below a shell's limits.
fn limited(sandbox: &Sandbox, limits: &str, arguments: &str) -> Finished {
    let plain = sandbox.command(arguments.split_whitespace());
    let program = plain.get_program().to_owned();
    sandbox.run_with(arguments.split_whitespace(), |command| {
        let mut below = Command::new("sh");
        below.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(&program).args(command.get_args());
        below
            .current_dir(sandbox.path())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        for (key, _) in command.get_envs().filter(|(_, value)| value.is_none()) {
            below.env_remove(key);
        }
        below.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        below.stderr(std::process::Stdio::piped());
        *command = below;
    })
}

/// Ends well, or with a phase's code and words that hold one of `named`; returns whether it ended well.
#[track_caller]
fn told(finished: &Finished, limits: &str, named: &[&str]) -> bool {
    let words = &finished.stderr;
    assert!([0, 1, 3, 4, 5].contains(&finished.code), "{limits}: {} {words}", finished.code);
    for never in ["panicked", "internal error", "memory allocation of", "stack backtrace"] {
        assert!(!words.contains(never), "{limits}: {words}");
    }
    let is_named = named.iter().any(|named| words.contains(named));
    assert!(finished.code == 0 || is_named, "{limits}: {} {words}", finished.code);
    finished.code == 0
}

/// A run below each of the limits, from nothing each time; the numbers that ended well and badly.
fn sweep(values: impl IntoIterator<Item = u64>, limit: &str, named: &[&str]) -> (usize, usize) {
    let (mut well, mut badly) = (0, 0);
    for value in values {
        let sandbox = sandbox();
        write_tiny(&sandbox);
        let limits = format!("ulimit {limit} {value}");
        match told(&limited(&sandbox, &limits, "run --yes"), &limits, named) {
            true => well += 1,
            false => badly += 1,
        }
    }
    (well, badly)
}

#[test]
fn a_limit_on_the_size_of_files_is_named() {
    // In half kilobytes.
    let (well, badly) = sweep([1, 2, 4, 8, 16, 40, 90, 150, 250, 400, 2000], "-f", &["ulimit -f"]);
    assert!(well >= 1 && badly >= 6, "{well} {badly}");
}

#[test]
fn a_limit_on_open_files_is_named() {
    let (well, badly) = sweep([5, 6, 7, 8, 9, 10, 12, 64], "-n", &["ulimit -n"]);
    assert!(well >= 1 && badly >= 2, "{well} {badly}");
}

#[test]
fn a_limit_on_memory_is_named() {
    // In kilobytes: from what the program itself takes on.
    let values = (40..=200).step_by(8).chain((220..=1000).step_by(60)).map(|mb| mb * 1024);
    let named = ["ulimit -v", "not enough memory", "needs about"];
    let (well, badly) = sweep(values, "-v", &named);
    assert!(well >= 1 && badly >= 1, "{well} {badly}");
}

#[test]
fn a_limit_on_processes_is_got_along_with_or_named() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n");
    // Root is not counted.
    let (wrap, uid) = (["setpriv", "--reuid=64321", "--clear-groups"], "64321");
    if is_root {
        let handed = Command::new("chown").args(["-R", uid]).arg(sandbox.path()).status();
        let can =
            Command::new(wrap[0]).args(&wrap[1..]).arg("true").status().is_ok_and(|status| status.success());
        if !can || !handed.is_ok_and(|status| status.success()) {
            testkit::skip("`setpriv` does not make root another user here");
            return;
        }
    }
    // Below the sandbox, since another user may not look into the folder of the build.
    let program = sandbox.path().join("text2llm");
    std::fs::copy(sandbox.command([""; 0]).get_program(), &program).expect("a copy");
    for most in [1, 2, 3, 4] {
        let limits = format!("ulimit -u {most}");
        let finished = sandbox.run_with([""; 0], |command| {
            // Debian's sh has no -u.
            let mut below = Command::new("bash");
            let script = match is_root {
                true => format!(
                    "exec {} bash -c '{limits}; exec \"$0\" run --fresh --yes --threads 4' \"$0\"",
                    wrap.join(" ")
                ),
                false => format!("{limits}; exec \"$0\" run --fresh --yes --threads 4"),
            };
            below.args(["-c", &script]).arg(&program).current_dir(sandbox.path()).env("HOME", sandbox.path());
            below.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
            below.stderr(std::process::Stdio::piped());
            *command = below;
        });
        told(&finished, &limits, &["ulimit -u"]);
    }
}

#[test]
fn what_kills_have_left_is_swept_by_the_next_run() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run").expect(0);
    let mut gone = Command::new("true").spawn().expect("everywhere");
    let number = gone.id();
    gone.wait().expect("ours");
    let status: serde_json::Value =
        serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
    let run = format!("runs/{}", status["run_id"].as_str().expect("told"));
    let left = [
        format!(".text2llm-write-test-{number}"),
        format!(".training_metrics.json.{number}.tmp"),
        format!("job/.job.json.{number}.tmp"),
        format!("data/.stdin.{number}.tmp"),
        format!("{run}/.state.json.{number}.tmp"),
        format!("{run}/checkpoints/.step-00000003.deleting/weights.safetensors"),
        format!("{run}/.tokenizer.partial/tokenizer.json"),
        "data/ranks/.filter-00000-of-00007.partial/decisions.bin".to_owned(),
        "data/ranks/.encode-00001-of-00007.arriving/ids.bin".to_owned(),
        format!("temporary/.text2llm-classifier-{number}-aB3xYz/documents/x"),
        "runs/.20200101-000000-old.deleting/state.json".to_owned(),
        "data/.tokens.partial/0.bin".to_owned(),
        ".model.partial/model.safetensors".to_owned(),
        format!(".text2llm-trial-{number}/text2llm.toml"),
    ];
    let mine = [
        format!(".notes.{number}.tmp"),
        format!("{run}/notes.txt"),
        "runs/.mine.deleting/x".to_owned(),
        // That of `average`, which may be at work.
        ".model-average.partial/x".to_owned(),
        // The next one goes on from it.
        "data/ranks/.encode-00002-of-00007.arriving/ids.bin".to_owned(),
        "data/ranks/.mine-00000-of-00007.partial/x".to_owned(),
        "data/ranks/encode-00001-of-00007/x".to_owned(),
        ".mine.partial/x".to_owned(),
        "job/.job.json.tmp".to_owned(),
        format!(".training_metrics.json.{}.tmp", std::process::id()),
    ];
    for name in left.iter().chain(&mine) {
        sandbox.write(name, "x");
    }
    // One that was killed before it was written down what it is for.
    let runs = sandbox.path().join("runs");
    let unbegun = RunDir::create(&RealFs, &runs, "unbegun").expect("made");
    sandbox.run("run").expect(0);
    assert!(!unbegun.path().exists());
    let unbegun = RunDir::create(&RealFs, &runs, "unbegun").expect("made");
    sandbox.write(&format!("runs/{}/.tokenizer.partial/tokenizer.json", unbegun.id()), "x");
    sandbox.run(&format!("rm {} --yes", unbegun.id())).expect(0);
    let classifier = "data classifier train --positive corpus/00.txt --negative corpus/01.txt";
    let temporary = sandbox.path().join("temporary");
    sandbox.run_with(classifier.split(' '), |command| {
        command.env("TMPDIR", &temporary);
    });
    assert_eq!(std::fs::read_dir(&temporary).expect("there").count(), 0);
    for name in &left {
        assert!(!sandbox.path().join(name).exists(), "{name} is left");
    }
    for name in &mine {
        assert!(sandbox.path().join(name).exists(), "{name} is gone");
    }
}
