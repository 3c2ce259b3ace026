//! The Llama family, written once against [`compute::Device`]: sizes, parameters, forward and backward,
//! decoding.
//!
//! Reading order: [`config`] (the shape), [`parameters`] (names, roles, what is trained), `network` (places
//! parameters in order), `linear`, [`adapter`], [`purpose`], `layout` and [`plan`] (every byte of the arena,
//! before the first step), `weights` (what all models share), then a model for each purpose: `forward`,
//! `backward`, `optimizer` and `training`; `evaluator`; `decoder` (with a key/value cache). [`sampling`]
//! picks tokens, [`folder`] and [`adapter_folder`] read and write Hugging Face's and PEFT's folders;
//! [`stored`] reads models in any form, [`gguf_file`] writes them as llama.cpp reads them. Non-goals: a
//! graph, other architectures, the loop around a step.
//!
//! Legend of shape suffixes: B batch, T time, N = B·T, D model width, H query heads, K key/value heads, F
//! feed-forward, V vocabulary.

pub mod adapter;
pub mod adapter_folder;
pub mod adapter_merge;
mod backward;
pub mod config;
mod decoder;
mod dora;
mod error;
mod evaluator;
pub mod folder;
mod forward;
pub mod gguf_file;
mod groups;
mod layout;
mod linear;
mod network;
mod optimizer;
pub mod parameters;
pub mod plan;
mod preference;
pub mod purpose;
mod rope;
pub mod sampling;
pub mod stored;
mod training;
mod weights;

pub use adapter::{AdapterConfig, Module};
pub use compute::{Batch, DType};
pub use config::{ModelConfig, ParameterCount};
pub use decoder::{Decoder, TrainedDecoder};
pub use error::{Error, ErrorKind, Result};
pub use evaluator::Evaluator;
pub use groups::LearningRateScales;
pub use optimizer::Update;
pub use parameters::{Parameter, Role, Trainable, WeightTypes};
pub use plan::MemoryPlan;
pub use preference::{PairOutcome, Preference, PreferenceLoss, pairs};
pub use purpose::{Decoding, Evaluation, Optimizer, Precision, Purpose, Training};
pub use stored::Stored;
pub use training::{StateKind, StepOutcome, TrainingModel};
pub use weights::Weights;
