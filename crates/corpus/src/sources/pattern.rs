//! Globs over folders: `*`, `?` and `[…]` within a name, `**` for any number of folders. One that ends with
//! `**` means the folder that it stands in and all below it.
//!
//! The walk is ours, since the `glob` crate's follows links in circles; its patterns match the names. Each
//! folder is gone through once for each part of the pattern that it can stand for, so time is linear in the
//! number of entries, also with several `**`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf, is_separator};

use glob::Pattern;
use store::walk::{DEEPEST, FolderId};

use super::walk::{Entry, Listing, Walk, entry, real};
use crate::Result;

/// Maximum number of parts.
const MOST_PARTS: usize = 64;

/// A part of a path.
enum Part {
    /// As it is, `.` and `..` included.
    Name(String),
    Like(Pattern),
    /// `**`.
    Folders,
}

/// A glob, from the folder that it begins in.
pub struct PathPattern {
    base: PathBuf,
    /// The parts after the leading literal ones.
    parts: Vec<Part>,
    /// Whether it ends with a slash.
    only_folders: bool,
}

/// A folder on the way down.
struct Level {
    path: PathBuf,
    real: PathBuf,
    id: FolderId,
    names: Names,
    /// The parts that its entries may be, a bit each.
    parts: u64,
}

enum Names {
    All(Listing),
    /// Where only parts stand for themselves the folder need not be listed, and may not be listable.
    These(std::vec::IntoIter<String>),
}

impl Names {
    fn next(&mut self) -> Option<(OsString, Option<std::fs::FileType>)> {
        match self {
            Names::All(listing) => listing.names.next(),
            Names::These(names) => Some((names.next()?.into(), None)),
        }
    }
}

impl PathPattern {
    /// Parses a pattern; errors are phrased to follow "the glob".
    pub fn parse(project: &Path, entry: &str) -> std::result::Result<PathPattern, String> {
        let invalid = |error: &dyn std::fmt::Display| format!("`{entry}` is not valid: {error}");
        Pattern::new(entry).map_err(|error| invalid(&error))?;
        let root: PathBuf = Path::new(entry)
            .components()
            .take_while(|part| {
                matches!(part, std::path::Component::Prefix(_) | std::path::Component::RootDir)
            })
            .collect();
        let rest = entry.get(root.as_os_str().len()..).unwrap_or_default();
        let (mut base, mut parts) = (project.join(&root), Vec::new());
        for text in rest.split(is_separator).filter(|text| !text.is_empty()) {
            let pattern = Pattern::new(text).map_err(|error| invalid(&error))?;
            let part = match text {
                "**" => Part::Folders,
                _ if text.contains(['*', '?', '[']) => Part::Like(pattern),
                _ => Part::Name(text.to_owned()),
            };
            match (part, parts.is_empty()) {
                (Part::Name(name), true) => base.push(name),
                (part, _) => parts.push(part),
            }
        }
        if parts.len() > MOST_PARTS {
            return Err(format!("`{entry}` has more than {MOST_PARTS} parts"));
        }
        Ok(PathPattern { base, parts, only_folders: entry.ends_with(is_separator) })
    }

    /// All that matches and does not lie in what this program fills, in order. `name` is what a path is told
    /// as.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn matches(&self, walk: &mut Walk, name: &dyn Fn(&Path) -> String) -> Result<Vec<PathBuf>> {
        let mut search = Search { pattern: self, walk, name, seen: HashMap::new(), levels: Vec::new() };
        let mut found = Vec::new();
        if self.base.is_dir() {
            let real = self.base.canonicalize().unwrap_or_else(|_| self.base.clone());
            if self.ends_at(0) && !search.walk.is_output(&real) {
                found.push(self.base.clone());
            }
            search.enter(self.base.clone(), real, 1)?;
        }
        while let Some(level) = search.levels.last_mut() {
            let Some((file_name, told)) = level.names.next() else {
                search.levels.pop();
                continue;
            };
            let path = level.path.join(&file_name);
            let (entry, is_link) = entry(&path, told);
            let is_folder = matches!(entry, Entry::Folder);
            if matches!(entry, Entry::Nowhere) && !is_link {
                continue;
            }
            let (below, is_match) = self.step(level.parts, &file_name.to_string_lossy(), is_folder);
            if below == 0 && !is_match {
                continue;
            }
            let is_other = is_link || matches!(file_name.to_str(), Some("." | ".."));
            let real = real(&level.real, &path, &file_name, is_other);
            if is_match && (is_folder || !self.only_folders) && !search.walk.is_output(&real) {
                found.push(path.clone());
            }
            if below > 0 && is_folder {
                search.enter(path, real, below)?;
            }
        }
        found.sort();
        Ok(found)
    }

    /// Which parts the entries of a folder of this name may be, and whether it matches the whole.
    fn step(&self, parts: u64, name: &str, is_folder: bool) -> (u64, bool) {
        let (mut below, mut is_match) = (0, false);
        for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| parts & (1 << at) != 0) {
            let is_last = at + 1 == self.parts.len();
            match part {
                Part::Folders if is_folder => {
                    below |= 1 << at;
                    is_match |= is_last;
                }
                part if !part.is(name) => {}
                _ if is_last => is_match = true,
                _ if is_folder => {
                    below |= 1 << (at + 1);
                    is_match |= self.ends_at(at + 1);
                }
                _ => {}
            }
        }
        (below, is_match)
    }

    /// Whether nothing but `**` is left from a part on: all may stand for no folder.
    fn ends_at(&self, part: usize) -> bool {
        self.parts[part..].iter().all(|part| matches!(part, Part::Folders))
    }

    /// With each `**`, what follows it: it may stand for no folder.
    fn with_skipped(&self, mut parts: u64) -> u64 {
        for (at, part) in self.parts.iter().enumerate() {
            let is_skipped = matches!(part, Part::Folders) && parts & (1 << at) != 0;
            if is_skipped && at + 1 < self.parts.len() {
                parts |= 1 << (at + 1);
            }
        }
        parts
    }
}

/// A walk for what matches.
struct Search<'a> {
    pattern: &'a PathPattern,
    walk: &'a mut Walk,
    name: &'a dyn Fn(&Path) -> String,
    /// The parts by which each folder was gone through.
    seen: HashMap<FolderId, u64>,
    levels: Vec<Level>,
}

impl Search<'_> {
    /// Goes into a folder by the parts that it was not gone through by.
    fn enter(&mut self, path: PathBuf, real: PathBuf, parts: u64) -> Result<()> {
        if self.walk.is_output(&real) {
            return Ok(());
        }
        let name = || (self.name)(&path);
        let Some(id) = self.walk.id_of(&path, name)? else { return Ok(()) };
        let parts = self.pattern.with_skipped(parts);
        let done = self.seen.get(&id).copied().unwrap_or(0);
        let left = parts & !done;
        if left == 0 {
            if let Some(above) = self.levels.iter().find(|level| level.id == id) {
                self.walk.see_loop(&name(), &(self.name)(&above.path));
            }
            return Ok(());
        }
        if self.levels.len() > DEEPEST {
            self.walk.see_too_deep(&name());
            return Ok(());
        }
        let active = self.pattern.parts.iter().enumerate().filter(|(at, _)| left & (1 << at) != 0);
        let only_names: Option<Vec<String>> = active
            .map(|(_, part)| match part {
                Part::Name(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        let names = match only_names {
            Some(names) => Names::These(names.into_iter()),
            None => Names::All(Listing::of(&path)?),
        };
        self.seen.insert(id.clone(), done | parts);
        self.levels.push(Level { path, real, id, names, parts: left });
        Ok(())
    }
}

impl Part {
    fn is(&self, name: &str) -> bool {
        match self {
            Part::Name(wanted) => wanted == name,
            Part::Like(pattern) => pattern.matches(name),
            Part::Folders => false,
        }
    }
}
