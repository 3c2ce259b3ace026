//! `text2llm data classifier`: a judge of quality, trained on examples.

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

/// Before the process's number, in the names of folders for texts that are being read.
const SCRATCH: &str = ".text2llm-classifier-";

/// Train a judge of quality, for data.classifier.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Train on labelled texts, or on good and bad ones
    Train(TrainArguments),
}

/// Train a classifier on labelled texts (--labelled), or on good and bad ones (--positive, --negative), and
/// measure it on a tenth of them that is held out. Its scores are from 0 to 5; data.classifier uses it as a
/// filter or a weight.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// JSON lines with `text` and `score`, a number from 0 to 5
    #[arg(long, value_name = "FILE", conflicts_with_all = ["positive", "negative"], required_unless_present = "positive")]
    pub labelled: Option<PathBuf>,
    /// Good texts: files, folders or patterns on this machine
    #[arg(long, value_name = "PATH", requires = "negative", num_args = 1..)]
    pub positive: Vec<String>,
    /// Bad or ordinary texts
    #[arg(long, value_name = "PATH", requires = "positive", num_args = 1..)]
    pub negative: Vec<String>,
    /// Where to write the model
    #[arg(long, value_name = "FILE", default_value = "quality.classifier")]
    pub model: PathBuf,
    /// Passes over the examples
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub epochs: usize,
    /// Weights are 2 to the power of BITS
    #[arg(long, value_name = "BITS", default_value_t = 18, value_parser = clap::value_parser!(u32).range(8..=26))]
    pub bits: u32,
}

/// Carries it out.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    crate::stopping::listen(console)?;
    let What::Train(arguments) = arguments.what;
    let examples = match &arguments.labelled {
        Some(file) => labelled(file)?,
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
        "learned from {} examples, held out {}",
        count(fit.examples as u64),
        count(fit.held_out as u64)
    ))?;
    console.data(&format!(
        "of those held out: {:.1} % on the right side, area under the curve {:.3}, scores {:.2} off",
        100.0 * fit.accuracy,
        fit.area_under_curve,
        fit.mean_absolute_error
    ))?;
    console.data(&format!("model {}", arguments.model.display()))
}

/// Lines with a text and its score.
fn labelled(file: &Path) -> Result<Vec<Example>, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::message(format!("`{shown}` cannot be read: {error}")))?;
    let example = |(number, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        match (value["text"].as_str(), value["score"].as_f64()) {
            (Some(text), Some(score)) => Ok(Example { text: text.to_owned(), score }),
            _ => Err(Failure::message(format!(
                "`{shown}` line {}: needs a JSON object with `text` and `score`, a number from 0 to 5",
                number + 1
            ))),
        }
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(example).collect()
}

/// All documents of some paths, read as a recipe's are, each with a score.
fn texts(paths: &[String], score: f64, reporter: &mut dyn Reporter) -> Result<Vec<Example>, Failure> {
    let options = corpus::CorpusOptions {
        paths: paths.to_vec(),
        validation_fraction: 0.0,
        ..corpus::CorpusOptions::default()
    };
    // A stop leaves it, to be removed by the next one.
    let above = std::env::temp_dir();
    store::sweep::numbered(&above, SCRATCH);
    let folder =
        tempfile::Builder::new().prefix(&format!("{SCRATCH}{}-", std::process::id())).tempdir_in(&above)?;
    let out = folder.path().join("documents");
    corpus::prepare(&RealFs, &options, Path::new("."), &out, reporter)?;
    let documents = corpus::documents(&RealFs, &out, tokens::Split::Train)?;
    documents.map(|document| Ok(Example { text: document?.text, score })).collect()
}
