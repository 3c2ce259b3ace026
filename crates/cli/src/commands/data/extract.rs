//! `text2llm data extract`: print the main text of one HTML page.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use corpus::extract::{self, ExtractionMode};

use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Print the main text of an HTML page
///
/// Leaves out navigation, advertising and other boilerplate. With --json, also prints the page's title, URL,
/// date and language.
#[derive(Debug, Args)]
pub struct Arguments {
    /// HTML file; - reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to treat parts of the page that may or may not belong to the text
    #[arg(long, value_name = "MODE", default_value = "balanced")]
    pub mode: Mode,
}

/// Extraction modes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// Balance precision and recall
    Balanced,
    /// Favor precision: extract less text and less boilerplate
    Precision,
    /// Favor recall: extract more text
    Recall,
    /// Extract all visible text
    Everything,
}

/// Larger inputs are refused.
const LARGEST_PAGE_BYTES: u64 = 256 << 20;

/// Prints the extracted text.
pub fn run(arguments: Arguments, console: &mut Console) -> Outcome {
    let shown = arguments.file.display();
    let unreadable = |error: std::io::Error| Failure::message(format!("cannot read `{shown}`: {error}"));
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if arguments.file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(&arguments.file).map_err(unreadable)?)
    };
    source.take(LARGEST_PAGE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_PAGE_BYTES {
        return Err(Failure::message(format!("`{shown}` is larger than 256 MB; pass a single HTML page")));
    }
    if extract::is_binary(&bytes) {
        return Err(Failure::message(format!(
            "`{shown}` is not an HTML page; unpack it first, or pass a page"
        )));
    }
    let mode = match arguments.mode {
        Mode::Balanced => ExtractionMode::Balanced,
        Mode::Precision => ExtractionMode::Precision,
        Mode::Recall => ExtractionMode::Recall,
        Mode::Everything => ExtractionMode::Everything,
    };
    let (page, _) = extract::decode(&bytes, None);
    let found = extract::extract(&page, mode);
    if !console.is_human() {
        return console.result("extraction", &serde_json::to_value(&found)?);
    }
    if found.text.is_empty() {
        console.prose(
            "no text found; try --mode everything (content that a page loads by scripts is not available)",
        );
        return Ok(());
    }
    console.text(&found.text)
}
