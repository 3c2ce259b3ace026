//! What is read on the real disk, and how long it takes: `cargo test --release -p train checkpoint_times --
//! --ignored --nocapture` with `TEXT2LLM_TEST_PARAMETERS=250000000 TEXT2LLM_TEST_FOLDER=/dev/shm`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use compute::rng::Rng;
use model::StateKind;
use runs::report::NoReport;
use store::fs::counting::CountingFs;
use store::fs::{Fs, RealFs};

use super::tests::state;
use super::*;

/// One large weight, as most of a model is, with its moments.
struct OneTensor(Vec<f32>);

impl TensorStore for OneTensor {
    fn saved_tensors(&self) -> Vec<SavedTensor> {
        let tensor = |kind| SavedTensor { name: "weight".to_owned(), kind, shape: vec![self.0.len()] };
        [StateKind::Weight, StateKind::Moment1, StateKind::Moment2].map(tensor).to_vec()
    }

    fn read_tensor(&mut self, _: &SavedTensor) -> Result<Vec<f32>> {
        Ok(self.0.clone())
    }

    fn write_tensor(&mut self, _: &SavedTensor, values: &[f32]) -> Result<()> {
        self.0.copy_from_slice(values);
        Ok(())
    }
}

/// Number of times that each file with tensors was opened since the last call.
fn opened(fs: &CountingFs) -> BTreeMap<String, usize> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let opened = fs.take_opened().into_iter().map(|(path, count)| (name(&path), count));
    opened.filter(|(name, _)| name.ends_with(".safetensors")).collect()
}

#[test]
fn only_the_needed_part_is_verified_and_no_file_twice() {
    let folder = tempfile::tempdir().unwrap();
    let fs = CountingFs::default();
    let all = Checkpoints::new(&fs, folder.path());
    let mut tensors = OneTensor(vec![0.5; 300_000]);
    let is = |weights, moments| {
        let counts = [(WEIGHTS, weights), (MOMENTS, moments)].map(|(name, count)| (name.to_owned(), count));
        counts.into_iter().filter(|(_, count)| *count > 0).collect::<BTreeMap<String, usize>>()
    };
    all.save(&state(1), &mut tensors).unwrap();
    assert_eq!(opened(&fs), is(1, 1), "read back once");
    if fs
        .identity(&all.path(1).join(WEIGHTS))
        .is_none_or(|file| file.changed.nanoseconds.is_multiple_of(1_000_000))
    {
        eprintln!("skipped: this disk does not tell soon enough whether a file has changed");
        return;
    }
    std::thread::sleep(Duration::from_millis(300));

    all.load_weights(Which::Best, &mut tensors, &mut NoReport).unwrap();
    assert_eq!(opened(&fs), is(2, 0), "verified and read");
    all.load_weights(Which::Latest, &mut tensors, &mut NoReport).unwrap();
    assert_eq!(opened(&fs), is(1, 0), "only read");

    // A resume, and the retention after its first checkpoint.
    all.latest_state(Part::All, &mut NoReport).unwrap();
    assert_eq!(opened(&fs), is(0, 1), "verified");
    all.load(Which::Latest, &mut tensors, &mut NoReport).unwrap();
    assert_eq!(opened(&fs), is(1, 1), "only read");
    all.save(&state(2), &mut tensors).unwrap();
    assert_eq!(opened(&fs), is(1, 1), "read back once");
    all.prune(2, 2, &[], &mut NoReport).unwrap();
    assert_eq!(opened(&fs), is(0, 0));
}

#[test]
fn damaged_moments_matter_only_to_those_who_need_them() {
    let folder = tempfile::tempdir().unwrap();
    let all = Checkpoints::new(&RealFs, folder.path());
    let mut tensors = OneTensor(vec![0.5; 300_000]);
    for step in 1..=2 {
        let state = TrainerState { best: Some(Best { step, loss: 1.0 }), ..state(step) };
        all.save(&state, &mut tensors).unwrap();
    }
    let path = all.path(2).join(MOMENTS);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let step = |state: Option<TrainerState>| state.unwrap().step;
    assert_eq!(step(all.load_weights(Which::Latest, &mut tensors, &mut NoReport).unwrap()), 2);
    assert_eq!(step(all.latest_state(Part::Weights, &mut NoReport).unwrap()), 2);
    assert_eq!(step(all.latest_state(Part::All, &mut NoReport).unwrap()), 1);
    assert_eq!(step(all.load(Which::Latest, &mut tensors, &mut NoReport).unwrap()), 1);
    assert!(all.verify(2).is_err() && all.verify_part(2, Part::Weights).is_ok());

    // The best checkpoint is the newest, and its weights are damaged: the earlier one knows another best.
    let path = all.path(2).join(WEIGHTS);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let best = |state: TrainerState| state.best.unwrap().step;
    assert_eq!(best(all.latest_state(Part::Weights, &mut NoReport).unwrap().unwrap()), 1);
    assert_eq!(step(all.load_weights(Which::Best, &mut tensors, &mut NoReport).unwrap()), 1);
}

#[test]
#[ignore = "a measurement"]
fn checkpoint_times() {
    let parameters = std::env::var("TEXT2LLM_TEST_PARAMETERS").ok().and_then(|n| n.parse().ok());
    let parameters: usize = parameters.unwrap_or(1 << 20);
    let folder = tempfile::tempdir_in(std::env::var("TEXT2LLM_TEST_FOLDER").unwrap_or(".".into())).unwrap();
    let all = Checkpoints::new(&RealFs, Path::new(folder.path()));
    let mut rng = Rng::from_parts(1, "timing", &[]);
    let mut tensors = OneTensor((0..parameters).map(|_| rng.uniform() as f32).collect());
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        println!("{what}: {:.2} s", began.elapsed().as_secs_f64());
    };
    println!("{parameters} parameters, {:.2} GB", 12.0 * parameters as f64 / 1e9);
    for step in 1..=3 {
        let state = state(step);
        timed("save", &mut || drop(all.save(&state, &mut tensors).unwrap()));
        timed("prune", &mut || drop(all.prune(step, 2, &[1], &mut NoReport).unwrap()));
    }
    timed("verify again", &mut || drop(all.verify(3).unwrap()));
    timed("load the best weights", &mut || {
        drop(all.load_weights(Which::Best, &mut tensors, &mut NoReport).unwrap());
    });
    timed("load the latest", &mut || drop(all.load(Which::Latest, &mut tensors, &mut NoReport).unwrap()));
}
