//! The model against what PyTorch computes.

mod golden;
