//! Commands that need no training: new, schema, list, status, plan, and how arguments are refused.

use crate::{sandbox, write_tiny};

#[test]
fn a_new_project_plans_at_once() {
    let sandbox = sandbox();
    let finished = sandbox.run("new my-llm").expect(0);
    assert!(finished.stderr.contains("text2llm run"), "{}", finished.stderr);
    let recipe = String::from_utf8(sandbox.read("my-llm/text2llm.toml")).expect("text");
    assert!(recipe.contains("name = \"my-llm\"") && recipe.contains("#weight_decay = 0.1"), "{recipe}");
    let plan = sandbox.run("plan --project my-llm --json --no-calibration").expect(0);
    assert!(plan.last_line().contains("\"name\":\"my-llm\""), "{}", plan.stdout);
    assert!(!sandbox.path().join("my-llm/data").exists(), "a plan writes nothing");

    let again = sandbox.run("new my-llm").expect(1);
    assert!(again.stderr.contains("--yes"), "{}", again.stderr);
    sandbox.run("new my-llm --yes --example quick-test").expect(0);
    assert!(sandbox.run("new other --example nope").expect(1).stderr.contains("quickstart"));
}

#[test]
fn the_schema_is_json() {
    let finished = sandbox().run("schema").expect(0);
    let schema: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    for section in ["data", "tokenizer", "model", "train", "validate", "export"] {
        assert!(schema["properties"][section]["properties"].is_object(), "{section}");
    }
}

#[test]
fn an_empty_project_has_no_runs() {
    let sandbox = sandbox();
    assert!(sandbox.run("list").expect(0).stderr.contains("text2llm run"));
    assert!(sandbox.run("status").expect(0).stderr.contains("text2llm run"));
    assert_eq!(sandbox.run("list --json").expect(0).stdout, "{\"event\":\"list\",\"runs\":0}\n");
    assert!(sandbox.run("status nope").expect(1).stderr.contains("no runs"));
    assert!(sandbox.run("resume").expect(1).stderr.contains("text2llm run"));
    assert!(sandbox.run("generate --prompt x").expect(1).stderr.contains("text2llm run"));
    assert!(sandbox.run("status --project nowhere").expect(1).stderr.contains("nowhere"));
}

#[test]
fn a_plan_solves_the_shape() {
    let sandbox = sandbox();
    let plan = |arguments: &str| -> serde_json::Value {
        let finished = sandbox.run(&format!("plan --json --no-calibration {arguments}")).expect(0);
        serde_json::from_str(finished.last_line()).expect("JSON")
    };
    let sized = plan("--size 100M --set tokenizer.vocab_size=32000 --set train.sequence_length=512");
    let total = sized["parameters"]["total"].as_f64().expect("a number");
    assert!((total / 1e8 - 1.0).abs() < 0.06, "{total}");
    let deep = plan("--depth 12 quickstart --set model.qk_norm=true");
    assert_eq!(deep["model"]["num_hidden_layers"], 12);
    assert_eq!(deep["model"]["hidden_size"], 768);
    assert_eq!(deep["model"]["qk_norm"], true);
    let memory = &deep["memory"];
    let parts = [
        "parameters_bytes",
        "gradients_bytes",
        "moments_bytes",
        "activations_bytes",
        "scratch_bytes",
        "workspace_bytes",
        "program_bytes",
    ];
    let sum: u64 = parts.iter().map(|part| memory[*part].as_u64().expect("a number")).sum();
    assert_eq!(memory["total_bytes"], sum);
}

#[test]
fn the_calibration_gives_a_time() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let finished = sandbox.run("plan --json").expect(0);
    let plan: serde_json::Value = serde_json::from_str(finished.last_line()).expect("JSON");
    assert!(plan["time"]["training_s"].as_f64().expect("measured") > 0.0, "{plan}");
}

#[test]
fn the_doctor_names_the_cpu() {
    let finished = sandbox().run("doctor --json").expect(0);
    let found: serde_json::Value = serde_json::from_str(finished.last_line()).expect("JSON");
    assert!(found["cpu"]["threads"].as_u64().expect("counted") > 0, "{found}");
    assert!(found["cpu"]["instruction_set"].is_string() && found["cpu"]["bf16"].is_boolean(), "{found}");
    assert_eq!(found["cuda"].is_null(), cfg!(not(feature = "cuda")), "{found}");
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let sandbox = sandbox();
    for arguments in
        ["run --nope", "frobnicate", "resume --more-steps 0", "bench --preset huge", "run --device gpu", ""]
    {
        sandbox.run(arguments).expect(1);
    }
    assert!(sandbox.run("run nope.toml").expect(1).stderr.contains("quick-test"));
    assert!(sandbox.run("generate --top-p 0 --prompt x --model .").expect(1).stderr.contains("config.json"));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    use std::io::Read;
    let sandbox = sandbox();
    let mut child = sandbox.command(["schema"]).spawn().expect("starts");
    let mut first = [0u8; 1];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("a byte");
    assert!(child.wait().expect("ends").success());
}
