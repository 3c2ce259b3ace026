//! A run's folder, or that of one of its checkpoints, where a command asks for a model.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{Finished, Sandbox};

use crate::{TINY, sandbox, write_tiny_to};

/// A finished project in `base/`, and its run's folder.
fn trained() -> (Sandbox, PathBuf) {
    let sandbox = sandbox();
    write_tiny_to(&sandbox, "base/");
    sandbox.run("run --project base --set train.keep_last=9 --set train.sequence_length=256").expect(0);
    let run = the_run(&sandbox, "base");
    let lines: Vec<String> = (0..40)
        .map(|number| {
            let turn = |role: &str, text: String| json!({"role": role, "content": text});
            let user = turn("user", format!("what is {number}"));
            json!({"messages": [user, turn("assistant", format!("a river of {number}"))]}).to_string()
        })
        .collect();
    sandbox.write("chat.jsonl", lines.join("\n"));
    (sandbox, run)
}

/// The folder of a project's only run.
fn the_run(sandbox: &Sandbox, project: &str) -> PathBuf {
    let mut runs = std::fs::read_dir(sandbox.path().join(project).join("runs")).expect("runs");
    let run = runs.next().expect("a run").expect("readable").path();
    assert!(runs.next().is_none());
    run
}

fn finetune(sandbox: &Sandbox, init: &Path, to: &str, more: &str) -> Finished {
    let short = "--set train.steps=3 --set train.batch_size=2 --set train.sequence_length=128";
    let common = format!("finetune --data chat.jsonl --output-dir {to} --json {short} {more}");
    let init = [Path::new("--init").as_os_str(), init.as_os_str()].map(ToOwned::to_owned);
    sandbox.run_with(common.split_whitespace().map(Into::into).chain(init), |_| {})
}

fn losses(finished: &Finished) -> Vec<f64> {
    let events = finished.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter_map(|event| event["learning_rate"].as_f64().and(event["loss"].as_f64())).collect()
}

fn generated(sandbox: &Sandbox, model: &str) -> Value {
    let greedy = "--prompt river --temperature 0 --max-new-tokens 12 --json";
    let finished = sandbox.run(&format!("generate {greedy} {model}")).expect(0);
    serde_json::from_str(finished.last_line()).expect("JSON")
}

/// The checkpoint that `--run` selects, and another one.
fn checkpoints(sandbox: &Sandbox, run: &Path) -> (PathBuf, PathBuf) {
    let source = generated(sandbox, "--project base --run latest")["source"].clone();
    let source = source.as_str().expect("text");
    let step: u64 = source.rsplit(' ').next().expect("a step").parse().expect("a step");
    let best = run.join(format!("checkpoints/step-{step:08}"));
    let mut all = std::fs::read_dir(run.join("checkpoints")).expect("checkpoints");
    let other = all.find_map(|entry| Some(entry.ok()?.path()).filter(|path| *path != best));
    (best, other.expect("another checkpoint"))
}

fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).expect("writable");
}

#[test]
fn a_run_is_its_best_checkpoint_and_a_checkpoint_is_itself() {
    let (sandbox, run) = trained();
    let (best, other) = checkpoints(&sandbox, &run);
    let exported = losses(&finetune(&sandbox, &sandbox.path().join("base/model"), "a", "").expect(0));
    assert_eq!(exported.len(), 3);
    assert_eq!(losses(&finetune(&sandbox, &run, "b", "").expect(0)), exported);
    assert_eq!(losses(&finetune(&sandbox, &best, "c", "").expect(0)), exported);
    assert_ne!(losses(&finetune(&sandbox, &other, "d", "").expect(0)), exported);

    let text = |model: &str| generated(&sandbox, model)["text"].clone();
    assert_eq!(text(&format!("--model {}", run.display())), text("--project base"));
    // The adapter names the checkpoint as its base, and is merged into it.
    let adapted = text("--adapter b/model");
    sandbox.run("merge b/model --out merged").expect(0);
    assert_eq!(text("--model merged"), adapted);
    sandbox.run(&format!("merge b/model --base {} --out merged2", best.display())).expect(0);
    assert_eq!(sandbox.read("merged2/config.json"), sandbox.read("merged/config.json"));

    // A run that trained all weights has the template of its examples.
    finetune(&sandbox, &run, "full", "--method full").expect(0);
    let full = the_run(&sandbox, "full");
    assert_eq!(text(&format!("--chat --model {}", full.display())), text("--chat --project full"));
    // One that trained adapters has no weights of its own.
    let refused = finetune(&sandbox, &the_run(&sandbox, "b"), "e", "").expect(1);
    assert!(refused.stderr.contains("the run trained adapters"), "{}", refused.stderr);

    // More pre-training.
    sandbox.write("more/text2llm.toml", TINY.replace("[train]", "[train]\ninit = \"../base/runs/ID\""));
    sandbox.write("more/corpus/a.txt", testkit::text(20_000, 77));
    let init = format!("train.init={}", run.display());
    let more = ["run", "--project", "more", "--json", "--set", "train.steps=2", "--set", &init];
    let more = losses(&sandbox.run_with(more, |_| {}).expect(0));
    assert!(more[0] < 4.0, "it begins far below ln 280 ≈ 5.6: {more:?}");
}

#[test]
fn a_damaged_checkpoint_is_refused_by_its_file() {
    let (sandbox, run) = trained();
    let (best, other) = checkpoints(&sandbox, &run);
    damage(&other.join("weights.safetensors"));
    finetune(&sandbox, &run, "a", "").expect(0);
    let refused = finetune(&sandbox, &other, "b", "");
    let named = |refused: &Finished, folder: &Path| {
        let file = folder.file_name().expect("a name").to_string_lossy().into_owned();
        assert_ne!(refused.code, 0);
        assert!(
            refused.stderr.contains(&format!("{file}/weights.safetensors")),
            "{file}: {}",
            refused.stderr
        );
    };
    named(&refused, &other);
    damage(&best.join("weights.safetensors"));
    named(&finetune(&sandbox, &run, "c", ""), &best);
    // The fine-tuning that began from it does not go on from another model either.
    let resumed = sandbox.run("resume --project a --more-steps 1");
    named(&resumed, &best);
}
