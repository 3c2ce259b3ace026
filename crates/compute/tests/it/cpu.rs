//! The suite on the CPU, and the promise that threads do not change bits.

use crate::cases::{check_device, each};
use compute::cpu::{Cpu, InstructionSet};

#[test]
fn agrees_with_the_reference() {
    check_device(&|| Box::new(Cpu::new(2)));
}

#[test]
fn avx512_kernels_agree_with_the_reference() {
    check_device(&|| Box::new(Cpu::with_instruction_set(2, InstructionSet::Avx512)));
}

#[test]
fn portable_kernels_agree_with_the_reference() {
    check_device(&|| Box::new(Cpu::with_instruction_set(2, InstructionSet::Portable)));
}

#[test]
fn same_bits_whatever_the_threads() {
    each(&mut |case, call| {
        let one = case.run(&mut Cpu::new(1), call);
        for threads in [2, 5] {
            let many = case.run(&mut Cpu::new(threads), call);
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
