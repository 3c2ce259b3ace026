//! The recipe's `[data]`: which text to read and how to clean it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizer::Normalizer;
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

/// Unicode normalization of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Unicode NFC, line endings as line feeds, no byte order mark: text that looks the same has the same
    /// characters. It is also the tokenizer's normalizer, so prompts are normalized like the text.
    #[default]
    Nfc,
    /// No normalization.
    None,
}

impl Normalize {
    /// The normalizer of tokenizers trained on such texts.
    pub fn normalizer(self) -> Normalizer {
        match self {
            Normalize::Nfc => Normalizer::text(),
            Normalize::None => Normalizer::NONE,
        }
    }
}

/// The recipe's `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusOptions {
    /// Texts to read: files, folders and globs, relative to the project folder. "sample" is the bundled
    /// corpus, "-" is standard input. "hf://OWNER/NAME" is a dataset of the Hugging Face Hub (optionally
    /// with @REVISION, /PATTERN and ?split=, config=, column=); "wikitext-2", "wikitext-103" and
    /// "tinystories" are short names of such datasets. "s3://BUCKET/KEY", "s3://BUCKET/FOLDER/" and
    /// "s3://BUCKET/PATTERN" are in object storage. Folders and archives are searched for .txt, .md, .jsonl,
    /// .csv, .tsv, .parquet, .html, .xhtml, .xml, .docx, .pdf, .warc, .wet, .tar and .zip, also compressed as
    /// .gz, .zst, .bz2 or .xz. A .json file is read only if it is named directly or by a glob.
    #[schemars(length(min = 1))]
    pub paths: Vec<String>,
    /// Field of a .jsonl line, or column of a .csv or .parquet file, that contains the text.
    #[schemars(length(min = 1))]
    pub text_field: String,
    /// Field or column that contains the language of the text, if there is one.
    #[schemars(length(min = 1))]
    pub language_field: String,
    /// Field or column that contains the URL of the text, if there is one.
    #[schemars(length(min = 1), extend("default" = "url"))]
    #[serde(skip_serializing_if = "is_url_field")]
    pub url_field: String,
    /// How to extract the main text of HTML pages.
    #[schemars(extend("default" = "balanced"))]
    #[serde(skip_serializing_if = "is_default")]
    pub extraction: ExtractionMode,
    /// Separator of documents within a plain text file ("\n\n" for blank lines). Empty: each file is one
    /// document.
    pub document_separator: String,
    /// Maximum document size in bytes; limits memory use. Longer plain-text documents are split at a line
    /// ending; longer lines, pages and PDFs are quarantined.
    #[schemars(range(min = 1024, max = 1073741824))]
    pub maximum_document_bytes: usize,
    /// Fail (exit code 3) if more than this fraction of the input is unreadable; the rest is still prepared.
    /// 1: never fail.
    #[schemars(range(min = 0.0, max = 1.0), extend("default" = 0.1))]
    #[serde(skip_serializing_if = "is_quarantine_limit")]
    pub quarantine_limit: f64,
    /// Drop documents with fewer characters.
    pub minimum_characters: usize,
    /// Unicode normalization of the text.
    pub normalize: Normalize,
    /// Repair wrongly decoded text, and remove control characters and zero-width characters; an empty table
    /// enables all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairOptions>,
    /// Deduplicate: drop documents whose text equals that of an earlier one.
    pub deduplicate: bool,
    /// Document filters; each has its own table, and an empty table uses the published parameters.
    #[serde(skip_serializing_if = "is_default")]
    pub filters: FilterOptions,
    /// Drop near-duplicates of earlier documents (MinHash); an empty table uses FineWeb's parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicates: Option<DuplicateOptions>,
    /// Remove spans that occurred before in any document, wherever they start; an empty table compares spans
    /// of 200 bytes or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_spans: Option<SpanOptions>,
    /// Remove lines or paragraphs that occurred before in any document; an empty table compares lines of 40
    /// characters or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_lines: Option<LineOptions>,
    /// Score documents with a trained quality classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierOptions>,
    /// Drop documents by their perplexity under a small model that you trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<PerplexityOptions>,
    /// Decontaminate: drop documents that contain text of evaluation sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateOptions>,
    /// Replace personal data and secrets with placeholders; an empty table covers all kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redact: Option<RedactOptions>,
    /// Write dropped documents and the reasons to dropped.jsonl.zst next to the kept ones, for `data
    /// inspect`.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "is_default")]
    pub keep_dropped: bool,
    /// Shares of the entries of `paths` in the training data. Default: all documents once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixOptions>,
    /// Fraction of documents in the validation split; 0 disables it. If the corpus is a single document, its
    /// end is used for validation.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Random seed that selects the documents of the validation split.
    pub seed: u64,
    /// Local copies of remote entries of `paths`; set after downloading, never by a recipe.
    #[serde(skip)]
    pub remote: Vec<RemoteEntry>,
    /// The project folder, if it is not the recipe's: output there is never read as input, and standard input
    /// is stored there. Set by the caller.
    #[serde(skip)]
    pub output: Option<PathBuf>,
    /// Threads to filter documents on, 0 for all; results do not depend on it. Set by the caller.
    #[serde(skip)]
    pub threads: usize,
}

/// A remote entry of `paths`, whose files are downloaded already or will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteEntry {
    /// The entry as written in `paths`.
    pub entry: String,
    /// The column that contains the text, if it is not `text_field`.
    pub text_field: Option<String>,
    /// Whether rows are lines of articles, as in WikiText: they are joined up to the next title.
    pub rows_are_lines: bool,
    /// Whether it is a folder, of which only files of supported formats are read.
    pub is_folder: bool,
    /// The files, in their order.
    pub files: Vec<RemoteFile>,
}

/// A remote file, downloaded already or to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteFile {
    /// Name of the file in reports and manifests.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Identifies the content at its origin, so that its bytes need not be here to be known.
    pub identity: Option<String>,
}

/// Keys at their default are omitted from a stage's recorded options, so that a new key does not invalidate
/// prepared data.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_url_field(field: &String) -> bool {
    field == "url"
}

/// One unreadable file in ten can be bad luck; more means that the text is not what its owner thinks it is.
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
    /// The first invalid option, with its correction.
    pub fn validate(&self) -> Result<()> {
        let fail = |key, message: String| Err(Error::Options { key, message });
        if self.paths.is_empty() || self.paths.iter().any(|path| path.trim().is_empty()) {
            return fail("paths", "list at least one file, folder or glob, or \"sample\"".to_owned());
        }
        if !(0.0..=0.5).contains(&self.validation_fraction) {
            let message = format!("{} must be from 0 to 0.5", self.validation_fraction);
            return fail("validation_fraction", message);
        }
        if !(0.0..=1.0).contains(&self.quarantine_limit) {
            return fail("quarantine_limit", format!("{} must be from 0 to 1", self.quarantine_limit));
        }
        if !(1 << 10..=1 << 30).contains(&self.maximum_document_bytes) {
            let message = format!("{} must be from 1,024 to 1,073,741,824", self.maximum_document_bytes);
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
                    "{bands} bands of {rows} rows over {words} words: the ranges are 1 to 256 bands, 1 to 64 \
                     rows, 1 to 64 words"
                );
                return fail("near_duplicates", message);
            }
        }
        if let Some(options) = &self.decontaminate {
            let (most, fewest) = (options.ngram_words, options.minimum_words);
            if options.against.is_empty() {
                return fail(
                    "decontaminate",
                    "`against` is empty: list the files of evaluation sets".to_owned(),
                );
            }
            if !(4..=64).contains(&most) || !(4..=most).contains(&fewest) {
                let message = format!(
                    "ngram_words = {most}, minimum_words = {fewest}: ngram_words must be from 4 to 64, \
                     minimum_words from 4 to ngram_words"
                );
                return fail("decontaminate", message);
            }
        }
        if self.redact.as_ref().is_some_and(|options| options.classes.is_empty()) {
            return fail("redact", "`classes` is empty: list some, or omit it for all".to_owned());
        }
        if let Some(problem) = self.perplexity.as_ref().and_then(PerplexityOptions::problem) {
            return fail("perplexity", problem);
        }
        if let Some(classifier) = &self.classifier
            && (classifier.model.is_empty() || !(0.0..=5.0).contains(&classifier.minimum_score()))
        {
            let message =
                "needs a `model` from `data classifier train` and a minimum_score from 0 to 5".to_owned();
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
                "minimum_fraction_left must be from 0 to 1, and kept at least 1".to_owned(),
            );
        }
        if let Some(problem) = self.mix.as_ref().and_then(|mix| mix.problem(&self.paths)) {
            return fail("mix", problem);
        }
        for (key, field) in fields {
            if field.is_empty() {
                return fail(key, "must be the name of a field or column".to_owned());
            }
        }
        Ok(())
    }
}
