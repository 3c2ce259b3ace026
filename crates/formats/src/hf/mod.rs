//! Hugging Face's JSON files: `config.json` and `generation_config.json`.
//!
//! Both the v4 spelling (`rope_theta`, `rope_scaling`, `torch_dtype`) and the v5 one (`rope_parameters`,
//! `dtype`) are read; the v4 spelling is written, since transformers 4 and 5 both load it. A file that asks
//! for arithmetic this program does not do is refused by key, never half-understood. Reading order: `config`,
//! `rope`, `generation`.

mod config;
mod generation;
mod rope;

pub use config::{Architecture, Config};
pub use generation::GenerationConfig;
pub use rope::RopeScaling;
