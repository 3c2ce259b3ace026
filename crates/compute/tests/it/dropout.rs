//! Dropout's masks by their properties: how much they drop, that they scale what they keep, and that
//! elements, seeds and shapes do not depend on each other. The suite compares devices with the reference,
//! which draws masks by the same function; these tests would see a function that is wrong.

use compute::cpu::{Cpu, InstructionSet};
use compute::reference::Reference;
use compute::{DType, Device, Layout, Tensor};

const ROWS: usize = 256;
const COLUMNS: usize = 256;
const N: usize = ROWS * COLUMNS;
const P: f32 = 0.3;

#[test]
fn masks_of_the_reference() {
    check(&mut Reference::new());
}

#[test]
fn masks_of_the_cpu() {
    for set in [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::detect()] {
        check(&mut Cpu::with_instruction_set(2, set.min(InstructionSet::detect())));
    }
}

/// All of it on one device.
pub fn check(device: &mut dyn Device) {
    the_mask_is_the_golden_one(device);
    shares_and_scales(device);
    neighbors_are_independent(device);
    rows_and_columns_are_independent(device);
    seeds_are_independent(device);
    the_backward_has_the_mask_of_the_forward(device);
}

/// Values after dropout.
fn dropped(device: &mut dyn Device, dtype: DType, values: &[f32], p: f32, seed: u64) -> Vec<f32> {
    let mut layout = Layout::new();
    let x = layout.reserve(dtype, values.len() / COLUMNS, COLUMNS);
    device.allocate(layout.bytes()).unwrap();
    device.upload(x, values);
    device.dropout(x, p, seed);
    device.download(x)
}

/// Which of so many elements are dropped.
fn mask(device: &mut dyn Device, n: usize, p: f32, seed: u64) -> Vec<bool> {
    dropped(device, DType::F32, &vec![1.0; n], p, seed).into_iter().map(|x| x == 0.0).collect()
}

fn count(mask: impl IntoIterator<Item = bool>) -> usize {
    mask.into_iter().filter(|&dropped| dropped).count()
}

/// Within six standard deviations of a binomial distribution: by chance once in 500 million.
#[track_caller]
fn assert_binomial(found: usize, n: usize, p: f64, what: &str) {
    let (mean, deviation) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
    assert!((found as f64 - mean).abs() <= 6.0 * deviation, "{what}: {found} of {n}, not about {mean}");
}

/// From `tools/golden_dropout.py`: a run that a later version resumes must draw the same masks.
fn the_mask_is_the_golden_one(device: &mut dyn Device) {
    let mask = mask(device, COLUMNS, P, 99);
    let kept = (0..64).fold(0u64, |bits, i| bits | u64::from(!mask[i]) << i);
    assert_eq!(kept, 0xF5D5_9DFA_2DFF_3AFF, "{kept:#x}");
}

fn shares_and_scales(device: &mut dyn Device) {
    let values: Vec<f32> = (0..N).map(|i| (i % 1000 + 1) as f32 * 0.37 - 200.0).collect();
    for (p, seed) in [(0.1, 0), (0.3, 1), (0.5, u64::MAX), (0.9, 1 << 63), (0.001, 7)] {
        for dtype in [DType::F32, DType::Bf16] {
            // What is kept is that many times larger, so that the mean stays.
            let kept = 1.0 / (1.0 - p);
            let ones = dropped(device, dtype, &[1.0; N], p, seed);
            let found = count(ones.iter().map(|&x| x == 0.0));
            assert_binomial(found, N, f64::from(p), &format!("p {p}, seed {seed}"));
            let limit = if dtype == DType::Bf16 { 1.0 / 256.0 } else { 2e-7 };
            let stray = ones.iter().find(|&&x| x != 0.0 && (x / kept - 1.0).abs() > limit);
            assert_eq!(stray, None, "p {p}: not {kept}");
            let after = dropped(device, dtype, &values, p, seed);
            for ((x, y), one) in values.iter().zip(after).zip(&ones) {
                // bfloat16 rounds going in and coming out.
                let (expected, limit) =
                    if *one == 0.0 { (0.0, 0.0) } else { (x * kept, 2.0 * limit * x.abs() * kept) };
                assert!((y - expected).abs() <= limit, "p {p}: {x} becomes {y}");
            }
        }
    }
    assert_eq!(count(mask(device, N, 0.0, 3)), 0, "nothing is dropped at p = 0");
}

fn neighbors_are_independent(device: &mut dyn Device) {
    let both = f64::from(P) * f64::from(P);
    for seed in [0, 1, 99] {
        let mask = mask(device, N, P, seed);
        for lag in [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 64, 100, COLUMNS, COLUMNS + 1, 4096, N / 2] {
            let found = count(mask.iter().zip(&mask[lag..]).map(|(a, b)| *a && *b));
            assert_binomial(found, N - lag, both, &format!("both of two elements {lag} apart, seed {seed}"));
        }
    }
}

fn rows_and_columns_are_independent(device: &mut dyn Device) {
    let mask = mask(device, N, P, 5);
    for i in 0..ROWS {
        assert_binomial(count(mask[i * COLUMNS..][..COLUMNS].iter().copied()), COLUMNS, P.into(), "a row");
        assert_binomial(count(mask[i..].iter().copied().step_by(COLUMNS)), ROWS, P.into(), "a column");
    }
}

/// Seeds that follow each other, as those of sites in a model do before they are mixed, and each bit of one.
fn seeds_are_independent(device: &mut dyn Device) {
    let n = N / 8;
    let seed = 0x0123_4567_89AB_CDEF;
    let first = mask(device, n, P, seed);
    let both = f64::from(P) * f64::from(P);
    let others = (1..9).map(|step| seed + step).chain((0..64).map(|bit| seed ^ 1 << bit)).chain([!seed, 0]);
    for other in others {
        let second = mask(device, n, P, other);
        for shift in [0, 1, 2, COLUMNS] {
            let found = count(first[shift..].iter().zip(&second).map(|(a, b)| *a && *b));
            assert_binomial(found, n - shift, both, &format!("seed {other:#x} beside {seed:#x}, {shift} on"));
        }
    }
}

/// The same seed gives the same mask on other values, in another type, and where rows are a part of wider
/// ones.
fn the_backward_has_the_mask_of_the_forward(device: &mut dyn Device) {
    let (rows, n) = (32, 32 * COLUMNS);
    let forward = mask(device, n, P, 11);
    let gradient: Vec<f32> = (0..n).map(|i| 0.5 + (i % 17) as f32).collect();
    for dtype in [DType::F32, DType::Bf16] {
        let backward = dropped(device, dtype, &gradient, P, 11);
        assert!(backward.iter().map(|&x| x == 0.0).eq(forward.iter().copied()), "{dtype:?}");
    }
    let mut layout = Layout::new();
    let wide: Tensor = layout.reserve(DType::F32, rows, COLUMNS + 9);
    device.allocate(layout.bytes()).unwrap();
    device.upload(wide, &vec![1.0; wide.len()]);
    device.dropout(wide.column_range(4, COLUMNS), P, 11);
    let after = device.download(wide);
    for (row, forward) in after.chunks(COLUMNS + 9).zip(forward.chunks(COLUMNS)) {
        let (view, around) = (&row[4..4 + COLUMNS], row[..4].iter().chain(&row[4 + COLUMNS..]));
        assert!(view.iter().map(|&x| x == 0.0).eq(forward.iter().copied()));
        assert!(around.copied().all(|x| x == 1.0), "what lies beside the view stays");
    }
}
