//! The recipe's `[data]`: which text, and what is done to it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::MixOptions;

use crate::classifier::ClassifierOptions;
use crate::contamination::DecontaminateOptions;
use crate::dedup::DuplicateOptions;
use crate::dedup::lines::LineOptions;
use crate::dedup::spans::SpanOptions;
use crate::extract::ExtractionMode;
use crate::filter::FilterOptions;
use crate::perplexity::PerplexityOptions;
use crate::redact::RedactOptions;
use crate::repair::RepairOptions;
use crate::{Error, Result};

/// What is done to the characters of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Unicode NFC, and line ends as line feeds: one spelling for what looks the same.
    #[default]
    Nfc,
    /// Nothing.
    None,
}

/// The recipe's `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusOptions {
    /// Files, folders and globs, relative to the project folder; "sample" is the bundled corpus, "-" what
    /// comes on standard input, "hf://OWNER/NAME" a data set of the Hugging Face hub (also @REVISION,
    /// /PATTERN and ?split=, config=, column=), "wikitext-2", "wikitext-103" and "tinystories" are such sets;
    /// "s3://BUCKET/KEY", "s3://BUCKET/FOLDER/" and "s3://BUCKET/PATTERN" lie in object storage. Of a folder,
    /// and of the archives in it, these are read: .txt, .md, .jsonl, .csv, .tsv, .parquet, .html, .xml,
    /// .docx, .pdf, .warc, .wet, .tar and .zip, also packed as .gz, .zst, .bz2 or .xz.
    #[schemars(length(min = 1))]
    pub paths: Vec<String>,
    /// The field of a .jsonl line, or the column of a .csv or .parquet file, that holds the text.
    #[schemars(length(min = 1))]
    pub text_field: String,
    /// The field or column that names a text's language, where there is one.
    #[schemars(length(min = 1))]
    pub language_field: String,
    /// The field or column that holds its address, where there is one.
    #[schemars(length(min = 1))]
    #[serde(skip_serializing_if = "is_url_field")]
    pub url_field: String,
    /// What is taken of an HTML page: "balanced", "precision", "recall" or "everything".
    #[serde(skip_serializing_if = "is_default")]
    pub extraction: ExtractionMode,
    /// What separates the documents of a plain text file ("\n\n" for blank lines). Empty: a file is one
    /// document.
    pub document_separator: String,
    /// A longer document is cut at the end of a line; a longer line, page or PDF is quarantined. Bounds
    /// memory.
    #[schemars(range(min = 1024, max = 1073741824))]
    pub maximum_document_bytes: usize,
    /// Where more than this part of documents, lines and files cannot be read, the job stops with what could
    /// be read prepared; 1 goes on whatever happens.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "is_quarantine_limit")]
    pub quarantine_limit: f64,
    /// A shorter document is dropped.
    pub minimum_characters: usize,
    /// "nfc" or "none".
    pub normalize: Normalize,
    /// Repair misread characters, and remove control characters and those without width; an empty table does
    /// all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairOptions>,
    /// Drop documents whose text is the same as an earlier one's.
    pub deduplicate: bool,
    /// Quality filters; each stands in a table of its own, and an empty one has the published parameters.
    #[serde(skip_serializing_if = "is_default")]
    pub filters: FilterOptions,
    /// Drop documents that are nearly the same as an earlier one (MinHash); an empty table has FineWeb's
    /// parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicates: Option<DuplicateOptions>,
    /// Remove passages that came before in any document, wherever they begin; an empty table compares spans
    /// of 200 bytes and more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_spans: Option<SpanOptions>,
    /// Remove lines or paragraphs that came before in any document; an empty table compares lines of 40
    /// characters and more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_lines: Option<LineOptions>,
    /// Score documents with a trained classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierOptions>,
    /// Drop documents by their perplexity under a small model of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<PerplexityOptions>,
    /// Drop documents that hold text of evaluation sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateOptions>,
    /// Replace personal data and secrets by placeholders; an empty table looks for all kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redact: Option<RedactOptions>,
    /// Keep the dropped documents, each with its reason, in dropped.jsonl.zst beside the others: for `data
    /// inspect`.
    #[serde(skip_serializing_if = "is_default")]
    pub keep_dropped: bool,
    /// How much of each entry of `paths` is learned from; without it, all of all once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixOptions>,
    /// The part of the documents that is kept for validation; 0 keeps none. A corpus of one document gives
    /// its last part.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Chooses which documents are kept for validation.
    pub seed: u64,
    /// Where the files of remote entries of `paths` lie on this machine; filled by who fetched them, never by
    /// a recipe.
    #[serde(skip)]
    pub remote: Vec<RemoteEntry>,
    /// The project folder, where it is not the recipe's: what is made there is never read, and standard input
    /// is kept there. Filled by who knows it.
    #[serde(skip)]
    pub output: Option<PathBuf>,
    /// Threads to judge documents on, 0 for all; nothing that is written depends on it. Filled by who knows
    /// the machine.
    #[serde(skip)]
    pub threads: usize,
}

/// An entry of `paths` whose files were fetched, or will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteEntry {
    /// As `paths` has it.
    pub entry: String,
    /// The column that holds the text, where it is not `text_field`.
    pub text_field: Option<String>,
    /// Whether its rows are lines of articles, as WikiText's are: they are joined up to the next title.
    pub rows_are_lines: bool,
    /// Whether it is a folder, of which only what can be read is meant.
    pub is_folder: bool,
    /// The files, in their order.
    pub files: Vec<RemoteFile>,
}

/// A file that was fetched, or will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteFile {
    /// What it is called in reports and manifests.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What names its content where it lies, so that its bytes need not be here to be known.
    pub identity: Option<String>,
}

/// Keys of later versions are left out of a stage's options where they change nothing, so that what was
/// prepared before stays valid.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_url_field(field: &String) -> bool {
    field == "url"
}

/// One broken file among ten is bad luck; more of them, and the text is not what its owner thinks it is.
const QUARANTINE_LIMIT: f64 = 0.1;

fn is_quarantine_limit(limit: &f64) -> bool {
    *limit == QUARANTINE_LIMIT
}

impl Default for CorpusOptions {
    fn default() -> CorpusOptions {
        CorpusOptions {
            paths: vec!["sample".to_owned()],
            text_field: "text".to_owned(),
            language_field: "language".to_owned(),
            url_field: "url".to_owned(),
            extraction: ExtractionMode::Balanced,
            document_separator: String::new(),
            maximum_document_bytes: 64 << 20,
            quarantine_limit: QUARANTINE_LIMIT,
            minimum_characters: 1,
            normalize: Normalize::Nfc,
            repair: None,
            deduplicate: true,
            filters: FilterOptions::default(),
            near_duplicates: None,
            duplicate_spans: None,
            duplicate_lines: None,
            classifier: None,
            perplexity: None,
            decontaminate: None,
            redact: None,
            keep_dropped: false,
            mix: None,
            validation_fraction: 0.05,
            seed: 0,
            remote: Vec::new(),
            output: None,
            threads: 0,
        }
    }
}

impl CorpusOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// The first option that cannot be, with what would be right.
    pub fn validate(&self) -> Result<()> {
        let fail = |key, message: String| Err(Error::Options { key, message });
        if self.paths.is_empty() || self.paths.iter().any(|path| path.trim().is_empty()) {
            return fail("paths", "name at least one file, folder or glob, or \"sample\"".to_owned());
        }
        if !(0.0..=0.5).contains(&self.validation_fraction) {
            let message = format!("{} is not between 0 and 0.5", self.validation_fraction);
            return fail("validation_fraction", message);
        }
        if !(0.0..=1.0).contains(&self.quarantine_limit) {
            return fail("quarantine_limit", format!("{} is not between 0 and 1", self.quarantine_limit));
        }
        if !(1 << 10..=1 << 30).contains(&self.maximum_document_bytes) {
            let message = format!("{} is not between 1,024 and 1,073,741,824", self.maximum_document_bytes);
            return fail("maximum_document_bytes", message);
        }
        let fields = [
            ("text_field", &self.text_field),
            ("language_field", &self.language_field),
            ("url_field", &self.url_field),
        ];
        if let Some(options) = &self.near_duplicates {
            let (bands, rows, words) = (options.bands, options.rows, options.shingle_words);
            if !(1..=256).contains(&bands) || !(1..=64).contains(&rows) || !(1..=64).contains(&words) {
                let message = format!(
                    "{bands} bands of {rows} rows over {words} words: 1 to 256, 64 and 64 are possible"
                );
                return fail("near_duplicates", message);
            }
        }
        if let Some(options) = &self.decontaminate {
            let (most, fewest) = (options.ngram_words, options.minimum_words);
            if options.against.is_empty() {
                return fail(
                    "decontaminate",
                    "`against` names no file: name those of evaluation sets".to_owned(),
                );
            }
            if !(4..=64).contains(&most) || !(4..=most).contains(&fewest) {
                let message = format!(
                    "{most} words, {fewest} at least: 4 to 64 are possible, and minimum_words up to ngram_words"
                );
                return fail("decontaminate", message);
            }
        }
        if self.redact.as_ref().is_some_and(|options| options.classes.is_empty()) {
            return fail("redact", "`classes` is empty: name some, or leave it out for all".to_owned());
        }
        if let Some(problem) = self.perplexity.as_ref().and_then(PerplexityOptions::problem) {
            return fail("perplexity", problem);
        }
        if let Some(classifier) = &self.classifier
            && (classifier.model.is_empty() || !(0.0..=5.0).contains(&classifier.minimum_score()))
        {
            let message =
                "needs a `model` from `data classifier train`, and a minimum_score from 0 to 5".to_owned();
            return fail("classifier", message);
        }
        if let Some(problem) = self.duplicate_spans.as_ref().and_then(SpanOptions::problem) {
            return fail("duplicate_spans", problem);
        }
        if self
            .duplicate_lines
            .as_ref()
            .is_some_and(|lines| !(0.0..=1.0).contains(&lines.minimum_fraction_left) || lines.kept == 0)
        {
            return fail(
                "duplicate_lines",
                "minimum_fraction_left is from 0 to 1, and kept at least 1".to_owned(),
            );
        }
        if let Some(problem) = self.mix.as_ref().and_then(|mix| mix.problem(&self.paths)) {
            return fail("mix", problem);
        }
        for (key, field) in fields {
            if field.is_empty() {
                return fail(key, "name a field or column".to_owned());
            }
        }
        Ok(())
    }
}
