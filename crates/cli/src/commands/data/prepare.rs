//! `text2llm data prepare`: turn raw files into token shards, without a model.

use clap::Args;
use pipeline::project::Project;
use pipeline::share::Share;
use pipeline::stages::{self, Request, Until, passed_on};
use serde_json::json;

use super::executors::{self, ExecutorArguments};
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::{Console, bytes, count};
use crate::select::{self, Selected};

/// Prepare text and tokenizer and write token shards, without training
///
/// Reads, cleans, filters and deduplicates the recipe's text, trains its tokenizer and writes token shards.
/// Stages whose output is up to date and passes verification are skipped. A later `text2llm run` uses the
/// result.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    #[command(flatten)]
    pub executor: ExecutorArguments,
}

/// Runs the stages before training and prints a summary of the text.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    let selected = select::recipe(global, &arguments.recipe, &[], &project)?;
    crate::stopping::listen(console)?;
    console.heading(&selected, &project);
    let again = select::again(global, &arguments.recipe, &selected, &project)?;
    let request = request(global, selected, &project);
    let done = match arguments.executor.executor {
        None => match arguments.executor.share.as_deref().map(Share::open).transpose()? {
            None => stages::prepare_data(&request, console.reporter().as_mut())?,
            Some(share) => passed_on::prepare(&request, &share, console.reporter().as_mut())?,
        },
        Some(which) => match executors::run(which, &arguments.executor, &request, again, console)? {
            Some(done) => done,
            None => return Ok(()),
        },
    };
    let summary = &done.summary;
    if !console.is_human() {
        let value = json!({
            "documents_read": summary.documents_read,
            "documents": summary.documents(),
            "bytes": summary.bytes(),
            "quarantined": summary.quarantined,
            "tokens": { "train": done.tokens.train.tokens, "validation": done.tokens.validation.tokens },
            "mix": done.tokens.mix,
            "redacted": summary.redactions.iter().map(|(class, sums)| (class.clone(), sums.values)).collect::<std::collections::BTreeMap<_, _>>(),
            "report": done.report,
        });
        return console.result("data", &value);
    }
    console.data(&format!("{:<18} {:>12}", "documents read", count(summary.documents_read)))?;
    let mut row = |what: &str, number: u64| match number {
        0 => Ok(()),
        number => console.data(&format!(
            "  {what:<24} {:>6}  {:>5.1} %",
            number,
            share(number, summary.documents_read)
        )),
    };
    row("too short", summary.too_short)?;
    for (filter, drops) in &summary.drops {
        row(filter, drops.documents)?;
    }
    row("exact duplicates", summary.duplicates)?;
    row("near-duplicates", summary.near_duplicates)?;
    console.data(&format!(
        "{:<18} {:>12}  {}",
        "documents kept",
        count(summary.documents()),
        bytes(summary.bytes())
    ))?;
    if summary.quarantined > 0 {
        console.data(&format!("{:<18} {:>12}  see the report", "unreadable", count(summary.quarantined)))?;
    }
    let tokens = done.tokens.train.tokens + done.tokens.validation.tokens;
    console.data(&format!("{:<18} {:>12}", "tokens", count(tokens)))?;
    for (source, mixed) in &done.tokens.mix {
        let percent = 100.0 * mixed.tokens as f64 / done.tokens.train.tokens.max(1) as f64;
        console.data(&format!(
            "  {source:<24} {:>12}  {percent:>5.1} %  {:.2} epochs",
            count(mixed.tokens),
            mixed.epochs
        ))?;
    }
    for (class, redactions) in &summary.redactions {
        console.data(&format!("  {:<24} {:>12}", format!("{class} redacted"), count(redactions.values)))?;
    }
    console.data(&format!("{:<18} {}", "report", done.report.display()))
}

/// The request for the data stages.
pub fn request<'a>(global: &GlobalArguments, selected: Selected, project: &'a Project) -> Request<'a> {
    Request {
        project,
        recipe: selected.recipe,
        base_dir: selected.base_dir,
        recipe_source: selected.source,
        recipe_is_explicit: selected.explicit,
        skip_corpus: false,
        skip_tokenizer: false,
        resume: false,
        fresh: false,
        until: Until::Training,
        target: global.target(),
        accept_changes: false,
        accept_risks: global.yes,
        generator: None,
    }
}

fn share(number: u64, of: u64) -> f64 {
    100.0 * number as f64 / of.max(1) as f64
}
