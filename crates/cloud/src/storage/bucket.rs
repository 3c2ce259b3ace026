//! A bucket: where it lies, and by which keys.

use std::time::Duration;

use super::credentials::{Keys, Settings};
use crate::Result;

/// Larger files are sent in parts of this size.
pub const PART_BYTES: u64 = 64 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// A bucket and how to access it.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(super) bucket: String,
    pub(super) scheme: &'static str,
    /// Name and port, as they are signed.
    pub(super) host: String,
    /// Prefix of keys in paths, without a trailing slash.
    pub(super) base_path: String,
    pub(super) region: String,
    pub(super) keys: Option<Keys>,
    pub(super) part_bytes: u64,
    /// Before the second try; each further pause is twice as long.
    pub(super) first_pause: Duration,
}

/// An object in a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Its name in the bucket.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Identifies its content: different content has a different ETag.
    pub etag: String,
}

impl Storage {
    /// A bucket of the storage that the environment names.
    ///
    /// # Errors
    /// Errors of [`Settings::from_environment`].
    pub fn from_environment(bucket: &str) -> Result<Storage> {
        Ok(Storage::new(Settings::from_environment()?, bucket))
    }

    /// A bucket of a storage.
    pub fn new(settings: Settings, bucket: &str) -> Storage {
        let Settings { endpoint, region, keys } = settings;
        let address = endpoint.unwrap_or_else(|| {
            let china = if region.starts_with("cn-") { ".cn" } else { "" };
            let host = format!("s3.{region}.amazonaws.com{china}");
            // A certificate holds for one name before the first dot.
            if bucket.contains('.') { format!("https://{host}") } else { format!("https://{bucket}.{host}") }
        });
        let address = address.trim_end_matches('/');
        let (scheme, port, rest) = match address.strip_prefix("http://") {
            Some(rest) => ("http", ":80", rest),
            None => ("https", ":443", address.trim_start_matches("https://")),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_in_host = host.strip_prefix(bucket).is_some_and(|rest| rest.starts_with(".s3."));
        Storage {
            bucket: bucket.to_owned(),
            scheme,
            // Curl does not tell a scheme's own port.
            host: host.strip_suffix(port).unwrap_or(host).to_owned(),
            base_path: if is_in_host { path.to_owned() } else { format!("{path}/{bucket}") },
            region,
            keys,
            part_bytes: PART_BYTES,
            first_pause: FIRST_PAUSE,
        }
    }

    /// The same, with files above `part_bytes` sent in parts of that size, and another first pause before a
    /// request is tried again: for tests, since S3 takes no parts below 5 MB.
    pub fn with_limits(self, part_bytes: u64, first_pause: Duration) -> Storage {
        Storage { part_bytes, first_pause, ..self }
    }

    /// An object's address, for messages.
    pub fn place(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}
