//! Which files a recipe's paths mean, in an order that does not depend on the disk.

mod pattern;
mod walk;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use store::fs::Fs;
use store::manifest;

use crate::kind::{Format, Kind, Packing};
use crate::quarantine::NotFollowed;
use crate::{CorpusOptions, Error, RemoteEntry, Result, SAMPLE, sample, stdin};
use pattern::PathPattern;
use walk::{FoundFile, Walk, shown};

/// Folders of a project that this program fills: reading them as a corpus would feed output back as input.
const OUTPUT_FOLDERS: [&str; 8] =
    ["data/documents", "data/ranks", "data/tokens", "tokenizer", "runs", "evals", "model", "model-average"];

/// Folders of the program below `root`, shards of phases, and copies next to them: `NAME.kept`,
/// `NAME.kept-2`, `.NAME.partial`.
fn output_folders(root: &Path) -> Vec<PathBuf> {
    let mut found = OUTPUT_FOLDERS.map(|folder| root.join(folder)).to_vec();
    for below in ["", "data/"] {
        let above = root.join(below);
        for entry in std::fs::read_dir(&above).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(made) = name.to_str().map(|name| format!("{below}{}", original(name))) else { continue };
            if OUTPUT_FOLDERS.contains(&made.as_str()) || made.starts_with("data/tokens-") {
                found.push(above.join(name));
            }
        }
    }
    found
}

/// The name of the folder that one of this name was put beside: of `NAME.kept-2`, or `.NAME.old`, NAME.
fn original(name: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let kept = name
        .rsplit_once(".kept")
        .filter(|(_, number)| number.is_empty() || number.strip_prefix('-').is_some_and(is_number));
    let hidden = || {
        ["partial", "old"].iter().find_map(|end| name.strip_prefix('.')?.strip_suffix(end)?.strip_suffix('.'))
    };
    kept.map(|(name, _)| name).or_else(hidden).unwrap_or(name)
}

/// One file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As the recipe reaches it; `/` between parts.
    pub name: String,
    pub place: SourceData,
    pub kind: Kind,
    /// The column of the text, if the entry names one.
    pub text_field: Option<String>,
    /// Whether its rows are lines of articles.
    pub rows_are_lines: bool,
    /// Its size, where that is known before it is here.
    pub known_bytes: Option<u64>,
    /// Identifies its content if its bytes need not be here.
    pub identity: Option<String>,
    /// Which entry of `data.paths` it belongs to.
    pub entry: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceData {
    File(PathBuf),
    /// The bundled corpus.
    Bundled,
}

/// All files, how many were passed over in folders for their extension, and what was not walked into.
pub struct Resolved {
    pub sources: Vec<Source>,
    pub ignored_files: u64,
    pub not_followed: NotFollowed,
}

/// The files that `options.paths` mean.
pub fn resolve(options: &CorpusOptions, project: &Path) -> Result<Resolved> {
    let output = options.output.as_deref().unwrap_or(project);
    // They may be links to a larger disk.
    let canonical = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let outputs = [project, output].map(|root| output_folders(&canonical(root.to_owned()))).concat();
    let mut finder = Finder {
        walk: Walk::new(outputs.into_iter().map(canonical).collect()),
        files: HashSet::new(),
        sources: Vec::new(),
        ignored_files: 0,
        entry: 0,
    };
    for (index, entry) in options.paths.iter().enumerate() {
        finder.entry = index;
        let before = finder.sources.len() + finder.files.len();
        if entry == SAMPLE {
            if !finder.sources.iter().any(|source| source.place == SourceData::Bundled) {
                finder.sources.push(bundled(index));
            }
            continue;
        }
        if let Some(remote) = options.remote.iter().find(|remote| &remote.entry == entry) {
            finder.remote(remote);
            if remote.is_folder && finder.sources.len() + finder.files.len() == before {
                return Err(Error::NothingToRead { entry: entry.clone() });
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
                return Err(Error::NothingToRead { entry: entry.clone() });
            }
        } else if path.exists() {
            if !path.is_file() {
                return Err(Error::NotRegular { entry: entry.clone() });
            }
            finder.file(&path, entry);
        } else if entry.contains(['*', '?', '[']) {
            finder.glob(project, entry)?;
        } else {
            let looked = std::path::absolute(&path).unwrap_or(path);
            return Err(Error::NoFile { entry: entry.clone(), looked });
        }
    }
    let Finder { walk, sources, ignored_files, .. } = finder;
    Ok(Resolved {
        sources,
        ignored_files: ignored_files + walk.ignored_files,
        not_followed: walk.not_followed,
    })
}

/// Inputs of the data stage: each file's name and the BLAKE3 of its bytes, or its identity in object storage.
///
/// # Errors
/// A path that leads nowhere, or a file that cannot be read.
pub fn inputs(fs: &dyn Fs, options: &CorpusOptions, project: &Path) -> Result<BTreeMap<String, String>> {
    options.validate()?;
    hashes(fs, &resolve(options, project)?.sources)
}

/// Packed text is about this much smaller: zstd on the bundled corpus, gzip on English prose.
const PACKING_RATIO: u64 = 4;

/// About how many bytes of text the recipe's paths mean, from the sizes of their files; nothing is read. For
/// plans.
///
/// # Errors
/// A path that leads nowhere.
pub fn text_bytes(fs: &dyn Fs, options: &CorpusOptions, project: &Path) -> Result<u64> {
    options.validate()?;
    let bytes = |source: &Source| {
        let bytes = match &source.place {
            SourceData::Bundled => sample::BYTES.len() as u64,
            SourceData::File(path) => match source.known_bytes {
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
            (None, SourceData::Bundled) => manifest::hash_bytes(sample::BYTES),
            (None, SourceData::File(path)) => manifest::hash_file(fs, path)?,
        })
    };
    sources.iter().map(|source| Ok((source.name.clone(), hash(source)?))).collect()
}

fn bundled(entry: usize) -> Source {
    let kind = Kind { format: Format::JsonLines, packing: Packing::Zstd };
    Source {
        name: SAMPLE.to_owned(),
        place: SourceData::Bundled,
        kind,
        text_field: None,
        rows_are_lines: false,
        known_bytes: None,
        identity: None,
        entry,
    }
}

struct Finder {
    walk: Walk,
    /// Canonical paths already taken, so that two entries or links do not read a file twice.
    files: HashSet<PathBuf>,
    sources: Vec<Source>,
    /// Objects and files of datasets that were passed over for their extension.
    ignored_files: u64,
    entry: usize,
}

impl Finder {
    fn file(&mut self, path: &Path, name: &str) {
        // What has another name than its format is text, or it is quarantined for not being that.
        self.push(path, name, Kind::of_name_or_text(name));
    }

    fn push(&mut self, path: &Path, name: &str, kind: Kind) {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let found = FoundFile { path: path.to_owned(), name: name.to_owned(), real };
        push(&mut self.files, &mut self.sources, self.entry, found, kind);
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
        let Finder { walk, files, sources, entry, .. } = self;
        walk.folder(folder, name, &mut |found| {
            let kind = Kind::of_name_or_text(&found.name);
            push(files, sources, *entry, found, kind);
        })
    }

    fn glob(&mut self, project: &Path, entry: &str) -> Result<()> {
        let pattern = PathPattern::parse(project, entry)
            .map_err(|message| Error::Options { key: "paths", message: format!("the glob {message}") })?;
        let name =
            |path: &Path| shown(path.strip_prefix(project).unwrap_or(path).as_os_str()).replace('\\', "/");
        let paths = pattern.matches(&mut self.walk, &name)?;
        if paths.is_empty() {
            return Err(Error::NoMatch { entry: entry.to_owned() });
        }
        for path in paths {
            let name = name(&path);
            if path.is_dir() {
                self.folder(&path, &name)?;
            } else if path.is_file() {
                self.file(&path, &name);
            } else {
                self.walk.see_other(&path, &name);
            }
        }
        Ok(())
    }
}

/// Takes a file, unless it was taken already.
fn push(files: &mut HashSet<PathBuf>, sources: &mut Vec<Source>, entry: usize, found: FoundFile, kind: Kind) {
    let FoundFile { path, name, real } = found;
    if !files.insert(real) {
        return;
    }
    sources.push(Source {
        name,
        place: SourceData::File(path),
        kind,
        text_field: None,
        rows_are_lines: false,
        known_bytes: None,
        identity: None,
        entry,
    });
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
            "data/ranks/logs/filter.txt",
            "model/README.md",
            "model.kept/README.md",
            "model-average/README.md",
            "tokenizer.kept-12/notes.txt",
            "evals.kept-2/report.md",
            "data/documents.kept/train.jsonl",
            "data/tokens-first/notes.txt",
            "data/tokens-first.kept/notes.txt",
            "data/.documents.partial/train.txt",
            "data/.tokens-first.old/notes.txt",
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
        for glob in ["data/**/*.txt", "model*/*", "*.kept*/*", "data/.*/*.txt", "data/*.kept/*"] {
            assert!(names(&[glob]).unwrap_err().to_string().contains("nothing matches"), "{glob}");
        }
        assert_eq!(names(&["sub/**"]).unwrap(), ["sub/z.jsonl"], "what lies in the folder itself too");
        assert_eq!(names(&["**"]).unwrap(), ["a.md", "b.txt", "sub/z.jsonl"]);
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
            use std::ffi::OsStr;
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
        assert!(names(&["bare"]).unwrap_err().to_string().contains("has no file of a supported format"));
    }
}
