//! The one error of this crate.

use std::path::PathBuf;

use store::limit::Limit;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between here and a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is asked for cannot be.
    #[error("`{}`: {message}", store::secret::hidden(entry))]
    Reference {
        /// As the recipe has it.
        entry: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The program that fetches is not there.
    #[error(
        "curl, which fetches files, cannot be started ({message}): install it (`apt install curl`), or fetch the files yourself"
    )]
    NoCurl {
        /// What the system says.
        message: String,
    },
    /// No answer, or a broken one.
    #[error("{url}: {message}")]
    Transport {
        /// Where, without what is secret.
        url: String,
        /// What, and the remedy.
        message: String,
    },
    /// A limit of this process ended the transfer.
    #[error("{url}: {limit}")]
    Limit {
        /// Where, without what is secret.
        url: String,
        /// Which.
        limit: Limit,
    },
    /// The server's answer is a refusal.
    #[error("{url}: {}", refusal(*status))]
    Status {
        /// Where, without what is secret.
        url: String,
        /// HTTP's.
        status: u16,
    },
    /// An object storage's answer is a refusal.
    #[error("{place}: the storage answers {status}{}: {remedy}", words(code, message))]
    Storage {
        /// Which object, or where objects were looked for.
        place: String,
        /// HTTP's.
        status: u16,
        /// The storage's word for it, such as `SlowDown`; may be empty.
        code: String,
        /// What it says of it; may be empty.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// More comes than was announced, or than is taken of anything.
    #[error(
        "{place}: {announced} bytes were announced and {delivered} came before it was stopped; nothing of it is \
         kept. Run the same command again; if it stays so, the server is broken or not to be trusted"
    )]
    TooMuch {
        /// Which file.
        place: String,
        /// Its size, as the list of files has it.
        announced: u64,
        /// What came until it was stopped.
        delivered: u64,
    },
    /// What came is not what was announced.
    #[error("`{}` is not what the hub announced ({message}): it was thrown away; try again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// How it differs.
        message: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

fn words(code: &str, message: &str) -> String {
    match (code, message) {
        ("", _) => String::new(),
        (code, "") => format!(" {code}"),
        (code, message) => format!(" {code} ({})", message.trim_end_matches('.')),
    }
}

fn refusal(status: u16) -> String {
    match status {
        401 | 403 => format!(
            "the hub refuses access ({status}): set HF_TOKEN to a token that may read it, and accept the data set's terms on its page"
        ),
        404 => "the hub knows no such data set, revision or file (404): check its name".to_owned(),
        429 => "the hub says that there were too many requests (429): wait, or set HF_TOKEN".to_owned(),
        _ => format!("the hub answers with status {status}: try again later"),
    }
}

/// A transfer that broke off.
pub(crate) fn broken(url: &str, message: &str) -> Error {
    Error::Transport { url: shown(url), message: message.to_owned() }
}

/// An address without its query, which may hold a signature, and without a password.
pub(crate) fn shown(url: &str) -> String {
    store::secret::hidden(url.split('?').next().unwrap_or_default()).into_owned()
}
