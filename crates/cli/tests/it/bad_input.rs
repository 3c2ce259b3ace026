//! Each bad input: one clear error, the right exit code, nothing lost.

use crate::{TINY, sandbox, write_tiny};

#[test]
fn a_recipe_typo_shows_line_and_nearest_key() {
    let sandbox = sandbox();
    sandbox.write("text2llm.toml", "[train]\nlerning_rate = 0.1\n");
    let finished = sandbox.run("run").expect(1);
    assert_eq!(finished.stdout, "");
    for wanted in ["text2llm.toml:2:1", "lerning_rate", "`learning_rate`"] {
        assert!(finished.stderr.contains(wanted), "{}", finished.stderr);
    }
    assert!(!sandbox.path().join("runs").exists());
}

#[test]
fn flags_and_variables_are_checked_like_the_file() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let finished = sandbox.run("run --epochs three").expect(1);
    assert!(
        finished.stderr.contains("--epochs three") && finished.stderr.contains("train.epochs"),
        "{}",
        finished.stderr
    );
    let finished = sandbox.run("run --set model.dept=3").expect(1);
    assert!(
        finished.stderr.contains("--set model.dept=3") && finished.stderr.contains("`depth`"),
        "{}",
        finished.stderr
    );
    let finished = sandbox.run_with(["plan"], |command| {
        command.env("TEXT2LLM_TRAIN_BATCH_SIZE", "-4");
    });
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("TEXT2LLM_TRAIN_BATCH_SIZE=-4"), "{}", finished.stderr);
}

#[test]
fn text_that_cannot_be_used() {
    let sandbox = sandbox();
    sandbox.write("empty.txt", "");
    sandbox.write("binary.txt", [0u8, 159, 146, 150, 0, 1, 2, 3].repeat(100));
    sandbox.write("small.txt", testkit::text(300, 1));
    sandbox.write("text2llm.toml", TINY);
    let check = |path: &str, code: i32, wanted: &str| {
        let finished = sandbox.run(&format!("run --corpus-path {path}")).expect(code);
        assert!(finished.stderr.contains(wanted), "{path}: {}", finished.stderr);
    };
    check("missing.txt", 3, "missing.txt");
    check("empty.txt", 3, "is empty");
    check("binary.txt", 3, "binary.txt");
    let finished =
        sandbox.run("run --corpus-path small.txt --set tokenizer.kind=\"byte\" --set train.batch_size=64");
    assert_eq!(finished.expect(3).stderr.matches("fewer than one batch").count(), 1);
    let finished = sandbox.run("run --corpus-path small.txt --set tokenizer.vocab_size=4096").expect(3);
    assert!(finished.stderr.contains("tokenizer.vocab_size"), "{}", finished.stderr);
    let finished = sandbox
        .run("run --corpus-path small.txt --set tokenizer.kind=byte --set train.sequence_length=5000")
        .expect(3);
    assert!(finished.stderr.contains("train.sequence_length"), "{}", finished.stderr);
    assert!(!sandbox.path().join("model").exists());
    assert!(
        sandbox.run("list").expect(0).stderr.contains("No runs"),
        "a run that never trained leaves nothing"
    );
}

#[test]
fn invalid_utf8_is_repaired_and_counted() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let mut bytes = testkit::text(4000, 77).into_bytes();
    bytes.extend(b"caf\xe9 \xff end\n");
    sandbox.write("corpus/latin.txt", bytes);
    let finished = sandbox.run("run --json").expect(0);
    assert!(finished.stdout.contains("invalid UTF-8 sequences repaired"), "{}", finished.stdout);
}

#[test]
fn limits_not_met_exit_5_and_name_figure_and_limit() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let finished = sandbox
        .run(
            "run --set validate.maximum_rss_mb=1 --set validate.maximum_validation_loss=0.001 --set \
             train.steps=2",
        )
        .expect(5);
    for wanted in
        ["rss mb", "limit of 1", "validate.maximum_rss_mb", "validate.maximum_validation_loss", "report.md"]
    {
        assert!(finished.stderr.contains(wanted), "{wanted}: {}", finished.stderr);
    }
    assert!(!sandbox.path().join("model").exists(), "nothing is exported of a model that fails its gates");
    assert!(sandbox.path().join("evals/results.json").exists());
    // The training is kept and reused once the limits are right.
    let again = sandbox.run("run --json --set train.steps=2").expect(0);
    assert!(again.stdout.contains("already trained"), "{}", again.stdout);
}

#[test]
fn unwritable_and_missing_folders() {
    let sandbox = sandbox();
    sandbox.write("file", "x");
    let finished = sandbox.run("run quick-test --output-dir file/inside").expect(1);
    assert!(finished.stderr.contains("--output-dir"), "{}", finished.stderr);
    let finished = sandbox.run("run quick-test --skip-corpus").expect(3);
    assert!(finished.stderr.contains("without --skip-corpus"), "{}", finished.stderr);
}

#[test]
fn errors_reach_programs_too() {
    let sandbox = sandbox();
    let finished = sandbox.run("run --json --corpus-path missing.txt").expect(3);
    let last: serde_json::Value = serde_json::from_str(finished.last_line()).expect("JSON");
    assert_eq!((&last["event"], &last["exit_code"]), (&"error".into(), &3.into()));
    let finished = sandbox.run("run --output agent --corpus-path missing.txt").expect(3);
    assert!(finished.last_line().starts_with("❌ ERROR: "), "{}", finished.stdout);
}
