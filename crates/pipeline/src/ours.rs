//! Checks before single files are overwritten or removed: their content must show that the program wrote
//! them. (For folders, see `store::ownership`.)

use std::path::Path;

use store::Foreign;
use store::fs::{FileKind, Fs, RealFs};

use crate::Result;
use crate::project::Project;

/// A heartbeat is a number.
const LONGEST_HEARTBEAT: u64 = 20;

/// Returns an error for a file that exists and is not the program's.
fn refuse(path: &Path) -> Result<()> {
    Err(store::Error::NotOurs { path: path.to_owned(), found: Foreign::NotWritten }.into())
}

/// Checks that an existing JSON file has this program's keys. One may be missing, since a damaged file is the
/// program's too.
pub(crate) fn check_json(path: &Path, keys: &[&str]) -> Result<()> {
    let is_ours = |bytes: Vec<u8>| {
        let text = String::from_utf8_lossy(&bytes);
        let known = keys.iter().filter(|key| text.contains(&format!("\"{key}\":"))).count();
        known + 1 >= keys.len()
    };
    if !RealFs.exists(path) || RealFs.read(path).is_ok_and(is_ours) { Ok(()) } else { refuse(path) }
}

/// `training_metrics.json` of the project.
pub(crate) fn check_metrics(project: &Project) -> Result<()> {
    const KEYS: [&str; 8] = [
        "run_id",
        "total_steps",
        "best_validation_loss",
        "trained_tokens",
        "non_finite_steps",
        "hyperparameters",
        "environment",
        "tokenizer_hash",
    ];
    check_json(&project.training_metrics(), &KEYS)
}

/// Checks that a stop request in `folder` is an empty file.
pub(crate) fn check_request(folder: &Path) -> Result<()> {
    let path = folder.join(runs::stop::FILE_NAME);
    match RealFs.kind(&path) {
        None => Ok(()),
        Some(FileKind::File) if RealFs.file_bytes(&path).is_ok_and(|bytes| bytes == 0) => Ok(()),
        Some(_) => refuse(&path),
    }
}

/// Checks a heartbeat in `folder`. A link or pipe of that name is not followed when it is written, so it is
/// harmless.
pub(crate) fn check_heartbeat(folder: &Path) -> Result<()> {
    let path = folder.join(train::HEARTBEAT_FILE);
    let is_number = || RealFs.read(&path).is_ok_and(|bytes| bytes.iter().all(u8::is_ascii_digit));
    let is_ours = || RealFs.file_bytes(&path).is_ok_and(|bytes| bytes <= LONGEST_HEARTBEAT) && is_number();
    if RealFs.kind(&path) == Some(FileKind::File) && !is_ours() { refuse(&path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ours_by_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let keys = ["a", "b", "c"];
        check_json(&path, &keys).unwrap();
        for (text, ours) in [
            ("{\"a\": 1, \"b\": 2, \"c\": 3}", true),
            ("{\"a\": 1, \"b\": 2, \"c", true),
            ("{\"a\": 1, \"notes\": [\"b\", \"c\"]}", false),
            ("", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(check_json(&path, &keys).is_ok(), ours, "{text}");
        }
    }
}
