//! Examples for fine-tuning: records of chat data, rendered to tokens with masks.
//!
//! Files of JSON lines or JSON (also compressed) and Parquet are read record by record ([`Records`]); each is
//! rendered by the model's chat template, and what is trained of it is found by rendering
//! ([`tokenizer::chat`]). The output is a folder of token shards with masks, which the loader packs whole
//! into sequences.
//!
//! Reading order: `options`, `records`, `encode`, `summary`.

mod encode;
mod options;
mod records;
mod summary;

pub use encode::{Examples, first_example, renderer, template};
pub use options::{FinetuneOptions, PreferenceOptions, TrainOn};
pub use records::{Place, Records, is_spread};
pub use summary::{ExampleCounts, ExamplesSummary, Shown};
