//! Models and adapters as GGUF files.

use std::path::Path;

use formats::gguf::{Reader, TensorType, Value};
use serde_json::Value as Json;
use store::fs::RealFs;
use testkit::Sandbox;

use crate::finetune::{SHORT, last_json, write_base, write_examples};
use crate::sandbox;

fn open(sandbox: &Sandbox, name: &str) -> Reader {
    Reader::open(&RealFs, &sandbox.path().join(name)).expect("a GGUF file")
}

fn text(sandbox: &Sandbox, model: &str) -> Json {
    let greedy = "--prompt the --temperature 0 --max-new-tokens 20 --json";
    last_json(&sandbox.run(&format!("generate --model {model} {greedy}")).expect(0).stdout)["text"].clone()
}

#[test]
fn a_model_is_exported_and_writes_the_same() {
    let sandbox = sandbox();
    write_base(&sandbox);
    let folder = text(&sandbox, "base/model");
    let exported = last_json(&sandbox.run("export base/model --out whole.gguf --json").expect(0).stdout);
    assert_eq!((&exported["event"], &exported["architecture"]), (&"exported".into(), &"llama".into()));
    assert_eq!(exported["dtype"], "f32");
    let length = std::fs::metadata(sandbox.path().join("whole.gguf")).expect("written").len();
    assert_eq!(exported["bytes"], length);
    assert_eq!(text(&sandbox, "whole.gguf"), folder);

    // The model of the project, beside it; matrices are smaller, vectors are not.
    let finished = sandbox.run("export --project base --to gguf --dtype q8_0").expect(0);
    assert!(finished.stdout.contains("base-q8_0.gguf"), "{}", finished.stdout);
    assert!(finished.stderr.contains("llama-server -m") && finished.stderr.contains("ollama create"));
    let reader = open(&sandbox, "base/base-q8_0.gguf");
    for tensor in reader.tensors() {
        let is_small = matches!(tensor.tensor_type, TensorType::Blocks(_) | TensorType::F16);
        assert_eq!(is_small, tensor.shape.len() > 1, "{}", tensor.name);
    }
    text(&sandbox, "base/base-q8_0.gguf");
    for dtype in ["f16", "bf16", "q4_0"] {
        // Its own file may be replaced.
        sandbox.run(&format!("export base/model --dtype {dtype} --out whole.gguf")).expect(0);
        text(&sandbox, "whole.gguf");
    }
}

#[test]
fn an_adapter_is_exported_with_the_scale_of_llama_cpp() {
    let sandbox = sandbox();
    write_base(&sandbox);
    write_examples(&sandbox);
    let tuned = "--data chat.jsonl --output-dir tuned --set adapter.rank_stabilized=true";
    sandbox.run(&format!("finetune --init base/model {tuned} {SHORT}")).expect(0);
    let exported = last_json(&sandbox.run("export tuned/model --json").expect(0).stdout);
    assert!(exported["base"].as_str().expect("a base").ends_with("base/model"), "{exported}");
    let file = Path::new(exported["out"].as_str().expect("a path")).to_owned();
    assert!(file.ends_with("tuned/tuned-lora-f32.gguf"), "{exported}");
    let notes = exported["notes"].to_string();
    assert!(notes.contains("--chat-template-file"), "the base has no template of its own: {notes}");

    let mut reader = open(&sandbox, "tuned/tuned-lora-f32.gguf");
    let metadata = reader.metadata();
    for (key, value) in
        [("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")]
    {
        assert_eq!(metadata.str(key).expect("a string"), Some(value));
    }
    // llama.cpp divides by the rank, 16, and the adapter was scaled by 32 / √16.
    assert_eq!(metadata.get("adapter.lora.alpha"), Some(&Value::F32(128.0)));
    assert_eq!(reader.tensors().len(), 14);
    let shape = |name: &str| reader.require(name).expect(name).shape.clone();
    let (a, b) = (shape("blk.0.attn_q.weight.lora_a"), shape("blk.0.attn_q.weight.lora_b"));
    assert_eq!((a[0], b[1]), (16, 16));
    // Rows of queries are interleaved, those of values are not.
    let mut of = |name: &str| reader.read_f32(name).expect(name);
    let [q, v] = ["q", "v"].map(|part| of(&format!("blk.0.attn_{part}.weight.lora_b")));
    let folder = sandbox.path().join("tuned/model/adapter_model.safetensors");
    let mut peft = formats::safetensors::Reader::open_with(&RealFs, &folder).expect("an adapter");
    let mut peft = |part: &str| {
        let name = format!("base_model.model.model.layers.0.self_attn.{part}_proj.lora_B.weight");
        peft.read_f32(&name).expect("B")
    };
    assert_eq!(v, peft("v"));
    let theirs = peft("q");
    assert!(q != theirs && q.len() == theirs.len());
    assert_eq!(q[..16], theirs[..16], "the first row of each head stays");
}

#[test]
fn bad_input_is_refused_and_nothing_is_overwritten() {
    let sandbox = sandbox();
    write_base(&sandbox);
    write_examples(&sandbox);
    sandbox
        .run(&format!("finetune --init base/model --data chat.jsonl --output-dir tuned {SHORT}"))
        .expect(0);
    sandbox.write("mine.gguf", "mine");
    let refused = sandbox.run("export base/model --out mine.gguf").expect(1);
    assert!(refused.stderr.contains("was not written by text2llm"), "{}", refused.stderr);
    assert_eq!(sandbox.read("mine.gguf"), b"mine");
    std::fs::create_dir(sandbox.path().join("folder.gguf")).expect("made");
    sandbox.run("export base/model --out folder.gguf").expect(1);

    sandbox.run("export base/model --out whole.gguf").expect(0);
    for (arguments, message) in [
        ("export base/model --dtype q5_k", "q5_k"),
        ("export base/model --to onnx", "onnx"),
        ("export base/model --base base/model", "--base"),
        ("export whole.gguf", "is a GGUF file already"),
        ("export base/corpus", "config.json"),
        ("export nowhere", "config.json"),
    ] {
        let refused = sandbox.run(arguments).expect(1);
        assert!(refused.stderr.contains(message), "{arguments}: {}", refused.stderr);
    }

    // Without its base, an adapter cannot be named as llama.cpp does.
    std::fs::rename(sandbox.path().join("base"), sandbox.path().join("moved")).expect("moved");
    let refused = sandbox.run("export tuned/model").expect(3);
    assert!(refused.stderr.contains("--base"), "{}", refused.stderr);
    sandbox.run("export tuned/model --base moved/model --out tuned.gguf").expect(0);
    // Its base as a GGUF file will do.
    sandbox.run("export tuned/model --base whole.gguf --out again.gguf").expect(0);
    assert!(sandbox.read("tuned.gguf") == sandbox.read("again.gguf"));

    // Weights that changed since they were written are not exported.
    let mut weights = sandbox.read("moved/model/model.safetensors");
    let last = weights.len() - 1;
    weights[last] ^= 1;
    sandbox.write("moved/model/model.safetensors", weights);
    let refused = sandbox.run("export moved/model --out damaged.gguf").expect(1);
    assert!(refused.stderr.contains("model.safetensors"), "{}", refused.stderr);
    assert!(!sandbox.path().join("damaged.gguf").exists());
}
