//! `cargo xtask parity`: the exported Stored, loaded in transformers, computes what we compute.
//!
//! Our side is computed here from the `model` and `tokenizer` crates and by the `text2llm generate` command;
//! `parity.py` computes the other side and compares. Without `--model` a small model is trained first with
//! `examples/quick-test.toml`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use compute::Batch;
use compute::cpu::Cpu;
use formats::safetensors::{TensorSpec, write};
use model::{Decoder, Decoding, Evaluation, Evaluator, Precision, Stored};
use serde_json::{Value, json};
use store::fs::RealFs;
use tokenizer::Tokenizer;

use crate::python;

/// Lengths, scripts, spaces and signs that pre-tokenizers and byte-level alphabets trip over.
const TEXTS: &[&str] = &[
    "The ",
    "The quick brown fox jumps over the lazy dog.",
    "Le cœur a ses raisons que la raison ne connaît point ; l’été, où ça ? « Déjà vu ! »",
    "  two  spaces   three\t\ttabs \n\n new lines\r\n and trailing   ",
    "don't can't WE'LL I'm they've he'd it's",
    "3.14159 1,000,000 2026-11-22 0x1F 12345678901234567890",
    "naïve café Ångström Ærøskøbing ČŠŽ łódź",
    "Привет, мир! Ελληνικά עברית العربية हिन्दी 中文字符 日本語 한국어 ไทย",
    "🙂👩‍👩‍👧‍👦🇫🇷 zero\u{200B}width ﬁ e\u{0301}",
    "fn main() { println!(\"{}\", x_1 != y && *p >= 0); } // <tag attr='v'/> http://a.b/c?d=e&f#g",
    "\u{0}\u{1}\u{7f}\u{ffff}\u{10ffff}",
    "",
    " ",
    "\n",
];
const GREEDY_TOKENS: usize = 32;
/// Prompts of the `generate` command. None ends in a space: the command takes such a space back and begins
/// the next word with it, which transformers does not.
const PROMPTS: &[&str] = &["The", "Le document", "1."];
/// Longest sequence whose logits are compared.
const LONGEST: usize = 256;

/// What `cargo xtask parity` takes.
#[derive(Args)]
pub struct Arguments {
    /// Exported model folder [default: one trained now by examples/quick-test.toml]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Largest difference of any logit
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f64,
}

/// Computes our side, then lets Python compare.
pub fn run(arguments: &Arguments) -> Result<()> {
    let python = python::interpreter(&["torch", "transformers"])?;
    let binary = python::text2llm_binary()?;
    let work = python::target_folder().join("parity");
    std::fs::create_dir_all(&work)?;
    let exported = match &arguments.model {
        Some(folder) => std::path::absolute(folder)?,
        None => train_quick_test(&binary, &work)?,
    };
    println!("model: {}", exported.display());
    write_ours(&exported, &binary, &work)?;
    python::run(
        Command::new(python)
            .arg(python::repository().join("xtask/parity.py"))
            .arg("--model")
            .arg(&exported)
            .arg("--ours")
            .arg(&work)
            .args(["--tolerance", &arguments.tolerance.to_string()]),
    )
}

fn train_quick_test(binary: &Path, work: &Path) -> Result<PathBuf> {
    let project = work.join("quick-test");
    if project.exists() {
        std::fs::remove_dir_all(&project)?;
    }
    let recipe = python::repository().join("examples/quick-test.toml");
    python::run(Command::new(binary).arg("run").arg(recipe).arg("--output-dir").arg(&project).arg("--yes"))?;
    Ok(project.join("model"))
}

/// Writes `ours.json` (ids, texts, greedy continuations) and `ours.safetensors` (the logits of each text)
/// into `work`.
fn write_ours(exported: &Path, binary: &Path, work: &Path) -> Result<()> {
    let tokenizer = Tokenizer::open(&RealFs, exported)?;
    let mut stored = Stored::open(&RealFs, exported)?;
    let config = stored.config().clone();
    let longest = config.max_position_embeddings.min(LONGEST);
    let whole = TEXTS.join("\n").repeat(4);
    let texts: Vec<&str> = TEXTS.iter().copied().chain([whole.as_str()]).collect();

    let evaluation = Evaluation::new(1, longest, Precision::F32);
    let mut full = Evaluator::new(Cpu::new(0), config.clone(), evaluation)?;
    stored.load(full.weights_mut())?;
    let mut decoding = Decoder::new(Cpu::new(0), config.clone(), Decoding::one(longest))?;
    stored.load(decoding.weights_mut())?;

    let (mut cases, mut logits): (Vec<Value>, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
    for (i, text) in texts.iter().enumerate() {
        let ids = tokenizer.encode(text)?;
        let mut sequence = tokenizer.prefix_ids().to_vec();
        sequence.extend(&ids);
        sequence.truncate(longest);
        let mut batch = Batch::new(1, sequence.len());
        batch.tokens.copy_from_slice(&sequence);
        logits.push(full.logits(&batch));

        // Room for the continuation, where the text leaves any.
        let prompt = &sequence[..sequence.len().min(longest.saturating_sub(GREEDY_TOKENS).max(1))];
        let greedy = greedy(&mut decoding, prompt, tokenizer.eos_id(), longest)?;
        cases.push(json!({
            "name": format!("logits.{i}"), "text": text, "ids": ids, "sequence": sequence, "prompt": prompt, "greedy": greedy,
            "decoded": tokenizer.decode(&ids, false),
        }));
    }

    let commands =
        PROMPTS.iter().map(|prompt| generate(binary, exported, prompt)).collect::<Result<Vec<Value>>>()?;
    let ours = json!({
        "bos": tokenizer.bos_id(), "eos": tokenizer.eos_id(), "vocab_size": config.vocab_size, "cases": cases,
        "commands": commands, "max_new_tokens": GREEDY_TOKENS,
    });
    store::atomic::write_json(&RealFs, &work.join("ours.json"), &ours)?;
    let specs = logits.iter().enumerate().map(|(i, values)| {
        TensorSpec::f32(format!("logits.{i}"), &[values.len() / config.vocab_size, config.vocab_size])
    });
    let index = |name: &str| name.trim_start_matches("logits.").parse::<usize>().unwrap_or(0);
    write(&RealFs, &work.join("ours.safetensors"), specs.collect(), &Default::default(), |spec| {
        Ok(std::borrow::Cow::Borrowed(&logits[index(&spec.name)]))
    })?;
    Ok(())
}

/// What `text2llm generate` writes.
fn generate(binary: &Path, exported: &Path, prompt: &str) -> Result<Value> {
    let mut command = Command::new(binary);
    command.arg("generate").arg("--model").arg(exported).args([
        "--prompt",
        prompt,
        "--temperature",
        "0",
        "--json",
    ]);
    let output = python::output(command.args(["--max-new-tokens", &GREEDY_TOKENS.to_string()]))?;
    let last = output.lines().last().context("text2llm generate wrote nothing")?;
    let value: Value = serde_json::from_str(last)?;
    ensure!(value["text"].is_string(), "text2llm generate --json: the last line has no text: {last}");
    Ok(json!({ "prompt": prompt, "text": value["text"] }))
}

/// The likeliest token, again and again; the lowest id where two are equal, as `argmax` in PyTorch.
fn greedy(model: &mut Decoder<Cpu>, prompt: &[u32], eos: Option<u32>, longest: usize) -> Result<Vec<u32>> {
    model.reset();
    let mut logits = model.decode(prompt)?;
    let mut written = Vec::new();
    while written.len() < GREEDY_TOKENS {
        let best =
            (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).context("no logits")?;
        written.push(best as u32);
        if Some(best as u32) == eos || prompt.len() + written.len() >= longest {
            break;
        }
        logits = model.decode(&[best as u32])?;
    }
    Ok(written)
}
