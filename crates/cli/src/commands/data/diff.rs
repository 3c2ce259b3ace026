//! `text2llm data diff`: what changed from one version of prepared text to another.

use std::path::PathBuf;

use clap::Args;
use corpus::survey;
use serde_json::json;
use store::fs::RealFs;

use super::prepared;
use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, bytes, count};

/// Compare two versions of prepared text
///
/// Shows documents added, removed, changed or moved between splits, and what each filter dropped.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Old version: a project folder or its data/documents
    #[arg(value_name = "EARLIER")]
    pub earlier: PathBuf,
    /// New version: a project folder or its data/documents
    #[arg(value_name = "LATER")]
    pub later: PathBuf,
}

/// Prints both versions' counts and drops side by side, and some examples.
pub fn run(global: &GlobalArguments, arguments: &Arguments, console: &mut Console) -> Outcome {
    let earlier = prepared::folder(global, Some(&arguments.earlier))?;
    let later = prepared::folder(global, Some(&arguments.later))?;
    let difference = survey::compare(&RealFs, &earlier, &later)?;
    let (before, after) = (prepared::report(&earlier)?, prepared::report(&later)?);
    let mut rows = vec![
        ("documents read".to_owned(), before.documents_read, after.documents_read),
        ("too short".to_owned(), before.too_short, after.too_short),
    ];
    let mut filters: Vec<&String> = before.drops.keys().chain(after.drops.keys()).collect();
    filters.sort();
    filters.dedup();
    for filter in filters {
        let drops =
            |summary: &corpus::CorpusSummary| summary.drops.get(filter).map_or(0, |drops| drops.documents);
        rows.push((filter.clone(), drops(&before), drops(&after)));
    }
    rows.push(("exact duplicates".to_owned(), before.duplicates, after.duplicates));
    rows.push(("near-duplicates".to_owned(), before.near_duplicates, after.near_duplicates));
    rows.push(("kept".to_owned(), before.documents(), after.documents()));
    if !console.is_human() {
        let steps: Vec<_> = rows
            .iter()
            .map(|(step, earlier, later)| json!({ "step": step, "earlier": earlier, "later": later }))
            .collect();
        return console.result("diff", &json!({ "difference": difference, "steps": steps }));
    }
    for (step, earlier, later) in rows.iter().filter(|(_, earlier, later)| earlier + later > 0) {
        let change = *later as i64 - *earlier as i64;
        let change = if change == 0 { String::new() } else { format!("{change:+}") };
        console.data(&format!("{step:<20} {:>12} {:>12} {change:>10}", count(*earlier), count(*later)))?;
    }
    console.data(&format!(
        "unchanged            {:>12}, {} of them in another split",
        count(difference.same),
        difference.moved
    ))?;
    for (what, (documents, size)) in [("only in old", difference.removed), ("only in new", difference.added)]
    {
        console.data(&format!("{what:<20} {:>12}  {}", count(documents), bytes(size)))?;
    }
    console.data(&format!(
        "changed              {:>12}, same source with different text",
        count(difference.changed)
    ))?;
    for (what, examples) in &difference.examples {
        for (source, start) in examples {
            console.data(&format!("{what:<8} {source}"))?;
            console.data(&format!("         {start}"))?;
        }
    }
    Ok(())
}
