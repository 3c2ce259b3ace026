//! Documents that name files of the repository, and how wide their lines are.

use std::path::{Path, PathBuf};

/// Columns of prose; tables and code may be wider.
const WIDTH: usize = 110;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).expect(name)
}

#[test]
fn contributing_names_files_that_exist() {
    let text = read("CONTRIBUTING.md");
    let named = text.split('`').skip(1).step_by(2);
    let paths: Vec<&str> = named
        .filter(|name| ["crates/", "docs/", "xtask/"].iter().any(|folder| name.starts_with(folder)))
        .filter(|path| !path.contains("NAME"))
        .collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        assert!(repository().join(path).exists(), "`{path}` is not there");
    }
}

#[test]
fn prose_is_no_wider_than_code() {
    let mut files = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LOG.md"]
        .map(|name| repository().join(name))
        .to_vec();
    let docs = std::fs::read_dir(repository().join("docs")).expect("docs");
    files.extend(docs.map(|entry| entry.expect("listed").path()));
    files.retain(|file| file.extension().is_some_and(|end| end == "md"));
    let mut wide = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            is_code ^= line.trim_start().starts_with("```");
            // A long address cannot be broken.
            let can_break = line.trim().contains(' ');
            if !is_code && !line.starts_with('|') && can_break && line.chars().count() > WIDTH {
                wide.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "lines of more than {WIDTH} columns: {wide:#?}");
}
