//! Circles of files within a crate.
//!
//! The rule: a file uses another where its code, tests left out, names something that the other defines: by
//! `use`, or by a path. Names are followed through re-exports to the file that defines them, so it does not
//! matter by which path a thing is reached. A module without a file of its own belongs to the file it is
//! written in. Declaring a child (`mod child;`) and handing on what it has (`pub use child::Thing`) is no use
//! of it: a parent may list its children, and children may use what their parent defines. But a parent whose
//! code calls its children, and whose children name what the parent defines, is a circle like any other.
//!
//! No circle may be: each file can then be read, and understood, with only those that come before it.
//! Calls of methods are not seen, since their names do not say where they are defined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::source::{self, Source};

/// A crate's files by their modules' paths; the root has none.
#[derive(Debug, Default)]
pub struct Modules {
    files: BTreeMap<Vec<String>, (PathBuf, Source)>,
}

/// A file's module path within its crate.
type Module = Vec<String>;

impl Modules {
    /// Reads a crate from the file of its root on.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(root: &Path) -> Result<Modules> {
        let mut modules = Modules::default();
        modules.add(Vec::new(), root.to_owned())?;
        Ok(modules)
    }

    fn add(&mut self, module: Module, file: PathBuf) -> Result<()> {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let source = source::read(&text);
        let is_folder = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| file.ends_with(name));
        let folder = if is_folder { file.with_file_name("") } else { file.with_extension("") };
        for child in &source.children {
            let named = folder.join(format!("{child}.rs"));
            let path = if named.exists() { named } else { folder.join(child).join("mod.rs") };
            self.add([&module[..], std::slice::from_ref(child)].concat(), path)?;
        }
        self.files.insert(module, (file, source));
        Ok(())
    }

    /// The circles: files that use each other, directly or through others, each file with those of the circle
    /// that it uses, and where.
    pub fn circles(&self) -> Vec<BTreeMap<PathBuf, Vec<String>>> {
        let uses: BTreeMap<&Module, BTreeMap<Module, usize>> =
            self.files.keys().map(|module| (module, self.uses(module))).collect();
        let reached: BTreeMap<&Module, BTreeSet<&Module>> =
            uses.keys().map(|&module| (module, reached(module, &uses))).collect();
        let mut circles = Vec::new();
        let mut told: BTreeSet<&Module> = BTreeSet::new();
        for (&module, reaches) in &reached {
            if !reaches.contains(module) || told.contains(module) {
                continue;
            }
            let members: BTreeSet<&Module> =
                reaches.iter().copied().filter(|other| reached[other].contains(module)).collect();
            told.extend(&members);
            let of_circle = |member: &&Module| {
                let uses = (uses[*member].iter()).filter(|(used, _)| members.contains(used));
                let uses = uses.map(|(used, line)| format!("{} (line {line})", self.files[used].0.display()));
                (self.files[*member].0.clone(), uses.collect())
            };
            circles.push(members.iter().map(of_circle).collect());
        }
        circles
    }

    /// The modules that a module's code uses, with the first line that does.
    fn uses(&self, module: &Module) -> BTreeMap<Module, usize> {
        let source = &self.files[module].1;
        let mut uses = BTreeMap::new();
        let mut note = |used: Module, line: usize| {
            if used != *module {
                let first = uses.entry(used).or_insert(line);
                *first = line.min(*first);
            }
        };
        for import in &source.imports {
            let Some((used, is_module)) = self.find(module, &import.of.path, 0) else { continue };
            match &import.name {
                // A module that is brought into scope is used where something of it is named.
                Some(_) if is_module => {}
                Some(name) if import.is_reexport && used.starts_with(module) => {
                    if let Some(line) = source.words.get(name) {
                        note(used, *line);
                    }
                }
                _ => note(used, import.of.line),
            }
        }
        for named in &source.paths {
            if let Some((used, false)) = self.find(module, &named.path, 0) {
                note(used, named.line);
            }
        }
        uses
    }

    /// The module that defines what `path` names within `from`, and whether it is a module itself that is
    /// named; `None` where it is of another crate.
    fn find(&self, from: &Module, path: &[String], depth: usize) -> Option<(Module, bool)> {
        let first = path.first()?;
        let source = &self.files.get(from)?.1;
        match first.as_str() {
            "crate" => return self.walk(Vec::new(), &path[1..], depth),
            "self" => return self.walk(from.clone(), &path[1..], depth),
            "super" => {
                let above = from[..from.len().checked_sub(1)?].to_vec();
                return match path.get(1).is_some_and(|next| next == "super") {
                    true => self.find(&above, &path[1..], depth),
                    false => self.walk(above, &path[1..], depth),
                };
            }
            _ => {}
        }
        let imported = source.imports.iter().any(|import| import.name.as_ref() == Some(first));
        (source.children.contains(first) || imported).then(|| self.walk(from.clone(), path, depth))?
    }

    fn walk(&self, mut at: Module, path: &[String], depth: usize) -> Option<(Module, bool)> {
        // Imports that lead in a circle name nothing.
        const DEEPEST: usize = 32;
        if depth > DEEPEST {
            return None;
        }
        for (number, segment) in path.iter().enumerate() {
            let source = &self.files.get(&at)?.1;
            if source.children.contains(segment) {
                at.push(segment.clone());
                continue;
            }
            let named = source.imports.iter().find(|import| import.name.as_ref() == Some(segment));
            if let Some(import) = named {
                let rest = [&import.of.path[..], &path[number + 1..]].concat();
                return self.find(&at, &rest, depth + 1);
            }
            return Some((at, false));
        }
        Some((at, true))
    }
}

fn reached<'m>(
    from: &'m Module,
    uses: &'m BTreeMap<&'m Module, BTreeMap<Module, usize>>,
) -> BTreeSet<&'m Module> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(module) = waiting.pop() {
        for used in uses[module].keys() {
            if reached.insert(used) {
                waiting.push(used);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these files, as names.
    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a file")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let modules = Modules::read(&folder.path().join("lib.rs")).expect("sources");
        let name = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap_or(path).display().to_string();
        modules.circles().iter().map(|circle| circle.keys().map(name).collect()).collect()
    }

    #[test]
    fn a_parent_may_list_its_children_and_they_may_use_it() {
        let lib = "mod a;\nmod b;\npub use a::A;\npub struct Error;\n";
        assert!(
            circles(&[("lib.rs", lib), ("a.rs", "use crate::Error;\npub struct A(Error);"), ("b.rs", "")])
                .is_empty()
        );
        let calls = format!("{lib}fn f() {{ a::g() }}");
        let found =
            circles(&[("lib.rs", &calls), ("a.rs", "use crate::Error;\npub struct A(Error);"), ("b.rs", "")]);
        assert_eq!(found, [["a.rs", "lib.rs"]]);
        let names = format!("{lib}fn f(_: A) {{}}");
        let found =
            circles(&[("lib.rs", &names), ("a.rs", "use super::Error;\npub struct A(Error);"), ("b.rs", "")]);
        assert_eq!(found, [["a.rs", "lib.rs"]]);
    }

    #[test]
    fn names_are_followed_to_the_file_that_defines_them() {
        let files = |a: &str, b: &str, c: &str| {
            circles(&[
                ("lib.rs", "mod a;\nmod b;\npub use b::inner::C;\n"),
                ("a.rs", a),
                ("b/mod.rs", b),
                ("b/inner.rs", c),
            ])
        };
        // By another path, but the same file in the end.
        assert_eq!(
            files("use crate::C;\npub struct A;", "pub mod inner;", "use crate::a::A;\npub struct C(A);"),
            [["a.rs", "b/inner.rs"]]
        );
        // `b` alone is not what `a` uses.
        assert!(
            files("use crate::C;\npub struct A;", "pub mod inner;\nfn f(_: crate::a::A) {}", "pub struct C;")
                .is_empty()
        );
        // A module that is brought into scope counts where something of it is named.
        assert!(files("use crate::b;\npub struct A;", "pub mod inner;\nuse crate::a::A;", "").is_empty());
        assert_eq!(
            files("use crate::b;\npub struct A;\nfn f() { b::g() }", "pub mod inner;\nuse crate::a::A;", ""),
            [["a.rs", "b/mod.rs"]]
        );
        // Nor do tests and comments count.
        let tests = "pub struct C;\n// crate::a::A\n#[cfg(test)]\nmod tests { use crate::a::A; }";
        assert!(files("use crate::C;\npub struct A;", "pub mod inner;", tests).is_empty());
    }
}
