//! `text2llm data classifier`: train a quality classifier on examples.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use corpus::classifier::HIGHEST_SCORE;
use corpus::classifier::train::{self, Example, TrainingOptions};
use runs::report::Reporter;
use serde_json::{Value, json};
use store::fs::RealFs;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::{Console, count};

/// Prefix of the names of temporary folders that examples are read into; the process id follows.
const SCRATCH: &str = ".text2llm-classifier-";

/// Train a quality classifier for data.classifier
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum What {
    Train(TrainArguments),
}

/// Train a quality classifier on labeled texts, or on good and bad texts
///
/// Labeled texts (--labeled) have a score from 0 to 5; otherwise texts are high-quality (--positive) or not
/// (--negative). The classifier is evaluated on a tenth of the texts, which is held out. It scores documents
/// from 0 to 5; data.classifier uses the score to filter or to weight documents.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Labeled texts: JSON Lines with `text` and `score`, a number from 0 to 5
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["positive", "negative"],
        required_unless_present = "positive"
    )]
    pub labeled: Option<PathBuf>,
    /// High-quality texts: local files, folders or glob patterns
    #[arg(long, value_name = "PATH", requires = "negative", num_args = 1..)]
    pub positive: Vec<String>,
    /// Low-quality or average texts: local files, folders or glob patterns
    #[arg(long, value_name = "PATH", requires = "positive", num_args = 1..)]
    pub negative: Vec<String>,
    /// File to write the classifier to
    #[arg(long, value_name = "FILE", default_value = "quality.classifier")]
    pub model: PathBuf,
    /// Number of passes over the examples
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub epochs: usize,
    /// Hash features into 2^BITS weights
    #[arg(
        long,
        value_name = "BITS",
        default_value_t = 18,
        value_parser = clap::value_parser!(u32).range(8..=26)
    )]
    pub bits: u32,
}

/// Runs the subcommand.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    crate::stopping::listen(console)?;
    let What::Train(arguments) = arguments.what;
    let examples = match &arguments.labeled {
        Some(file) => labeled(file)?,
        None => {
            let mut reporter = console.reporter();
            let mut all = texts(&arguments.positive, HIGHEST_SCORE, reporter.as_mut())?;
            all.extend(texts(&arguments.negative, 0.0, reporter.as_mut())?);
            all
        }
    };
    let options = TrainingOptions {
        bits: arguments.bits,
        epochs: arguments.epochs,
        seed: global.seed.unwrap_or(0),
        ..TrainingOptions::default()
    };
    let (model, fit) = train::train(&examples, &options)?;
    model.save(&RealFs, &arguments.model)?;
    if !console.is_human() {
        return console.result("classifier", &json!({ "model": arguments.model, "fit": fit }));
    }
    console.data(&format!(
        "trained on {} examples, evaluated on {}",
        count(fit.examples as u64),
        count(fit.held_out as u64)
    ))?;
    console.data(&format!(
        "held-out examples: accuracy {:.1} %, area under the ROC curve {:.3}, mean absolute error {:.2}",
        100.0 * fit.accuracy,
        fit.area_under_curve,
        fit.mean_absolute_error
    ))?;
    console.data(&format!("model {}", arguments.model.display()))
}

/// Reads labeled examples: JSON lines with a text and its score.
fn labeled(file: &Path) -> Result<Vec<Example>, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::message(format!("cannot read `{shown}`: {error}")))?;
    let example = |(number, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        match (value["text"].as_str(), value["score"].as_f64()) {
            (Some(text), Some(score)) => Ok(Example { text: text.to_owned(), score }),
            _ => Err(Failure::message(format!(
                "`{shown}` line {}: expected a JSON object with `text` and `score`, a number from 0 to 5",
                number + 1
            ))),
        }
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(example).collect()
}

/// Reads all documents of some paths, as data.paths are read, and gives each the same score.
fn texts(paths: &[String], score: f64, reporter: &mut dyn Reporter) -> Result<Vec<Example>, Failure> {
    let options = corpus::CorpusOptions {
        paths: paths.to_vec(),
        validation_fraction: 0.0,
        ..corpus::CorpusOptions::default()
    };
    // If the process is stopped this folder stays; the next start removes it.
    let above = std::env::temp_dir();
    store::sweep::numbered(&above, SCRATCH);
    let folder =
        tempfile::Builder::new().prefix(&format!("{SCRATCH}{}-", std::process::id())).tempdir_in(&above)?;
    let out = folder.path().join("documents");
    corpus::prepare(&RealFs, &options, Path::new("."), &out, reporter)?;
    let documents = corpus::documents(&RealFs, &out, tokens::Split::Train)?;
    documents.map(|document| Ok(Example { text: document?.text, score })).collect()
}
