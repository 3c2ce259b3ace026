//! `cargo xtask bench-extraction`: pages a second of main-text extraction on one thread, and how well it
//! does.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use corpus::extract::{self, ExtractionMode};
use serde_json::Value;

/// Which pages.
#[derive(Args)]
pub struct Arguments {
    /// Folder with `truth.jsonl` and `html/ID.html.gz`
    data: PathBuf,
    /// Passes over all pages; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// Times and scores, as the peers' `extraction_bench.py` does.
pub fn run(arguments: &Arguments) -> Result<()> {
    let truth = fs::read_to_string(arguments.data.join("truth.jsonl")).context("truth.jsonl")?;
    let rows: Vec<Value> = truth.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut pages = Vec::new();
    for row in &rows {
        let id = row["id"].as_str().context("id")?;
        let packed = fs::File::open(arguments.data.join(format!("html/{id}.html.gz")))?;
        pages.push(std::io::read_to_string(flate2::read::GzDecoder::new(packed))?);
    }
    let megabytes = pages.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    for mode in [
        ExtractionMode::Balanced,
        ExtractionMode::Precision,
        ExtractionMode::Recall,
        ExtractionMode::Everything,
    ] {
        let (mut seconds, mut texts) = (Vec::new(), Vec::new());
        for _ in 0..arguments.runs.max(1) {
            let start = Instant::now();
            texts = pages.iter().map(|page| extract::extract(page, mode).text).collect();
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let scores: Vec<[f64; 3]> = texts.iter().zip(&rows).map(|(text, row)| score(text, row)).collect();
        let mean = |at: usize| scores.iter().map(|score| score[at]).sum::<f64>() / scores.len() as f64;
        println!(
            "{mode:?}: {:.1} pages/s, {:.1} MB/s, precision {:.4}, recall {:.4}, F1 {:.4} (the pages the \
             model was trained on)",
            pages.len() as f64 / median,
            megabytes / median,
            mean(0),
            mean(1),
            mean(2)
        );
    }
    Ok(())
}

/// Precision, recall and F1 of words.
fn score(text: &str, row: &Value) -> [f64; 3] {
    let (found, truth) = (words(text), words(row["main_content"].as_str().unwrap_or_default()));
    let common = found.iter().map(|(word, n)| n.min(truth.get(word).unwrap_or(&0))).sum::<u64>() as f64;
    let (found, truth) = (found.values().sum::<u64>() as f64, truth.values().sum::<u64>() as f64);
    if common == 0.0 {
        return [0.0; 3];
    }
    [common / found, common / truth, 2.0 * common / (found + truth)]
}

fn words(text: &str) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    for word in text
        .to_lowercase()
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}
