//! `text2llm data stats`: statistics of prepared text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use corpus::survey::{self, Survey};
use serde_json::json;
use store::fs::RealFs;
use tokens::Split;

use super::prepared;
use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, bytes, count, plain_line};

/// Show statistics of prepared text
///
/// These are counts of documents, words and lines, languages, entries of data.paths, hosts, and a histogram
/// of document lengths.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Project folder or its data/documents [default: the current project]
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// Width of the longest bar, in terminal cells.
const BAR: u64 = 40;

/// Prints counts and a histogram of lengths for each split.
pub fn run(global: &GlobalArguments, arguments: &Arguments, console: &mut Console) -> Outcome {
    let folder = prepared::folder(global, arguments.folder.as_deref())?;
    for split in Split::ALL {
        let survey = survey::survey(&RealFs, &folder, split)?;
        if !console.is_human() {
            console.result("stats", &json!({ "split": split.name(), "survey": survey }))?;
        } else if survey.documents > 0 {
            print(split, &survey, console)?;
        }
    }
    Ok(())
}

fn print(split: Split, survey: &Survey, console: &mut Console) -> Outcome {
    console.data(&format!(
        "{}: {} documents, {}, {} words, {} lines",
        split.name(),
        count(survey.documents),
        bytes(survey.bytes),
        count(survey.words),
        count(survey.lines)
    ))?;
    shares("language", &survey.languages, survey.bytes, console)?;
    shares("entry", &survey.domains, survey.bytes, console)?;
    let hosts =
        survey.hosts.iter().map(|(host, documents, bytes)| (host.clone(), (*documents, *bytes))).collect();
    shares("host", &hosts, survey.bytes, console)?;
    let percentiles: Vec<String> =
        survey.length_percentiles.iter().map(|(percent, length)| format!("{percent} % {length}")).collect();
    console.data(&format!("  length in characters, percentiles: {}", percentiles.join(", ")))?;
    lengths(&survey.lengths, console)
}

/// Prints the ten largest parts of a whole, with their shares of the bytes.
fn shares(what: &str, parts: &BTreeMap<String, (u64, u64)>, total: u64, console: &mut Console) -> Outcome {
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(b.0)));
    for (name, (documents, bytes)) in sorted.into_iter().take(10) {
        let percent = 100.0 * *bytes as f64 / total.max(1) as f64;
        console.data(&format!(
            "  {what:<9} {:<28} {:>9} documents {percent:>5.1} %",
            plain_line(name),
            count(*documents)
        ))?;
    }
    Ok(())
}

/// Prints a histogram of scores in steps of one half, over all scored documents, dropped ones included.
pub(super) fn halves(
    what: &str,
    counts: &[u64],
    from: impl Fn(usize) -> String,
    console: &mut Console,
) -> Outcome {
    let Some(most) = counts.iter().max().filter(|&&most| most > 0) else { return Ok(()) };
    let first = counts.iter().position(|&documents| documents > 0).unwrap_or(0);
    console.data(&format!("  {what}, dropped documents included"))?;
    for (half, &documents) in counts.iter().enumerate().skip(first) {
        let bar = "█".repeat((documents * BAR).div_ceil(*most) as usize);
        console.data(&format!("  {:>10} and more            {:>9}  {bar}", from(half), count(documents)))?;
    }
    Ok(())
}

/// Prints a histogram of lengths by powers of two.
pub(super) fn lengths(lengths: &BTreeMap<u32, (u64, u64)>, console: &mut Console) -> Outcome {
    let most = lengths.values().map(|&(documents, _)| documents).max().unwrap_or(0).max(1);
    for (power, &(documents, _)) in lengths {
        let bar = "█".repeat((documents * BAR).div_ceil(most) as usize);
        console.data(&format!(
            "  {:>10} characters and more {:>9}  {bar}",
            count(1u64 << power),
            count(documents)
        ))?;
    }
    Ok(())
}
