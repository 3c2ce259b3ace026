//! The kernel suite, run against every device, and the specification's own gradients against central
//! differences.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test says what broke by panicking

mod case;
mod cases;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dropout;
mod gradients;
