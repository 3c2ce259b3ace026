//! The one error of this crate: facts only. Callers that know the command and the recipe add the remedy.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::limit::Limit;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An error of the operating system: permissions, hardware, a vanished folder.
    Io,
    /// The disk (or a quota) is full; the call can be repeated once there is space.
    StorageFull,
    /// A limit of this process was reached, which does not go away by itself. See [`crate::limit`].
    Limit,
    /// A file or folder is missing.
    NotFound,
    /// Data do not match their manifest, or do not parse.
    Corrupt,
    /// Another process has locked the folder.
    Locked,
    /// A folder to be replaced contains files that this program did not create.
    NotOurs,
    /// An invalid request.
    Invalid,
}

/// Errors on disk; each message names the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the file system failed.
    #[error("cannot {action} `{}`: {source}{}", path.display(), limit(source))]
    Io {
        /// The operation, as a verb: "write", "rename".
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not match its manifest or format.
    #[error("`{}` is damaged: {damage}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// The mismatch.
        damage: Damage,
    },
    /// The folder is locked.
    #[error("the folder `{}` is in use by process {}", path.display(), process(*pid))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Process id of the holder, if the lock file has it.
        pid: Option<u32>,
    },
    /// A file or folder to be replaced or deleted is, or contains, something that this program did not
    /// create.
    #[error("`{}` {found}, so it is not replaced. Nothing was changed", path.display())]
    NotOurs {
        /// The file or folder.
        path: PathBuf,
        /// What was found there.
        found: Foreign,
    },
    /// An invalid path.
    #[error("`{}` {wanted}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The reason, as the rest of a sentence.
        wanted: &'static str,
    },
    /// A value that cannot be written as JSON.
    #[error("cannot write `{}` as {form}: {message}", path.display())]
    Unwritable {
        /// The path to write to.
        path: PathBuf,
        /// "JSON", "a JSON object".
        form: &'static str,
        /// The message of the JSON library.
        message: String,
    },
    /// A folder created for one stage was finished as another stage.
    #[error("a folder created for the stage `{begun}` was finished as `{made}`")]
    WrongStage {
        /// The stage it was created for.
        begun: String,
        /// The stage in its manifest.
        made: String,
    },
}

/// How a file differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It does not parse: the message of the parser, with line and column.
    Unreadable(String),
    /// A record's content does not match its own hash.
    OwnHash,
    /// It parses, but is not formatted as this program writes it.
    Spelling,
    /// A manifest names a file outside its folder.
    OutsideName(String),
    /// It is missing, but its folder's manifest lists it.
    Missing,
    /// It exists, but its folder's manifest does not list it.
    Unlisted,
    /// Its size differs from the manifest; in bytes.
    Size {
        /// According to the manifest.
        wanted: u64,
        /// Of the file.
        found: u64,
    },
    /// Its BLAKE3 hash differs from the manifest; in hex.
    Hash {
        /// According to the manifest.
        wanted: String,
        /// Of the file.
        found: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Unreadable(message) => f.write_str(message),
            Damage::OwnHash => f.write_str("it does not match its own BLAKE3 hash"),
            Damage::Spelling => f.write_str("it is not formatted as this program writes it"),
            Damage::OutsideName(name) => write!(f, "it names a file outside its folder: `{name}`"),
            Damage::Missing => f.write_str("the file is missing, but the manifest lists it"),
            Damage::Unlisted => f.write_str("the file is not listed in the folder's manifest"),
            Damage::Size { wanted, found } => {
                write!(f, "it has {found} bytes, but its manifest says {wanted}")
            }
            Damage::Hash { wanted, found } => {
                write!(f, "its BLAKE3 hash is {found}, but its manifest says {wanted}")
            }
        }
    }
}

/// What is in the way of replacing or deleting something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A file, not a folder.
    File,
    /// A link, or neither a file nor a folder.
    Link,
    /// A file that this program did not write.
    NotWritten,
    /// The output of another stage, with its name.
    OtherStage(String),
    /// Files that this program did not create.
    Added {
        /// The first of them, relative to the folder.
        first: Vec<PathBuf>,
        /// Number of further ones.
        more: usize,
        /// Whether nothing in the folder is known to be the program's.
        all: bool,
    },
}

impl Foreign {
    /// Whether all of it has to be moved elsewhere, and not only a part.
    pub fn is_all(&self) -> bool {
        !matches!(self, Foreign::Added { all: false, .. })
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::File => f.write_str("is a file, not a folder"),
            Foreign::Link => f.write_str("is a link or not a folder"),
            Foreign::NotWritten => f.write_str("was not written by text2llm"),
            Foreign::OtherStage(stage) => write!(f, "contains the output of another stage (`{stage}`)"),
            Foreign::Added { first, more, .. } => {
                let first: Vec<String> = first.iter().map(|path| format!("`{}`", path.display())).collect();
                write!(f, "contains files that text2llm did not create ({}", first.join(", "))?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                f.write_str(")")
            }
        }
    }
}

fn limit(source: &io::Error) -> String {
    Limit::of(source).map_or_else(String::new, |limit| format!(": {limit}"))
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ if Limit::of(source).is_some() => ErrorKind::Limit,
                _ => ErrorKind::Io,
            },
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Locked { .. } => ErrorKind::Locked,
            Error::NotOurs { .. } => ErrorKind::NotOurs,
            Error::Path { .. } | Error::Unwritable { .. } | Error::WrongStage { .. } => ErrorKind::Invalid,
        }
    }

    /// For `map_err` after an operation on `path`: `fs.read(path).map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// The error for a damaged file.
    pub(crate) fn corrupt(path: &Path, damage: Damage) -> Error {
        Error::Corrupt { path: path.to_owned(), damage }
    }

    /// The error for a file that does not parse.
    pub(crate) fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
        Error::corrupt(path, Damage::Unreadable(error.to_string()))
    }
}
