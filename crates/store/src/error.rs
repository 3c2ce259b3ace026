//! The one error of this crate: facts alone. What to do about them is with those who know the command and the
//! recipe.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::limit::Limit;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: permissions, hardware, a vanished folder.
    Io,
    /// The disk (or a quota) is full; the same call works once space is back.
    StorageFull,
    /// A limit of this process is reached: it does not lift by itself. See [`crate::limit`].
    Limit,
    /// A file or folder that should be there is not.
    NotFound,
    /// Bytes are not what their manifest says, or do not parse.
    Corrupt,
    /// Another process holds the folder.
    Locked,
    /// A folder that would be replaced holds what this program did not make.
    NotOurs,
    /// The caller asked for something that cannot be.
    Invalid,
}

/// Everything that can go wrong on disk; each message names the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the file system failed.
    #[error("cannot {action} `{}`: {source}{}", path.display(), limit(source))]
    Io {
        /// What was tried, as a verb: "write", "rename".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what its manifest or format says.
    #[error("`{}` is damaged: {damage}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What does not match.
        damage: Damage,
    },
    /// A folder's lock is held.
    #[error("the folder `{}` is in use by process {}", path.display(), process(*pid))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who holds it, where the lock file says so.
        pid: Option<u32>,
    },
    /// A file or folder that would be replaced or removed is, or holds, what this program did not make.
    #[error("`{}` {found}, and it would have to be replaced. Nothing was changed", path.display())]
    NotOurs {
        /// The file or folder.
        path: PathBuf,
        /// What is there.
        found: Foreign,
    },
    /// A path without what the call needs of it.
    #[error("`{}` {wanted}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What it lacks, as the rest of a sentence.
        wanted: &'static str,
    },
    /// A value that cannot be written as JSON.
    #[error("cannot write `{}` as {form}: {message}", path.display())]
    Unwritable {
        /// Where it was to be written.
        path: PathBuf,
        /// "JSON", "a JSON object".
        form: &'static str,
        /// What the library says.
        message: String,
    },
    /// A folder that was begun for one stage became that of another.
    #[error("a folder begun for the stage `{begun}` became one of `{made}`")]
    WrongStage {
        /// What it was begun for.
        begun: String,
        /// What its manifest says.
        made: String,
    },
}

/// What of a file is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It does not parse: what the parser says, with line and column.
    Unreadable(String),
    /// A record's content is not that of its own hash.
    OwnHash,
    /// It parses, but is not spelled as this program writes it.
    Spelling,
    /// A manifest names a file outside its folder.
    OutsideName(String),
    /// It is missing though its folder's manifest lists it.
    Missing,
    /// It is there though its folder's manifest does not list it.
    Unlisted,
    /// It has another size than its manifest says, in bytes.
    Size {
        /// As the manifest says.
        wanted: u64,
        /// As it is.
        found: u64,
    },
    /// It has another BLAKE3 than its manifest says, in hex.
    Hash {
        /// As the manifest says.
        wanted: String,
        /// As it is.
        found: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Unreadable(message) => f.write_str(message),
            Damage::OwnHash => f.write_str("it does not match its own BLAKE3"),
            Damage::Spelling => f.write_str("it is not spelled as this program spells it"),
            Damage::OutsideName(name) => write!(f, "it names a file outside its folder: `{name}`"),
            Damage::Missing => f.write_str("the file is missing though its manifest lists it"),
            Damage::Unlisted => f.write_str("the file is not in the folder's manifest"),
            Damage::Size { wanted, found } => {
                write!(f, "it has {found} bytes where its manifest says {wanted}")
            }
            Damage::Hash { wanted, found } => {
                write!(f, "its BLAKE3 is {found} where its manifest says {wanted}")
            }
        }
    }
}

/// What is found where this program would replace or remove something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A file where a folder is to be made.
    File,
    /// A link, or something that is neither file nor folder.
    Link,
    /// A file that this program did not write.
    NotWritten,
    /// The output of another stage, of this name.
    OtherStage(String),
    /// Files that this program did not make.
    Added {
        /// The first of them, relative to the folder.
        first: Vec<PathBuf>,
        /// How many more there are.
        more: usize,
        /// Whether nothing in the folder is known to be this program's.
        all: bool,
    },
}

impl Foreign {
    /// Whether all that is there would have to go elsewhere, and not only a part of it.
    pub fn is_all(&self) -> bool {
        !matches!(self, Foreign::Added { all: false, .. })
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::File => f.write_str("is a file where a folder is to be made"),
            Foreign::Link => f.write_str("is a link, or no folder at all"),
            Foreign::NotWritten => f.write_str("is not one that text2llm wrote"),
            Foreign::OtherStage(stage) => write!(f, "holds the output of another stage (`{stage}`)"),
            Foreign::Added { first, more, .. } => {
                let first: Vec<String> = first.iter().map(|path| format!("`{}`", path.display())).collect();
                write!(f, "holds what text2llm did not make ({}", first.join(", "))?;
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
    /// The kind to decide on.
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

    /// A damaged file.
    pub(crate) fn corrupt(path: &Path, damage: Damage) -> Error {
        Error::Corrupt { path: path.to_owned(), damage }
    }

    /// A file that does not parse.
    pub(crate) fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
        Error::corrupt(path, Damage::Unreadable(error.to_string()))
    }
}
