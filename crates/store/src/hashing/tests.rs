use super::*;
use crate::fs::RealFs;
use crate::fs::counting::CountingFs;
use crate::fs::faulty::{Fault, MemoryFs};
use crate::manifest::Manifest;
use crate::stage::StagedFolder;
use crate::{Result, atomic, hash};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn manifest() -> Manifest {
    Manifest::new("test", serde_json::Value::Null, BTreeMap::new())
}

/// Writes with `write` and commits: every hash is that of the file in the end. Returns the names of files
/// that were read for it.
fn commit(write: impl FnOnce(&StagedFolder<'_>)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let fs = CountingFs::default();
    let staged = StagedFolder::begin(&fs, &target, "test").unwrap();
    write(&staged);
    fs.take_opened();
    let made = staged.commit(manifest()).unwrap().manifest;
    let read = fs.take_opened();
    assert!(!made.outputs.is_empty());
    for (name, record) in &made.outputs {
        let bytes = std::fs::read(target.join(name)).unwrap();
        assert_eq!(record.blake3, hash::hash_bytes(&bytes), "{name}");
        assert_eq!(record.bytes, bytes.len() as u64, "{name}");
    }
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    read.keys().map(name).collect()
}

#[test]
fn files_written_in_any_pieces_are_hashed_without_reading_them() {
    let bytes = noise(3_000_000);
    for seed in 0..20 {
        let read = commit(|staged| {
            let mut random = Random(seed);
            for number in 0..3 {
                let path = staged.path().join(format!("{number}/file"));
                staged.fs().create_dir_all(path.parent().unwrap()).unwrap();
                let mut left = &bytes[..random.below(bytes.len())];
                let most = [10, 5000, 2_000_000][random.below(3)].max(left.len() / 5000);
                let mut file = staged.fs().create(&path).unwrap();
                while !left.is_empty() {
                    let (now, later) = left.split_at(left.len().min(1 + random.below(most)));
                    file.write_all(now).unwrap();
                    left = later;
                }
            }
            atomic::write(staged.fs(), &staged.path().join("atomic"), &bytes).unwrap();
            atomic::write(staged.fs(), &staged.path().join("atomic"), &bytes[1..]).unwrap();
            staged.fs().create(&staged.path().join("empty")).unwrap();
        });
        assert_eq!(read, [""; 0], "seed {seed}");
    }
}

#[test]
fn a_file_that_is_changed_after_it_was_written_gets_its_true_hash() {
    type Change = fn(&dyn Fs, &Path);
    let through: [Change; 4] = [
        |fs, path| fs.overwrite(path).unwrap().write_all(b"X").unwrap(),
        |fs, path| fs.append(path).unwrap().write_all(b"more").unwrap(),
        |fs, path| fs.set_len(path, 5).unwrap(),
        |fs, path| {
            fs.remove_file(path).unwrap();
            RealFs.create(path).unwrap().write_all(b"otherwise").unwrap();
        },
    ];
    for (number, change) in through.into_iter().enumerate() {
        let read = commit(|staged| {
            let path = staged.path().join("file");
            staged.fs().create(&path).unwrap().write_all(b"something").unwrap();
            change(staged.fs(), &path);
        });
        assert_eq!(read, ["file"], "change {number}");
    }
    // Past the wrapper, with the same size: noticed where the disk tells identities.
    let past: [Change; 2] = [
        |_, path| RealFs.overwrite(path).unwrap().write_all(b"X").unwrap(),
        |fs, path| {
            let between = path.with_file_name("between");
            fs.rename(path, &between).unwrap();
            RealFs.overwrite(&between).unwrap().write_all(b"X").unwrap();
            fs.rename(&between, path).unwrap();
        },
    ];
    for change in past.into_iter().filter(|_| cfg!(unix)) {
        let read = commit(|staged| {
            let path = staged.path().join("file");
            staged.fs().create(&path).unwrap().write_all(b"something").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            change(staged.fs(), &path);
        });
        assert_eq!(read, ["file"]);
    }
    // A writer that outlives the file's name, or its content.
    let read = commit(|staged| {
        let path = staged.path().join("file");
        let mut first = staged.fs().create(&path).unwrap();
        first.write_all(b"first").unwrap();
        staged.fs().create(&path).unwrap().write_all(b"second").unwrap();
        drop(first);
        let moved = staged.path().join("moved");
        let mut open = staged.fs().create(&moved.with_file_name("open")).unwrap();
        staged.fs().rename(&moved.with_file_name("open"), &moved).unwrap();
        open.write_all(b"late").unwrap();
    });
    assert!(read.contains(&"moved".to_owned()), "{read:?}");
}

#[test]
fn a_renamed_folder_takes_no_records_along() {
    let read = commit(|staged| {
        let (a, b) = (staged.path().join("a"), staged.path().join("b"));
        staged.fs().create_dir_all(&a).unwrap();
        staged.fs().create(&a.join("file")).unwrap().write_all(b"one").unwrap();
        staged.fs().create(&staged.path().join("a-beside")).unwrap().write_all(b"two").unwrap();
        staged.fs().rename(&a, &b).unwrap();
    });
    assert_eq!(read, ["file"]);
}

/// After a failed write nobody knows what the file holds.
#[test]
fn a_failed_write_leaves_no_record() {
    let disk = MemoryFs::new();
    let fs = HashingFs::new(&disk, Path::new("/"));
    let path = Path::new("/file");
    let mut file = fs.create(path).unwrap();
    disk.fail_at(disk.calls(), Fault::ShortWrite);
    assert!(file.write(b"something").is_err());
    file.write_all(b"else").unwrap();
    drop(file);
    assert_eq!(fs.record(path), None);
}

#[test]
fn a_crash_at_any_call_while_hashing_leaves_one_whole_version() -> Result<()> {
    let make = |disk: &MemoryFs, text: &[u8]| -> Result<()> {
        let staged = StagedFolder::begin(disk, Path::new("/p/data"), "test")?;
        atomic::write(staged.fs(), &staged.path().join("a"), text)?;
        atomic::write(staged.fs(), &staged.path().join("inner/b"), text)?;
        staged.commit(manifest()).map(drop)
    };
    let disk = || -> Result<MemoryFs> {
        let disk = MemoryFs::new();
        disk.create_dir_all(Path::new("/p")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        make(&disk, b"first")?;
        Ok(disk)
    };
    let whole = disk()?;
    let before = whole.calls();
    make(&whole, b"second")?;
    for call in before..whole.calls() {
        for fault in [Fault::Crash, Fault::ShortWrite] {
            let disk = disk()?;
            disk.fail_at(call, fault);
            assert!(make(&disk, b"second").is_err());
            let left = if fault == Fault::Crash { disk.after_crash(call) } else { disk };
            crate::stage::repair(&left, Path::new("/p/data"))?;
            Manifest::read(&left, Path::new("/p/data"))?.verify(&left, Path::new("/p/data"))?;
        }
    }
    Ok(())
}

/// `TEXT2LLM_TEST_FOLDER=/tmp cargo test --release -p store hashing_times -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn hashing_times() {
    let folder = tempfile::tempdir_in(std::env::var("TEXT2LLM_TEST_FOLDER").unwrap_or(".".into())).unwrap();
    let path = folder.path().join("file");
    let piece = noise(1 << 20);
    let hashing = HashingFs::new(&RealFs, folder.path());
    let timed = |what: &str, work: &dyn Fn()| {
        let began = std::time::Instant::now();
        work();
        println!("{what}: {:.3} s", began.elapsed().as_secs_f64());
    };
    let write = |fs: &dyn Fs| {
        let _ = std::fs::remove_file(&path);
        let mut file = fs.create(&path).unwrap();
        (0..500).for_each(|_| file.write_all(&piece).unwrap());
    };
    for _ in 0..5 {
        timed("500 MiB written and hashed", &|| write(&hashing));
        timed("500 MiB written", &|| write(&RealFs));
        // Too new for its hash to be kept.
        for threads in [1, 0] {
            hash::set_threads(threads);
            timed(&format!("hashed with {} threads", hash::threads()), &|| {
                hash::hash_file(&RealFs, &path).unwrap();
            });
        }
    }
}
