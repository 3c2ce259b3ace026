//! The model against what PyTorch computes, its training, its folders.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test says what broke by panicking

mod adapter;
#[cfg(feature = "cuda")]
mod cuda;
mod dora;
mod dropout;
mod folder;
mod golden;
mod mixed_types;
mod trainable;
mod trained_decoder;
mod training;
