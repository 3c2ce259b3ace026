//! `text2llm data extract`: the main text of one page.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use corpus::extract::{self, ExtractionMode};

use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Print the main text of an HTML page, without what surrounds it on its site. With --json, also its title,
/// address, date and language.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The page; - reads it from stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to prefer where a part may or may not belong to the text
    #[arg(long, value_name = "MODE", default_value = "balanced")]
    pub mode: Mode,
}

/// What to prefer.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// The best balance
    Balanced,
    /// Less text, more surely the page's own
    Precision,
    /// More text
    Recall,
    /// All visible text
    Everything,
}

/// A larger page is none.
const LARGEST_PAGE_BYTES: u64 = 256 << 20;

/// Prints the text.
pub fn run(arguments: Arguments, console: &mut Console) -> Outcome {
    let shown = arguments.file.display();
    let unreadable = |error: std::io::Error| Failure::message(format!("`{shown}` cannot be read: {error}"));
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if arguments.file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(&arguments.file).map_err(unreadable)?)
    };
    source.take(LARGEST_PAGE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_PAGE_BYTES {
        return Err(Failure::message(format!("`{shown}` is larger than 256 MB: give one HTML page")));
    }
    if extract::is_binary(&bytes) {
        return Err(Failure::message(format!("`{shown}` is no HTML page: unpack it, or give a page")));
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
        console.prose("no text found: try --mode everything; what a page loads by scripts is not seen");
        return Ok(());
    }
    console.text(&found.text)
}
