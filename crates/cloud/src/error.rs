//! The one error of this crate.

use std::path::PathBuf;

use store::limit::Limit;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of remote servers and downloads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid entry.
    #[error("`{}`: {message}", store::secret::hidden(entry))]
    Reference {
        /// As the recipe has it.
        entry: String,
        /// The mistake and its correction.
        message: String,
    },
    /// The program that fetches is not there.
    #[error(
        "cannot start curl, which downloads files ({message}): install it (`apt install curl`), or download \
         the files yourself"
    )]
    NoCurl {
        /// The system's error.
        message: String,
    },
    /// No answer, or a broken one.
    #[error("{url}: {message}")]
    Transport {
        /// The address, without secrets.
        url: String,
        /// The problem and its remedy.
        message: String,
    },
    /// A limit of this process ended the transfer.
    #[error("{url}: {limit}")]
    Limit {
        /// The address, without secrets.
        url: String,
        /// Which.
        limit: Limit,
    },
    /// The server's answer is a refusal.
    #[error("{url}: {}", refusal(*status))]
    Status {
        /// The address, without secrets.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// An object storage's answer is a refusal.
    #[error("{place}: the storage responded with {status}{}: {remedy}", words(code, message))]
    Storage {
        /// Which object, or where objects were looked for.
        place: String,
        /// HTTP status.
        status: u16,
        /// The storage's word for it, such as `SlowDown`; may be empty.
        code: String,
        /// The server's message; may be empty.
        message: String,
        /// The remedy.
        remedy: String,
    },
    /// A transfer is longer than announced or allowed.
    #[error(
        "{place}: {announced} bytes were announced, and {delivered} had arrived when the download was \
         stopped; nothing was kept. Run the same command again; if the error persists, the server is faulty \
         or not trustworthy"
    )]
    TooMuch {
        /// The file.
        place: String,
        /// Its size, as the list of files has it.
        announced: u64,
        /// Bytes received before it was stopped.
        delivered: u64,
    },
    /// A download differs from the announcement.
    #[error("`{}` does not match what the Hugging Face Hub announced ({message}): it was deleted; try \
             again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The difference.
        message: String,
    },
    /// An I/O error.
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
            "the Hugging Face Hub denied access ({status}): set HF_TOKEN to a token with read access, and \
             accept the dataset's terms on its page"
        ),
        404 => "the Hugging Face Hub has no such dataset, model, revision or file (404): check the name"
            .to_owned(),
        429 => "too many requests to the Hugging Face Hub (429): wait, or set HF_TOKEN".to_owned(),
        _ => format!("the Hugging Face Hub responded with status {status}: try again later"),
    }
}

/// A transfer that broke off.
pub(crate) fn broken(url: &str, message: &str) -> Error {
    Error::Transport { url: shown(url), message: message.to_owned() }
}

/// An address without its query, which may contain a signature, and without a password.
pub(crate) fn shown(url: &str) -> String {
    store::secret::hidden(url.split('?').next().unwrap_or_default()).into_owned()
}
