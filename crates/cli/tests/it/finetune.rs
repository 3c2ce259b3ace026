//! Fine-tuning from a base to an adapter that other commands use.

use serde_json::{Value, json};
use testkit::Sandbox;

use crate::{sandbox, write_tiny_to};

/// A base of a second's training; its vocabulary has the tokens of ChatML.
pub fn write_base(sandbox: &Sandbox) {
    write_tiny_to(sandbox, "base/");
    sandbox.run("run --project base --set train.steps=4 --set train.sequence_length=256").expect(0);
}

fn conversation(number: usize) -> Value {
    json!({
        "messages": [
            {"role": "user", "content": format!("what is {number}")},
            {"role": "assistant", "content": format!("the number {number} of the river")},
        ],
        "kind": if number.is_multiple_of(2) { "even" } else { "odd" },
    })
}

pub fn write_examples(sandbox: &Sandbox) {
    let lines: Vec<String> = (0..40).map(|number| conversation(number).to_string()).collect();
    sandbox.write("chat.jsonl", lines.join("\n"));
}

pub const SHORT: &str = "--set train.steps=6 --set train.batch_size=2 \
                     --set train.sequence_length=128 --set train.learning_rate=0.01 --set train.checkpoint_every=2";

pub fn last_json(text: &str) -> Value {
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

pub(crate) fn answer(sandbox: &Sandbox, model: &str) -> String {
    let chat = "--chat --prompt hello --temperature 0 --max-new-tokens 12 --json";
    let finished = sandbox.run(&format!("generate {model} {chat}")).expect(0);
    last_json(&finished.stdout)["text"].as_str().expect("text").to_owned()
}

#[test]
fn an_adapter_is_trained_used_merged_evaluated_and_trained_on() {
    let sandbox = sandbox();
    write_base(&sandbox);
    write_examples(&sandbox);
    let finetune = |from: &str, to: &str, more: &str| {
        let common = "--data chat.jsonl --json";
        sandbox.run(&format!("finetune --init {from} {common} --output-dir {to} {SHORT} {more}"))
    };
    let first = finetune("base/model", "tuned", "").expect(0);
    assert!(sandbox.path().join("tuned/model/adapter_model.safetensors").is_file());
    let losses = |output: &str| -> Vec<f64> {
        let events = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter_map(|event| event["learning_rate"].as_f64().and(event["loss"].as_f64())).collect()
    };
    let first = losses(&first.stdout);
    assert_eq!(first.len(), 6);

    // Merged, it answers the same; the base's own answer differs from neither by accident.
    let tuned = answer(&sandbox, "--adapter tuned/model");
    assert_eq!(answer(&sandbox, "--project tuned"), tuned);
    sandbox.run("merge tuned/model --out merged").expect(0);
    assert_eq!(answer(&sandbox, "--model merged"), tuned);

    let evaluated = sandbox
        .run("eval --adapter tuned/model --data chat.jsonl --limit 6 --group-by kind --json")
        .expect(0);
    let report = last_json(&evaluated.stdout);
    assert_eq!(report["all"]["right_without_call"]["of"], 6);
    let of_kind = |kind: &str| report["groups"][kind]["right_without_call"]["of"].as_u64().expect("a count");
    assert_eq!(of_kind("even") + of_kind("odd"), 6);

    // Going on begins where it ended.
    let second = losses(&finetune("tuned/model", "again", "").expect(0).stdout);
    assert!(second[0] < first[0] - 0.1, "{second:?} after {first:?}");
    let refused = finetune("tuned/model", "narrow", "--set adapter.rank=4").expect(1);
    assert!(refused.stderr.contains("rank = 16"), "{}", refused.stderr);
    let refused = finetune("tuned/model", "full", "--method full").expect(1);
    assert!(refused.stderr.contains("text2llm merge"), "{}", refused.stderr);

    // In four bits of the base, from a project's folder.
    finetune("base", "narrow", "--method qlora --set model.dropout=0.0").expect(0);
    answer(&sandbox, "--adapter narrow/model");

    // Another base of the same shape is refused.
    std::fs::rename(sandbox.path().join("base/model"), sandbox.path().join("kept")).expect("moved");
    sandbox.run("run --project base --fresh --set train.steps=5 --set train.sequence_length=256").expect(0);
    let refused = sandbox.run("generate --adapter tuned/model --prompt x").expect(3);
    assert!(
        refused.stderr.contains("is not the model that the adapter was trained on"),
        "{}",
        refused.stderr
    );
    sandbox.run("merge tuned/model --out merged2").expect(3);
    // A plan reads no weights; training does.
    let recipe = "[train]\ninit = \"../tuned/model\"\nsequence_length = 128\noptimizer = \"adamw\"\n\
                  [finetune]\ndata = [\"../chat.jsonl\"]\n[adapter]\n";
    sandbox.write("fourth/text2llm.toml", recipe);
    sandbox.run("plan --project fourth").expect(0);
    let refused = finetune("tuned/model", "fourth", "").expect(3);
    assert!(
        refused.stderr.contains("is not the model that the adapter was trained on"),
        "{}",
        refused.stderr
    );
    assert_eq!(answer(&sandbox, "--adapter tuned/model --base kept"), tuned);
}

/// A resumed fine-tuning gives the same bits as an uninterrupted one.
#[test]
fn a_resumed_fine_tuning_is_bit_identical() {
    let sandbox = sandbox();
    write_base(&sandbox);
    write_examples(&sandbox);
    let recipe = "[finetune]\ndata = [\"chat.jsonl\"]\n[adapter]\nbase = \"auto\"\n[train]\n\
                  init = \"base/model\"\nsteps = 8\nbatch_size = 2\nsequence_length = 128\n\
                  optimizer = \"adamw\"\ncheckpoint_every = 3\n";
    sandbox.write("text2llm.toml", recipe);
    let finished = sandbox.run("verify-resume --json").expect(0);
    assert_eq!(last_json(&finished.stdout)["equal"], true, "{}", finished.stdout);
}

#[test]
fn examples_that_cannot_be_used_are_named_before_anything_is_trained() {
    let sandbox = sandbox();
    write_base(&sandbox);
    let mut broken = conversation(1);
    broken["messages"][0]["role"] = "robot".into();
    let unanswered = json!({"messages": [{"role": "user", "content": "hello"}]});
    sandbox.write("bad.jsonl", format!("{}\n{broken}\nno json\n{unanswered}\n", conversation(0)));
    let doctor = sandbox.run("data doctor bad.jsonl --init base/model").expect(1);
    for found in ["bad.jsonl:2", "robot", "bad.jsonl:3", "bad.jsonl:4"] {
        assert!(doctor.stdout.contains(found), "{found}: {}", doctor.stdout);
    }
    let finetune = format!("finetune --init base/model --data bad.jsonl --output-dir tuned {SHORT}");
    let refused = sandbox.run(&finetune).expect(3);
    assert!(refused.stderr.contains("bad.jsonl:2") && refused.stderr.contains("robot"), "{}", refused.stderr);
    assert!(!sandbox.path().join("tuned/model").exists());

    write_examples(&sandbox);
    let long =
        "finetune --init base/model --data chat.jsonl --output-dir long --set train.sequence_length=16";
    let refused = sandbox.run(long).expect(3);
    assert!(refused.stderr.contains("longer than train.sequence_length = 16"), "{}", refused.stderr);

    let shown = sandbox.run("data show-mask chat.jsonl --init base/model --line 3 --json").expect(0);
    let shown = last_json(&shown.stdout);
    let (ids, mask) = (shown["ids"].as_array().expect("ids"), shown["mask"].as_array().expect("mask"));
    let trained = mask.iter().filter(|&trained| *trained == true || *trained == 1).count();
    assert!(ids.len() == mask.len() && trained > 5 && trained < ids.len(), "{shown}");
    let pretty = sandbox.run("data show-mask chat.jsonl --init base/model --line 3").expect(0);
    assert!(pretty.stdout.contains("⟦the number 2 of the river<|im_end|>⟧"), "{}", pretty.stdout);
}

/// Learning from preferences begins where both answers are equally likely, and prefers the chosen ones.
#[test]
fn preference_pairs_are_learned() {
    let sandbox = sandbox();
    write_base(&sandbox);
    let pair = |number: usize| {
        let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        let question = turn("user", &format!("what is {number}"));
        json!({"prompt": question, "chosen": turn("assistant", "it is a river"), "rejected": turn("assistant", "no stone")})
    };
    let lines: Vec<String> = (0..40).map(|number| pair(number).to_string()).collect();
    sandbox.write("pairs.jsonl", lines.join("\n"));
    let finetune = |method: &str, more: &str| {
        let short = SHORT.replace("train.steps=6", "train.steps=20");
        let common = format!("finetune --init base/model --data pairs.jsonl --json {short}");
        sandbox.run(&format!("{common} --method {method} --output-dir {method} {more}"))
    };
    let output = finetune("dpo", "--set finetune.validation_fraction=0.2").expect(0).stdout;
    let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| event["learning_rate"].as_f64().and(event["loss"].as_f64()))
        .collect();
    assert_eq!(losses.len(), 20);
    assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-4, "{losses:?}");
    assert!(losses[19] < 0.5, "{losses:?}");
    answer(&sandbox, "--adapter dpo/model");
    let refused = finetune("lora", "").expect(3);
    assert!(refused.stderr.contains("--method dpo"), "{}", refused.stderr);
    // The loss is the recipe's: IPO begins at (1/2β)².
    sandbox.write(
        "ipo.toml",
        "[finetune]\ndata = []\n[finetune.preference]\nloss = \"ipo\"\nbeta = 0.2\n[adapter]\n",
    );
    let short = SHORT.replace("train.steps=6", "train.steps=1");
    let ipo = sandbox
        .run(&format!(
            "finetune ipo.toml --init base/model --data pairs.jsonl --json --method dpo --output-dir ipo {short} \
             --set train.optimizer=\"adamw\""
        ))
        .expect(0)
        .stdout;
    let event = |line: &str| serde_json::from_str::<Value>(line).ok();
    let first = ipo
        .lines()
        .filter_map(event)
        .find_map(|event| event["learning_rate"].as_f64().and(event["loss"].as_f64()));
    assert!((first.expect("a step") - 6.25).abs() < 1e-3, "{first:?}");
    write_examples(&sandbox);
    let wrong =
        format!("finetune --init base/model --data chat.jsonl --method dpo --output-dir wrong {SHORT}");
    let refused = sandbox.run(&wrong).expect(3);
    assert!(refused.stderr.contains("no preference pair"), "{}", refused.stderr);
}
