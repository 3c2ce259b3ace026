//! `cargo xtask golden-corpus`: our filters and near-duplicates beside datatrove's decisions on the same
//! documents, with documents and megabytes a second on one core.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use corpus::dedup::{DuplicateOptions, NearDuplicates, Signer};
use corpus::filter::{self, FilterOptions, Scratch};
use serde_json::Value;
use store::fs::RealFs;

/// Where the documents and the decisions are.
#[derive(Args)]
pub struct Arguments {
    /// JSON lines with `id` and `text`: what the peers' `prepare_inputs.py` writes
    documents: PathBuf,
    /// Folder with `filters.jsonl.zst` and `minhash.jsonl.zst`
    golden: PathBuf,
    /// Only every n-th document, and no comparison: to time beside a peer on the same ones
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// List documents that are decided otherwise, up to so many
    #[arg(long, default_value_t = 10)]
    show: usize,
}

/// Compares and times.
pub fn run(arguments: &Arguments) -> Result<()> {
    let read = std::fs::read_to_string(&arguments.documents)?;
    let rows: Vec<Value> =
        read.lines().step_by(arguments.every).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let text = |row: &'_ Value| row["text"].as_str().unwrap_or_default().to_owned();
    let texts: Vec<String> = rows.iter().map(text).collect();
    let rate = |what: &str, texts: &[String], start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
        println!(
            "{what}: {:.1} docs/s, {:.2} MB/s, {seconds:.2} s",
            texts.len() as f64 / seconds,
            megabytes / seconds
        );
    };
    // MedQuAD's ids begin with their collection, those of pages with the number of their folder.
    let folder = |row: &Value| row["id"].as_str().and_then(|id| Some(id.split_once('/')?.0.to_owned()));

    let options = FilterOptions::of_fineweb();
    let mut scratch = Scratch::default();
    let mut decisions = Vec::with_capacity(rows.len());
    for rows in rows.chunk_by(|a, b| folder(a) == folder(b)) {
        let texts = &texts[decisions.len()..][..rows.len()];
        let start = Instant::now();
        decisions.extend(texts.iter().map(|text| filter::filter(text, &options, &mut scratch).map(drop)));
        rate(&format!("filters, {}", folder(&rows[0]).as_deref().unwrap_or("others")), texts, start);
    }

    let options = DuplicateOptions::default();
    let mut signer = Signer::new(&options);
    let folder = std::env::temp_dir();
    let mut duplicates = NearDuplicates::new(&RealFs, &folder, &options);
    let start = Instant::now();
    for text in &texts {
        duplicates.push(signer.sign(text).as_deref())?;
    }
    let roots = duplicates.finish()?;
    rate("minhash", &texts, start);
    let survivors = (0..).zip(&roots).filter(|&(index, &root)| index == root).count();
    println!(
        "kept {} by the filters, {survivors} of {} by minhash",
        decisions.iter().filter(|v| v.is_ok()).count(),
        rows.len()
    );
    if arguments.every > 1 {
        return Ok(());
    }

    let golden = |name: &str| -> Result<Vec<Value>> {
        let bytes = zstd::decode_all(std::fs::File::open(arguments.golden.join(name))?)?;
        Ok(std::str::from_utf8(&bytes)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let (mut kept_alike, mut steps_alike, mut shown) = (0, 0, 0);
    let mut differences: BTreeMap<String, u64> = BTreeMap::new();
    for ((row, decision), known) in rows.iter().zip(&decisions).zip(golden("filters.jsonl.zst")?) {
        anyhow::ensure!(row["id"] == known["id"], "the documents are not those of the decisions");
        let ours = decision.as_ref().err().map(|dropped| (dropped.filter, dropped.reason));
        let step = known["step"].as_str().map(|step| step.replace("_quality", ""));
        let our_step = ours.map(|(filter, _)| filter.replace("_quality", ""));
        kept_alike += usize::from(ours.is_none() == known["kept"].as_bool().context("kept")?);
        if step == our_step {
            steps_alike += 1;
        } else {
            *differences
                .entry(format!("{ours:?} for {:?} {:?}", known["step"], known["reason"]))
                .or_default() += 1;
            if shown < arguments.show {
                shown += 1;
                println!("  {}: {ours:?}, datatrove {} {}", row["id"], known["step"], known["reason"]);
            }
        }
    }
    let share = |count: usize| 100.0 * count as f64 / rows.len() as f64;
    println!(
        "filters: kept or dropped alike {:.3} %, by the same filter {:.3} %",
        share(kept_alike),
        share(steps_alike)
    );
    println!("{differences:#?}");

    let known = golden("minhash.jsonl.zst")?;
    let alike = (0u32..)
        .zip(&roots)
        .zip(&known)
        .filter(|&((index, &root), known)| Some(index == root) == known["kept"].as_bool())
        .count();
    println!("minhash: survivors alike {:.3} %", share(alike));
    // The same number of survivors in the same clusters, whoever of them was kept.
    let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
    roots.iter().for_each(|&root| *sizes.entry(root).or_default() += 1);
    let kept: HashSet<usize> = (0..rows.len()).filter(|&index| known[index]["kept"] == true).collect();
    let of_size = |index: usize| sizes[&roots[index]] == known[index]["cluster_size"].as_u64().unwrap_or(0);
    let same = kept.iter().filter(|&&index| of_size(index)).count();
    println!(
        "minhash: clusters of datatrove's survivors of the same size {:.3} %",
        100.0 * same as f64 / kept.len() as f64
    );
    Ok(())
}
