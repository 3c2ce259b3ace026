//! The dashboard's server, spoken to over sockets.

#![allow(clippy::unwrap_used)]

mod client;
mod crowd;
mod doors;
mod live;
