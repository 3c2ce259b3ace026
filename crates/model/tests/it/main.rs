//! The model against what PyTorch computes.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test says what broke by panicking

mod golden;
mod training;
