//! Which files a recipe's paths mean, in an order that does not depend on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use store::fs::Fs;
use store::manifest;

use crate::kind::{Format, Kind, Packing};
use crate::{CorpusOptions, Error, RemoteEntry, Result, SAMPLE, sample, stdin};

/// Folders of a project that this program fills: reading them as a corpus would feed output back as input.
const OUTPUT_FOLDERS: [&str; 7] =
    ["data/documents", "data/ranks", "data/tokens", "tokenizer", "runs", "evals", "model"];

/// One file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As the recipe reaches it; `/` between parts.
    pub name: String,
    pub place: Place,
    pub kind: Kind,
    /// The column of the text, where the entry names one of its own.
    pub text_field: Option<String>,
    /// Whether its rows are lines of articles.
    pub rows_are_lines: bool,
    /// Its size, where that is known before it is here.
    pub known_bytes: Option<u64>,
    /// What stands for its hash, where its bytes need not be here.
    pub identity: Option<String>,
    /// Which entry of `data.paths` it belongs to.
    pub entry: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    /// The bundled corpus.
    Bundled,
}

/// All files, and how many were passed over in folders for their extension.
pub struct Resolved {
    pub sources: Vec<Source>,
    pub ignored_files: u64,
}

/// The files that `options.paths` mean.
pub fn resolve(options: &CorpusOptions, project: &Path) -> Result<Resolved> {
    let output = options.output.as_deref().unwrap_or(project);
    let folders = |root: &Path| OUTPUT_FOLDERS.map(|folder| root.join(folder));
    // They may be links to a larger disk.
    let canonical = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let mut finder = Finder {
        outputs: [project, output]
            .map(|root| folders(&canonical(root.to_owned())))
            .concat()
            .into_iter()
            .map(canonical)
            .collect(),
        files: BTreeSet::new(),
        folders: BTreeSet::new(),
        sources: Vec::new(),
        ignored_files: 0,
        entry: 0,
    };
    for (index, entry) in options.paths.iter().enumerate() {
        finder.entry = index;
        let before = finder.sources.len() + finder.files.len();
        if entry == SAMPLE {
            if !finder.sources.iter().any(|source| source.place == Place::Bundled) {
                finder.sources.push(bundled(index));
            }
            continue;
        }
        if let Some(remote) = options.remote.iter().find(|remote| &remote.entry == entry) {
            finder.remote(remote);
            if remote.is_folder && finder.sources.len() + finder.files.len() == before {
                return Err(nothing_to_read(entry));
            }
            continue;
        }
        if entry == stdin::STDIN {
            let path = stdin::keep(output)?;
            let kind = stdin::kind(&path)?;
            finder.push(&path, entry, kind);
            continue;
        }
        let path = project.join(entry);
        if path.is_dir() {
            finder.folder(&path, entry.trim_end_matches('/'))?;
            if finder.sources.len() + finder.files.len() == before {
                return Err(nothing_to_read(entry));
            }
        } else if path.exists() {
            if !path.is_file() {
                let message =
                    format!("`{entry}` is no regular file: use \"-\" to read what another program writes");
                return Err(Error::NotFound { message });
            }
            finder.file(&path, entry);
        } else if entry.contains(['*', '?', '[']) {
            finder.glob(project, entry)?;
        } else {
            let looked = std::path::absolute(&path).unwrap_or(path);
            let message = format!(
                "`{entry}` does not exist (looked for `{}`): correct it, or use \"{SAMPLE}\" for the bundled corpus",
                looked.display()
            );
            return Err(Error::NotFound { message });
        }
    }
    Ok(Resolved { sources: finder.sources, ignored_files: finder.ignored_files })
}

fn nothing_to_read(entry: &str) -> Error {
    let message = format!(
        "the folder `{entry}` holds no file of a format that is read (.txt, .md, .jsonl, .csv, .parquet, .html, .warc, .pdf, .zip and \
         others; .json by name or glob only) and that is not already read"
    );
    Error::NotFound { message }
}

/// What the data stage is made from: each file's name and the BLAKE3 of its bytes, or what names them in object storage.
///
/// # Errors
/// A path that leads nowhere, or a file that cannot be read.
pub fn inputs(fs: &dyn Fs, options: &CorpusOptions, project: &Path) -> Result<BTreeMap<String, String>> {
    options.validate()?;
    hashes(fs, &resolve(options, project)?.sources)
}

/// Packed text is about this much smaller: zstd on the bundled corpus, gzip on English prose.
const PACKING_RATIO: u64 = 4;

/// About how many bytes of text the recipe's paths mean, from the sizes of their files; nothing is read. For plans.
///
/// # Errors
/// A path that leads nowhere.
pub fn text_bytes(fs: &dyn Fs, options: &CorpusOptions, project: &Path) -> Result<u64> {
    options.validate()?;
    let bytes = |source: &Source| {
        let bytes = match &source.place {
            Place::Bundled => sample::BYTES.len() as u64,
            Place::File(path) => match source.known_bytes {
                Some(bytes) => bytes,
                None => fs.file_bytes(path).map_err(store::Error::io("read", path))?,
            },
        };
        Ok(if source.kind.packing == Packing::None && !source.kind.format.is_packed() {
            bytes
        } else {
            bytes * PACKING_RATIO
        })
    };
    resolve(options, project)?.sources.iter().map(bytes).sum()
}

pub fn hashes(fs: &dyn Fs, sources: &[Source]) -> Result<BTreeMap<String, String>> {
    let hash = |source: &Source| -> Result<String> {
        Ok(match (&source.identity, &source.place) {
            (Some(identity), _) => identity.clone(),
            (None, Place::Bundled) => manifest::hash_bytes(sample::BYTES),
            (None, Place::File(path)) => manifest::hash_file(fs, path)?,
        })
    };
    sources.iter().map(|source| Ok((source.name.clone(), hash(source)?))).collect()
}

fn bundled(entry: usize) -> Source {
    let kind = Kind { format: Format::JsonLines, packing: Packing::Zstd };
    Source {
        name: SAMPLE.to_owned(),
        place: Place::Bundled,
        kind,
        text_field: None,
        rows_are_lines: false,
        known_bytes: None,
        identity: None,
        entry,
    }
}

struct Finder {
    /// Canonical folders that this program fills.
    outputs: BTreeSet<PathBuf>,
    /// Canonical paths already taken, so that two entries or links do not read a file twice.
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    sources: Vec<Source>,
    ignored_files: u64,
    entry: usize,
}

impl Finder {
    fn file(&mut self, path: &Path, name: &str) {
        // What has another name than its format is text, or it is quarantined for not being that.
        self.push(path, name, Kind::of_name_or_text(name));
    }

    fn push(&mut self, path: &Path, name: &str, kind: Kind) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.files.insert(canonical) {
            return;
        }
        self.sources.push(Source {
            name: name.to_owned(),
            place: Place::File(path.to_owned()),
            kind,
            text_field: None,
            rows_are_lines: false,
            known_bytes: None,
            identity: None,
            entry: self.entry,
        });
    }

    fn remote(&mut self, remote: &RemoteEntry) {
        for file in &remote.files {
            if remote.is_folder && Kind::of_name_beside_others(&file.name).is_none() {
                self.ignored_files += 1;
                continue;
            }
            let before = self.sources.len();
            self.push(&file.path, &file.name, Kind::of_name_or_text(&file.name));
            for source in &mut self.sources[before..] {
                source.text_field.clone_from(&remote.text_field);
                source.rows_are_lines = remote.rows_are_lines;
                source.known_bytes = Some(file.bytes);
                source.identity.clone_from(&file.identity);
            }
        }
    }

    /// All readable files below a folder, in the order of their names.
    fn folder(&mut self, folder: &Path, name: &str) -> Result<()> {
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        if self.outputs.contains(&canonical) || !self.folders.insert(canonical) {
            return Ok(());
        }
        let list = || {
            let mut entries = std::fs::read_dir(folder)?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<std::io::Result<Vec<OsString>>>()?;
            entries.sort();
            Ok(entries)
        };
        let entries = list().map_err(store::Error::io("read the folder", folder))?;
        for entry in entries.iter().filter(|entry| !entry.as_encoded_bytes().starts_with(b".")) {
            let (path, entry) = (folder.join(entry), shown(entry));
            let name = format!("{name}/{entry}");
            if path.is_dir() {
                self.folder(&path, &name)?;
            } else if Kind::of_name_beside_others(&entry).is_some() && path.is_file() {
                // A pipe or a device would be waited for without end.
                self.file(&path, &name);
            } else {
                self.ignored_files += 1;
            }
        }
        Ok(())
    }

    /// Whether a place lies in what this program fills.
    fn is_output(&self, path: &Path) -> bool {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.outputs.iter().any(|output| canonical.starts_with(output))
    }

    fn glob(&mut self, project: &Path, entry: &str) -> Result<()> {
        // Signs in the name of the folder that it is looked for in mean themselves.
        let pattern = match Path::new(entry).is_absolute() {
            true => entry.to_owned(),
            false => format!("{}/{entry}", glob::Pattern::escape(&project.to_string_lossy())),
        };
        let invalid = |error: &dyn std::fmt::Display| Error::Options {
            key: "paths",
            message: format!("the glob `{entry}` is not valid: {error}"),
        };
        let matches = glob::glob(&pattern).map_err(|error| invalid(&error))?;
        let mut paths = matches
            .map(|found| {
                found.map_err(|error| {
                    store::Error::io("read", error.path())(std::io::Error::other(error.to_string()))
                })
            })
            .collect::<std::result::Result<Vec<PathBuf>, _>>()?;
        paths.retain(|path| !self.is_output(path));
        paths.sort();
        if paths.is_empty() {
            let message =
                format!("nothing matches the glob `{entry}`: correct it, or name files and folders");
            return Err(Error::NotFound { message });
        }
        for path in paths {
            let name = shown(path.strip_prefix(project).unwrap_or(&path).as_os_str()).replace('\\', "/");
            if path.is_dir() {
                self.folder(&path, &name)?;
            } else if path.is_file() {
                self.file(&path, &name);
            } else {
                self.ignored_files += 1;
            }
        }
        Ok(())
    }
}

/// A name as it is told and hashed under: bytes that are no UTF-8 as %FF, so that two such names stay two.
fn shown(name: &OsStr) -> String {
    let mut out = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_resolve_in_name_order_each_file_once_and_never_our_own_output() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "b.txt",
            "a.md",
            "sub/z.jsonl",
            "sub/.hidden.txt",
            "x.css",
            "runs/r/metrics.jsonl",
            "data/ranks/logs/judge.txt",
            "model/README.md",
        ] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "x").unwrap();
        }
        let names = |paths: &[&str]| {
            let options = CorpusOptions {
                paths: paths.iter().map(|&p| p.to_owned()).collect(),
                ..CorpusOptions::default()
            };
            resolve(&options, root).map(|found| found.sources.into_iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["."]).unwrap(), ["./a.md", "./b.txt", "./sub/z.jsonl"]);
        assert_eq!(names(&["sub", "b.txt", "."]).unwrap(), ["sub/z.jsonl", "b.txt", "./a.md"]);
        assert_eq!(names(&["*.txt", "sub/*"]).unwrap(), ["b.txt", "sub/.hidden.txt", "sub/z.jsonl"]);
        assert_eq!(names(&["**/*.jsonl", "**/*.md"]).unwrap(), ["sub/z.jsonl", "a.md"]);
        assert_eq!(names(&["sample", "x.css", "sample"]).unwrap(), ["sample", "x.css"]);
        for (path, wanted) in [
            ("nope.txt", "`nope.txt` does not exist (looked for"),
            ("q*.txt", "nothing matches"),
            ("m*/*.md", "nothing matches"),
            ("a[", "not valid"),
        ] {
            let message = names(&[path]).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
        let within = |output: &str, paths: &[&str]| {
            let paths = paths.iter().map(|&path| path.to_owned()).collect();
            let options =
                CorpusOptions { paths, output: Some(root.join(output)), ..CorpusOptions::default() };
            resolve(&options, root).unwrap().sources.into_iter().map(|s| s.name).collect::<Vec<_>>()
        };
        std::fs::create_dir_all(root.join("odd[1]/model")).unwrap();
        std::fs::write(root.join("odd[1]/model/README.md"), "x").unwrap();
        std::fs::write(root.join("odd[1]/y.md"), "x").unwrap();
        assert_eq!(within("odd[1]", &["odd[[]1]", "**/*.md"]), ["odd[1]/y.md", "a.md"]);
        let names_below = resolve(
            &CorpusOptions { paths: vec!["*.md".to_owned()], ..CorpusOptions::default() },
            &root.join("odd[1]"),
        );
        assert_eq!(names_below.unwrap().sources[0].name, "y.md");
        std::fs::remove_dir_all(root.join("odd[1]")).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            std::fs::create_dir_all(root.join("project")).unwrap();
            std::fs::create_dir_all(root.join("scratch/documents")).unwrap();
            std::fs::write(root.join("scratch/documents/z.txt"), "x").unwrap();
            std::os::unix::fs::symlink(root.join("scratch"), root.join("project/data")).unwrap();
            std::fs::write(root.join("project/own.txt"), "x").unwrap();
            assert_eq!(within("project", &["project", "b.txt"]), ["project/own.txt", "b.txt"]);
            std::fs::remove_dir_all(root.join("project")).unwrap();
            std::fs::remove_dir_all(root.join("scratch")).unwrap();
            std::fs::create_dir(root.join("odd")).unwrap();
            for name in [b"\xe9.txt", b"\xe8.txt"] {
                std::fs::write(root.join("odd").join(OsStr::from_bytes(name)), "x").unwrap();
            }
            assert_eq!(names(&["odd"]).unwrap(), ["odd/%E8.txt", "odd/%E9.txt"]);
            std::fs::remove_dir_all(root.join("odd")).unwrap();
        }
        std::fs::create_dir(root.join("bare")).unwrap();
        assert!(names(&["bare"]).unwrap_err().to_string().contains("holds no file of a format"));
    }
}
