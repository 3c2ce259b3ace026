//! `text2llm eval`: how a model answers held-out conversations.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use pipeline::eval::{EvalOptions, Report, Scores, Share, evaluate};
use pipeline::generate::Generator;
use serde_json::json;

use crate::arguments::{GlobalArguments, WeightDtype};
use crate::failure::{Failure, Outcome};
use crate::model_source::{LONGEST_CHAT_TOKENS, SourceArguments};
use crate::output::Console;
use crate::select;

/// Evaluate a model's answers and tool calls on conversations
///
/// Every assistant turn of the data is generated again, greedily, after the messages before it. A turn is
/// right if it makes the tool calls of the data with equal arguments, or none where the data have none.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --run, --model and --adapter, evaluates model/ of the project, or else the best \
                        checkpoint of its\nlatest run. Shares are given with their standard errors."
)]
pub struct Arguments {
    #[command(flatten)]
    pub model: SourceArguments,
    /// File of conversations: .jsonl, .json or .parquet; can be repeated
    #[arg(long, value_name = "FILE", required = true)]
    pub data: Vec<String>,
    /// Number of conversations, spread evenly over the data; 0 means all
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub limit: usize,
    /// Maximum number of tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 192)]
    pub max_new_tokens: usize,
    /// Maximum number of tokens of a prompt with its answer
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub max_tokens: usize,
    /// Chat template instead of the model's: a built-in name, or a Jinja file
    #[arg(long, value_name = "NAME")]
    pub chat_template: Option<String>,
    /// Field of the records by whose values the scores are also told apart
    #[arg(long, value_name = "FIELD")]
    pub group_by: Option<String>,
    /// Field of the records that names the voice of their answers, to be recognized by a classifier
    #[arg(long, value_name = "FIELD", requires = "voice_data")]
    pub voice: Option<String>,
    /// File of conversations that the classifier is trained on; can be repeated
    #[arg(long, value_name = "FILE", requires = "voice")]
    pub voice_data: Vec<String>,
    /// Data type of the weights; fewer bits are faster and less accurate [default: as stored in the model]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<WeightDtype>,
    /// Write every generated turn to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
}

/// Evaluates.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let base_dir = std::env::current_dir()?;
    let voice = arguments.voice.map(|key| (key, arguments.voice_data));
    let options = EvalOptions {
        data: arguments.data,
        limit: arguments.limit,
        max_new_tokens: arguments.max_new_tokens,
        max_tokens: arguments.max_tokens.min(LONGEST_CHAT_TOKENS),
        group_by: arguments.group_by,
        voice,
    };
    let mut samples = match &arguments.samples {
        Some(path) => {
            let file = std::fs::File::create_new(path).map_err(|error| {
                Failure::message(format!("--samples: cannot create `{}`: {error}", path.display()))
            })?;
            Some(std::io::LineWriter::new(file))
        }
        None => None,
    };
    crate::stopping::listen(console)?;
    let source = arguments.model.source(console)?;
    let dtype = arguments.dtype.map(WeightDtype::dtype);
    let mut generator = Generator::open(&project, &source, global.target(), dtype, &options.extent())?;
    if let Some(name) = &arguments.chat_template {
        generator = generator.with_template_of(name, &base_dir)?;
    }
    let mut failed = None;
    let mut reporter = console.reporter();
    let report = evaluate(&mut generator, &options, &base_dir, reporter.as_mut(), &mut |sample| {
        let Some(file) = &mut samples else { return true };
        let written = writeln!(file, "{}", json!(sample));
        written.map_err(|error| failed = Some(Failure::from(error))).is_ok()
    })?;
    drop(reporter);
    if let Some(mut file) = samples {
        file.flush()?;
    }
    match failed {
        Some(failure) => Err(failure),
        None => print(&report, console),
    }
}

fn print(report: &Report, console: &mut Console) -> Outcome {
    if !console.is_human() {
        return console.result("evaluated", &json!(report));
    }
    console
        .data(&format!("{:<22}{:>24}{:>24}{:>24}", "", "right calls", "valid calls", "rightly no call"))?;
    let mut row = |name: &str, scores: &Scores| {
        let [right, valid, none] =
            [scores.right_calls, scores.valid_calls, scores.right_without_call].map(cell);
        console.data(&format!("{name:<22}{right:>24}{valid:>24}{none:>24}"))
    };
    row("all turns", &report.all)?;
    for (name, scores) in &report.groups {
        row(name, scores)?;
    }
    if let Some(voice) = &report.voice {
        let labels: Vec<String> =
            voice.labels.iter().map(|(label, share)| format!("{label} {}", cell(*share))).collect();
        console.data(&format!(
            "voice recognized: {} (the data's own answers: {}); {}",
            cell(voice.generated),
            cell(voice.data),
            labels.join(", ")
        ))?;
    }
    if report.truncated > 0 {
        console.prose(&format!("{} answers were cut off (--max-new-tokens)", report.truncated));
    }
    Ok(())
}

fn cell(share: Share) -> String {
    if share.of == 0 {
        return "–".to_owned();
    }
    format!("{:.1} ± {:.1} % of {}", 100.0 * share.value(), 100.0 * share.standard_error(), share.of)
}
