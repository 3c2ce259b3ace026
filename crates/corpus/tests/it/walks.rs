//! Corpus folders whose links go in circles, that are nested without end, or that hold very many files: each
//! is walked in time that grows with its entries alone, what is not followed is told by name, and what lies
//! beside it is read.

use std::path::Path;
use std::time::Instant;

use corpus::CorpusSummary;
use store::fs::RealFs;
use tokens::Split;

use crate::{Project, undivided};

/// What walks took before they were bounded: a minute for a few links, or for 1,600 folders.
const LONGEST_S: f64 = 5.0;

fn bounded<T>(what: &str, walk: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = walk();
    let took = begun.elapsed().as_secs_f64();
    assert!(took < LONGEST_S, "{what}: {took:.1} s");
    result
}

fn prepared(project: &Project, paths: &[&str]) -> CorpusSummary {
    bounded(&paths.join(" "), || project.prepare(&undivided(paths)).unwrap())
}

fn told(summary: &CorpusSummary) -> Vec<String> {
    assert_eq!(summary.not_followed.count, summary.not_followed.first.len() as u64);
    summary.not_followed.first.iter().map(|entry| format!("{} {}", entry.source, entry.reason)).collect()
}

#[cfg(unix)]
fn link(project: &Project, to: impl AsRef<Path>, name: &str) {
    std::os::unix::fs::symlink(to, project.path(name)).unwrap();
}

#[cfg(unix)]
#[test]
fn links_in_circles_are_told_and_their_neighbors_read() {
    let project = Project::new(&[("in/x.txt", b"one"), ("in/p/y.txt", b"two"), ("in/q/z.txt", b"three")]);
    for (to, name) in
        [(".", "in/a"), (".", "in/b"), ("../q", "in/p/q"), ("../p", "in/q/p"), ("..", "in/p/up")]
    {
        link(&project, to, name);
    }
    let circles = ["in/a links back to `in`", "in/b links back to `in`"];
    let check = |summary: &CorpusSummary, least: usize| {
        let told = told(summary);
        assert!(told.len() >= least, "{told:?}");
        for circle in circles {
            assert!(told.iter().any(|line| line.starts_with(circle)), "{circle}: {told:?}");
        }
        let mut texts = project.texts(Split::Train);
        texts.sort();
        assert_eq!(texts, ["one", "three", "two"]);
    };
    check(&prepared(&project, &["in"]), 4);
    // Patterns follow no circle either, however many `**` they have.
    check(&prepared(&project, &["in/**/*.txt"]), 4);
    check(&prepared(&project, &["**/in/**/**/*.txt"]), 4);
    let page = std::fs::read_to_string(project.documents_folder().join("report.html")).unwrap();
    assert!(page.contains("Not followed"), "the report's page names them");
    // A pattern that names the way is followed: it has an end.
    let summary = prepared(&project, &["in/a/b/x.txt", "in/*/*/x.txt"]);
    assert_eq!((summary.files, project.texts(Split::Train)), (1, vec!["one".to_owned()]));
}

#[cfg(unix)]
#[test]
fn links_to_other_disks_are_followed_once_and_links_to_nowhere_told() {
    let elsewhere = Project::new(&[("disk/far.txt", b"far"), ("file.txt", b"file")]);
    let project = Project::new(&[("in/near.txt", b"near")]);
    link(&project, elsewhere.path("disk"), "in/disk");
    link(&project, elsewhere.path("disk"), "in/again");
    link(&project, elsewhere.path("file.txt"), "in/file.txt");
    link(&project, elsewhere.path("gone.txt"), "in/gone.txt");
    link(&project, "self.txt", "in/self.txt");
    link(&project, elsewhere.path("gone.png"), "in/gone.png");
    for paths in [["in"], ["in/**/*.txt"]] {
        let summary = prepared(&project, &paths);
        let mut texts = project.texts(Split::Train);
        texts.sort();
        assert_eq!(texts, ["far", "file", "near"], "{paths:?}");
        let nowhere = ["in/gone.txt", "in/self.txt"]
            .map(|name| format!("{name} is a link to a missing target or to itself"));
        assert_eq!(told(&summary), nowhere, "{paths:?}");
    }
}

#[cfg(unix)]
#[test]
fn folders_nested_without_end_are_told_and_their_neighbors_read() {
    let project =
        Project::new(&[("in/x.txt", b"beside"), ("in/n/n/n/y.txt", b"not deep"), ("in/z/z.txt", b"after")]);
    std::fs::create_dir_all(project.path(&format!("in{}", "/n".repeat(1600)))).unwrap();
    std::fs::write(project.path(&format!("in{}/deep.txt", "/n".repeat(200))), "deep").unwrap();
    for paths in [["in"], ["in/**/*.txt"]] {
        let summary = prepared(&project, &paths);
        let mut texts = project.texts(Split::Train);
        texts.sort();
        assert_eq!(texts, ["after", "beside", "not deep"], "{paths:?}");
        let told = told(&summary);
        let deepest = format!("in{} is more than 128 folders deep", "/n".repeat(129));
        assert!(told.len() == 1 && told[0].starts_with(&deepest), "{told:?}");
    }
    // Named, it is read: the depth counts from there.
    let part = format!("in{}", "/n".repeat(150));
    prepared(&project, &[&part]);
    assert_eq!(project.texts(Split::Train), ["deep"]);
    // Rust's own removal holds a file open for each level.
    assert!(std::process::Command::new("rm").arg("-rf").arg(project.path("in")).status().unwrap().success());
}

#[test]
fn a_hundred_thousand_files_are_listed_in_linear_time() {
    let project = Project::new(&[("few/a.txt", b"a")]);
    std::fs::create_dir_all(project.path("in")).unwrap();
    for number in 0..100_000 {
        std::fs::write(project.path(&format!("in/{number}.txt")), "x").unwrap();
    }
    for paths in [["in"], ["in/*.txt"], ["**/*.txt"]] {
        let bytes =
            bounded(paths[0], || corpus::text_bytes(&RealFs, &undivided(&paths), &project.path("")).unwrap());
        assert_eq!(bytes, 100_000 + u64::from(paths[0] == "**/*.txt"), "{paths:?}");
    }
}
