//! Object storage that speaks S3's protocol (Amazon's, MinIO, R2, Google's): lists, files in and out, small
//! objects.
//!
//! Requests are signed here and carried by the system's curl; addresses, signatures and tokens are on its
//! standard input, keys are given to no other program. What breaks off or is told to wait is tried again, a
//! download from where it stopped. Non-goals: making buckets, versions, permissions. Reading order:
//! `address`, `credentials`, `bucket`, `objects`, `upload`, `request`, `signature`; `cache` for files to
//! learn from.

mod address;
mod bucket;
mod cache;
mod credentials;
mod objects;
mod passing;
mod request;
mod signature;
mod upload;
mod xml;

pub use address::{Address, Sources};
pub use bucket::{Object, Storage};
pub use cache::{Fetched, ObjectCache};
pub use credentials::{Keys, Settings};
