//! `manifest.json`: the content of a folder, its inputs, and the program that made it.
//!
//! Written last, so a folder without a valid manifest does not count. Hashes are BLAKE3 in hex. It contains
//! no times: the same work gives the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fs::Fs;
use crate::{Damage, Error, Result, atomic};

pub use crate::hash::{hash_bytes, hash_file};

/// File name of the manifest.
pub const FILE_NAME: &str = "manifest.json";

/// The key of the hash over all other keys.
const SELF_HASH: &str = "manifest_blake3";

/// An output file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// BLAKE3 of its bytes, hex.
    pub blake3: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The origin and content of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The stage that made it: "corpus", "tokenizer", "checkpoint".
    pub stage: String,
    /// Version of the program that made it.
    pub program_version: String,
    /// The options, with all defaults.
    pub options: Value,
    /// The inputs: names and BLAKE3 hashes, such as another manifest's [`Manifest::hash`].
    pub inputs: BTreeMap<String, String>,
    /// Every other file of the folder, by relative path with `/`.
    pub outputs: BTreeMap<String, FileRecord>,
}

impl Manifest {
    /// A manifest without outputs; [`crate::stage::StagedFolder::commit`] adds them.
    pub fn new(stage: &str, options: Value, inputs: BTreeMap<String, String>) -> Manifest {
        Manifest {
            stage: stage.to_owned(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            options,
            inputs,
            outputs: BTreeMap::new(),
        }
    }

    /// Reads `folder/manifest.json` and verifies its own hash.
    pub fn read(fs: &dyn Fs, folder: &Path) -> Result<Manifest> {
        let path = folder.join(FILE_NAME);
        let bytes = fs.read(&path).map_err(Error::io("read", &path))?;
        Manifest::parse(&bytes, &path)
    }

    /// Parses a manifest and verifies its own hash; `path` is for messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Manifest> {
        let mut value: Value =
            serde_json::from_slice(bytes).map_err(|error| Error::unreadable(path, &error))?;
        // Shifted, so that the other keys keep their order for the comparison below.
        let claimed = value.as_object_mut().and_then(|map| map.shift_remove(SELF_HASH));
        let manifest: Manifest =
            serde_json::from_value(value).map_err(|error| Error::unreadable(path, &error))?;
        if claimed.as_ref().and_then(Value::as_str) != Some(&manifest.hash()) {
            return Err(Error::corrupt(path, Damage::OwnHash));
        }
        // Detects content that parses alike but was not written like this: another form of a number, a
        // repeated key.
        if manifest.to_bytes() != bytes {
            return Err(Error::corrupt(path, Damage::Spelling));
        }
        if let Some(name) = manifest.outputs.keys().find(|name| !is_inside(name)) {
            return Err(Error::corrupt(path, Damage::OutsideName(name.clone())));
        }
        Ok(manifest)
    }

    /// Writes `folder/manifest.json` with its own hash.
    pub fn write(&self, fs: &dyn Fs, folder: &Path) -> Result<()> {
        atomic::write(fs, &folder.join(FILE_NAME), &self.to_bytes())
    }

    /// The file's bytes. Fields added later must be omitted at their defaults, or older files can no longer
    /// be read.
    fn to_bytes(&self) -> Vec<u8> {
        let mut value = serde_json::to_value(self).expect("invariant: a manifest is plain data");
        value[SELF_HASH] = Value::String(self.hash());
        let mut bytes = serde_json::to_vec_pretty(&value).expect("invariant: a manifest is plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Verifies the size and hash of every output, and that there is no other file except those of file
    /// managers.
    pub fn verify(&self, fs: &dyn Fs, folder: &Path) -> Result<()> {
        self.verify_outputs(fs, folder)?;
        for name in list_files(fs, folder)? {
            if name != FILE_NAME && !self.outputs.contains_key(&name) {
                return Err(Error::corrupt(&folder.join(&name), Damage::Unlisted));
            }
        }
        Ok(())
    }

    /// Verifies the size and hash of every output, ignoring other files: for readers that open outputs by
    /// name.
    pub fn verify_outputs(&self, fs: &dyn Fs, folder: &Path) -> Result<()> {
        self.verify_selected(fs, folder, |_| true)
    }

    /// Like [`Manifest::verify_outputs`] for the outputs that a reader needs.
    pub fn verify_selected(
        &self,
        fs: &dyn Fs,
        folder: &Path,
        is_needed: impl Fn(&str) -> bool,
    ) -> Result<()> {
        for (name, record) in self.outputs.iter().filter(|(name, _)| is_needed(name)) {
            let path = folder.join(name);
            if !is_inside(name) {
                return Err(Error::corrupt(&folder.join(FILE_NAME), Damage::OutsideName(name.clone())));
            }
            let bytes = match fs.file_bytes(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::corrupt(&path, Damage::Missing));
                }
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            if bytes != record.bytes {
                return Err(Error::corrupt(&path, Damage::Size { wanted: record.bytes, found: bytes }));
            }
            let hash = hash_file(fs, &path)?;
            if hash != record.blake3 {
                let wanted = record.blake3.clone();
                return Err(Error::corrupt(&path, Damage::Hash { wanted, found: hash }));
            }
        }
        Ok(())
    }

    /// BLAKE3 of the canonical JSON (keys sorted, no spaces): identifies this folder's content as an input of
    /// others.
    pub fn hash(&self) -> String {
        let value = serde_json::to_value(self).expect("invariant: a manifest is plain data");
        hash_json(&value)
    }

    /// Whether this folder is the result of these options and inputs. The program version is not compared: a
    /// stage whose meaning changes must record that in its options.
    pub fn matches(&self, options: &Value, inputs: &BTreeMap<String, String>) -> bool {
        canonical(&self.options) == canonical(options) && self.inputs == *inputs
    }
}

/// Whether an output's name stays within its folder, on any system.
fn is_inside(name: &str) -> bool {
    !name.contains(['\\', ':', '\0'])
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// BLAKE3 of the canonical JSON of a value: two values that differ only in the order of keys hash alike.
pub fn hash_json(value: &Value) -> String {
    hash_bytes(canonical(value).as_bytes())
}

/// Whether a name is that of a file manager's file, which is not part of any result.
pub(crate) fn is_litter(name: &str) -> bool {
    matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini" | ".directory") || name.starts_with("._")
}

/// All files below `folder` except those of file managers, by relative path with `/`, sorted.
pub fn list_files(fs: &dyn Fs, folder: &Path) -> Result<Vec<String>> {
    fn walk(fs: &dyn Fs, folder: &Path, prefix: &str, files: &mut Vec<String>) -> Result<()> {
        for entry in fs.list(folder).map_err(Error::io("list", folder))? {
            if !entry.is_dir && is_litter(&entry.name) {
                continue;
            }
            let name = format!("{prefix}{}", entry.name);
            if entry.is_dir {
                walk(fs, &folder.join(&entry.name), &format!("{name}/"), files)?;
            } else {
                files.push(name);
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(fs, folder, "", &mut files)?;
    files.sort();
    Ok(files)
}

/// JSON with sorted keys and no spaces.
fn canonical(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(map) => {
                let sorted: BTreeMap<_, _> = map.iter().collect();
                out.push('{');
                for (i, (key, value)) in sorted.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::String(key.clone()).to_string());
                    out.push(':');
                    write(value, out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::fs::faulty::MemoryFs;
    use serde_json::json;

    fn folder() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("a.txt"), "alpha").unwrap();
        std::fs::write(folder.path().join("sub/b.txt"), "beta").unwrap();
        let mut manifest = Manifest::new("test", json!({"x": 1}), BTreeMap::new());
        for name in list_files(&RealFs, folder.path()).unwrap() {
            let path = folder.path().join(&name);
            let record = FileRecord {
                blake3: hash_file(&RealFs, &path).unwrap(),
                bytes: RealFs.file_bytes(&path).unwrap(),
            };
            manifest.outputs.insert(name, record);
        }
        manifest.write(&RealFs, folder.path()).unwrap();
        (folder, manifest)
    }

    #[test]
    fn a_whole_folder_verifies_and_any_change_does_not() {
        let (folder, manifest) = folder();
        let dir = folder.path();
        assert_eq!(Manifest::read(&RealFs, dir).unwrap(), manifest);
        assert_eq!(manifest.outputs.keys().collect::<Vec<_>>(), ["a.txt", "sub/b.txt"]);
        manifest.verify(&RealFs, dir).unwrap();

        std::fs::write(dir.join("a.txt"), "alphA").unwrap();
        let message = manifest.verify(&RealFs, dir).unwrap_err().to_string();
        assert!(message.contains("a.txt") && message.contains("BLAKE3"), "{message}");

        std::fs::write(dir.join("a.txt"), "alph").unwrap();
        let message = manifest.verify(&RealFs, dir).unwrap_err().to_string();
        assert!(message.contains("4 bytes"), "{message}");

        std::fs::remove_file(dir.join("a.txt")).unwrap();
        let message = manifest.verify(&RealFs, dir).unwrap_err().to_string();
        assert!(message.contains("missing"), "{message}");

        std::fs::write(dir.join("a.txt"), "alpha").unwrap();
        std::fs::write(dir.join("stray"), "").unwrap();
        let message = manifest.verify(&RealFs, dir).unwrap_err().to_string();
        assert!(message.contains("stray"), "{message}");
    }

    #[test]
    fn any_changed_bit_of_the_manifest_itself_is_seen() {
        let (_, manifest) = folder();
        let disk = MemoryFs::new();
        let (dir, path) = (Path::new("/"), Path::new("/manifest.json"));
        manifest.write(&disk, dir).unwrap();
        assert_eq!(Manifest::read(&disk, dir).unwrap(), manifest);
        let whole = disk.read(path).unwrap();
        for bit in 0..whole.len() * 8 {
            disk.mutate(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            assert!(Manifest::read(&disk, dir).is_err(), "bit {bit}");
            disk.mutate(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
        for length in 0..whole.len() {
            disk.mutate(path, |bytes| *bytes = whole[..length].to_vec());
            assert!(Manifest::read(&disk, dir).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_manifest_cannot_point_outside() {
        let (folder, mut manifest) = folder();
        let record = manifest.outputs["a.txt"].clone();
        manifest.outputs.insert("sub/../a.txt".into(), record);
        assert_eq!(manifest.verify(&RealFs, folder.path()).unwrap_err().kind(), crate::ErrorKind::Corrupt);
        for name in ["sub/../a.txt", "/a.txt", "sub\\..\\..\\a.txt", "C:a.txt", "a\0"] {
            let record = manifest.outputs["sub/b.txt"].clone();
            let mut other = manifest.clone();
            other.outputs = BTreeMap::from([(name.to_owned(), record)]);
            let read = Manifest::parse(&other.to_bytes(), Path::new("s3://bucket/manifest.json"));
            assert!(read.unwrap_err().to_string().contains("outside"), "{name:?}");
        }
    }

    #[test]
    fn matching_ignores_the_order_of_keys_and_sees_every_value() {
        let inputs = BTreeMap::from([("data".to_owned(), "00".to_owned())]);
        let manifest = Manifest::new("test", json!({"a": 1, "b": {"c": [1, 2.5], "d": "x"}}), inputs.clone());
        assert!(manifest.matches(&json!({"b": {"d": "x", "c": [1, 2.5]}, "a": 1}), &inputs));
        assert!(!manifest.matches(&json!({"b": {"d": "x", "c": [2.5, 1]}, "a": 1}), &inputs));
        assert!(!manifest.matches(&manifest.options, &BTreeMap::new()));
        assert_eq!(hash_json(&json!({"a": 1, "b": 2})), hash_json(&json!({"b": 2, "a": 1})));
        assert_ne!(hash_json(&json!({"a": 1})), hash_json(&json!({"a": 2})));
        assert_eq!(hash_json(&json!({"b": 2, "a": "x\""})), hash_bytes(br#"{"a":"x\"","b":2}"#));
    }
}
