//! The one error of this crate.

use std::io;
use std::net::SocketAddr;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another program uses the address.
    AddressInUse,
    /// An error of the operating system.
    Environment,
}

/// Errors that prevent a server from starting or running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system provides no random bytes, so there can be no token.
    #[error("cannot create an access token: the system provides no random bytes: {message}")]
    Random {
        /// The system's error.
        message: String,
    },
    /// Threads or timers are not available.
    #[error("cannot start the server: {source}")]
    Start {
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                ErrorKind::AddressInUse
            }
            _ => ErrorKind::Environment,
        }
    }
}
