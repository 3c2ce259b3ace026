//! The Llama family, written once against [`compute::Device`]: sizes, parameters, forward and backward,
//! decoding.
//!
//! Reading order: [`config`] (the shape), [`parameters`] (what is trained and where it lies), [`plan`] (every
//! byte of the arena, before the first step), `training` (forward and backward of a micro-batch), `update`
//! (the optimizer's step), `decoding` (with a key/value cache), [`sampling`], [`folder`] (Hugging Face form
//! on disk), [`stored`] (that or GGUF). Non-goals: a graph, other architectures, the loop around a step.
//!
//! Legend of shape suffixes: B batch, T time, N = B·T, D model width, H query heads, K key/value heads, F
//! feed-forward, V vocabulary.

pub mod config;
mod decoding;
mod error;
pub mod folder;
mod network;
pub mod parameters;
pub mod plan;
mod rope;
pub mod sampling;
pub mod stored;
mod training;
mod update;

pub use compute::{Batch, DType};
pub use config::{ModelConfig, ParameterCount};
pub use error::{Error, ErrorKind, Result};
pub use network::{Model, StateKind};
pub use parameters::{Parameter, Role, WeightTypes};
pub use plan::{Decoding, MemoryPlan, Optimizer, Precision, Purpose, Training};
pub use stored::Stored;
pub use training::StepOutcome;
pub use update::{Scales, Update};
