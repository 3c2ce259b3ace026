//! Datasets and models of a hub that speaks Hugging Face's routes: which files they have, and those files,
//! checked, in a cache.
//!
//! A revision is settled to its commit first, and files are fetched of that commit, so a name in a manifest
//! means the same bytes for ever. What the hub announces (SHA-256 of large files, git's hash of small ones)
//! is checked before a file is used, each time. Not here: loading scripts, uploads.

mod choose;
mod file;
mod reference;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::curl::{Server, encoded};
use crate::error::shown;
use crate::{Error, Result, cache_folder, digest};
pub use file::{Hash, RemoteFile};
pub use reference::Reference;

const ENDPOINT: &str = "https://huggingface.co";

/// A hub, as the environment names it: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`; files are kept below
/// `TEXT2LLM_CACHE`, else the system's folder for caches.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    server: Server,
    cache: PathBuf,
    is_offline: bool,
}

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data.
    Dataset,
    /// Weights with their configuration and tokenizer.
    Model,
}

impl Kind {
    /// As the routes have it.
    fn route(self) -> &'static str {
        match self {
            Kind::Dataset => "datasets",
            Kind::Model => "models",
        }
    }
}

/// The files of a reference at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What it is.
    pub kind: Kind,
    /// Owner and name.
    pub id: String,
    /// The commit that the revision is.
    pub commit: String,
    /// The selected files, by path.
    pub files: Vec<RemoteFile>,
}

/// The hub's answer about a revision, as far as it matters.
#[derive(Deserialize)]
struct Revision {
    sha: String,
    #[serde(deserialize_with = "siblings")]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

impl Hub {
    /// The hub that the environment names.
    pub fn from_environment() -> Hub {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let is_offline =
            variable("HF_HUB_OFFLINE").is_some_and(|value| !matches!(value.as_str(), "0" | "false"));
        Hub::new(&endpoint, variable("HF_TOKEN"), &cache_folder(), is_offline)
    }

    /// A hub at an address, with its files kept below `cache`.
    pub fn new(endpoint: &str, token: Option<String>, cache: &Path, is_offline: bool) -> Hub {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Hub { server: Server::new(&endpoint, token), endpoint, cache: cache.join("hub"), is_offline }
    }

    /// The files that a reference selects. Without a network, an earlier listing is used, with a message in
    /// `note`.
    ///
    /// # Errors
    /// No such dataset, revision or file; no answer and nothing known from before.
    pub fn list(&self, reference: &Reference, note: &mut dyn FnMut(&str)) -> Result<Listing> {
        let (commit, files) = self.listed(Kind::Dataset, reference, note)?;
        let files = choose::files(reference, files)?;
        Ok(Listing { kind: Kind::Dataset, id: reference.id.clone(), commit, files })
    }

    /// The same of a model: its weights in safetensors, configuration, tokenizer and chat templates, or the
    /// GGUF file that the reference names.
    ///
    /// # Errors
    /// No such model, revision or file; no answer and nothing known from before.
    pub fn list_model(&self, reference: &Reference, note: &mut dyn FnMut(&str)) -> Result<Listing> {
        let (commit, files) = self.listed(Kind::Model, reference, note)?;
        let files = choose::model_files(reference, files)?;
        Ok(Listing { kind: Kind::Model, id: reference.id.clone(), commit, files })
    }

    /// The folder of a model's files.
    pub fn model_folder(&self, listing: &Listing) -> PathBuf {
        self.folder(listing.kind, &listing.id).join(&listing.commit)
    }

    /// The folder of all commits of a model, by owner and name.
    pub fn model_commits(&self, id: &str) -> PathBuf {
        self.folder(Kind::Model, id)
    }

    /// The commit of a revision, and all files.
    fn listed(
        &self,
        kind: Kind,
        reference: &Reference,
        note: &mut dyn FnMut(&str),
    ) -> Result<(String, Vec<RemoteFile>)> {
        let folder = self.folder(kind, &reference.id);
        let known = folder.join(format!("{}.json", encoded(&reference.revision, false)));
        match self.revision(kind, reference) {
            Ok(found) => {
                let bytes = serde_json::to_vec(&found).unwrap_or_default();
                // A list that cannot be kept is asked for again.
                let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&known, bytes));
                Ok(found)
            }
            Err(error @ (Error::Transport { .. } | Error::NoCurl { .. })) => {
                let Some(found) = read_known(&known) else { return Err(error) };
                note(&format!("`{}`: {error}; using the file list of an earlier run", reference.entry));
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    fn revision(&self, kind: Kind, reference: &Reference) -> Result<(String, Vec<RemoteFile>)> {
        let (id, revision) = (&reference.id, encoded(&reference.revision, false));
        let url = format!("{}/api/{}/{id}/revision/{revision}?blobs=true", self.endpoint, kind.route());
        if self.is_offline {
            return Err(Error::Transport { url: shown(&url), message: "HF_HUB_OFFLINE is set".to_owned() });
        }
        let broken = |message: String| Error::Transport { url: shown(&url), message };
        let answer: Revision = serde_json::from_slice(&self.server.get(&url)?)
            .map_err(|error| broken(format!("unexpected response from the Hugging Face Hub: {error}")))?;
        let is_hex = |text: &str, length| text.len() == length && text.chars().all(|c| c.is_ascii_hexdigit());
        if !is_hex(&answer.sha, 40) {
            return Err(broken("the response contains no commit".to_owned()));
        }
        let file = |sibling: Sibling| {
            let path = sibling.rfilename;
            let (bytes, hash) = match (sibling.lfs, sibling.size, sibling.blob_id) {
                (Some(large), ..) if is_hex(&large.sha256, 64) => (large.size, Hash::Sha256(large.sha256)),
                (None, Some(size), Some(id)) if is_hex(&id, 40) => (size, Hash::GitBlob(id)),
                (_, size, _) => {
                    let reason = "the Hugging Face Hub provides no hash of it, so it cannot be verified";
                    (size.unwrap_or_default(), Hash::Unusable(reason.to_owned()))
                }
            };
            // What would be written outside of the cache is no file of a dataset.
            let is_inside =
                path.split(['/', '\\']).all(|part| !part.is_empty() && part != "." && part != "..");
            let hash = match is_inside && !path.contains([':', '\0']) {
                true => hash,
                false => Hash::Unusable("its name is not a valid file name on this system".to_owned()),
            };
            RemoteFile { path, bytes, hash }
        };
        Ok((answer.sha.to_lowercase(), answer.siblings.into_iter().map(file).collect()))
    }

    /// The local path of a file, which may not be downloaded yet.
    pub fn path(&self, listing: &Listing, file: &RemoteFile) -> PathBuf {
        self.folder(listing.kind, &listing.id).join(&listing.commit).join(&file.path)
    }

    /// Downloads a file unless it is present and intact. `progress` gets the number of bytes present.
    ///
    /// # Errors
    /// No response after several attempts (received bytes are kept and continued later); a wrong hash; I/O
    /// errors.
    pub fn fetch(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        progress: &mut dyn FnMut(u64),
    ) -> Result<PathBuf> {
        let path = self.path(listing, file);
        if was_checked(&path, file) || (path.is_file() && check(&path, file).is_ok()) {
            note_checked(&path, file);
            progress(file.bytes);
            return Ok(path);
        }
        if self.is_offline {
            let message = "not in the cache, and HF_HUB_OFFLINE is set".to_owned();
            return Err(Error::Transport { url: file.path.clone(), message });
        }
        let part = part_file(&path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(store::Error::io("create the folder", folder))?;
        }
        // Two programs that want the same file: the second finds it fetched.
        let lock_path =
            path.with_file_name(format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy()));
        let lock = store::fs::regular::create(&lock_path).map_err(store::Error::io("create", &lock_path))?;
        lock.lock().map_err(store::Error::io("lock", &lock_path))?;
        if path.is_file() && check(&path, file).is_ok() {
            note_checked(&path, file);
            progress(file.bytes);
            return Ok(path);
        }
        // Curl would write through a link.
        store::fs::regular::clear_the_way(&part).map_err(store::Error::io("write", &part))?;
        let have = std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
        if have > file.bytes {
            std::fs::remove_file(&part).map_err(store::Error::io("remove", &part))?;
        }
        let url = format!(
            "{}/{}{}/resolve/{}/{}",
            self.endpoint,
            // Models are the hub's first kind.
            if listing.kind == Kind::Model { "" } else { "datasets/" },
            listing.id,
            listing.commit,
            encoded(&file.path, true)
        );
        if have != file.bytes || have == 0 {
            self.server.download(&url, &part, file.bytes, progress)?;
        }
        if let Err(message) = check(&part, file) {
            std::fs::remove_file(&part).map_err(store::Error::io("remove", &part))?;
            return Err(Error::Corrupt { path: part, message });
        }
        std::fs::rename(&part, &path).map_err(store::Error::io("rename", &part))?;
        if let Some(folder) = path.parent() {
            store::sweep::aged(folder, PART.0, PART.1, crate::STALE_PART);
        }
        note_checked(&path, file);
        Ok(path)
    }

    fn folder(&self, kind: Kind, id: &str) -> PathBuf {
        // Two hubs may have sets of the same name.
        let hub = if self.endpoint == ENDPOINT {
            String::new()
        } else {
            encoded(&shown(&self.endpoint), false) + "/"
        };
        self.cache.join(format!("{hub}{}--{}", kind.route(), id.replace('/', "--")))
    }
}

/// Prefix and suffix of the name of an incomplete file: a dataset may have files of any other name.
const PART: (&str, &str) = (".text2llm-", ".part");

fn part_file(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{}{name}{}", PART.0, PART.1))
}

/// A set of more files is none: the hub itself advises against a fifth of them, and each takes ten times its
/// bytes of the answer.
const MOST_FILES: usize = 500_000;

fn siblings<'de, D: Deserializer<'de>>(list: D) -> std::result::Result<Vec<Sibling>, D::Error> {
    struct Siblings;
    impl<'de> Visitor<'de> for Siblings {
        type Value = Vec<Sibling>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of files")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> std::result::Result<Self::Value, S::Error> {
            let mut files = Vec::new();
            while let Some(file) = list.next_element()? {
                if files.len() == MOST_FILES {
                    return Err(Error::custom(format!("the list has more than {MOST_FILES} files")));
                }
                files.push(file);
            }
            Ok(files)
        }
    }
    use serde::de::Error;
    list.deserialize_seq(Siblings)
}

fn read_known(path: &Path) -> Option<(String, Vec<RemoteFile>)> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// State of a file when its hash was last verified: many processes need the same files, and hashing a large
/// dataset takes longer than reading a share of it.
fn fingerprint(path: &Path, file: &RemoteFile) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let bytes = (metadata.len() == file.bytes).then_some(file.bytes)?;
    Some(format!("{bytes} {} {:?}\n", modified.as_nanos(), file.hash))
}

fn checked_file(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.checked", path.file_name().unwrap_or_default().to_string_lossy()))
}

fn was_checked(path: &Path, file: &RemoteFile) -> bool {
    let noted = std::fs::read_to_string(checked_file(path)).ok();
    noted.is_some() && noted == fingerprint(path, file)
}

/// If it cannot be recorded, the file is verified again.
fn note_checked(path: &Path, file: &RemoteFile) {
    if let Some(fingerprint) = fingerprint(path, file).filter(|_| !was_checked(path, file)) {
        let _ = std::fs::write(checked_file(path), fingerprint);
    }
}

/// Whether a file's bytes are what was announced.
fn check(path: &Path, file: &RemoteFile) -> std::result::Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let bytes = std::fs::metadata(path).map_err(said)?.len();
    if bytes != file.bytes {
        return Err(format!("{bytes} bytes instead of {}", file.bytes));
    }
    let (found, wanted) = match &file.hash {
        Hash::Sha256(wanted) => (digest::of_file(path, Sha256::new()).map_err(said)?, wanted),
        Hash::GitBlob(wanted) => {
            let mut hasher = Sha1::new();
            hasher.update(format!("blob {bytes}\0"));
            (digest::of_file(path, hasher).map_err(said)?, wanted)
        }
        Hash::Unusable(reason) => return Err(reason.clone()),
    };
    if found.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(format!("its hash is {found} instead of {wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_git_s_and_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "hello\n").unwrap();
        let file = |hash| RemoteFile { path: "a".into(), bytes: 6, hash };
        // `git hash-object` and `sha256sum` of the same bytes.
        let git = Hash::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".into());
        let large = Hash::Sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".into());
        assert_eq!(check(&path, &file(git)), Ok(()));
        assert_eq!(check(&path, &file(large)), Ok(()));
        assert!(check(&path, &file(Hash::Sha256("0".repeat(64)))).unwrap_err().contains("hash"));
    }
}
