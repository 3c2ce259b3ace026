//! Merging adapters: several, taken out again, with DoRA, and of a quantized base.

use testkit::Sandbox;

use crate::finetune::{SHORT, answer, last_json, write_base, write_examples};
use crate::sandbox;

fn finetune(sandbox: &Sandbox, to: &str, more: &str) {
    let common = "finetune --init base/model --data chat.jsonl --json";
    sandbox.run(&format!("{common} --output-dir {to} {SHORT} {more}")).expect(0);
}

fn weights(sandbox: &Sandbox, folder: &str) -> Vec<u8> {
    std::fs::read(sandbox.path().join(folder).join("model.safetensors")).expect("merged weights")
}

#[test]
fn several_adapters_are_added_up_and_taken_out_again() {
    let sandbox = sandbox();
    write_base(&sandbox);
    write_examples(&sandbox);
    finetune(&sandbox, "first", "--seed 1");
    finetune(&sandbox, "second", "--seed 2");
    finetune(&sandbox, "scaled", "--method dora");
    sandbox.run("merge first/model --out one").expect(0);
    sandbox.run("merge second/model --base one --out in-turn").expect(0);
    sandbox.run("merge first/model second/model --out both").expect(0);
    assert_eq!(weights(&sandbox, "both"), weights(&sandbox, "in-turn"));
    assert_ne!(weights(&sandbox, "both"), weights(&sandbox, "one"));

    sandbox.run("merge first/model second/model --base both --undo --out back").expect(0);
    assert_eq!(answer(&sandbox, "--model back"), answer(&sandbox, "--model base/model"));

    let scaled = answer(&sandbox, "--adapter scaled/model");
    sandbox.run("merge scaled/model --out scaled-merged").expect(0);
    assert_eq!(answer(&sandbox, "--model scaled-merged"), scaled);
    let refused = sandbox.run("merge first/model scaled/model --out mixed").expect(1);
    assert!(refused.stderr.contains("merge such an adapter alone"), "{}", refused.stderr);
    let refused = sandbox.run("merge scaled/model --base scaled-merged --undo --out unscaled").expect(1);
    assert!(refused.stderr.contains("use the base itself"), "{}", refused.stderr);
    sandbox.run("merge first/model --undo --out x").expect(1);
}

#[test]
fn an_adapter_of_a_quantized_base_is_merged_into_the_better_weights() {
    let sandbox = sandbox();
    write_base(&sandbox);
    write_examples(&sandbox);
    finetune(&sandbox, "tuned", "--method qlora --set finetune.validation_fraction=0.2");
    let merged = sandbox.run("merge tuned/model --out merged --json").expect(0);
    let merged = last_json(&merged.stdout);
    assert_eq!(merged["quantization"], "nf4");
    let loss = |of: &str| merged["measured"][of].as_f64().expect("a loss");
    let better = if loss("dequantized") < loss("base") { "dequantized" } else { "base" };
    assert_eq!(merged["onto"], better, "{merged}");
    assert_ne!(loss("dequantized"), loss("base"));

    for onto in ["base", "dequantized"] {
        sandbox.run(&format!("merge tuned/model --onto {onto} --out onto-{onto}")).expect(0);
    }
    assert_ne!(weights(&sandbox, "onto-base"), weights(&sandbox, "onto-dequantized"));
    assert_eq!(weights(&sandbox, "merged"), weights(&sandbox, &format!("onto-{better}")));

    let undo = "merge tuned/model --base onto-dequantized --undo --out undone";
    let refused = sandbox.run(undo).expect(1);
    assert!(refused.stderr.contains("use the base itself"), "{}", refused.stderr);

    // Elsewhere there are no held-out examples: told, and merged into the base's own weights.
    std::fs::rename(sandbox.path().join("tuned/model"), sandbox.path().join("moved")).expect("moved");
    let told = sandbox.run("merge moved --base base/model --out unmeasured").expect(0);
    assert!(told.stderr.contains("not measured"), "{}", told.stderr);
    finetune(&sandbox, "plain", "");
    let refused = sandbox.run("merge plain/model --onto dequantized --out no").expect(1);
    assert!(refused.stderr.contains("quantized base"), "{}", refused.stderr);
}
