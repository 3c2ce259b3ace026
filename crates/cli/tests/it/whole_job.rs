//! The main job from end to end, and what can be done with its results.

use serde_json::Value;
use testkit::{Finished, Sandbox};

use crate::{sandbox, write_tiny};

fn events(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn trained() -> Sandbox {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --json").expect(0);
    sandbox
}

#[test]
fn quick_test_goes_from_text_to_a_model_folder() {
    let sandbox = sandbox();
    let finished = sandbox.run("run quick-test --json").expect(0);
    let events = events(&finished);
    let phases: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "phase_started")
        .map(|event| event["phase"].as_str().expect("a name"))
        .collect();
    assert_eq!(phases, ["prerequisites", "corpus", "tokenizer", "model", "training", "validation", "export"]);
    let last = events.last().expect("events");
    assert_eq!(last["event"], "run_complete");
    for file in [
        "model/model.safetensors",
        "model/config.json",
        "model/generation_config.json",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "model/README.md",
        "model/manifest.json",
        "evals/results.json",
        "evals/report.md",
        "training_metrics.json",
        "tokenizer/tokenizer.json",
        "data/documents/report.json",
        "data/tokens/report.json",
    ] {
        assert!(sandbox.path().join(file).is_file(), "{file}");
    }
    let run = last["run_dir"].as_str().expect("a path");
    for file in ["meta.json", "state.json", "metrics.jsonl", "train.log", "loss.svg", "loss.png"] {
        assert!(std::path::Path::new(run).join(file).is_file(), "{file}");
    }
    let results: Value = serde_json::from_slice(&sandbox.read("evals/results.json")).expect("JSON");
    assert!(results["validation_loss"].as_f64().expect("measured") < 6.2, "{results}");
    assert_eq!(results["generation"]["own_process"], true, "{results}");
    assert_eq!(results["samples"].as_array().expect("samples").len(), 2);
    let card = String::from_utf8(sandbox.read("model/README.md")).expect("text");
    let loss = format!("{:.4}", results["validation_loss"].as_f64().expect("measured"));
    assert!(card.contains(loss.trim_end_matches('0')), "the card states the measured loss {loss}: {card}");
}

#[test]
fn running_again_does_no_work_twice() {
    let sandbox = trained();
    let model = sandbox.read("model/model.safetensors");
    let again = sandbox.run("run --json").expect(0);
    let skipped = events(&again).iter().filter(|event| event["event"] == "phase_skipped").count();
    assert_eq!(skipped, 5, "corpus, tokenizer, training, validation, export: {}", again.stdout);
    assert!(!again.stdout.contains("\"event\":\"step\""));
    assert_eq!(sandbox.run("list --json").expect(0).stdout.lines().count(), 2, "one run and the end");
    assert_eq!(sandbox.read("model/model.safetensors"), model);

    // A flag replaces what the recipe says in another way.
    let epochs = sandbox.run("plan --json --no-calibration --epochs 2").expect(0);
    assert!(epochs.last_line().contains("\"epochs\":2.0"), "{}", epochs.stdout);

    // A changed seed is another model; the text and the tokenizer stay.
    let other = sandbox.run("run --json --seed 7").expect(0);
    assert!(other.stdout.contains("\"event\":\"step\"") && other.stdout.contains("unchanged: 280 tokens"));
    assert_ne!(sandbox.read("model/model.safetensors"), model);
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_the_threads() {
    let weights = |threads: &str| {
        let sandbox = sandbox();
        write_tiny(&sandbox);
        sandbox.run(&format!("run --json --threads {threads}")).expect(0);
        sandbox.read("model/model.safetensors")
    };
    assert_eq!(weights("1"), weights("3"));
}

#[test]
fn generating_from_runs_folders_and_stdin() {
    let sandbox = trained();
    let last = |finished: Finished| -> Value { serde_json::from_str(finished.last_line()).expect("JSON") };
    let greedy = "generate --json --temperature 0 --max-new-tokens 12 --prompt river";
    let folder = last(sandbox.run(greedy).expect(0));
    assert_eq!(folder["tokens"], 12);
    assert!(folder["tokens_per_s"].as_f64().expect("a speed") > 0.0);
    let run = last(sandbox.run(&format!("{greedy} --run latest")).expect(0));
    assert_eq!(run["text"], folder["text"], "the export writes what the checkpoint writes");
    let streamed: String = sandbox
        .run(greedy)
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == "text")
        .map(|line| line["text"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(streamed, folder["text"].as_str().expect("text"));

    let piped = {
        use std::io::Write;
        let mut command =
            sandbox.command(["generate", "--json", "--temperature", "0", "--max-new-tokens", "12"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("starts");
        child.stdin.take().expect("piped").write_all(b"river\n").expect("written");
        child.wait_with_output().expect("ends")
    };
    let piped: Value =
        serde_json::from_str(String::from_utf8_lossy(&piped.stdout).lines().last().expect("a line"))
            .expect("JSON");
    assert_eq!(piped["text"], folder["text"]);

    // A prompt as Windows and macOS write it is normalized like the training text, and so is a stop text.
    let greedy = ["generate", "--json", "--temperature", "0", "--max-new-tokens", "12", "--prompt"];
    let with = |prompt: &str, stop: &str| {
        last(sandbox.run_with(greedy.into_iter().chain([prompt, "--stop", stop]), |_| {}).expect(0))
    };
    let normal = with("the café\nriver", "\n");
    let decomposed = with("\u{feff}the cafe\u{301}\r\nriver", "\r\n");
    for key in ["text", "prompt_tokens", "stopped"] {
        assert_eq!(decomposed[key], normal[key], "{key}");
    }

    // Another folder, another context: longer than the model's 32 tokens.
    let long = last(
        sandbox.run("generate --json --model model --max-new-tokens 100 --prompt the --seed 3").expect(0),
    );
    assert!(long["tokens"].as_u64().expect("a number") > 0);
    let human = sandbox
        .run_with(["generate", "--prompt", "the river ", "--max-new-tokens", "5", "--seed", "1"], |_| {});
    assert!(human.stdout.starts_with("the river "), "{}", human.stdout);
    assert!(!human.stdout.starts_with("the river  "), "the space comes once: {}", human.stdout);
}

#[test]
fn a_damaged_model_folder_is_refused() {
    let sandbox = trained();
    let mut bytes = sandbox.read("model/model.safetensors");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    sandbox.write("model/model.safetensors", bytes);
    let finished = sandbox.run("generate --prompt x").expect(1);
    assert!(finished.stderr.contains("model.safetensors"), "{}", finished.stderr);
    // The next run sees it and exports again.
    sandbox.run("run").expect(0);
    sandbox.run("generate --prompt x --max-new-tokens 2").expect(0);
}

#[test]
fn damaged_shards_and_checkpoints_are_made_anew_or_passed_over() {
    let sandbox = trained();
    let model = sandbox.read("model/model.safetensors");
    let mut shard = sandbox.read("data/tokens/train-00000.bin");
    shard[100] ^= 1;
    sandbox.write("data/tokens/train-00000.bin", shard);
    let finished = sandbox.run("resume --more-steps 3").expect(3);
    assert!(finished.stderr.contains("train-00000.bin"), "{}", finished.stderr);
    sandbox.run("run").expect(0);
    assert_eq!(sandbox.read("model/model.safetensors"), model);

    let status: Value =
        serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
    let run = status["path"].as_str().expect("a path").to_owned();
    let newest = std::path::Path::new(&run).join("checkpoints/step-00000040/weights.safetensors");
    let mut bytes = std::fs::read(&newest).expect("the last checkpoint");
    bytes[2000] ^= 4;
    std::fs::write(&newest, bytes).expect("writable");
    let finished = sandbox.run("resume --more-steps 2 --json").expect(0);
    assert!(finished.stdout.contains("step 40 is unusable"), "{}", finished.stdout);
    assert!(finished.stdout.contains("\"step\":42"), "{}", finished.stdout);
}

#[test]
fn a_run_goes_on_beyond_its_end() {
    let sandbox = trained();
    let before: Value =
        serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
    assert_eq!(before["step"], 40);
    sandbox.run("resume --more-steps 5").expect(0);
    let after: Value =
        serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON");
    assert_eq!((&after["step"], &after["status"]), (&45.into(), &"completed".into()));
    let results: Value = serde_json::from_slice(&sandbox.read("evals/results.json")).expect("JSON");
    assert_eq!(results["checkpoint_step"], 45, "what goes on is validated and exported too");
    let again = sandbox.run("run --json").expect(0);
    assert!(again.stdout.contains("to step 45; reusing it"), "still the run of its recipe: {}", again.stdout);
    sandbox.run("resume --more-epochs 1 --checkpoint best").expect(0);
    assert!(sandbox.run("resume --checkpoint 9999").expect(4).stderr.contains("9999"));
    assert!(sandbox.run("resume --checkpoint soon").expect(1).stderr.contains("soon"));
}

#[test]
fn train_stops_before_validation_and_run_takes_it_from_there() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("train").expect(0);
    assert!(!sandbox.path().join("model").exists() && !sandbox.path().join("evals").exists());
    let finished = sandbox.run("run --json").expect(0);
    assert!(finished.stdout.contains("already trained"), "{}", finished.stdout);
    assert!(sandbox.path().join("model/model.safetensors").exists());
}

#[test]
fn an_agent_can_follow() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let finished = sandbox.run("run --output agent").expect(0);
    for wanted in [
        "[CORPUS] start phase=2/7",
        "[TRAIN] step=",
        "✅ [TRAIN] done",
        "[TRAIN-COMPLETE]",
        "[RUN-COMPLETE]",
        "[ARTIFACT]",
    ] {
        assert!(finished.stdout.contains(wanted), "{wanted}: {}", finished.stdout);
    }
    assert_eq!(finished.stderr, "");
}

#[test]
fn output_dir_is_the_project_and_skipped_stages_are_used_as_they_are() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    sandbox.run("run --output-dir out").expect(0);
    assert!(sandbox.path().join("out/model/config.json").exists() && !sandbox.path().join("model").exists());
    // The text is gone; what was made of it is enough.
    std::fs::remove_dir_all(sandbox.path().join("corpus")).expect("removable");
    let finished =
        sandbox.run("run --output-dir out --skip-corpus --skip-tokenizer --json --seed 5").expect(0);
    assert!(finished.stdout.contains("used as it is (--skip-corpus)"), "{}", finished.stdout);
    assert!(finished.stdout.contains("used as it is (--skip-tokenizer)"), "{}", finished.stdout);
}

#[test]
fn a_decayed_run_is_continued_from_its_plateau_and_a_fork_leaves_it_alone() {
    let sandbox = trained();
    let status = || -> Value {
        serde_json::from_str(sandbox.run("status --json").expect(0).last_line()).expect("JSON")
    };
    let first = status();
    let id = first["run_id"].as_str().expect("an id").to_owned();
    let steps_of = |run: &Value| {
        let folder = std::path::Path::new(run["path"].as_str().expect("a path")).join("checkpoints");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("checkpoints")
            .map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let before = steps_of(&first);
    // A fifth of 40 steps decays.
    assert!(before.contains(&"step-00000032".to_owned()), "{before:?}");

    let forked = sandbox.run(&format!("fork {id} --from 32 --json")).expect(0);
    let forked: Value = serde_json::from_str(forked.last_line()).expect("JSON");
    assert_eq!(forked["forked_from"]["step"], 32);
    let fork = forked["run_id"].as_str().expect("an id");
    let finished = sandbox.run(&format!("resume {fork} --more-steps 5 --json")).expect(0);
    assert!(finished.stdout.contains("\"step\":33,") && !finished.stdout.contains("\"step\":32,"));
    assert_eq!(status()["step"], 45);
    let again: Value =
        serde_json::from_str(sandbox.run(&format!("status {id} --json")).expect(0).last_line())
            .expect("JSON");
    assert_eq!((&again["step"], steps_of(&again)), (&first["step"], before), "the first run is what it was");

    let longer = sandbox.run(&format!("resume {id} --more-steps 5 --json")).expect(0);
    assert!(longer.stdout.contains("continuing from step 32"), "{}", longer.stdout);
    assert!(longer.stdout.contains("\"step\":33,\"total_steps\":45"), "{}", longer.stdout);
    let done = sandbox.run(&format!("fork {id} --from latest")).expect(0);
    assert!(done.stderr.contains("--more-steps N"), "{}", done.stderr);
    assert!(
        sandbox.run(&format!("fork {id} --from 7")).expect(1).stderr.contains("has no checkpoint of step 7")
    );
}

#[test]
fn other_samples_are_no_other_training() {
    let sandbox = trained();
    let again =
        sandbox.run("run --json --set train.sample_prompts=[\"The\"] --set train.keep_last=1").expect(0);
    assert!(again.stdout.contains("reused"), "{}", again.stdout);
}

#[test]
fn a_missing_device_or_precision_is_told_before_any_work() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    if !cfg!(feature = "cuda") {
        let refused = sandbox.run("run --device cuda").expect(1);
        assert!(refused.stderr.contains("built without CUDA"), "{}", refused.stderr);
        assert!(!sandbox.path().join("data/documents").exists(), "nothing was prepared");
    }
    let lesser = |command: &mut std::process::Command| {
        command.env("TEXT2LLM_CPU", "avx2");
    };
    let refused = sandbox.run_with(["run", "--set", "train.precision=bf16"], lesser).expect(1);
    assert!(refused.stderr.contains("bf16 needs a CPU"), "{}", refused.stderr);
    if compute::cpu::InstructionSet::detect().has_bf16() {
        sandbox.run("train --set train.precision=bf16").expect(0);
        let refused = sandbox.run_with(["resume", "--more-steps", "2"], lesser).expect(1);
        assert!(refused.stderr.contains("bf16 needs a CPU"), "{}", refused.stderr);
    }
}

#[test]
fn more_threads_than_there_are_take_no_longer() {
    let sandbox = sandbox();
    write_tiny(&sandbox);
    let told = sandbox.run("data prepare --threads 1000 --json").expect(0);
    assert!(told.stdout.contains("--threads 1000 is more than this process can run"), "{}", told.stdout);
}
