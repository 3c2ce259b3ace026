//! Access to files of runs: only in folders that are really in `runs/`, regular, and of bounded size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use runs::run::RunDir;
use serde_json::Value;
use store::fs::{Fs, RealFs};

/// Size limit of a run's small files.
const MOST_BYTES: u64 = 4 << 20;

/// Finds a run by name among the existing folders; a name is never used to build a path, so `..`, links and
/// special characters lead nowhere.
pub fn find(runs: &Path, name: &str) -> Option<RunDir> {
    let entries = RealFs.list(runs).ok()?;
    let entry =
        entries.into_iter().find(|entry| entry.is_dir && entry.name == name && !name.starts_with('.'))?;
    RunDir::open(&RealFs, &runs.join(entry.name)).ok()
}

/// `meta.json` of a run; `None` if it cannot be read.
pub fn meta(run: &RunDir) -> Option<Value> {
    let path = run.path().join("meta.json");
    let plain = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
    let mut bytes = Vec::new();
    let file = File::open(path).ok().filter(|_| plain)?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        std::fs::create_dir_all(runs.join("real/checkpoints")).unwrap();
        std::fs::create_dir_all(runs.join(".real.deleting")).unwrap();
        std::fs::create_dir_all(folder.path().join("secret")).unwrap();
        std::fs::write(runs.join("file"), "x").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("secret"), runs.join("link")).unwrap();
        assert_eq!(find(&runs, "real").unwrap().path(), runs.join("real"));
        let absolute = folder.path().join("secret").display().to_string();
        let long = "a".repeat(5000);
        for name in [
            "",
            ".",
            "..",
            "../secret",
            "../runs/real",
            "real/checkpoints",
            "real/",
            "./real",
            "/",
            &absolute,
            "link",
            "file",
            "real\0",
            "real\0/..",
            ".real.deleting",
            "..\\secret",
            "REAL\u{0}",
            "latest",
            &long,
        ] {
            assert!(find(&runs, name).is_none(), "{name:?}");
        }
        assert!(find(&folder.path().join("none"), "real").is_none());
    }

    #[test]
    fn a_record_is_read_when_it_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(&RealFs, folder.path()).unwrap();
        let path = folder.path().join("meta.json");
        assert_eq!(meta(&run), None);
        for (text, expected) in [("{\"a\":1}", true), ("{\"a\":", false), ("", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(meta(&run).is_some(), expected, "{text}");
        }
        #[cfg(unix)]
        {
            std::fs::rename(&path, folder.path().join("other")).unwrap();
            std::fs::write(folder.path().join("other"), "{}").unwrap();
            std::os::unix::fs::symlink(folder.path().join("other"), &path).unwrap();
            assert_eq!(meta(&run), None, "a link may lead anywhere");
        }
    }
}
