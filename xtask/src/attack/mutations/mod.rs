//! Damaged files for every reader, in this process: no panic of our own code, none of a library that is not
//! caught, no call over ten seconds, and no more memory than four times the file plus 64 MB (of a corpus: of
//! the files of a call). A damaged file of a corpus costs no other file of it.
//!
//! Memory is what Rust code allocates; zstd's C code is not counted. A stack overflow aborts the process: the
//! file `current` in the folder of kept failures then names the case. Reading order: here, `mutate`,
//! `readers`, `seeds`.

pub mod mutate;
mod readers;
mod seeds;

#[allow(dead_code)] // The corpus tests' own samples; not all of them are needed here.
#[path = "../../../../crates/corpus/tests/it/samples.rs"]
mod samples;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use compute::counting::Counting;
use compute::rng::Rng;

use super::Campaign;
use super::watched::LIMIT;
use readers::Reader;
use seeds::Seed;

/// A call that takes longer ends the process, since a thread cannot be stopped.
const GIVE_UP: Duration = Duration::from_secs(120);
/// A reader may allocate so many times the file's size,
const TIMES_FILE: usize = 4;
/// and this many bytes more.
const BESIDE_BYTES: usize = 64 << 20;

/// Panics since the last call, including those that a reader catches.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs the attack.
pub fn run(campaign: &mut Campaign) -> Result<()> {
    let readers = readers::all(campaign)?;
    std::fs::create_dir_all(&campaign.kept)?;
    let mut bench = Bench::new(campaign)?;
    for reader in &readers {
        for (number, seed) in reader.seeds.iter().enumerate() {
            let taken = reader.read(&bench.folder, std::slice::from_ref(&seed.bytes));
            let is_taken = taken.as_ref().is_ok_and(|&taken| taken > 0);
            anyhow::ensure!(is_taken, "{}: undamaged file {number} is not accepted: {taken:?}", reader.name);
        }
    }
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
    while let Some((case, mut rng)) = campaign.next() {
        failed = one_case(campaign, &mut bench, &readers, case, &mut rng);
        if failed.is_err() {
            break;
        }
    }
    std::panic::set_hook(before);
    bench.end();
    println!("  of {} damaged files, {} files or documents were accepted", bench.files, bench.taken);
    failed
}

/// A batch of files for one reader.
fn one_case(
    campaign: &mut Campaign,
    bench: &mut Bench,
    readers: &[Reader],
    case: u64,
    rng: &mut Rng,
) -> Result<()> {
    let reader = &readers[case as usize % readers.len()];
    let files: Vec<Vec<u8>> = (0..reader.batch()).map(|_| damaged(&reader.seeds, rng)).collect();
    campaign.did(files.len() as u64);
    bench.files += files.len() as u64;
    bench.begin(case, reader.name)?;
    let mut problem = match reader.reads_together() {
        true => bench.check(reader, &files),
        false => files.iter().find_map(|file| bench.check(reader, std::slice::from_ref(file))),
    };
    for caught in bench.caught.drain(..) {
        let place = caught.split_once(": ").map_or(caught.as_str(), |(place, _)| place);
        if place.starts_with("crates/") {
            problem.get_or_insert(format!("panic in {place}"));
        }
        campaign.note(format!("panic in {place}, caught by the reader of {}", reader.name));
    }
    let Some(problem) = problem else { return Ok(()) };
    // Find the file that causes it.
    for file in &files {
        if let Some(problem) = bench.check(reader, std::slice::from_ref(file)) {
            let place = bench.folder.join(format!("file.{}", reader.end()));
            std::fs::write(&place, file)?;
            return campaign.fail(
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
    campaign.fail(case, format!("{}, only together: {problem}", reader.name), Some(&place))
}

/// A mutated seed: the file itself, or its unpacked content packed again.
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
    /// Start and name of the call in progress.
    running: Arc<Mutex<Option<(Instant, String)>>>,
    case: String,
    /// Files that were read, and how many files or documents were accepted.
    files: u64,
    taken: u64,
    /// Peak allocation of preparing one harmless text.
    harmless_bytes: usize,
    caught: Vec<String>,
}

impl Bench {
    fn new(campaign: &Campaign) -> Result<Bench> {
        let folder = campaign.folder("bench")?;
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
            current: campaign.kept.join("current"),
            running,
            case: String::new(),
            files: 0,
            taken: 0,
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
        // It is only of use after an abort.
        let _ = std::fs::remove_file(&self.current);
    }

    /// Reads the files in one call; what is wrong, if anything.
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
        match read {
            Ok(Ok(taken)) => self.taken += taken,
            Ok(Err(problem)) => return Some(problem),
            Err(_) => {}
        }
        if elapsed > LIMIT {
            return Some(format!("it took {:.1} s", elapsed.as_secs_f64()));
        }
        let bytes: usize = files.iter().map(Vec::len).sum();
        let allowed = TIMES_FILE * bytes + BESIDE_BYTES + self.harmless_bytes;
        (taken > allowed).then(|| format!("it allocated {} MB, and may {} MB", taken >> 20, allowed >> 20))
    }
}
