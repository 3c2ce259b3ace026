//! `cargo xtask parity`: a model folder, loaded in transformers, computes what we compute.
//!
//! Our side is computed here from the `model` and `tokenizer` crates and by the `text2llm generate` command;
//! `parity.py` computes the other side and compares. Without `--model` a small model is trained first with
//! `examples/quick-test.toml`. `--families` compares a small random model of every family, as transformers
//! writes it, each also with an adapter of ours that PEFT loads, and merged. Models and adapters are exported
//! as GGUF files too, and llama.cpp (the package `xllamacpp`) computes the same in `parity_llama.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use compute::Batch;
use compute::cpu::Cpu;
use compute::rng::Rng;
use formats::safetensors::{TensorSpec, write};
use model::adapter_folder::{self, BaseName};
use model::{AdapterConfig, Decoder, Decoding, Evaluation, Evaluator, Precision, Stored};
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

/// Families of `families.py` that llama.cpp has no architecture for, with the key that the export names.
const NOT_IN_LLAMA_CPP: &[(&str, &str)] = &[("smollm3", "no_rope_layers")];

/// What `cargo xtask parity` takes.
#[derive(Args)]
pub struct Arguments {
    /// Exported model folder [default: one trained now by examples/quick-test.toml]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Compare small random models of every family instead, each also with an adapter
    #[arg(long, conflicts_with = "model")]
    families: bool,
    /// Largest difference of any logit
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f64,
}

/// Computes our side, then lets Python compare.
pub fn run(arguments: &Arguments) -> Result<()> {
    let python = python::interpreter(&["torch", "transformers", "peft", "gguf", "xllamacpp"])?;
    let binary = python::text2llm_binary()?;
    let work = python::target_folder().join("parity");
    std::fs::create_dir_all(&work)?;
    let compare = |model: &Path, adapter: Option<&Path>| {
        println!("model: {}{}", model.display(), if adapter.is_some() { ", with an adapter" } else { "" });
        write_ours(model, adapter, &binary, &work)?;
        let mut command = Command::new(&python);
        command.arg(python::repository().join("xtask/parity.py")).arg("--model").arg(model);
        command.arg("--ours").arg(&work).args(["--tolerance", &arguments.tolerance.to_string()]);
        if let Some(adapter) = adapter {
            command.arg("--adapter").arg(adapter);
        }
        python::run(&mut command)
    };
    let in_llama_cpp = |model: &Path, adapter: Option<&Path>| {
        let mut command = Command::new(&python);
        command.arg(python::repository().join("xtask/parity_llama.py")).arg("--ours").arg(&work);
        let gguf = model.with_extension("gguf");
        command.arg("--gguf").arg(&gguf).args(["--tolerance", &arguments.tolerance.to_string()]);
        match adapter {
            None => export(&binary, model, &gguf)?,
            Some(adapter) => {
                let lora = model.with_extension("lora.gguf");
                export(&binary, adapter, &lora)?;
                command.arg("--lora").arg(lora);
            }
        }
        python::run(&mut command)
    };
    if arguments.families {
        return families(&python, &binary, &work, &compare, &in_llama_cpp);
    }
    let exported = match &arguments.model {
        Some(folder) => std::path::absolute(folder)?,
        None => train_quick_test(&binary, &work)?,
    };
    compare(&exported, None)
}

/// Compares each family: the model, the model with a random adapter, and the two merged.
fn families(
    python: &Path,
    binary: &Path,
    work: &Path,
    compare: &dyn Fn(&Path, Option<&Path>) -> Result<()>,
    in_llama_cpp: &dyn Fn(&Path, Option<&Path>) -> Result<()>,
) -> Result<()> {
    let folder = fresh(&work.join("families"))?;
    let script = python::repository().join("xtask/families.py");
    python::run(Command::new(python).arg(script).arg("--out").arg(&folder))?;
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    models.sort();
    ensure!(!models.is_empty(), "families.py made no model");
    for model in &models {
        let name = model.file_name().unwrap_or_default();
        let refused = NOT_IN_LLAMA_CPP.iter().find(|(family, _)| name == *family);
        compare(model, None)?;
        match refused {
            None => in_llama_cpp(model, None)?,
            Some((_, key)) => ensure_refused(binary, model, key)?,
        }
        for (kind, dora) in [("adapter", false), ("dora", true)] {
            let adapter = fresh(&model.with_extension(kind))?;
            write_adapter(model, dora, &adapter)?;
            compare(model, Some(&adapter))?;
            // llama.cpp has no DoRA.
            if refused.is_none() && !dora {
                in_llama_cpp(model, Some(&adapter))?;
            }
            let merged = fresh(&model.with_extension("merged"))?;
            python::run(Command::new(binary).arg("merge").arg(&adapter).arg("--out").arg(&merged))?;
            compare(&merged, None)?;
        }
    }
    println!("parity holds for {} models", models.len());
    Ok(())
}

/// Exports a model or an adapter as a GGUF file of f32.
fn export(binary: &Path, source: &Path, out: &Path) -> Result<()> {
    let mut command = Command::new(binary);
    command.arg("export").arg(source).args(["--dtype", "f32", "--out"]).arg(out);
    python::run(&mut command)
}

/// Checks that the export of a model fails and names `key`.
fn ensure_refused(binary: &Path, model: &Path, key: &str) -> Result<()> {
    let output = Command::new(binary).arg("export").arg(model).output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && message.contains(key), "{} is exported: {message}", model.display());
    Ok(())
}

/// The folder, empty.
fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(folder.to_owned())
}

/// An adapter whose parameters are random, on every linear layer.
fn write_adapter(base: &Path, dora: bool, folder: &Path) -> Result<()> {
    let stored = Stored::open(&RealFs, base)?;
    let config = AdapterConfig { rank: 4, alpha: 8.0, dora, ..AdapterConfig::default() };
    let adapter = Some(config.clone());
    let evaluation = Evaluation { adapter, ..Evaluation::new(1, 1, Precision::F32) };
    let mut model = Evaluator::new(Cpu::new(0), stored.config().clone(), evaluation)?;
    for parameter in model.weights().parameters().to_vec().iter().filter(|parameter| parameter.is_adapter()) {
        let mut values = vec![0.0; parameter.len()];
        Rng::from_parts(1, &parameter.name, &[]).fill_normal(&mut values, 0.1);
        if !parameter.is_matrix() {
            // Norms of rows.
            values.iter_mut().for_each(|value| *value = value.abs() + 0.2);
        }
        model.weights_mut().upload(&parameter.name, &values)?;
    }
    let fused_projections = stored.hf().fused_projections;
    let name = BaseName { name: Some(base.display().to_string()), fused_projections, ..BaseName::default() };
    Ok(adapter_folder::save(&RealFs, folder, model.weights_mut(), &config, &name)?)
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
fn write_ours(exported: &Path, adapter: Option<&Path>, binary: &Path, work: &Path) -> Result<()> {
    let tokenizer = Tokenizer::open(&RealFs, exported)?;
    let mut stored = Stored::open(&RealFs, exported)?;
    let config = stored.config().clone();
    let longest = config.max_position_embeddings.min(LONGEST);
    let whole = TEXTS.join("\n").repeat(4);
    let texts: Vec<&str> = TEXTS.iter().copied().chain([whole.as_str()]).collect();

    let shape = adapter.map(|folder| adapter_folder::read_config(&RealFs, folder)).transpose()?;
    let shape = shape.map(|(shape, _)| shape);
    let evaluation = Evaluation { adapter: shape.clone(), ..Evaluation::new(1, longest, Precision::F32) };
    let mut full = Evaluator::new(Cpu::new(0), config.clone(), evaluation)?;
    stored.load(full.weights_mut())?;
    let decoding = Decoding { adapter: shape, ..Decoding::one(longest) };
    let mut decoding = Decoder::new(Cpu::new(0), config.clone(), decoding)?;
    stored.load(decoding.weights_mut())?;
    if let Some(folder) = adapter {
        adapter_folder::load(&RealFs, folder, full.weights_mut())?;
        adapter_folder::load(&RealFs, folder, decoding.weights_mut())?;
    }

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

    let generate = |prompt: &&str| generate(binary, exported, adapter, prompt);
    let commands = PROMPTS.iter().map(generate).collect::<Result<Vec<Value>>>()?;
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
fn generate(binary: &Path, exported: &Path, adapter: Option<&Path>, prompt: &str) -> Result<Value> {
    let mut command = Command::new(binary);
    command.arg("generate");
    match adapter {
        Some(adapter) => command.arg("--adapter").arg(adapter),
        None => command.arg("--model").arg(exported),
    };
    command.args(["--prompt", prompt, "--temperature", "0", "--json"]);
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
