//! The suite on the CPU, and the promise that threads do not change bits.

use crate::cases::{Visit, check_bf16, check_device, each, each_of};
use compute::DType;
use compute::cpu::{Cpu, InstructionSet};

#[test]
fn agrees_with_the_reference() {
    check_device(&mut Cpu::new(2));
}

#[test]
fn avx512_kernels_agree_with_the_reference() {
    check_device(&mut Cpu::with_instruction_set(2, InstructionSet::Avx512));
}

#[test]
fn avx2_kernels_agree_with_the_reference() {
    check_device(&mut Cpu::with_instruction_set(2, InstructionSet::Avx2));
}

#[test]
fn portable_kernels_agree_with_the_reference() {
    check_device(&mut Cpu::with_instruction_set(2, InstructionSet::Portable));
}

/// Runs a check on every instruction set with bfloat16 products that this CPU has.
fn with_bf16(check: impl Fn(InstructionSet)) {
    for set in [InstructionSet::Avx512Bf16, InstructionSet::Amx] {
        if InstructionSet::detect() >= set {
            check(set);
        } else {
            testkit::skip_without_hardware(format_args!("this CPU has no {set:?}"));
        }
    }
}

#[test]
fn bf16_kernels_agree_with_the_reference() {
    with_bf16(|set| check_bf16(&mut Cpu::with_instruction_set(2, set)));
}

#[test]
fn same_bits_whatever_the_threads() {
    same_bits(InstructionSet::Amx, &mut each);
    same_bits(InstructionSet::Avx512, &mut each);
    same_bits(InstructionSet::Avx2, &mut each);
    same_bits(InstructionSet::Portable, &mut each);
    with_bf16(|set| same_bits(set, &mut |visit| each_of(DType::Bf16, visit)));
}

fn same_bits(set: InstructionSet, suite: &mut dyn FnMut(&mut Visit)) {
    suite(&mut |case, call| {
        let one = case.run(&mut Cpu::with_instruction_set(1, set), call);
        for threads in [2, 5] {
            let many = case.run(&mut Cpu::with_instruction_set(threads, set), call);
            for (a, b) in one.iter().zip(&many) {
                assert!(
                    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{} with {threads} threads",
                    case.name
                );
            }
        }
    });
}
