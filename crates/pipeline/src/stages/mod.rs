//! The main job: prerequisites → corpus → tokenizer → model → training → validation → export.
//!
//! A stage whose manifest matches its options and inputs is skipped, so running again repeats no work; a
//! finished training with the same recipe on the same tokens is reused. Reading order: `request`, `job`,
//! `prerequisites`, `data`, `history` (selects the run), `training`, `validation`, `export`. The data stages
//! as values: `expected`, `before`, `stage`, `data_stages`; `shared` runs them one by one, for many machines,
//! and `passed_on` downloads and uploads the folders that they exchange.

mod before;
mod curves;
mod data;
mod data_stages;
pub(crate) mod examples;
mod expected;
mod export;
mod folders;
mod history;
mod job;
mod missing;
mod outcome;
pub mod passed_on;
mod phase;
mod prepare;
mod prerequisites;
mod request;
mod sampler;
pub mod shared;
mod stage;
mod trained;
mod training;
mod validation;

pub use crate::meta::{Until, go_on};
pub(crate) use export::{Beside, write_model};
pub use job::{resume, run};
pub use missing::{Missing, missing};
pub use outcome::{Artifact, RunOutcome};
pub use prepare::{PreparedData, prepare_data};
pub use request::{More, Request, ResumeRequest};
pub use stage::DataStage;
pub use validation::{Evaluation, Sample};
