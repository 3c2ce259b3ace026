//! Tests that run the built program.

#[cfg(unix)]
mod background;
mod bad_input;
mod chat_samples;
mod commands;
#[cfg(target_os = "linux")]
mod conversation;
mod damaged;
#[cfg(unix)]
mod dashboard;
mod data;
mod docs;
mod export;
mod finetune;
mod foreign;
mod help;
mod kill;
#[cfg(target_os = "linux")]
mod limits;
mod merge;
mod model_folder;
mod objects;
#[cfg(unix)]
mod planted;
#[cfg(target_os = "linux")]
mod ranks;
mod run_as_model;
#[cfg(unix)]
mod scripts;
#[cfg(unix)]
mod stops;
mod user_files;
mod whole_job;

use testkit::Sandbox;

/// An empty folder with the program.
fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_text2llm"))
}

/// A recipe that trains in a second on 60 kB of made-up text, which `write_tiny` puts beside it.
const TINY: &str = r#"
name = "tiny"
[data]
paths = ["corpus"]
[tokenizer]
vocab_size = 280
[model]
depth = 1
[train]
steps = 40
batch_size = 4
sequence_length = 32
validate_every = 16
checkpoint_every = 7
sample_every = 20
sample_prompts = ["the "]
sample_max_new_tokens = 8
[validate]
prompts = ["the river "]
sample_tokens = 8
latency_runs = 2
"#;

fn write_tiny(sandbox: &Sandbox) {
    write_tiny_to(sandbox, "");
}

/// The tiny recipe with its corpus below `prefix`, a path that ends in `/`.
fn write_tiny_to(sandbox: &Sandbox, prefix: &str) {
    sandbox.write(&format!("{prefix}text2llm.toml"), TINY);
    for seed in 0..30 {
        sandbox.write(&format!("{prefix}corpus/{seed:02}.txt"), testkit::text(2000, seed));
    }
}
