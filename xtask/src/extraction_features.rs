//! `cargo xtask extraction-features`: what `tools/train_extraction.py` learns from.
//!
//! For each page of a folder, one file of little-endian f32: rows × width features of its blocks, and one
//! JSON line with the blocks' texts.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

/// Which pages, and where the features go.
#[derive(Args)]
pub struct Arguments {
    /// Folder with `truth.jsonl` and `html/ID.html.gz`
    data: PathBuf,
    /// Folder to write `ID.f32` and `blocks.jsonl` to
    out: PathBuf,
}

/// Writes the features.
pub fn run(arguments: &Arguments) -> Result<()> {
    fs::create_dir_all(&arguments.out)?;
    let truth = fs::read_to_string(arguments.data.join("truth.jsonl")).context("truth.jsonl")?;
    let mut blocks = std::io::BufWriter::new(fs::File::create(arguments.out.join("blocks.jsonl"))?);
    for line in truth.lines() {
        let page: Value = serde_json::from_str(line)?;
        let id = page["id"].as_str().context("id")?;
        let packed = fs::File::open(arguments.data.join(format!("html/{id}.html.gz")))?;
        let bytes = std::io::read_to_string(flate2::read::GzDecoder::new(packed)).context("page")?;
        let (texts, words, width, values) = corpus::extract::training::rows(&bytes);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(arguments.out.join(format!("{id}.f32")), bytes)?;
        writeln!(blocks, "{}", json!({ "id": id, "width": width, "words": words, "texts": texts }))?;
    }
    Ok(blocks.flush()?)
}
