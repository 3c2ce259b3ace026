//! Crashes, decay, full disks and retention, over a stand-in for the model and a disk in memory.

use std::collections::BTreeMap;
use std::path::Path;

use compute::rng::Rng;
use runs::report::{NoReport, Recorder};
use serde_json::json;
use store::fs::Fs;
use store::fs::faulty::{Fault, MemoryFs};

use super::*;
use crate::ErrorKind;

const FOLDER: &str = "/run/checkpoints";

/// Two weights with moments whose values tell which step they are of.
#[derive(Clone, Default, PartialEq, Debug)]
struct StandIn(BTreeMap<(String, StateKind), Vec<f32>>);

/// 18 values; a million with `TEXT2LLM_TEST_MODEL=1M`.
fn shapes() -> [(&'static str, [usize; 2]); 2] {
    let is_large = std::env::var("TEXT2LLM_TEST_MODEL").is_ok_and(|size| size == "1M");
    let [rows, columns] = if is_large { [4096, 256] } else { [5, 3] };
    [("model.embed_tokens.weight", [rows, columns]), ("model.norm.weight", [1, columns])]
}

impl StandIn {
    fn of_step(step: u64) -> StandIn {
        let mut stand_in = StandIn::default();
        for tensor in stand_in.saved_tensors() {
            let first = Rng::from_parts(step, &tensor.name_in_file(), &[]).uniform() as f32;
            let values = (0..tensor.shape.iter().product::<usize>()).map(|i| first + i as f32).collect();
            stand_in.0.insert((tensor.name, tensor.kind), values);
        }
        stand_in
    }
}

impl TensorStore for StandIn {
    fn saved_tensors(&self) -> Vec<SavedTensor> {
        let kinds = [StateKind::Weight, StateKind::Moment1, StateKind::Moment2];
        kinds
            .into_iter()
            .flat_map(|kind| {
                shapes().map(|(name, shape)| SavedTensor {
                    name: name.to_owned(),
                    kind,
                    shape: shape.to_vec(),
                })
            })
            .collect()
    }

    fn read_tensor(&mut self, tensor: &SavedTensor) -> Result<Vec<f32>> {
        Ok(self.0[&(tensor.name.clone(), tensor.kind)].clone())
    }

    fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> Result<()> {
        self.0.insert((tensor.name.clone(), tensor.kind), values.to_vec());
        Ok(())
    }
}

pub(super) fn state(step: u64) -> TrainerState {
    TrainerState {
        format: TrainerState::FORMAT,
        step,
        updates: step,
        total_steps: 1000,
        duties_due: false,
        cursor: tokens::LoaderCursor::default(),
        stream: None,
        left: Default::default(),
        tokens_seen: 32 * step,
        epoch: EpochLoss { epoch: 0, loss_sum: 1.0 / 3.0, weight_sum: 1e-7, tokens: 2 },
        history: Vec::new(),
        train_loss: Some(0.1 + 0.2),
        validation_loss: None,
        best: Some(Best { step: 1, loss: f64::MIN_POSITIVE }),
        validations_since_best: 0,
        stopped_early: false,
        decaying_after: None,
        non_finite_in_a_row: 0,
        non_finite_steps: 0,
        anchors: vec![step],
        spikes: SpikeWindow::default(),
        rollbacks: Rollbacks::default(),
        options: crate::TrainOptions::default(),
        model: json!({"hidden_size": 3, "rms_norm_eps": 1e-5}),
        data_hash: "d".into(),
        tokenizer_hash: "t".into(),
    }
}

fn checkpoints(disk: &MemoryFs) -> Checkpoints<'_> {
    Checkpoints::new(disk, Path::new(FOLDER))
}

fn save(disk: &MemoryFs, step: u64) -> Result<save::Saved> {
    checkpoints(disk).save(&state(step), &mut StandIn::of_step(step))
}

fn disk_with(steps: &[u64]) -> MemoryFs {
    let disk = MemoryFs::new();
    disk.create_dir_all(Path::new(FOLDER)).unwrap();
    disk.sync_dir(Path::new("/run")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for &step in steps {
        save(&disk, step).unwrap();
    }
    disk
}

/// The step that `latest` gives, with all it holds compared; the warnings on the way.
fn latest(disk: &MemoryFs) -> (Result<Option<u64>>, Recorder) {
    let mut recorder = Recorder::default();
    let mut tensors = StandIn::default();
    let loaded = checkpoints(disk).load(Which::Latest, &mut tensors, &mut recorder);
    let step = loaded.map(|loaded| {
        loaded.map(|loaded| {
            assert_eq!(loaded, state(loaded.step));
            assert_eq!(tensors, StandIn::of_step(loaded.step));
            loaded.step
        })
    });
    (step, recorder)
}

fn files(disk: &MemoryFs, step: u64) -> Vec<PathBuf> {
    let path = checkpoints(disk).path(step);
    disk.list(&path).unwrap().into_iter().map(|entry| path.join(entry.name)).collect()
}

#[test]
fn what_is_saved_comes_back_and_is_the_same_every_time() {
    let disk = disk_with(&[7]);
    assert_eq!(latest(&disk).0.unwrap(), Some(7));
    let names: Vec<String> =
        files(&disk, 7).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["manifest.json", "moments.safetensors", "trainer.json", "weights.safetensors"]);
    assert_eq!(save(&disk, 7).unwrap().manifest, save(&disk_with(&[]), 7).unwrap().manifest);
    assert_eq!(latest(&disk_with(&[])).0.unwrap(), None);

    let mut weights = StandIn::default();
    checkpoints(&disk).load_weights(Which::Step(7), &mut weights, &mut NoReport).unwrap();
    assert_eq!(weights.0.len(), shapes().len());
    let error = checkpoints(&disk).load(Which::Step(8), &mut weights, &mut NoReport).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("available steps: 7"), "{error}");
}

#[test]
fn a_crash_at_any_call_leaves_the_old_or_the_new() {
    let whole = disk_with(&[1]);
    let before = whole.calls();
    save(&whole, 2).unwrap();
    for seed in 0..20 {
        assert_eq!(latest(&whole.after_crash(seed)).0.unwrap(), Some(2), "saved means durable");
    }
    let calls = whole.calls() - before;
    assert!(calls > 20, "{calls}");
    for call in before..whole.calls() {
        for seed in 0..24 {
            let disk = disk_with(&[1]);
            disk.fail_at(call, Fault::Crash);
            assert!(save(&disk, 2).is_err());
            let left = disk.after_crash(seed);
            let (step, recorder) = latest(&left);
            assert!(matches!(step, Ok(Some(1 | 2))), "call {call}, seed {seed}: {step:?}");
            assert_eq!(recorder.warnings(), [""; 0], "a crash leaves nothing that looks damaged");
            save(&left, 3).unwrap();
            assert_eq!(latest(&left).0.unwrap(), Some(3));
            let hidden =
                left.list(Path::new(FOLDER)).unwrap().iter().filter(|e| e.name.starts_with('.')).count();
            assert_eq!(hidden, 0, "call {call}, seed {seed}");
        }
    }
}

#[test]
fn a_failure_at_any_call_leaves_the_old_and_the_next_try_succeeds() {
    let whole = disk_with(&[1]);
    let before = whole.calls();
    save(&whole, 2).unwrap();
    for call in before..whole.calls() {
        for fault in [
            Fault::Error(std::io::ErrorKind::StorageFull),
            Fault::Error(std::io::ErrorKind::Other),
            Fault::ShortWrite,
        ] {
            let disk = disk_with(&[1]);
            disk.fail_at(call, fault);
            let error = save(&disk, 2).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::Io), "call {call}: {error}");
            assert!(checkpoints(&disk).verify(1).is_ok(), "call {call}, {fault:?}");
            assert!(matches!(latest(&disk).0, Ok(Some(1 | 2))));
            save(&disk, 2).unwrap();
            assert_eq!(latest(&disk).0.unwrap(), Some(2));
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_seen_and_the_one_before_is_used() {
    let disk = disk_with(&[4, 5]);
    let mut rng = Rng::from_parts(1, "mutations", &[]);
    let mut mutations = 0;
    for path in files(&disk, 5) {
        let whole = disk.read(&path).unwrap();
        for _ in 0..2500 {
            let mut bytes = whole.clone();
            match rng.below(3) {
                0 => bytes.truncate(rng.below(whole.len() as u64) as usize),
                1 => bytes.push(rng.next_u64() as u8),
                _ => bytes[rng.below(whole.len() as u64) as usize] ^= 1 << rng.below(8),
            }
            disk.mutate(&path, |file| *file = bytes);
            let (step, recorder) = latest(&disk);
            assert_eq!(step.unwrap(), Some(4), "{}", path.display());
            let warning = recorder.warnings().join("\n");
            assert!(warning.contains(&*path.file_name().unwrap().to_string_lossy()), "{warning}");
            assert!(warning.contains("step 4"), "{warning}");
            mutations += 1;
        }
        disk.mutate(&path, |file| *file = whole);
        assert_eq!(latest(&disk).0.unwrap(), Some(5));
    }
    assert!(mutations >= 10_000);
}

#[test]
fn with_nothing_whole_left_it_says_so_and_never_starts_over_in_silence() {
    let disk = disk_with(&[4, 5]);
    for step in [4, 5] {
        disk.mutate(&checkpoints(&disk).path(step).join(WEIGHTS), |bytes| bytes[100] ^= 1);
    }
    let (loaded, recorder) = latest(&disk);
    let error = loaded.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("2 damaged") && error.to_string().contains("step-00000005"),
        "{error}"
    );
    assert_eq!(recorder.warnings().len(), 2);
}

#[test]
fn a_missing_file_or_a_foreign_folder_is_not_a_checkpoint() {
    let disk = disk_with(&[1, 2]);
    disk.remove_file(&checkpoints(&disk).path(2).join(store::manifest::FILE_NAME)).unwrap();
    assert_eq!(latest(&disk).0.unwrap(), Some(1));
    // The right bytes under another step's name.
    let disk = disk_with(&[1, 2]);
    disk.rename(&checkpoints(&disk).path(1), &checkpoints(&disk).path(9)).unwrap();
    let (step, recorder) = latest(&disk);
    assert_eq!(step.unwrap(), Some(2));
    assert!(recorder.warnings()[0].contains("step 9"));
}

/// The run goes back before a damaged checkpoint and makes it again; nothing of it is left but what is not
/// ours.
#[test]
fn a_damaged_checkpoint_is_made_again_and_files_of_others_are_kept() {
    let manifest = store::manifest::FILE_NAME;
    type Damage = fn(&MemoryFs, &Path);
    let damages: [Damage; 4] = [
        |disk, path| disk.remove_file(&path.join(store::manifest::FILE_NAME)).unwrap(),
        |disk, path| disk.mutate(&path.join(store::manifest::FILE_NAME), |bytes| bytes.clear()),
        |disk, path| disk.mutate(&path.join(WEIGHTS), |bytes| bytes[100] ^= 1),
        |disk, path| drop(disk.create(&path.join("notes.txt")).unwrap()),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let disk = disk_with(&[4, 5]);
        let path = checkpoints(&disk).path(5);
        damage(&disk, &path);
        save(&disk, 5).unwrap();
        assert_eq!(latest(&disk).0.unwrap(), Some(5), "{number}");
        let mut names: Vec<String> =
            disk.list(Path::new(FOLDER)).unwrap().into_iter().map(|entry| entry.name).collect();
        names.retain(|name| !name.starts_with("step-0000000") || name.contains("kept"));
        if number == 3 {
            assert_eq!(names, ["step-00000005.kept"]);
            let kept = Path::new(FOLDER).join(&names[0]);
            assert_eq!(disk.list(&kept).unwrap().len(), 1, "no {manifest} of what is gone");
        } else {
            assert!(names.is_empty(), "{number}: {names:?}");
        }
    }
}

#[test]
fn another_shape_is_refused_and_not_taken_for_damage() {
    struct Other(StandIn);
    impl TensorStore for Other {
        fn saved_tensors(&self) -> Vec<SavedTensor> {
            let mut list = self.0.saved_tensors();
            list[0].shape = vec![3, 5];
            list
        }
        fn read_tensor(&mut self, tensor: &SavedTensor) -> Result<Vec<f32>> {
            self.0.read_tensor(tensor)
        }
        fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> Result<()> {
            self.0.write_tensor(tensor, values)
        }
    }
    let disk = disk_with(&[1, 2]);
    let mut other = Other(StandIn::default());
    let error = checkpoints(&disk).load(Which::Latest, &mut other, &mut NoReport).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[test]
fn what_is_not_finite_is_never_written() {
    for (value, at) in [(f32::NAN, 0), (f32::INFINITY, 3), (f32::NEG_INFINITY, 5)] {
        let disk = disk_with(&[1]);
        let mut tensors = StandIn::of_step(2);
        let tensor = tensors.saved_tensors()[at].clone();
        tensors.0.get_mut(&(tensor.name.clone(), tensor.kind)).unwrap()[1] = value;
        let error = checkpoints(&disk).save(&state(2), &mut tensors).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged);
        assert!(error.to_string().contains(&tensor.name_in_file()), "{error}");
        assert_eq!(latest(&disk).0.unwrap(), Some(1));
    }
}

#[test]
fn best_is_the_state_that_says_so() {
    let disk = disk_with(&[1, 2, 3]);
    let mut tensors = StandIn::default();
    let state = checkpoints(&disk).load(Which::Best, &mut tensors, &mut NoReport).unwrap().unwrap();
    assert_eq!(state.step, 1);
    assert_eq!("best".parse(), Ok(Which::Best));
    assert_eq!("12".parse(), Ok(Which::Step(12)));
    assert!("newest".parse::<Which>().is_err());
}

/// Row 4 of the reliability matrix: random histories of saves, decay, failed prunings and returns to an
/// earlier step, against a plain model of what must hold. `TEXT2LLM_HISTORIES=10000` for all of them.
#[test]
fn retention_never_leaves_less_than_it_should() {
    let histories = std::env::var("TEXT2LLM_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    for history in 0..histories {
        let mut rng = Rng::from_parts(history, "histories", &[]);
        let keep_last = 1 + rng.below(3) as usize;
        let disk = disk_with(&[]);
        let all = checkpoints(&disk);
        let mut step = 0;
        let mut best = None;
        for _ in 0..12 {
            step += 1 + rng.below(3);
            let whole_before: Vec<u64> =
                all.steps().unwrap().into_iter().filter(|&step| all.verify(step).is_ok()).collect();
            if rng.below(6) == 0 {
                disk.fail_at(disk.calls() + rng.below(30), Fault::Error(std::io::ErrorKind::Other));
            }
            let saved = save(&disk, step).is_ok();
            if saved {
                if rng.below(3) == 0 {
                    best = Some(step);
                }
                let _ = all.prune(step, keep_last, best.as_slice(), &mut NoReport);
            }
            disk.fail_at(u64::MAX, Fault::Crash);

            let whole: Vec<u64> =
                all.steps().unwrap().into_iter().filter(|&step| all.verify(step).is_ok()).collect();
            let mut expected: Vec<u64> = whole_before.into_iter().filter(|&s| s < step).collect();
            expected.extend(saved.then_some(step));
            for kept in expected.iter().rev().take(keep_last) {
                assert!(
                    whole.contains(kept),
                    "history {history}: {kept} of {expected:?} is not in {whole:?}"
                );
            }
            if let Some(best) = best.filter(|best| expected.contains(best)) {
                assert!(whole.contains(&best), "history {history}: the best, {best}, is gone");
            }
            assert!(
                all.steps().unwrap().len() <= keep_last + 6,
                "history {history}: nothing is ever removed"
            );
            if rng.below(4) == 0 && !whole.is_empty() {
                let victim = whole[rng.below(whole.len() as u64) as usize];
                disk.mutate(&all.path(victim).join(MOMENTS), |bytes| bytes[50] ^= 4);
            }
            if rng.below(8) == 0 && whole.len() > 1 {
                step = whole[0];
                best = best.filter(|&best| best <= step);
            }
        }
        all.repair().unwrap();
        save(&disk, 900).unwrap();
        all.prune(900, 1, &[], &mut NoReport).unwrap();
        assert_eq!(all.steps().unwrap(), [900]);
    }
}
