//! `text2llm data inspect`: browse prepared documents, and dropped ones by filter and reason.

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

/// Browse prepared documents and what was dropped
///
/// Shows kept documents, or with --dropped the dropped ones. All dropped documents are available if the
/// recipe sets data.keep_dropped, otherwise only the samples in the report.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Project folder or its data/documents [default: the current project]
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Show dropped documents, only those of FILTER if given (c4, near_duplicate, contamination, ...)
    #[arg(long, value_name = "FILTER", num_args = 0..=1, default_missing_value = "")]
    pub dropped: Option<String>,
    /// Show only documents dropped for this reason
    #[arg(long, value_name = "REASON", requires = "dropped")]
    pub reason: Option<String>,
    /// Show only documents that contain this text
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Show only documents whose source contains this text
    #[arg(long, value_name = "TEXT")]
    pub source: Option<String>,
    /// Show only documents in this language (ISO 639-1 code)
    #[arg(long, value_name = "CODE", conflicts_with = "dropped")]
    pub language: Option<String>,
    /// Show only documents of the validation split
    #[arg(long, conflicts_with = "dropped")]
    pub validation: bool,
    /// Skip the first N matching documents
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: usize,
    /// Number of documents to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub count: usize,
    /// Show the full text of each document instead of its beginning
    #[arg(long)]
    pub full: bool,
    /// Write an HTML report with histograms, drops and documents to this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dropped", "skip", "full"])]
    pub html: Option<PathBuf>,
}

/// Characters shown per document without --full.
const SHOWN_CHARACTERS: usize = 600;

/// Prints the matching documents, or writes the HTML report.
pub fn run(global: &GlobalArguments, arguments: &Arguments, console: &mut Console) -> Outcome {
    let folder = prepared::folder(global, arguments.folder.as_deref())?;
    if let Some(page) = &arguments.html {
        let html = corpus::inspection_page(&RealFs, &folder, arguments.count)?;
        std::fs::write(page, html)
            .map_err(|error| Failure::message(format!("cannot write `{}`: {error}", page.display())))?;
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
            "classifier score",
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

/// Prints how many documents each filter dropped, by reason.
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

/// Prints a text, or without `full` its first `EXCERPT` characters.
fn shown(text: &str, full: bool) -> String {
    let limit = if full { usize::MAX } else { SHOWN_CHARACTERS };
    let mut shown: String = text.chars().take(limit).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
