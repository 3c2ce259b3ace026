//! `text2llm data inspect`: prepared documents one by one, and what was dropped, by filter and reason.

use std::path::PathBuf;

use clap::Args;
use corpus::DroppedDocument;
use serde_json::json;
use store::fs::RealFs;
use tokens::Split;

use super::{prepared, stats};
use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::{Console, count, plain_line};

/// Browse prepared documents. Without --dropped, those that were kept; with it, those that were not: all of
/// them where the recipe has data.keep_dropped, else the report's samples.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A project folder or its data/documents, if not the project at hand
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Show what was dropped, by FILTER if one is named (c4, near_duplicate, contamination, ...)
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "")]
    pub dropped: Option<String>,
    /// Only documents dropped for this reason
    #[arg(long, value_name = "REASON", requires = "dropped")]
    pub reason: Option<String>,
    /// Only documents that hold this text
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Only documents from places that hold this text
    #[arg(long, value_name = "TEXT")]
    pub source: Option<String>,
    /// Only documents in this language (ISO 639-1)
    #[arg(long, value_name = "CODE", conflicts_with = "dropped")]
    pub language: Option<String>,
    /// Only documents kept for validation
    #[arg(long, conflicts_with = "dropped")]
    pub validation: bool,
    /// Pass over the first N that match
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: usize,
    /// Show so many
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub count: usize,
    /// Show all of each text, not its beginning
    #[arg(long)]
    pub full: bool,
    /// Write an HTML page with histograms, drops and documents instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dropped", "skip", "full"])]
    pub html: Option<PathBuf>,
}

/// Characters of a text that are shown without --full.
const SHOWN_CHARACTERS: usize = 600;

/// Prints the documents that match, or writes the page.
pub fn run(global: &GlobalArguments, arguments: &Arguments, console: &mut Console) -> Outcome {
    let folder = prepared::folder(global, arguments.folder.as_deref())?;
    if let Some(page) = &arguments.html {
        let html = corpus::inspection_page(&RealFs, &folder, arguments.count)?;
        std::fs::write(page, html)
            .map_err(|error| Failure::message(format!("`{}` cannot be written: {error}", page.display())))?;
        return match console.is_human() {
            true => console.data(&page.display().to_string()),
            false => console.result("inspect", &json!({ "page": page })),
        };
    }
    let holds =
        |text: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| text.contains(wanted));
    if let Some(filter) = &arguments.dropped {
        let report = prepared::report(&folder)?;
        if console.is_human() {
            drops(&report, console)?;
        }
        let found: Box<dyn Iterator<Item = corpus::Result<DroppedDocument>>> =
            match corpus::dropped_documents(&RealFs, &folder)? {
                Some(all) => Box::new(all),
                None => Box::new(report.drop_samples().into_iter().map(Ok)),
            };
        let wanted = found.filter(|dropped| {
            dropped.as_ref().map_or(true, |dropped| {
                (filter.is_empty() || *filter == dropped.filter)
                    && arguments.reason.as_ref().is_none_or(|reason| *reason == dropped.reason)
                    && holds(&dropped.text, &arguments.search)
                    && holds(&dropped.source, &arguments.source)
            })
        });
        for dropped in wanted.skip(arguments.skip).take(arguments.count) {
            let dropped = dropped?;
            if !console.is_human() {
                console.result("dropped", &serde_json::to_value(&dropped)?)?;
                continue;
            }
            let source = plain_line(&dropped.source);
            console.data(&format!("── {source}  {}: {}", dropped.filter, dropped.reason))?;
            console.excerpt(&shown(&dropped.text, arguments.full))?;
        }
        return Ok(());
    }
    let split = if arguments.validation { Split::Validation } else { Split::Train };
    if console.is_human() {
        stats::lengths(&corpus::survey::survey(&RealFs, &folder, split)?.lengths, console)?;
        let report = prepared::report(&folder)?;
        stats::halves(
            "classifier's score",
            &report.scores,
            |half| format!("{:.1}", half as f64 / 2.0),
            console,
        )?;
        let perplexity = |half| format!("{:.1}", 2f64.powf(half as f64 / 2.0));
        stats::halves("perplexity under the model", &report.perplexities, perplexity, console)?;
    }
    let wanted = corpus::documents(&RealFs, &folder, split)?.filter(|document| {
        document.as_ref().map_or(true, |document| {
            holds(&document.text, &arguments.search)
                && holds(&document.source, &arguments.source)
                && arguments.language.as_ref().is_none_or(|code| document.language.as_ref() == Some(code))
        })
    });
    for document in wanted.skip(arguments.skip).take(arguments.count) {
        let document = document?;
        if !console.is_human() {
            console.result("document", &serde_json::to_value(&document)?)?;
            continue;
        }
        let told = [document.language.as_deref(), document.title.as_deref(), document.url.as_deref()];
        let told: Vec<_> = told.into_iter().flatten().map(plain_line).collect();
        let length = count(document.text.chars().count() as u64);
        let source = plain_line(&document.source);
        console.data(&format!("── {source}  {length} characters  {}", told.join("  ")))?;
        console.excerpt(&shown(&document.text, arguments.full))?;
    }
    Ok(())
}

/// How many documents each filter dropped, and for what.
fn drops(report: &corpus::CorpusSummary, console: &mut Console) -> Outcome {
    for (filter, drops) in &report.drops {
        console.data(&format!("{filter:<34} {:>9}", count(drops.documents)))?;
        let mut reasons: Vec<_> = drops.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        for (reason, documents) in reasons {
            let bar = "█".repeat((documents * 30).div_ceil(drops.documents.max(1)) as usize);
            console.data(&format!("  {reason:<32} {:>9}  {bar}", count(*documents)))?;
        }
    }
    Ok(())
}

/// A text, or its beginning.
fn shown(text: &str, full: bool) -> String {
    let limit = if full { usize::MAX } else { SHOWN_CHARACTERS };
    let mut shown: String = text.chars().take(limit).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
