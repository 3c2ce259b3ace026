//! The one error of this crate.

use std::io;
use std::net::SocketAddr;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another program listens there.
    AddressInUse,
    /// The operating system refused.
    Environment,
}

/// Everything that keeps a server from starting or going on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes, so there can be no token.
    #[error("the system gives no random bytes: {message}; without them there is no safe token")]
    Random {
        /// What the system said.
        message: String,
    },
    /// Threads or timers could not be had.
    #[error("cannot start the server: {source}")]
    Start {
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                ErrorKind::AddressInUse
            }
            _ => ErrorKind::Environment,
        }
    }
}
