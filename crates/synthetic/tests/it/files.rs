//! What is written to disk, and what is not overwritten.

use std::path::Path;

use store::fs::RealFs;
use synthetic::files::{self, Written};
use synthetic::weather_persona::{self, METADATA_FILE, Options, TRAIN_FILE, VALIDATION_FILE, json_lines};
use synthetic::{Error, Result};

fn write(folder: &Path, seed: u64) -> Result<Vec<Written>> {
    files::write(&RealFs, folder, &weather_persona::generate(&Options { seed, conversations: 200 })?)
}

#[test]
fn files_contain_the_conversations_and_are_replaced_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/synthetic");
    let written = write(&out, 1).unwrap();
    assert!(written.iter().all(|file| !file.was_there && file.bytes > 0));
    let names: Vec<_> = written.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, [TRAIN_FILE, VALIDATION_FILE, METADATA_FILE]);
    let bytes = std::fs::read(out.join(TRAIN_FILE)).unwrap();
    let expected = weather_persona::generate(&Options { seed: 1, conversations: 200 }).unwrap();
    assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), json_lines(&expected.train));

    assert!(write(&out, 1).unwrap().iter().all(|file| file.was_there));
    assert!(write(&out, 2).unwrap().iter().all(|file| !file.was_there));
    assert_ne!(std::fs::read(out.join(TRAIN_FILE)).unwrap(), bytes);
    write(&out, 1).unwrap();
    assert_eq!(std::fs::read(out.join(TRAIN_FILE)).unwrap(), bytes);
}

#[test]
fn files_of_others_and_changed_files_stay() {
    for (name, content) in [
        (TRAIN_FILE, b"mine".to_vec()),
        (VALIDATION_FILE, zstd::encode_all(b"mine".as_slice(), 3).unwrap()),
        (METADATA_FILE, b"{\"generator\": \"another\"}".to_vec()),
    ] {
        for is_changed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            if is_changed {
                write(folder.path(), 1).unwrap();
            }
            std::fs::write(folder.path().join(name), &content).unwrap();
            let before = names(folder.path());
            for seed in [1, 2] {
                let error = write(folder.path(), seed).unwrap_err();
                assert!(matches!(&error, Error::NotOurs { path } if path.ends_with(name)), "{error}");
                assert!(error.to_string().contains("--out"), "{error}");
            }
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), content);
            assert_eq!(names(folder.path()), before);
        }
    }
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, "mine").unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.path().join(TRAIN_FILE)).unwrap();
    assert!(matches!(write(folder.path(), 1), Err(Error::NotOurs { .. })));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"mine");
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).expect("listed").map(|entry| entry.expect("listed").file_name()).collect();
    names.sort();
    names
}
