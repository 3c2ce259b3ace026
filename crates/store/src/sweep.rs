//! Removes leftovers of killed processes: temporary files with a process id in their names, and folders being
//! deleted.
//!
//! Only files with this program's naming scheme, in folders that it writes to, whose process has ended. Links
//! are neither followed nor removed, and names that a person could have chosen are not touched. Staged
//! folders are left to `stage::repair`.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::Duration;

use crate::process;

/// Marks a folder that was left on purpose, for inspection.
pub const KEPT: &str = "kept";

/// The process id in a name: a prefix, the id, and optionally a dash and random letters.
fn process_of(name: &str, before: &str) -> Option<u32> {
    let rest = name.strip_prefix(before)?;
    let (number, random) =
        rest.split_once('-').map_or((rest, None), |(number, random)| (number, Some(random)));
    let is_random = |text: &str| text.len() >= 6 && text.chars().all(|c| c.is_ascii_alphanumeric());
    // Only the canonical form: no sign, no leading zeros.
    number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number && random.is_none_or(is_random))
}

/// The process id in `.NAME.PID.tmp`, a leftover of a whole-file write, if NAME is one of `names`; any NAME
/// if `names` is empty.
pub fn of_a_write(name: &str, names: &[&str]) -> Option<u32> {
    let (stem, number) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let is_ours = if names.is_empty() { !stem.is_empty() } else { names.contains(&stem) };
    process_of(number, "").filter(|_| is_ours && !number.contains('-'))
}

/// Calls `take` with name, path and type of each entry of a folder that is not a link; returns how many it
/// accepted.
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

/// Removes leftovers of whole-file writes of `names` (of all, if empty) in a folder; returns how many. Files
/// that cannot be removed stay, which is harmless.
pub fn writes(folder: &Path, names: &[&str]) -> usize {
    each(folder, |name, path, found| {
        let gone = || of_a_write(name, names).is_some_and(|process| !process::is_alive(process));
        found.is_file() && gone() && fs::remove_file(path).is_ok()
    })
}

/// Removes files or folders named `BEFORE` + process id, optionally with `-` and random letters; returns how
/// many. A folder that contains a file [`KEPT`] is kept.
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

/// Removes files named `before` + `NAME` + `behind` that have not been written to for this time; returns how
/// many. Only for caches, where nobody else uses such names.
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
