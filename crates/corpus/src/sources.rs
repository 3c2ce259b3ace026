//! Which files a recipe's paths mean, in an order that does not depend on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use store::fs::Fs;
use store::manifest;

use crate::{CorpusOptions, Error, Result, SAMPLE, sample};

/// Folders of a project that this program fills: reading them as a corpus would feed output back as input.
const OUTPUT_FOLDERS: [&str; 6] = ["data/documents", "data/tokens", "tokenizer", "runs", "evals", "model"];

/// One file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As the recipe reaches it; `/` between parts.
    pub name: String,
    pub place: Place,
    pub format: Format,
    pub packing: Packing,
    /// Named in the recipe itself, and not found in a folder or by a glob: then it must be usable.
    pub explicit: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    /// The bundled corpus.
    Bundled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    JsonLines,
    Html,
    Warc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

/// All files, and how many were passed over in folders for their extension.
pub struct Resolved {
    pub sources: Vec<Source>,
    pub ignored_files: u64,
    /// After each entry of the paths, how many sources there were.
    pub entry_ends: Vec<usize>,
}

/// The files that `options.paths` mean.
pub fn resolve(options: &CorpusOptions, project: &Path) -> Result<Resolved> {
    let mut finder = Finder {
        project: project.canonicalize().unwrap_or_else(|_| project.to_owned()),
        files: BTreeSet::new(),
        folders: BTreeSet::new(),
        sources: Vec::new(),
        ignored_files: 0,
    };
    let mut entry_ends = Vec::new();
    for (number, entry) in options.paths.iter().enumerate() {
        if number > 0 {
            entry_ends.push(finder.sources.len());
        }
        let before = finder.sources.len() + finder.files.len();
        if entry == SAMPLE {
            if !finder.sources.iter().any(|source| source.place == Place::Bundled) {
                finder.sources.push(bundled());
            }
            continue;
        }
        let path = project.join(entry);
        if path.is_dir() {
            finder.folder(&path, entry.trim_end_matches('/'))?;
            if finder.sources.len() + finder.files.len() == before {
                let message = format!(
                    "the folder `{entry}` holds no .txt, .md, .jsonl, .html or .warc file that is not already read"
                );
                return Err(Error::NotFound { message });
            }
        } else if path.exists() {
            finder.file(&path, entry, true);
        } else if entry.contains(['*', '?', '[']) {
            finder.glob(&path, project, entry)?;
        } else {
            let looked = std::path::absolute(&path).unwrap_or(path);
            let message = format!(
                "`{entry}` does not exist (looked for `{}`): correct it, or use \"{SAMPLE}\" for the bundled corpus",
                looked.display()
            );
            return Err(Error::NotFound { message });
        }
    }
    entry_ends.push(finder.sources.len());
    Ok(Resolved { sources: finder.sources, ignored_files: finder.ignored_files, entry_ends })
}

/// What the data stage is made from: each file's name and the BLAKE3 of its bytes.
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
            Place::File(path) => fs.file_bytes(path).map_err(store::Error::io("read", path))?,
        };
        Ok(if source.packing == Packing::None { bytes } else { bytes * PACKING_RATIO })
    };
    resolve(options, project)?.sources.iter().map(bytes).sum()
}

pub fn hashes(fs: &dyn Fs, sources: &[Source]) -> Result<BTreeMap<String, String>> {
    let hash = |source: &Source| -> Result<String> {
        Ok(match &source.place {
            Place::Bundled => manifest::hash_bytes(sample::BYTES),
            Place::File(path) => manifest::hash_file(fs, path)?,
        })
    };
    sources.iter().map(|source| Ok((source.name.clone(), hash(source)?))).collect()
}

fn bundled() -> Source {
    Source {
        name: SAMPLE.to_owned(),
        place: Place::Bundled,
        format: Format::JsonLines,
        packing: Packing::Zstd,
        explicit: true,
    }
}

/// The format that a name's extensions say; `None` for those not read from folders.
fn format_of(name: &str) -> (Option<Format>, Packing) {
    let lower = name.to_lowercase();
    let (stem, packing) = match lower.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Packing::Gzip),
        Some((stem, "zst")) => (stem, Packing::Zstd),
        _ => (lower.as_str(), Packing::None),
    };
    let format = match stem.rsplit_once('.') {
        Some((_, "txt" | "text" | "md" | "markdown")) => Some(Format::Text),
        Some((_, "jsonl" | "ndjson")) => Some(Format::JsonLines),
        Some((_, "html" | "htm" | "xhtml")) => Some(Format::Html),
        Some((_, "warc" | "wet")) => Some(Format::Warc),
        _ => None,
    };
    (format, packing)
}

struct Finder {
    project: PathBuf,
    /// Canonical paths already taken, so that two entries or links do not read a file twice.
    files: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    sources: Vec<Source>,
    ignored_files: u64,
}

impl Finder {
    fn file(&mut self, path: &Path, name: &str, explicit: bool) {
        let (format, packing) = format_of(name);
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.files.insert(canonical) {
            return;
        }
        self.sources.push(Source {
            name: name.to_owned(),
            place: Place::File(path.to_owned()),
            format: format.unwrap_or(Format::Text),
            packing,
            explicit,
        });
    }

    /// All readable files below a folder, in the order of their names.
    fn folder(&mut self, folder: &Path, name: &str) -> Result<()> {
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let is_output = OUTPUT_FOLDERS.iter().any(|output| self.project.join(output) == canonical);
        if is_output || !self.folders.insert(canonical) {
            return Ok(());
        }
        let list = || {
            let mut entries = std::fs::read_dir(folder)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<std::io::Result<Vec<String>>>()?;
            entries.sort();
            Ok(entries)
        };
        let entries = list().map_err(store::Error::io("read the folder", folder))?;
        for entry in entries.iter().filter(|entry| !entry.starts_with('.')) {
            let (path, name) = (folder.join(entry), format!("{name}/{entry}"));
            if path.is_dir() {
                self.folder(&path, &name)?;
            } else if format_of(entry).0.is_some() {
                self.file(&path, &name, false);
            } else {
                self.ignored_files += 1;
            }
        }
        Ok(())
    }

    fn glob(&mut self, pattern: &Path, project: &Path, entry: &str) -> Result<()> {
        let invalid = |error: &dyn std::fmt::Display| Error::Options {
            key: "paths",
            message: format!("the glob `{entry}` is not valid: {error}"),
        };
        let matches = glob::glob(&pattern.to_string_lossy()).map_err(|error| invalid(&error))?;
        let mut paths = matches
            .map(|found| {
                found.map_err(|error| {
                    store::Error::io("read", error.path())(std::io::Error::other(error.to_string()))
                })
            })
            .collect::<std::result::Result<Vec<PathBuf>, _>>()?;
        paths.sort();
        if paths.is_empty() {
            let message =
                format!("nothing matches the glob `{entry}`: correct it, or name files and folders");
            return Err(Error::NotFound { message });
        }
        for path in paths {
            let name = path.strip_prefix(project).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                self.folder(&path, &name)?;
            } else {
                self.file(&path, &name, false);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_say_the_format() {
        assert_eq!(format_of("a.txt"), (Some(Format::Text), Packing::None));
        assert_eq!(format_of("A.MD.GZ"), (Some(Format::Text), Packing::Gzip));
        assert_eq!(format_of("a.b.jsonl.zst"), (Some(Format::JsonLines), Packing::Zstd));
        assert_eq!(format_of("a.html"), (Some(Format::Html), Packing::None));
        assert_eq!(format_of("a.warc.gz"), (Some(Format::Warc), Packing::Gzip));
        assert_eq!(format_of("a.png"), (None, Packing::None));
        assert_eq!(format_of("txt"), (None, Packing::None));
    }

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
        assert_eq!(names(&["sample", "x.css", "sample"]).unwrap(), ["sample", "x.css"]);
        for (path, wanted) in [
            ("nope.txt", "`nope.txt` does not exist (looked for"),
            ("q*.txt", "nothing matches"),
            ("a[", "not valid"),
        ] {
            let message = names(&[path]).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
        std::fs::create_dir(root.join("bare")).unwrap();
        assert!(names(&["bare"]).unwrap_err().to_string().contains("holds no .txt"));
    }
}
