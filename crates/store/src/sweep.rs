//! What processes that were killed have left: temporary files with a process's number in their names, and
//! folders on their way out.
//!
//! Only what this program names so, in folders where it writes, and whose process is gone. Links are neither
//! followed nor removed, and a name that a person could have chosen is no name of ours. Staged folders are
//! `stage::repair`'s.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::Duration;

use crate::process;

/// In a folder that was left on purpose, for a person to look at.
pub const KEPT: &str = "kept";

/// The process of a name made of a part before, its number, and nothing or a dash and random letters behind.
fn process_of(name: &str, before: &str) -> Option<u32> {
    let rest = name.strip_prefix(before)?;
    let (number, random) =
        rest.split_once('-').map_or((rest, None), |(number, random)| (number, Some(random)));
    let is_random = |text: &str| text.len() >= 6 && text.chars().all(|c| c.is_ascii_alphanumeric());
    // As it is written: no sign, no zeros before.
    number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number && random.is_none_or(is_random))
}

/// The process of `.NAME.PID.tmp`, which a whole-file write leaves, where NAME is one of `names`; any, where
/// there are none.
pub fn of_a_write(name: &str, names: &[&str]) -> Option<u32> {
    let (stem, number) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let is_ours = if names.is_empty() { !stem.is_empty() } else { names.contains(&stem) };
    process_of(number, "").filter(|_| is_ours && !number.contains('-'))
}

/// Calls `take` with the name, the path and what is there, for what lies in a folder that is itself no link;
/// returns how many it took.
pub fn each(folder: &Path, mut take: impl FnMut(&str, &Path, &Metadata) -> bool) -> usize {
    if !fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()) {
        return 0;
    }
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let mut taken = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (Some(name), Ok(found)) = (name.to_str(), entry.path().symlink_metadata()) else { continue };
        taken += usize::from(take(name, &entry.path(), &found));
    }
    taken
}

/// Removes what whole-file writes of `names` (all, where there are none) have left in a folder; returns how
/// many. What cannot be removed stays: it is in nobody's way.
pub fn writes(folder: &Path, names: &[&str]) -> usize {
    each(folder, |name, path, found| {
        let gone = || of_a_write(name, names).is_some_and(|process| !process::is_alive(process));
        found.is_file() && gone() && fs::remove_file(path).is_ok()
    })
}

/// Removes files or folders `BEFORE` + process, or `BEFORE` + process + `-` + random letters; returns how
/// many. A folder that holds a file [`KEPT`] stays.
pub fn numbered(folder: &Path, before: &str) -> usize {
    each(folder, |name, path, found| {
        let Some(process) = process_of(name, before) else { return false };
        if process::is_alive(process) || path.join(KEPT).exists() {
            return false;
        }
        match () {
            () if found.is_file() => fs::remove_file(path).is_ok(),
            () if found.is_dir() => fs::remove_dir_all(path).is_ok(),
            () => false,
        }
    })
}

/// Removes folders `.NAME.deleting` whose NAME `is_ours`; returns how many.
pub fn deleting(folder: &Path, is_ours: impl Fn(&str) -> bool) -> usize {
    each(folder, |name, path, found| {
        let stem = name.strip_prefix('.').and_then(|name| name.strip_suffix(".deleting"));
        found.is_dir() && stem.is_some_and(&is_ours) && fs::remove_dir_all(path).is_ok()
    })
}

/// Removes files `before` + `NAME` + `behind` that nobody has written to for so long; returns how many. Only
/// for caches, where nobody else gives such names.
pub fn aged(folder: &Path, before: &str, behind: &str, age: Duration) -> usize {
    each(folder, |name, path, found| {
        let idle = found.modified().ok().and_then(|modified| modified.elapsed().ok());
        let is_old = idle.is_some_and(|idle| idle > age);
        let stem = name.strip_prefix(before).and_then(|name| name.strip_suffix(behind));
        let is_ours = stem.is_some_and(|stem| !stem.is_empty());
        found.is_file() && is_old && is_ours && fs::remove_file(path).is_ok()
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A number that no process has: it has just ended.
    fn gone() -> u32 {
        let mut child = std::process::Command::new("true").spawn().expect("everywhere");
        let number = child.id();
        child.wait().expect("ours");
        number
    }

    #[test]
    fn only_what_is_ours_and_whose_process_is_gone_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let (root, gone, alive) = (folder.path(), gone(), std::process::id());
        let kept = [
            format!(".state.json.{alive}.tmp"),
            format!("state.json.{gone}.tmp"),
            format!(".state.json.0{gone}.tmp"),
            format!(".state.json.+{gone}.tmp"),
            ".state.json.tmp".to_owned(),
            format!(".other.{gone}.tmp"),
            format!(".text2llm-write-test-{alive}"),
            format!(".text2llm-write-test-{gone}x"),
            format!(".text2llm-write-test-{gone}-ab/c").replace('/', "."),
            ".mine.deleting".to_owned(),
            "a.part".to_owned(),
            format!(".text2llm-trial-{gone}"),
        ];
        let swept = [
            format!(".state.json.{gone}.tmp"),
            format!(".text2llm-write-test-{gone}"),
            format!(".text2llm-write-test-{gone}-aB3xYz"),
        ];
        fs::create_dir(root.join(&kept[kept.len() - 1])).unwrap();
        fs::write(root.join(&kept[kept.len() - 1]).join(KEPT), "").unwrap();
        for name in kept[..kept.len() - 1].iter().chain(&swept) {
            fs::write(root.join(name), "x").unwrap();
        }
        fs::write(root.join("target"), "precious").unwrap();
        let link = root.join(format!(".meta.json.{gone}.tmp"));
        std::os::unix::fs::symlink(root.join("target"), &link).unwrap();
        fs::create_dir_all(root.join(".20260101-000000-x.deleting/checkpoints")).unwrap();
        fs::create_dir_all(root.join(".20260101-000000x.deleting")).unwrap();
        assert_eq!(writes(root, &["state.json", "meta.json"]), 1);
        assert_eq!(numbered(root, ".text2llm-write-test-"), 2);
        fs::write(root.join(".text2llm-a.part"), "x").unwrap();
        let aged = || aged(root, ".text2llm-", ".part", Duration::from_secs(60));
        assert_eq!(aged(), 0);
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(120);
        for name in [".text2llm-a.part", "a.part"] {
            fs::File::open(root.join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(aged(), 1);
        assert_eq!(numbered(root, ".text2llm-trial-"), 0);
        assert_eq!(deleting(root, |name| name.starts_with("20260101-000000-")), 1);
        let left: BTreeSet<String> =
            fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let mut expected: BTreeSet<String> = kept.into_iter().collect();
        expected.extend([
            format!(".meta.json.{gone}.tmp"),
            "target".into(),
            ".20260101-000000x.deleting".into(),
        ]);
        assert_eq!(left, expected);
        assert_eq!(fs::read(root.join("target")).unwrap(), b"precious");
        // A folder that is a link is left as it is.
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(format!(".state.json.{gone}.tmp")), "x").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.join("runs")).unwrap();
        assert_eq!(writes(&root.join("runs"), &[]), 0);
    }
}
