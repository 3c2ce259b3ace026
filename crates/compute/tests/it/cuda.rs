//! The suite on a GPU, or on the emulator of one (tools/cuda-emulator); and equal bits from run to run.

use crate::cases::{check_bf16, check_device, each, each_of};
use compute::DType;
use compute::cuda::Cuda;

/// The first GPU, or a printed reason why there is none to test. With `TEXT2LLM_TEST_CUDA` set there must be
/// one.
fn gpu() -> Option<Cuda> {
    let gpu = Cuda::new(0).map_err(testkit::skip_without_hardware).ok();
    assert!(gpu.is_some() || std::env::var_os("TEXT2LLM_TEST_CUDA").is_none(), "there is no GPU");
    gpu
}

#[test]
fn agrees_with_the_reference() {
    if let Some(mut gpu) = gpu() {
        check_device(&mut gpu);
    }
}

#[test]
fn bf16_kernels_agree_with_the_reference() {
    if let Some(mut gpu) = gpu() {
        check_bf16(&mut gpu);
    }
}

#[test]
fn dropout_masks() {
    if let Some(mut gpu) = gpu() {
        crate::dropout::check(&mut gpu);
    }
}

#[test]
fn same_bits_from_run_to_run() {
    let Some(mut gpu) = gpu() else { return };
    let mut check = |case: &crate::case::Case, call: &dyn Fn(&mut dyn compute::Device)| {
        let first = case.run(&mut gpu, call);
        let second = case.run(&mut gpu, call);
        for (a, b) in first.iter().zip(&second) {
            assert!(a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", case.name);
        }
    };
    each(&mut check);
    each_of(DType::Bf16, &mut check);
}
