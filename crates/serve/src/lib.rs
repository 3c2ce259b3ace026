//! HTTP: the local dashboard.
//!
//! `http` is the infrastructure (connections, limits, authorization, streams), `dashboard` the application.
//! Nothing here prints, and nothing changes a run. Reading order: `http::listen`, `http::guard`,
//! `dashboard::routes`, `dashboard::hub`, `dashboard::feed`.

pub mod dashboard;
mod error;
mod http;

pub use error::{Error, ErrorKind, Result};
