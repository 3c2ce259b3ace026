//! Damaged files for every reader, in this process: no panic, no call over ten seconds, and no more memory than four times the file
//! and 64 MB. A damaged text of a corpus takes none of its neighbours with it.
//!
//! The memory is what Rust code allocates; zstd's own C code is not counted. A stack overflow ends the process: the file `current`
//! in the kept folder then names the case. Reading order: here, `mutate`, `readers`, `seeds`.

pub mod mutate;
mod readers;
mod seeds;

#[allow(dead_code)] // Of the corpus's own samples, those that are not damaged here.
#[path = "../../../../crates/corpus/tests/it/samples.rs"]
mod samples;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use compute::heap::Counting;
use compute::rng::Rng;

use super::Field;
use super::watched::LIMIT;
use readers::Reader;
use seeds::Seed;

/// A call that lasts so long ends the process, since a thread cannot be ended.
const GIVE_UP: Duration = Duration::from_secs(120);
/// What a reader may allocate: so many times the file, and this beside it.
const TIMES_FILE: usize = 4;
const BESIDE_BYTES: usize = 64 << 20;

/// Where panics of this attack are told, those included that a reader catches.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs the attack.
pub fn run(field: &mut Field) -> Result<()> {
    let readers = readers::all(field)?;
    std::fs::create_dir_all(&field.kept)?;
    let mut bench = Bench::new(field)?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or(String::new(), ToString::to_string);
        // Without the registry's folder, which differs from machine to machine.
        let place = place.rsplit_once("/src/index.crates.io-").map_or(place.as_str(), |(_, rest)| rest);
        let message = panic.payload_as_str().unwrap_or("something else than a text");
        let message: String = message.chars().take(120).collect();
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{place}: {message}"));
    }));
    let mut failed = Ok(());
    while let Some((case, mut rng)) = field.next() {
        failed = one_case(field, &mut bench, &readers, case, &mut rng);
        if failed.is_err() {
            break;
        }
    }
    std::panic::set_hook(before);
    bench.end();
    failed
}

/// A batch of files for one reader.
fn one_case(
    field: &mut Field,
    bench: &mut Bench,
    readers: &[Reader],
    case: u64,
    rng: &mut Rng,
) -> Result<()> {
    let reader = &readers[case as usize % readers.len()];
    let files: Vec<Vec<u8>> = (0..reader.batch()).map(|_| damaged(&reader.seeds, rng)).collect();
    field.did(files.len() as u64);
    bench.begin(case, reader.name)?;
    let problem = bench.check(reader, &files);
    for caught in bench.caught.drain(..) {
        field.note(format!("panic that {} caught: {caught}", reader.name));
    }
    let Some(problem) = problem else { return Ok(()) };
    // Which of them it was.
    for file in &files {
        if let Some(problem) = bench.check(reader, std::slice::from_ref(file)) {
            let place = bench.folder.join(format!("file.{}", reader.end()));
            std::fs::write(&place, file)?;
            return field.fail(
                case,
                format!("{}, {} bytes: {problem}", reader.name, file.len()),
                Some(&place),
            );
        }
    }
    let place = bench.folder.join("together");
    std::fs::create_dir_all(&place)?;
    for (number, file) in files.iter().enumerate() {
        std::fs::write(place.join(format!("{number:02}.{}", reader.end())), file)?;
    }
    field.fail(case, format!("{}, only together: {problem}", reader.name), Some(&place))
}

/// A seed after some changes: to the file, or to what is packed in it.
fn damaged(seeds: &[Seed], rng: &mut Rng) -> Vec<u8> {
    let seed = mutate::pick(rng, seeds);
    let other = mutate::pick(rng, seeds);
    match &seed.packed {
        Some((inner, pack)) if rng.below(2) == 0 => pack(&mutate::mutated(inner, &other.bytes, rng)),
        _ => mutate::mutated(&seed.bytes, &other.bytes, rng),
    }
}

/// Measures calls.
struct Bench {
    folder: PathBuf,
    current: PathBuf,
    /// What runs now, since when; nothing between calls.
    running: Arc<Mutex<Option<(Instant, String)>>>,
    case: String,
    /// What preparing one harmless text allocates.
    harmless_bytes: usize,
    caught: Vec<String>,
}

impl Bench {
    fn new(field: &Field) -> Result<Bench> {
        let folder = field.folder("bench")?;
        std::fs::create_dir_all(&folder)?;
        let running = Arc::new(Mutex::new(None::<(Instant, String)>));
        let watched = Arc::clone(&running);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let running = watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some((_, case)) = running.filter(|(since, _)| since.elapsed() > GIVE_UP) {
                    eprintln!("FAILED mutations {case}: no end after {GIVE_UP:?}");
                    std::process::exit(1);
                }
            }
        });
        let mut bench = Bench {
            folder,
            current: field.kept.join("current"),
            running,
            case: String::new(),
            harmless_bytes: 0,
            caught: Vec::new(),
        };
        let held = Counting::held_bytes();
        Counting::begin_peak();
        let harmless = readers::prepare(&bench.folder, "txt", &[b"a harmless text".to_vec()]);
        anyhow::ensure!(harmless.is_ok(), "a harmless text cannot be prepared: {harmless:?}");
        bench.harmless_bytes = Counting::peak_bytes().saturating_sub(held);
        Ok(bench)
    }

    fn begin(&mut self, case: u64, reader: &str) -> Result<()> {
        self.case = format!("{case} ({reader})");
        Ok(std::fs::write(&self.current, &self.case)?)
    }

    fn end(&self) {
        // It only matters where this is not reached.
        let _ = std::fs::remove_file(&self.current);
    }

    /// Reads the files in one call, and says what must not be.
    fn check(&mut self, reader: &Reader, files: &[Vec<u8>]) -> Option<String> {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), self.case.clone()));
        let held = Counting::held_bytes();
        Counting::begin_peak();
        let begun = Instant::now();
        let read = catch_unwind(AssertUnwindSafe(|| reader.read(&self.folder, files)));
        let (elapsed, taken) = (begun.elapsed(), Counting::peak_bytes().saturating_sub(held));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        if read.is_err() {
            return Some(format!("it panicked: {}", panics.join("; ")));
        }
        self.caught.extend(panics);
        if let Ok(Err(problem)) = read {
            return Some(problem);
        }
        if elapsed > LIMIT {
            return Some(format!("it took {:.1} s", elapsed.as_secs_f64()));
        }
        let bytes: usize = files.iter().map(Vec::len).sum();
        let allowed = TIMES_FILE * bytes + BESIDE_BYTES + self.harmless_bytes;
        (taken > allowed).then(|| format!("it allocated {} MB, and may {} MB", taken >> 20, allowed >> 20))
    }
}

/// Where something lies that others may use.
fn shared_data() -> PathBuf {
    crate::python::repository().join("../shared/data")
}

/// A file's bytes; none where it is not there, which is told.
fn of_disk(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok();
    if bytes.is_none() {
        println!("  without `{}`, which is not there", path.display());
    }
    bytes
}
