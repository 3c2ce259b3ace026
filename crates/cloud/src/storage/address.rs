//! `s3://BUCKET/KEY`: places in object storage, and which objects an entry of `data.paths` means.

use super::bucket::{Object, Storage};
use crate::{Error, Result};

const SCHEME: &str = "s3://";
/// Pattern characters of an entry, as in file paths.
const WILDCARDS: [char; 3] = ['*', '?', '['];
/// Number of keys listed in a message if nothing matches.
const SHOWN: usize = 8;

/// A bucket, and a key or the beginning of keys in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The entry as written.
    pub entry: String,
    /// The bucket.
    pub bucket: String,
    /// The rest, without a leading slash.
    pub key: String,
}

/// The objects of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// In the order of their keys.
    pub objects: Vec<Object>,
    /// Whether the entry is a folder, of which only what can be read is meant.
    pub is_folder: bool,
}

impl Address {
    /// Reads an address; `None` where the text means something else.
    ///
    /// # Errors
    /// One that is meant for object storage and names no bucket.
    pub fn parse(entry: &str) -> Result<Option<Address>> {
        let Some(rest) = entry.strip_prefix(SCHEME) else { return Ok(None) };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if bucket.is_empty() || bucket.starts_with('.') || !bucket.chars().all(is_name) {
            let message = "expected s3://BUCKET/KEY, s3://BUCKET/FOLDER/ or s3://BUCKET/PATTERN".to_owned();
            return Err(Error::Reference { entry: entry.to_owned(), message });
        }
        Ok(Some(Address { entry: entry.to_owned(), bucket: bucket.to_owned(), key: key.to_owned() }))
    }

    /// The objects that are meant: the one of this key, those that a pattern matches (`*` stays within a
    /// folder, `**` does not), or all of a folder.
    ///
    /// # Errors
    /// No match; errors of the storage.
    pub fn sources(&self, storage: &Storage) -> Result<Sources> {
        let fail = |message: String| Err(Error::Reference { entry: self.entry.clone(), message });
        let literal = self.key.find(WILDCARDS).map_or(self.key.as_str(), |at| &self.key[..at]);
        let mut objects = storage.list(literal)?;
        // Consoles mark a folder by an empty object.
        objects.retain(|object| !object.key.ends_with('/'));
        let shown: Vec<String> = objects.iter().take(SHOWN).map(|object| object.key.clone()).collect();
        if let Some(at) = objects.iter().position(|object| object.key == self.key) {
            return Ok(Sources { objects: vec![objects.swap_remove(at)], is_folder: false });
        }
        let is_folder = literal.len() == self.key.len();
        if is_folder {
            let folder = match self.key.trim_end_matches('/') {
                "" => String::new(),
                folder => format!("{folder}/"),
            };
            objects.retain(|object| object.key.starts_with(&folder));
        } else {
            let pattern = match glob::Pattern::new(&self.key) {
                Ok(pattern) => pattern,
                Err(error) => return fail(format!("is not a valid pattern: {error}")),
            };
            let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
            objects.retain(|object| pattern.matches_with(&object.key, options));
        }
        if objects.is_empty() {
            let there = match shown.is_empty() {
                true => format!("nothing begins with `{literal}`"),
                false => format!("there is {}", shown.join(", ")),
            };
            return fail(format!("this matches no object; in the bucket, {there}"));
        }
        Ok(Sources { objects, is_folder })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let parse = |entry: &str| Address::parse(entry).unwrap().map(|found| (found.bucket, found.key));
        assert_eq!(parse("s3://raw/a/*.jsonl"), Some(("raw".into(), "a/*.jsonl".into())));
        assert_eq!(parse("s3://raw"), Some(("raw".into(), String::new())));
        assert_eq!(parse("texts/a.txt"), None);
        for bad in ["s3://", "s3:///a", "s3://a b/c", "s3://../x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
