//! `text2llm data doctor`: check every record of files of examples.

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use corpus::examples::{Place, Records, first_example};
use corpus::redact::{RedactOptions, Redactor};
use serde_json::{Value, json};
use store::fs::RealFs;
use tokenizer::chat::{Severity, inspect};

use super::show_mask::ModelArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Check files of examples before fine-tuning
///
/// Reads every record and lists what is wrong with it, by file and line: its format, roles and their order,
/// empty turns, tool calls against the declared tools, exact duplicates, personal data and secrets; with
/// --init also what the model's chat template refuses or drops, and lengths in tokens. Fails if a record
/// cannot be used.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files of examples: .jsonl, .json or .parquet
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<String>,
    #[command(flatten)]
    pub model: ModelArguments,
    /// Number of findings to print
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u64,
}

#[derive(Default)]
struct Report {
    records: u64,
    errors: u64,
    warnings: u64,
    /// Records with an error.
    unusable: u64,
    formats: BTreeMap<String, u64>,
    lengths: Vec<usize>,
}

/// Checks all records.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let model = arguments.model.open(console)?;
    let options = arguments.model.options();
    let records = Records::find(&RealFs, &arguments.files, &std::env::current_dir()?)?;
    let mut report = Report::default();
    let mut seen: HashMap<[u8; 32], Place> = HashMap::new();
    let mut redactor = Redactor::new(&RedactOptions::default());
    let mut failed = None;
    records.each(&RealFs, &mut |place, record| {
        report.records += 1;
        let mut found: Vec<(Severity, String)> = Vec::new();
        match record {
            Err(problem) => found.push((Severity::Error, problem)),
            Ok(value) => {
                let inspection = inspect(&value);
                if let Some(format) = inspection.format {
                    *report.formats.entry(format.name().to_owned()).or_default() += 1;
                }
                found.extend(inspection.findings.iter().map(|f| (f.severity, f.to_string())));
                let is_usable = found.iter().all(|(severity, _)| *severity == Severity::Warning);
                if let (Some(model), true) = (&model, is_usable) {
                    match first_example(&model.renderer, &options, &value) {
                        Ok((example, _)) => {
                            report.lengths.push(example.ids.len());
                            if !example.mask.contains(&true) {
                                found.push((Severity::Error, "nothing of it is trained".to_owned()));
                            }
                        }
                        Err(error) => found.push((Severity::Error, error.to_string())),
                    }
                }
                let text = value.to_string();
                let personal = redactor.find(&text).len();
                if personal > 0 {
                    let message = format!("{personal} pieces of personal data or secrets");
                    found.push((Severity::Warning, message));
                }
                match seen.entry(*blake3_of(&value)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        found.push((Severity::Warning, format!("repeats {}", first.get())));
                    }
                    std::collections::hash_map::Entry::Vacant(free) => {
                        free.insert(place.clone());
                    }
                }
            }
        }
        report.unusable += u64::from(found.iter().any(|(severity, _)| *severity == Severity::Error));
        for (severity, message) in found {
            let count = if severity == Severity::Error { &mut report.errors } else { &mut report.warnings };
            *count += 1;
            if report.errors + report.warnings <= arguments.limit
                && let Err(failure) = print(place, severity, &message, console)
            {
                failed.get_or_insert(failure);
            }
        }
        Ok(())
    })?;
    match failed {
        Some(failure) => Err(failure),
        None => summary(report, arguments, console),
    }
}

fn print(place: &Place, severity: Severity, message: &str, console: &mut Console) -> Outcome {
    if console.is_human() {
        return console.data(&format!("{place}: {}: {message}", severity.name()));
    }
    let value = json!({
        "file": place.file, "line": place.line, "severity": severity.name(), "message": message,
    });
    console.result("finding", &value)
}

fn summary(mut report: Report, arguments: &Arguments, console: &mut Console) -> Outcome {
    report.lengths.sort_unstable();
    let at = |share: f64| {
        let last = report.lengths.len().saturating_sub(1);
        report.lengths.get(((report.lengths.len() as f64 * share) as usize).min(last)).copied()
    };
    let lengths = [at(0.5), at(0.95), at(1.0)];
    let Report { records, errors, warnings, unusable, formats, .. } = &report;
    if console.is_human() {
        let hidden = (errors + warnings).saturating_sub(arguments.limit);
        if hidden > 0 {
            console.prose(&format!("{hidden} more findings are not shown (--limit)"));
        }
        let formats: Vec<String> = formats.iter().map(|(name, count)| format!("{count} of {name}")).collect();
        console.prose(&format!("{records} records: {}", formats.join(", ")));
        if let [Some(median), Some(most), Some(longest)] = lengths {
            console.prose(&format!("tokens: median {median}, 95 % up to {most}, longest {longest}"));
        }
        console.prose(&format!("{errors} errors in {unusable} records, {warnings} warnings"));
    } else {
        let value = json!({
            "records": records, "errors": errors, "warnings": warnings, "unusable_records": unusable,
            "formats": formats, "tokens": { "median": lengths[0], "p95": lengths[1], "longest": lengths[2] },
        });
        console.result("summary", &value)?;
    }
    if *unusable > 0 {
        return Err(Failure::message(format!("{unusable} of {records} records cannot be used for training")));
    }
    Ok(())
}

fn blake3_of(value: &Value) -> Box<[u8; 32]> {
    Box::new(*blake3::hash(value.to_string().as_bytes()).as_bytes())
}
