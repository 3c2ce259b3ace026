//! The one error of this crate. It may name the keys of `[data]`, which this crate gives their meaning, but
//! no command.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::quarantine::Quarantined;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option is out of range or contradicts another.
    Invalid,
    /// A file or folder named in the recipe, or left by an earlier stage, is not there.
    NotFound,
    /// The text cannot be used: binary, empty, or too little for what was asked.
    Data,
    /// Something that this program wrote is damaged, or belongs to another tokenizer.
    Corrupt,
    /// The disk failed.
    Io,
}

/// Everything that can go wrong between files and shards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that cannot be.
    #[error("data.{key}: {message}")]
    Options {
        /// The key under `[data]`.
        key: &'static str,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// Standard input is to be read, and nothing comes.
    #[error("data.paths: nothing comes on standard input (`-`): pipe text into the program, or name files")]
    NoInput,
    /// An entry that names no file.
    #[error(
        "data.paths: `{entry}` does not exist (looked for `{}`): correct it, or use \"{}\" for the bundled corpus",
        looked.display(), crate::SAMPLE
    )]
    NoFile {
        /// As the recipe has it.
        entry: String,
        /// Where it was looked for.
        looked: PathBuf,
    },
    /// An entry that names a pipe, a device or a socket.
    #[error("data.paths: `{entry}` is no regular file: use \"-\" to read what another program writes")]
    NotRegular {
        /// As the recipe has it.
        entry: String,
    },
    /// A folder without a file to read.
    #[error(
        "data.paths: the folder `{entry}` holds no file of a format that is read (.txt, .md, .jsonl, .csv, .parquet, \
         .html, .warc, .pdf, .zip and others; .json by name or glob only) and that is not already read"
    )]
    NothingToRead {
        /// As the recipe has it.
        entry: String,
    },
    /// A glob that matches no file.
    #[error("data.paths: nothing matches the glob `{entry}`: correct it, or name files and folders")]
    NoMatch {
        /// As the recipe has it.
        entry: String,
    },
    /// A file that cannot be read as text.
    #[error("`{source_name}`: {message}")]
    Source {
        /// The file as the recipe names it, with the line where there is one.
        source_name: String,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// An entry whose every file fails.
    #[error(
        "no text is left of `{entry}`: `{}` {}, and none of its {files} files gives a document: check data.paths",
        first.source, first.reason
    )]
    NothingOfEntry {
        /// As the recipe has it.
        entry: String,
        /// The first file that could not be read, or not to its end.
        first: Quarantined,
        /// How many there are.
        files: u64,
    },
    /// No document is left of all entries.
    #[error(transparent)]
    NothingLeft(Box<NothingLeft>),
    /// More could not be read than is allowed.
    #[error(
        "{quarantined} of {of} documents and files could not be read{}: {:.1} %, more than data.quarantine_limit = \
         {limit}. The others are prepared in `{}`, whose {} lists what is missing. Repair or take out those files, or \
         raise data.quarantine_limit to go on with the others",
        first_of(first.as_ref()), 100.0 * *quarantined as f64 / *of as f64, folder.display(), page
    )]
    TooMuchQuarantined {
        /// How many could not be read.
        quarantined: u64,
        /// Of how many.
        of: u64,
        /// The share that is allowed.
        limit: f64,
        /// The first of them.
        first: Option<Quarantined>,
        /// Where the others are.
        folder: PathBuf,
        /// The page in there that lists what could not be read.
        page: &'static str,
    },
    /// More documents than duplicate spans are looked for among.
    #[error(
        "more than {most} documents: `duplicate_spans` compares no more at once; leave the table out, or prepare parts of \
         the text one by one"
    )]
    TooManyDocuments {
        /// As many as there may be.
        most: u64,
    },
    /// An example for a classifier with a score that is none.
    #[error("an example has the score {score}: scores are from 0 to {highest}")]
    Score {
        /// What it has.
        score: f64,
        /// What it may have.
        highest: f64,
    },
    /// Too few examples for a classifier, or of one kind only.
    #[error("{examples} examples, {good} of them good: at least {fewest} are needed, of both kinds")]
    TooFewExamples {
        /// What there is.
        examples: usize,
        /// How many of them are good.
        good: usize,
        /// What is needed.
        fewest: usize,
    },
    /// A rank's number that is not below that of ranks.
    #[error(
        "there is no rank {number} of {of}: ranks count from 0 to one less than their number, at most {most}"
    )]
    NoRank {
        /// The rank's.
        number: usize,
        /// Of how many.
        of: usize,
        /// As many as there may be.
        most: usize,
    },
    /// A stage that not all of its ranks have done.
    #[error("the stage `{stage}` is not done by all {of} ranks: {}", ranks_text(ranks))]
    RanksMissing {
        /// Which stage.
        stage: &'static str,
        /// How many ranks there are.
        of: usize,
        /// Those at fault, and why; at least one.
        ranks: Vec<(usize, RankFault)>,
    },
    /// The ranks' ids are those of fewer documents than there are.
    #[error("the ranks of the stage `{stage}` hold fewer documents than there are")]
    RanksEndEarly {
        /// Which stage.
        stage: &'static str,
    },
    /// The model of `[data.perplexity]` cannot be laid out once more.
    #[error("data.perplexity: {0}")]
    Perplexity(#[source] model::Error),
    /// What a stage or a command has left is damaged or belongs to something else.
    #[error("`{}` {fault}", path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// From shards or mixes.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
}

/// What was read, of which no document is left.
#[derive(Clone, Debug, PartialEq)]
pub struct NothingLeft {
    /// Documents that were read.
    pub documents: u64,
    /// Files that they were in.
    pub files: u64,
    /// Documents that were empty or too short.
    pub too_short: u64,
    /// `data.minimum_characters`.
    pub minimum_characters: usize,
    /// The first file or line that could not be read.
    pub first: Option<Quarantined>,
    /// How many more could not be read.
    pub more: u64,
    /// The filter that dropped most documents, and how many.
    pub dropped: Option<(String, u64)>,
}

impl std::error::Error for NothingLeft {}

impl fmt::Display for NothingLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no text is left: {} documents in {} files, {} of them empty or shorter than data.minimum_characters = {}",
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

/// Why a rank's share does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFault {
    /// It is not there.
    Missing,
    /// It is of other files or options.
    Stale,
    /// Its bytes are not what its manifest says.
    Damaged,
}

impl fmt::Display for RankFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RankFault::Missing => "is missing",
            RankFault::Stale => "is stale: its files or options are others by now",
            RankFault::Damaged => "is damaged",
        })
    }
}

/// What makes a file or folder unusable that this program made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No stage has left its manifest there.
    NoDocuments,
    /// Documents do not parse, or end early: what the reader says.
    Documents(String),
    /// The folder is that of another stage, of this name.
    OtherStage(String),
    /// Documents became others while a rank encoded them.
    DocumentsChanged,
    /// A rank's verdicts are of other sources than its share.
    Verdicts,
    /// It is no classifier, or one that cannot be read: how it differs from one.
    Classifier(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoDocuments => f.write_str("holds no finished documents"),
            Fault::Documents(message) => write!(f, "is damaged ({message})"),
            Fault::OtherStage(stage) => write!(f, "holds `{stage}`, not documents"),
            Fault::DocumentsChanged => f.write_str("changed while it was encoded"),
            Fault::Verdicts => f.write_str("does not hold the sources of its rank"),
            Fault::Classifier(message) => f.write_str(message),
        }
    }
}

fn first_of(first: Option<&Quarantined>) -> String {
    first.map_or_else(String::new, |first| format!(" (the first: `{}` {})", first.source, first.reason))
}

fn ranks_text(ranks: &[(usize, RankFault)]) -> String {
    /// Ranks that are told one by one.
    const TOLD: usize = 20;
    let told: Vec<String> =
        ranks.iter().take(TOLD).map(|(number, why)| format!("rank {number} {why}")).collect();
    match ranks.len().saturating_sub(TOLD) {
        0 => told.join("; "),
        more => format!("{}; and {more} more", told.join("; ")),
    }
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Options { .. } => ErrorKind::Invalid,
            Error::NoInput
            | Error::NoFile { .. }
            | Error::NotRegular { .. }
            | Error::NothingToRead { .. }
            | Error::NoMatch { .. } => ErrorKind::NotFound,
            Error::Source { .. }
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
