//! Model folders from elsewhere: what their `config.json` claims costs nothing until it is used.

use serde_json::Value;

use crate::{sandbox, write_tiny};

#[test]
fn a_claimed_context_of_a_million_tokens_takes_no_memory() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --set train.steps=8").expect(0);
    let generate = |arguments: &str| sandbox.run(&format!("generate --json --model model {arguments}"));
    let peak = |arguments: &str| -> (u64, Value) {
        let finished = generate(arguments).expect(0);
        let last: Value = serde_json::from_str(finished.last_line()).expect("JSON");
        (last["peak_rss_bytes"].as_u64().expect("measured"), last["text"].clone())
    };
    let greedy = "--prompt the --temperature 0 --max-new-tokens 20";
    let (before, text) = peak(greedy);
    let mut config: Value = serde_json::from_slice(&sandbox.read("model/config.json")).expect("JSON");
    config["max_position_embeddings"] = 1_000_000.into();
    sandbox.write("model/config.json", config.to_string());
    std::fs::remove_file(sandbox.path().join("model/manifest.json")).expect("there");
    let (after, same) = peak(greedy);
    eprintln!(
        "peak resident: {} MB with its own context, {} MB with a million tokens",
        before >> 20,
        after >> 20
    );
    assert!(after < before + (8 << 20), "{before} to {after}");
    assert_eq!(text, same);
    // A prompt that a context of 32 tokens would have to be cut for.
    let (_, long) = peak(
        "--prompt the_river_runs_over_stones_and_under_a_bridge_where_children_count --max-new-tokens 60",
    );
    assert!(long.is_string());

    config["num_hidden_layers"] = 900.into();
    sandbox.write("model/config.json", config.to_string());
    let refused = generate(greedy).expect(1);
    assert!(
        refused.stderr.contains("num_hidden_layers = 900") && !refused.stderr.contains("train."),
        "{}",
        refused.stderr
    );
}

#[test]
fn an_edited_card_is_no_damage_and_changed_weights_are() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --set train.steps=3").expect(0);
    let mut card = sandbox.read("model/README.md");
    card.extend_from_slice(b"\nMine.\n");
    sandbox.write("model/README.md", card);
    sandbox.write("model/notes.txt", "mine");
    let generate = "generate --prompt the --max-new-tokens 2";
    sandbox.run(generate).expect(0);
    let weights = sandbox.read("model/model.safetensors");
    for name in ["model/model.safetensors", "model/tokenizer.json", "model/config.json"] {
        let whole = sandbox.read(name);
        let mut damaged = whole.clone();
        *damaged.last_mut().expect("bytes") ^= 1;
        sandbox.write(name, damaged);
        assert!(sandbox.run(generate).expect(1).stderr.contains("damaged"), "{name}");
        sandbox.write(name, whole);
    }
    assert_eq!(sandbox.read("model/model.safetensors"), weights);
    sandbox.run(generate).expect(0);
}

/// Memory is looked at before it is asked for, and the remedy is one for decoding.
#[cfg(target_os = "linux")]
#[test]
fn a_cache_beyond_the_memory_is_refused_by_the_folder_s_keys() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --set model.depth=6 --set train.steps=1").expect(0);
    let mut config: Value = serde_json::from_slice(&sandbox.read("model/config.json")).expect("JSON");
    config["max_position_embeddings"] = (1 << 24).into();
    sandbox.write("model/config.json", config.to_string());
    std::fs::remove_file(sandbox.path().join("model/manifest.json")).expect("there");
    // As much as this machine has, whatever that is.
    let kilobytes = std::fs::read_to_string("/proc/meminfo").expect("Linux");
    let kilobytes =
        kilobytes.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number");
    let size = |name: &str| config[name].as_u64().expect("a number");
    let head_dim = config["head_dim"].as_u64().unwrap_or(size("hidden_size") / size("num_attention_heads"));
    let token_bytes = 8 * size("num_hidden_layers") * size("num_key_value_heads") * head_dim + 4 * head_dim;
    let tokens = 1024 * kilobytes / token_bytes + 1;
    if tokens >= 1 << 24 {
        testkit::skip_without_hardware("this machine has the memory for the longest context");
        return;
    }
    let refused =
        sandbox.run(&format!("generate --model model --prompt x --max-new-tokens {tokens}")).expect(1);
    for word in ["config.json", "num_key_value_heads", "--max-new-tokens", "GB"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("train."), "{}", refused.stderr);
}
