//! Blocks beside ggml's.

mod golden;
mod rounding;
