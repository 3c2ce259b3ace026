//! What one file of a crate declares, imports and names by path. Code of tests is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Token, tokens};

/// A file of a crate; the module that it is, and those written inside it, count as one.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Modules that have files of their own.
    pub children: BTreeSet<String>,
    /// `use` declarations, one an imported name.
    pub imports: Vec<Import>,
    /// Paths of two and more segments outside of `use`.
    pub paths: Vec<Named>,
    /// Single words outside of `use`, each with the first line that has it.
    pub words: BTreeMap<String, usize>,
}

/// A name that `use` brings into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What it is called here; `None` for everything (`*`).
    pub name: Option<String>,
    /// What it is.
    pub of: Named,
    /// Whether it is handed on (`pub use`, also `pub(crate)`).
    pub is_reexport: bool,
}

/// A path as it is written, `super`s of modules inside the file taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Without generics.
    pub path: Vec<String>,
    /// From 1.
    pub line: usize,
}

/// Reads a file.
pub fn read(text: &str) -> Source {
    let mut parser = Parser { tokens: tokens(text), at: 0, inside: Vec::new(), source: Source::default() };
    parser.file();
    parser.source
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// Of each open brace: whether it is that of a module.
    inside: Vec<bool>,
    source: Source,
}

impl Parser {
    fn file(&mut self) {
        let mut is_public = false;
        while let Some(token) = self.tokens.get(self.at) {
            let word = token.word().unwrap_or_default().to_owned();
            let was_public = std::mem::take(&mut is_public);
            match word.as_str() {
                "" if token.is('#') => self.attribute(),
                "" => {
                    if token.is('{') {
                        self.inside.push(false);
                    } else if token.is('}') {
                        self.inside.pop();
                    }
                    self.at += 1;
                }
                "pub" => {
                    is_public = true;
                    self.at += 1;
                    if self.is_sign('(') {
                        self.skip_group();
                    }
                }
                "mod" => self.module(),
                "use" => {
                    let line = token.line;
                    self.at += 1;
                    self.import(&[], line, was_public);
                    self.at += 1;
                }
                _ => self.path(),
            }
        }
    }

    fn is_sign(&self, sign: char) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is(sign))
    }

    fn word(&self) -> Option<&str> {
        self.tokens.get(self.at)?.word()
    }

    /// Passes over an attribute, and over what it is written on where that is for tests alone, or a module
    /// whose file belongs to somebody else.
    fn attribute(&mut self) {
        self.at += 1;
        if self.is_sign('!') {
            self.at += 1;
        }
        let start = self.at;
        self.skip_group();
        let words: Vec<&str> = self.tokens[start..self.at].iter().filter_map(Token::word).collect();
        let is_passed_over = matches!(words.first(), Some(&"test" | &"path"))
            || (words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not"));
        if is_passed_over {
            self.skip_item();
        }
    }

    /// Passes over brackets of any kind and what is in them.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.tokens.get(self.at) {
            if ['(', '[', '{'].iter().any(|&sign| token.is(sign)) {
                depth += 1;
            } else if [')', ']', '}'].iter().any(|&sign| token.is(sign)) {
                depth -= 1;
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Passes over an item with its attributes: up to its braces' end, or to its semicolon.
    fn skip_item(&mut self) {
        let mut is_import = false;
        while let Some(token) = self.tokens.get(self.at) {
            is_import |= token.word() == Some("use");
            if token.is(';') {
                self.at += 1;
                return;
            }
            let ends = token.is('{') && !is_import;
            if ['(', '[', '{'].iter().any(|&sign| token.is(sign)) {
                self.skip_group();
            } else {
                self.at += 1;
            }
            if ends {
                return;
            }
        }
    }

    fn module(&mut self) {
        self.at += 1;
        let Some(name) = self.word().map(str::to_owned) else { return };
        self.at += 1;
        if self.is_sign(';') {
            self.source.children.insert(name);
        } else if self.is_sign('{') {
            self.inside.push(true);
        }
        self.at += 1;
    }

    /// Reads a tree of imports up to its end: a comma, a closing brace, or the semicolon.
    fn import(&mut self, before: &[String], line: usize, is_reexport: bool) {
        let mut path = before.to_vec();
        let mut alias = None;
        loop {
            let Some(token) = self.tokens.get(self.at).cloned() else { return };
            if token.is('{') {
                self.at += 1;
                while !self.is_sign('}') && self.at < self.tokens.len() {
                    self.import(&path, line, is_reexport);
                    if self.is_sign(',') {
                        self.at += 1;
                    }
                }
                self.at += 1;
                return;
            }
            match token.word() {
                Some("as") => {
                    self.at += 1;
                    alias = self.word().map(str::to_owned);
                }
                Some("self") if !path.is_empty() => {}
                Some(word) => path.push(word.to_owned()),
                None if token.is_separator() => {}
                None if token.is('*') => {
                    self.at += 1;
                    let of = Named { path: self.outside(&path), line };
                    self.source.imports.push(Import { name: None, of, is_reexport });
                    return;
                }
                None => break,
            }
            self.at += 1;
        }
        let name = alias.or_else(|| path.last().cloned());
        let of = Named { path: self.outside(&path), line };
        self.source.imports.push(Import { name, of, is_reexport });
    }

    /// Reads a path of an expression or a type.
    fn path(&mut self) {
        let is_field = self.at > 0 && self.tokens[self.at - 1].is('.');
        let is_rest = self.at > 0 && self.tokens[self.at - 1].is_separator();
        let line = self.tokens[self.at].line;
        let mut path = Vec::new();
        while let Some(word) = self.word() {
            path.push(word.to_owned());
            self.at += 1;
            let is_separated = self.tokens.get(self.at).is_some_and(Token::is_separator)
                && self.tokens.get(self.at + 1).is_some_and(|next| next.word().is_some());
            if !is_separated {
                break;
            }
            self.at += 1;
        }
        match path.as_slice() {
            _ if is_field || is_rest => {}
            [word] => drop(self.source.words.entry(word.clone()).or_insert(line)),
            _ => {
                let path = self.outside(&path);
                self.source.paths.push(Named { path, line });
            }
        }
    }

    /// The path as it would be written outside of the modules that are open here.
    fn outside(&self, path: &[String]) -> Vec<String> {
        let depth = self.inside.iter().filter(|&&is_module| is_module).count();
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        match supers.min(depth) {
            0 => path.to_vec(),
            taken => {
                let rest = path[taken..].to_vec();
                if supers > taken { rest } else { [vec!["self".to_owned()], rest].concat() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_paths_are_found_and_tests_are_not() {
        let source = read(
            "mod a;\npub(crate) mod b;\nuse crate::x::{self, y as z, w::*};\npub use a::{One, deep::Two};\n\
             fn f() -> super::T { a::g::<u8>(b::H::new().c()) }\n\
             mod inner { use super::a::Q; fn i() { super::super::j() } }\n\
             #[cfg(test)]\nmod tests { use crate::t::U; }\n#[cfg(all(test, unix))]\nuse crate::v::{W};\n",
        );
        assert_eq!(source.children, ["a", "b"].map(str::to_owned).into());
        let imports: Vec<String> = (source.imports.iter())
            .map(|import| {
                let name = import.name.as_deref().unwrap_or("*");
                format!(
                    "{}{name}={}",
                    if import.is_reexport { "pub " } else { "" },
                    import.of.path.join("::")
                )
            })
            .collect();
        assert_eq!(
            imports,
            [
                "x=crate::x",
                "z=crate::x::y",
                "*=crate::x::w",
                "pub One=a::One",
                "pub Two=a::deep::Two",
                "Q=self::a::Q"
            ]
        );
        let paths: Vec<String> = source.paths.iter().map(|named| named.path.join("::")).collect();
        assert_eq!(paths, ["super::T", "a::g", "b::H::new", "super::j"]);
        assert_eq!(source.paths[1].line, 5);
    }
}
