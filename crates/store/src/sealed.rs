//! JSON records with the BLAKE3 of their own content, so that damaged or edited ones are refused.
//!
//! The hash covers the canonical JSON of all other keys (see [`manifest::hash_json`]) and is the last key,
//! `"blake3"`.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fs::Fs;
use crate::{Damage, Error, Result, atomic, manifest};

const KEY: &str = "blake3";

/// Writes `record`, a struct or map, to `path` with its hash.
///
/// # Errors
/// A record that is not a JSON object; I/O errors.
pub fn write<T: Serialize + ?Sized>(fs: &dyn Fs, path: &Path, record: &T) -> Result<()> {
    let no_object =
        |message: String| Error::Unwritable { path: path.to_owned(), form: "a JSON object", message };
    let mut value = serde_json::to_value(record).map_err(|error| no_object(error.to_string()))?;
    let hash = manifest::hash_json(&value);
    let fields = value.as_object_mut().ok_or_else(|| no_object("it is not an object".to_owned()))?;
    fields.insert(KEY.to_owned(), Value::String(hash));
    atomic::write_json(fs, path, &value)
}

/// Reads a record written by [`write()`].
///
/// # Errors
/// `Corrupt` for anything that was changed; I/O errors.
pub fn read<T: DeserializeOwned>(fs: &dyn Fs, path: &Path) -> Result<T> {
    let mut value: Value = atomic::read_json(fs, path)?;
    let claimed = value.as_object_mut().and_then(|fields| fields.shift_remove(KEY));
    if claimed.as_ref().and_then(Value::as_str) != Some(&manifest::hash_json(&value)) {
        return Err(Error::corrupt(path, Damage::OwnHash));
    }
    serde_json::from_value(value).map_err(|error| Error::unreadable(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::faulty::MemoryFs;
    use serde_json::json;

    #[test]
    fn any_changed_bit_that_changes_a_value_is_seen() {
        let (disk, path) = (MemoryFs::new(), Path::new("/r.json"));
        let record =
            json!({ "learning_rate": 1e-4, "step": 7, "name": "x", "list": [1.5, null, true], "of": {} });
        write(&disk, path, &record).unwrap();
        assert_eq!(read::<Value>(&disk, path).unwrap(), record);
        let whole = disk.read(path).unwrap();
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            disk.mutate(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match read::<Value>(&disk, path) {
                // White space between tokens may turn into other white space.
                Ok(read) => assert_eq!(read, record, "bit {bit}"),
                Err(error) => {
                    assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "bit {bit}");
                    refused += 1;
                }
            }
            disk.mutate(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
        assert!(refused > whole.len() * 7, "{refused}");
        for length in 0..whole.len() - 1 {
            disk.mutate(path, |bytes| *bytes = whole[..length].to_vec());
            assert!(read::<Value>(&disk, path).is_err(), "cut at {length}");
        }
        assert!(write(&disk, path, &[1, 2]).is_err());
    }
}
