//! The one error of this crate. It may name keys of `[data]`, which this crate defines, but no command.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::quarantine::Quarantined;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option is out of range or contradicts another.
    Invalid,
    /// A file or folder named in the recipe, or written by an earlier stage, does not exist.
    NotFound,
    /// The text is unusable: binary, empty, or too little.
    Data,
    /// Output of this program is damaged, or belongs to another tokenizer.
    Corrupt,
    /// An I/O error.
    Io,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid option.
    #[error("data.{key}: {message}")]
    Options {
        /// The key under `[data]`.
        key: &'static str,
        /// The mistake and its correction.
        message: String,
    },
    /// Standard input is empty.
    #[error("data.paths: standard input (`-`) is empty: pipe text into the program, or list files")]
    NoInput,
    /// An entry names no file.
    #[error(
        "data.paths: `{entry}` does not exist (looked for `{}`): correct it, or use \"{}\" for the bundled \
         corpus",
        looked.display(), crate::SAMPLE
    )]
    NoFile {
        /// The entry in the recipe.
        entry: String,
        /// The path that was tried.
        looked: PathBuf,
    },
    /// An entry names a pipe, a device or a socket.
    #[error("data.paths: `{entry}` is not a regular file: use \"-\" to read the output of another program")]
    NotRegular {
        /// The entry in the recipe.
        entry: String,
    },
    /// A folder has no file of a supported format.
    #[error(
        "data.paths: the folder `{entry}` has no file of a supported format (.txt, .md, .jsonl, .csv, .parquet, \
         .html, .warc, .pdf, .zip and others; .json by name or glob only) that is not already listed"
    )]
    NothingToRead {
        /// The entry in the recipe.
        entry: String,
    },
    /// A glob matches no file.
    #[error("data.paths: nothing matches the glob `{entry}`: correct it, or list files and folders")]
    NoMatch {
        /// The entry in the recipe.
        entry: String,
    },
    /// An entry of `[finetune]` names no file.
    #[error("finetune.data: `{entry}` names no file (looked for `{}`)", looked.display())]
    NoExamples {
        /// The entry in the recipe.
        entry: String,
        /// The path that was tried.
        looked: PathBuf,
    },
    /// A file of examples has an unknown type.
    #[error("finetune.data: `{file}` is not .jsonl, .json or .parquet (or .jsonl.gz, .jsonl.zst)")]
    ExamplesForm {
        /// The file.
        file: String,
    },
    /// Records that cannot be used.
    #[error(
        "{count} of {of} examples cannot be used: {}. Correct them, or skip them with finetune.skip_invalid = \
         true",
        named.join("; ")
    )]
    InvalidExamples {
        /// How many.
        count: u64,
        /// Of how many.
        of: u64,
        /// The first of them: place and problem.
        named: Vec<String>,
    },
    /// More examples than allowed are longer than a sequence.
    #[error(
        "{truncated} of {of} examples are longer than train.sequence_length = {sequence_length} and would be cut \
         off; the longest has {longest} tokens: raise train.sequence_length, or allow a larger share with \
         finetune.maximum_truncated"
    )]
    ExamplesTooLong {
        /// How many.
        truncated: u64,
        /// Of how many.
        of: u64,
        /// Tokens of a sequence.
        sequence_length: usize,
        /// Tokens of the longest example.
        longest: u64,
    },
    /// No token of any example is trained.
    #[error(
        "none of the {examples} training examples has a token that is trained: check finetune.train_on and \
         finetune.roles"
    )]
    NothingTrained {
        /// Number of examples.
        examples: u64,
    },
    /// The model would not learn to stop.
    #[error(
        "no example trains a token that ends a turn: the chat template writes no special token behind a turn. \
         Choose another one with finetune.chat_template, or set finetune.end_of_turn = false"
    )]
    NoEndOfTurn,
    /// A file cannot be read as text.
    #[error("`{source_name}`: {message}")]
    Source {
        /// The file as named in the recipe, with the line if there is one.
        source_name: String,
        /// The problem and its remedy.
        message: String,
    },
    /// No file of an entry contains a document.
    #[error(
        "no text from `{entry}`: `{}` {}, and none of its {files} files contains a document: check data.paths",
        first.source, first.reason
    )]
    NothingOfEntry {
        /// The entry in the recipe.
        entry: String,
        /// The first file that could not be read completely.
        first: Quarantined,
        /// Number of the entry's files.
        files: u64,
    },
    /// No document is left.
    #[error(transparent)]
    NothingLeft(Box<NothingLeft>),
    /// More documents and files were unreadable than the limit permits.
    #[error(
        "{quarantined} of {of} documents and files could not be read{}: {:.1} %, more than \
         data.quarantine_limit = {limit}. The other documents are prepared in `{}`, and its {} lists the \
         unreadable ones. Repair or remove those files, or raise data.quarantine_limit to continue without them",
        first_of(first.as_ref()), 100.0 * *quarantined as f64 / *of as f64, folder.display(), page
    )]
    TooMuchQuarantined {
        /// Number of unreadable ones.
        quarantined: u64,
        /// The total.
        of: u64,
        /// The permitted fraction.
        limit: f64,
        /// The first unreadable one.
        first: Option<Quarantined>,
        /// The folder of prepared documents.
        folder: PathBuf,
        /// The page in that folder that lists the unreadable ones.
        page: &'static str,
    },
    /// There are too many documents to find duplicate spans.
    #[error(
        "more than {most} documents, which `duplicate_spans` cannot compare at once: remove the table, or \
         prepare the text in parts"
    )]
    TooManyDocuments {
        /// The maximum.
        most: u64,
    },
    /// A classifier example has an invalid score.
    #[error("an example has the score {score}; scores must be from 0 to {highest}")]
    Score {
        /// The score.
        score: f64,
        /// The highest valid score.
        highest: f64,
    },
    /// There are too few classifier examples, or only good or only bad ones.
    #[error(
        "{examples} examples, {good} of them good: at least {fewest} are needed, with good and bad \
         ones among them"
    )]
    TooFewExamples {
        /// Number of examples.
        examples: usize,
        /// Number of good ones.
        good: usize,
        /// The minimum.
        fewest: usize,
    },
    /// A rank's number is not below the number of ranks.
    #[error("there is no rank {number} of {of}: ranks are numbered from 0, and there can be at most {most}")]
    NoRank {
        /// The rank's number.
        number: usize,
        /// The total.
        of: usize,
        /// The maximum.
        most: usize,
    },
    /// Not all ranks have finished a stage.
    #[error("not all {of} ranks have finished the stage `{stage}`: {}", ranks_text(ranks))]
    RanksMissing {
        /// The stage.
        stage: &'static str,
        /// Number of ranks.
        of: usize,
        /// The unfinished ranks, with reasons; at least one.
        ranks: Vec<(usize, RankFault)>,
    },
    /// The ranks' ids cover fewer documents than there are.
    #[error("the ranks of the stage `{stage}` have fewer documents than the stage `documents`")]
    RanksEndEarly {
        /// The stage.
        stage: &'static str,
    },
    /// Another copy of the model of `[data.perplexity]` could not be created.
    #[error("data.perplexity: {0}")]
    Perplexity(#[source] model::Error),
    /// Output of a stage or a command is damaged or does not match.
    #[error("`{}` {fault}", path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// The fault.
        fault: Fault,
    },
    /// An I/O error.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An error of shards or mixes.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// An error of the tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
}

/// Counts of input from which no document is left.
#[derive(Clone, Debug, PartialEq)]
pub struct NothingLeft {
    /// Number of documents read.
    pub documents: u64,
    /// Number of files.
    pub files: u64,
    /// Number of documents that were empty or too short.
    pub too_short: u64,
    /// `data.minimum_characters`.
    pub minimum_characters: usize,
    /// The first file or line that could not be read.
    pub first: Option<Quarantined>,
    /// Number of further unreadable ones.
    pub more: u64,
    /// The filter that dropped the most documents, with their number.
    pub dropped: Option<(String, u64)>,
}

impl std::error::Error for NothingLeft {}

impl fmt::Display for NothingLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no text is left: {} documents in {} files, {} of them empty or shorter than \
             data.minimum_characters = {}",
            self.documents, self.files, self.too_short, self.minimum_characters
        )?;
        if let Some(first) = &self.first {
            write!(f, "; `{}` {}", first.source, first.reason)?;
            if self.more > 0 {
                write!(f, ", and {} more like it", self.more)?;
            }
        }
        match &self.dropped {
            Some((filter, documents)) => write!(
                f,
                "; the filter {filter} dropped {documents} of them: check data.paths and data.filters"
            ),
            None => f.write_str(": check data.paths"),
        }
    }
}

/// Why a rank's output is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFault {
    /// It is missing.
    Missing,
    /// It was made from other files or options.
    Stale,
    /// Its bytes do not match its manifest.
    Damaged,
}

impl fmt::Display for RankFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RankFault::Missing => "is missing",
            RankFault::Stale => "is out of date: its files or options have changed",
            RankFault::Damaged => "is damaged",
        })
    }
}

/// Why output of this program is unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It has no manifest.
    NoDocuments,
    /// Documents do not parse or are truncated: the message of the reader.
    Documents(String),
    /// It is the output of another stage, with its name.
    OtherStage(String),
    /// Documents changed while a rank encoded them.
    DocumentsChanged,
    /// A rank's decisions are of other sources than its share.
    Decisions,
    /// It is not a readable classifier: the reason.
    Classifier(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoDocuments => f.write_str("contains no finished documents"),
            Fault::Documents(message) => write!(f, "is damaged ({message})"),
            Fault::OtherStage(stage) => write!(f, "contains `{stage}`, not documents"),
            Fault::DocumentsChanged => f.write_str("changed during encoding"),
            Fault::Decisions => f.write_str("does not contain the sources of its rank"),
            Fault::Classifier(message) => f.write_str(message),
        }
    }
}

fn first_of(first: Option<&Quarantined>) -> String {
    first.map_or_else(String::new, |first| format!(" (the first: `{}` {})", first.source, first.reason))
}

fn ranks_text(ranks: &[(usize, RankFault)]) -> String {
    /// Number of ranks that are listed in a message.
    const TOLD: usize = 20;
    let told: Vec<String> =
        ranks.iter().take(TOLD).map(|(number, why)| format!("rank {number} {why}")).collect();
    match ranks.len().saturating_sub(TOLD) {
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Options { .. } => ErrorKind::Invalid,
            Error::NoInput
            | Error::NoFile { .. }
            | Error::NotRegular { .. }
            | Error::NothingToRead { .. }
            | Error::NoExamples { .. }
            | Error::NoMatch { .. } => ErrorKind::NotFound,
            Error::Source { .. }
            | Error::ExamplesForm { .. }
            | Error::InvalidExamples { .. }
            | Error::ExamplesTooLong { .. }
            | Error::NothingTrained { .. }
            | Error::NoEndOfTurn
            | Error::NothingOfEntry { .. }
            | Error::NothingLeft(_)
            | Error::TooMuchQuarantined { .. }
            | Error::TooManyDocuments { .. }
            | Error::Score { .. }
            | Error::TooFewExamples { .. }
            | Error::NoRank { .. }
            | Error::RanksMissing { .. }
            | Error::RanksEndEarly { .. }
            | Error::Perplexity(_) => ErrorKind::Data,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Store(error) => match error.kind() {
                store::ErrorKind::NotFound => ErrorKind::NotFound,
                store::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
            Error::Tokens(error) => match error.kind() {
                tokens::ErrorKind::Data => ErrorKind::Data,
                tokens::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
            Error::Tokenizer(error) => match error.kind() {
                tokenizer::ErrorKind::Invalid => ErrorKind::Invalid,
                tokenizer::ErrorKind::NotFound => ErrorKind::NotFound,
                tokenizer::ErrorKind::Corrupt => ErrorKind::Corrupt,
                tokenizer::ErrorKind::Io => ErrorKind::Io,
                _ => ErrorKind::Data,
            },
        }
    }

    pub(crate) fn source(name: &str, message: impl Into<String>) -> Error {
        Error::Source { source_name: name.to_owned(), message: message.into() }
    }

    pub(crate) fn corrupt(path: &Path, fault: Fault) -> Error {
        Error::Corrupt { path: path.to_owned(), fault }
    }
}
