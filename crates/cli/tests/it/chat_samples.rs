//! Answers to validation conversations while a model is fine-tuned.

use serde_json::{Value, json};

use crate::{sandbox, write_tiny_to};

#[test]
fn each_validation_answers_conversations_and_training_does_not_notice() {
    let sandbox = sandbox();
    write_tiny_to(&sandbox, "base/");
    sandbox.run("run --project base --set train.steps=4 --set train.sequence_length=256").expect(0);
    let lines = |range: std::ops::Range<u32>| {
        let line = |number| {
            let turn = |role: &str, text: String| json!({"role": role, "content": text});
            let user = turn("user", format!("what is {number}"));
            json!({"messages": [user, turn("assistant", "a river".to_owned())]}).to_string()
        };
        range.map(line).collect::<Vec<_>>().join("\n")
    };
    sandbox.write("chat.jsonl", lines(0..200));
    sandbox.write("held_out.jsonl", lines(1000..1003));
    let finetune = |to: &str, method: &str, conversations: u64| {
        let short = "--set train.steps=4 --set train.batch_size=2 --set train.sequence_length=256 \
                     --set train.validate_every=2 --set train.optimizer=\"adamw\"";
        let data = "--init base/model --data chat.jsonl --validation held_out.jsonl --json";
        let samples = format!("--set train.sample_conversations={conversations}");
        let finished = sandbox
            .run(&format!("finetune {data} --output-dir {to} --method {method} {short} {samples}"))
            .expect(0);
        let events = finished.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["event"] == "sample").collect::<Vec<Value>>()
    };
    for (method, weights) in [
        ("lora", "adapter_model.safetensors"),
        ("qlora", "adapter_model.safetensors"),
        ("dora", "adapter_model.safetensors"),
        ("full", "model.safetensors"),
    ] {
        let (with, without) = (format!("{method}-with"), format!("{method}-without"));
        let samples = finetune(&with, method, 2);
        let steps: Vec<u64> = samples.iter().map(|sample| sample["step"].as_u64().expect("a step")).collect();
        assert_eq!(steps, [2, 2, 4, 4], "{method}: {samples:?}");
        let prompt = samples[0]["prompt"].as_str().expect("a prompt");
        assert!(prompt.contains("what is 1000") && !prompt.contains("river"), "{prompt}");
        assert!(prompt.ends_with("<|im_start|>assistant\n"), "{prompt}");
        assert!(samples.iter().all(|sample| sample["text"].is_string()), "{samples:?}");
        assert!(finetune(&without, method, 0).is_empty());
        let weights = |of: &str| sandbox.read(&format!("{of}/model/{weights}"));
        assert!(weights(&with) == weights(&without), "{method}");
    }
}
