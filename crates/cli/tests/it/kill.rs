//! kill -9 anywhere, then `run --resume`: the same bits as a run that nobody killed.

use crate::{sandbox, write_tiny};

/// Kills at the first line that holds all of these words.
const CUTS: [&[&str]; 10] = [
    &["\"phase\":\"corpus\""],
    &["\"phase\":\"tokenizer\""],
    &["phase_started", "\"phase\":\"model\""],
    &["\"event\":\"step\"", "\"step\":5,"],
    &["\"event\":\"checkpoint_saved\"", "\"step\":7,"],
    &["\"event\":\"validation\"", "\"step\":16,"],
    &["\"event\":\"sample\"", "\"step\":20,"],
    &["\"event\":\"step\"", "\"step\":40,"],
    &["phase_started", "\"phase\":\"validation\""],
    &["phase_started", "\"phase\":\"export\""],
];

#[test]
fn killed_at_every_phase_and_resumed_it_ends_with_the_same_bits() {
    let whole = sandbox();
    write_tiny(&whole);
    let told = whole.run("run --json").expect(0).stdout;
    for what in ["fits: ", "training will be short", "peak RSS"] {
        assert!(told.contains(what), "{what}: {told}");
    }

    let killed = sandbox();
    write_tiny(&killed);
    for (index, cut) in CUTS.iter().enumerate() {
        let arguments = if index == 0 { "run --json" } else { "run --json --resume" };
        let hit = killed.run_and_kill(arguments, |line| cut.iter().all(|word| line.contains(word)));
        assert!(hit, "it ended before {cut:?} came");
    }
    killed.run("run --json --resume").expect(0);
    assert_eq!(killed.read("model/model.safetensors"), whole.read("model/model.safetensors"));
    assert_eq!(
        killed.run("list --json").expect(0).stdout.lines().count(),
        2,
        "one run, and the end of the list"
    );
    for name in ["config.json", "tokenizer.json"] {
        assert_eq!(killed.read(&format!("model/{name}")), whole.read(&format!("model/{name}")));
    }
    let last = "checkpoints/step-00000040";
    let run = |sandbox: &testkit::Sandbox| {
        let status: serde_json::Value =
            serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
        std::path::PathBuf::from(status["path"].as_str().expect("a path")).join(last)
    };
    for file in ["weights.safetensors", "moments.safetensors", "trainer.json"] {
        let read = |sandbox| std::fs::read(run(sandbox).join(file)).expect("the last checkpoint");
        assert!(read(&killed) == read(&whole), "{file} differs");
    }
}

#[test]
fn a_resumed_run_keeps_the_recipe_it_was_started_with() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let started = "run --json --set train.steps=30 --set train.learning_rate=0.002";
    assert!(sandbox.run_and_kill(started, |line| line.contains("\"step\":9,")));
    let finished = sandbox.run("run --json --resume").expect(0);
    assert!(finished.stdout.contains("\"step\":30,\"total_steps\":30"), "{}", finished.stdout);
    assert!(sandbox.run_and_kill("run --json --fresh", |line| line.contains("\"step\":9,")));
    let finished = sandbox.run("run --json --resume --set train.steps=99").expect(0);
    assert!(
        finished.stdout.contains("train.steps"),
        "the key that is not used is named: {}",
        finished.stdout
    );
    assert!(finished.stdout.contains("\"total_steps\":40"), "{}", finished.stdout);
}

#[test]
fn a_changed_recipe_is_told_and_taken_over_only_when_asked() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    assert!(sandbox.run_and_kill("run --json", |line| line.contains("\"step\":9,")));
    let changed = crate::TINY
        .replace("checkpoint_every = 7", "checkpoint_every = 5")
        .replace("batch_size = 4", "batch_size = 8")
        .replace("sample_tokens = 8", "sample_tokens = 9");
    sandbox.write("text2llm.toml", changed);
    let told = |text: &str| {
        text.lines().filter(|line| line.contains("\"warning\"")).map(str::to_owned).collect::<String>()
    };
    let left = |line: &str| line.contains("\"event\":\"step\"");
    let mut words = String::new();
    assert!(sandbox.run_and_kill("run --json --resume", |line| {
        words.push_str(line);
        words.push('\n');
        left(line)
    }));
    let unused = told(&words);
    for key in ["train.batch_size", "train.checkpoint_every", "validate.sample_tokens", "--accept-changes"] {
        assert!(unused.contains(key), "{key}: {unused}");
    }
    let finished = sandbox.run("run --json --resume --accept-changes").expect(0);
    let taken = told(&finished.stdout);
    assert!(
        taken.contains("continues with changed keys: train.checkpoint_every, validate.sample_tokens"),
        "{taken}"
    );
    assert!(taken.contains("are ignored: train.batch_size"), "{taken}");
    assert!(finished.stdout.contains("step-00000035"), "a checkpoint each 5 steps: {}", finished.stdout);
}

#[test]
fn a_resumed_run_is_the_same_to_the_bit_by_the_program_s_own_word() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let finished = sandbox.run("verify-resume --steps 20 --json").expect(0);
    let found: serde_json::Value = serde_json::from_str(finished.last_line()).expect("JSON");
    assert_eq!((&found["equal"], &found["steps"]), (&true.into(), &20.into()), "{found}");
    assert_eq!(found["compared"].as_array().expect("a list").len(), 4);
    assert!(found["killed_at"].as_u64() >= Some(10) && found["resumed_from"].as_u64() >= Some(8), "{found}");
    let chaos = sandbox.run("chaos text2llm.toml --kills 50 --steps 60 --json").expect(0);
    let found: serde_json::Value = serde_json::from_str(chaos.last_line()).expect("JSON");
    assert_eq!((&found["kills"], &found["sound"]), (&50.into(), &true.into()), "{found}");
    let left: Vec<_> = std::fs::read_dir(sandbox.path())
        .expect("there")
        .map(|entry| entry.expect("there").file_name())
        .collect();
    assert_eq!(left.len(), 2, "no scratch is left, only the recipe and its text: {left:?}");
}

#[test]
fn two_processes_never_work_on_one_run() {
    use std::io::{BufRead, BufReader};
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let mut child =
        sandbox.command(["run", "--json", "--set", "train.steps=100000"]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("\"event\":\"step\""))));
    let second = sandbox.run("run --resume");
    child.kill().expect("still running");
    child.wait().expect("ours");
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains(&child.id().to_string()), "it names the holder: {}", second.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_saves_and_says_how_to_go_on() {
    use std::io::{BufRead, BufReader, Read};
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let mut child =
        sandbox.command(["run", "--json", "--set", "train.steps=100000"]).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("\"step\":9,"))));
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signal.expect("kill exists").success());
    lines.for_each(drop);
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert_eq!(child.wait().expect("ours").code(), Some(130), "{stderr}");
    assert!(stderr.contains("run --resume") && !stderr.contains("error"), "{stderr}");
    let status = sandbox.run("status --json").expect(0).stdout;
    assert!(status.contains("\"status\":\"stopped\""), "{status}");
}

#[test]
fn a_run_is_not_continued_on_other_text() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    assert!(sandbox.run_and_kill("run --json", |line| line.contains("\"step\":9,")));
    let first = sandbox.read("corpus/00.txt");
    sandbox.write("corpus/00.txt", testkit::text(2000, 99));
    let refused = sandbox.run("run --json --resume").expect(1);
    assert!(refused.stderr.contains("has changed since"), "{}", refused.stderr);
    sandbox.write("corpus/00.txt", String::from_utf8(first.clone()).expect("text"));
    let finished = sandbox.run("run --json --resume").expect(0);
    assert!(finished.stdout.contains("\"step\":40,\"total_steps\":40"), "{}", finished.stdout);

    // Nor is what comes after its training.
    let validation = |line: &str| line.contains("phase_started") && line.contains("\"phase\":\"validation\"");
    assert!(sandbox.run_and_kill("run --json --fresh", validation));
    sandbox.write("corpus/00.txt", testkit::text(2000, 99));
    let refused = sandbox.run("run --json --resume").expect(1);
    assert!(refused.stderr.contains("has changed since"), "{}", refused.stderr);
    sandbox.write("corpus/00.txt", String::from_utf8(first).expect("text"));
    sandbox.run("run --json --resume").expect(0);
    assert_eq!(sandbox.run("list --json").expect(0).stdout.lines().count(), 3, "two runs");
}

#[test]
fn more_steps_that_fail_do_not_add_up() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --json").expect(0);
    for _ in 0..2 {
        sandbox.run("resume --json --more-steps 5 --checkpoint 39").expect(4);
    }
    let finished = sandbox.run("resume --json --more-steps 5").expect(0);
    assert!(finished.stdout.contains("\"step\":45,\"total_steps\":45"), "{}", finished.stdout);
}

#[test]
fn more_than_a_run_can_have_is_refused_before_anything_is_written() {
    let sandbox = sandbox();
    sandbox.write("text2llm.toml", crate::TINY.replace("steps = 40", "epochs = 1"));
    for seed in 0..3 {
        sandbox.write(&format!("corpus/{seed}.txt"), testkit::text(2000, seed));
    }
    for recipe in ["", " --set train.steps=5"] {
        sandbox.run(&format!("train{recipe}")).expect(0);
        let status: serde_json::Value =
            serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
        let meta = std::path::PathBuf::from(status["path"].as_str().expect("told")).join("meta.json");
        let before = std::fs::read(&meta).expect("there");
        for more in [
            "--more-epochs 18446744073709551615",
            "--more-epochs 9223372036854775808",
            "--more-steps 18446744073709551615",
        ] {
            let told = sandbox.run(&format!("resume {more}")).expect(1).stderr;
            assert!(told.contains("at most"), "{more}: {told}");
            assert!(std::fs::read(&meta).expect("there") == before, "{more}");
        }
    }
}

#[test]
fn a_continued_run_that_was_killed_while_validated_is_not_trained_again() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --json").expect(0);
    let validation = |line: &str| line.contains("phase_started") && line.contains("\"phase\":\"validation\"");
    assert!(sandbox.run_and_kill("resume --json --more-steps 5", validation));
    let finished = sandbox.run("run --json --resume").expect(0);
    assert!(!finished.stdout.contains("\"event\":\"step\""), "{}", finished.stdout);
    assert_eq!(sandbox.run("list --json").expect(0).stdout.lines().count(), 2, "still one run");
}

#[test]
fn a_stable_run_decays_when_it_is_told_to() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let wsd = "train --json --set train.schedule=wsd --set train.steps=4000 --set train.warmup_steps=5";
    assert!(
        sandbox
            .run_and_kill(wsd, |line| line.contains("\"event\":\"step\"") && line.contains("\"step\":30,"))
    );
    let finished = sandbox.run("resume --json --decay-now 12").expect(0);
    let steps: Vec<serde_json::Value> = finished
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| line["event"] == "step")
        .collect();
    let rate = |step: &serde_json::Value| step["learning_rate"].as_f64().expect("a number");
    assert_eq!(steps.len(), 12);
    assert!(steps.windows(2).all(|pair| rate(&pair[1]) < rate(&pair[0])), "it falls at each step");
    assert!((rate(&steps[11]) / 1e-3 - 0.1).abs() < 1e-6, "to the minimum: {}", steps[11]);
    sandbox.run("train --json --set train.steps=10 --set train.schedule=cosine").expect(0);
    assert!(sandbox.run("resume --decay-now 5").expect(1).stderr.contains("train.schedule"));
}
