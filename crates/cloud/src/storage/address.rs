//! `s3://BUCKET/KEY`: places in object storage, and which objects an entry of `data.paths` means.

use super::bucket::{Object, Storage};
use crate::{Error, Result};

const SCHEME: &str = "s3://";
/// What an entry can have beside names, as in paths of files.
const WILDCARDS: [char; 3] = ['*', '?', '['];
/// Keys that are told where nothing matches.
const SHOWN: usize = 8;

/// A bucket, and a key or the beginning of keys in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was written.
    pub entry: String,
    /// The bucket.
    pub bucket: String,
    /// What follows, without a slash at its start.
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
            let message = "write s3://BUCKET/KEY, s3://BUCKET/FOLDER/ or s3://BUCKET/PATTERN".to_owned();
            return Err(Error::Reference { entry: entry.to_owned(), message });
        }
        Ok(Some(Address { entry: entry.to_owned(), bucket: bucket.to_owned(), key: key.to_owned() }))
    }

    /// The objects that are meant: the one of this key, those that a pattern matches (`*` stays within a
    /// folder, `**` does not), or all of a folder.
    ///
    /// # Errors
    /// Nothing is there; what the storage says.
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
                Err(error) => return fail(format!("is no pattern: {error}")),
            };
            let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
            objects.retain(|object| pattern.matches_with(&object.key, options));
        }
        if objects.is_empty() {
            let there = match shown.is_empty() {
                true => format!("nothing begins with `{literal}`"),
                false => format!("there is {}", shown.join(", ")),
            };
            return fail(format!("no object is meant by this; in the bucket, {there}"));
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
