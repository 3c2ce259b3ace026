//! HTTP: the local dashboard.
//!
//! `http` is the plumbing (connections, limits, who may ask, bodies that go on), `dashboard` what is served
//! with it. Nothing here prints, and nothing changes a run. Reading order: `http::listen`, `http::guard`,
//! `dashboard::routes`, `dashboard::hub`, `dashboard::feed`.

pub mod dashboard;
mod error;
mod http;

pub use error::{Error, ErrorKind, Result};
