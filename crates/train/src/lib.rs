//! Training: the loop, schedules, checkpoints, and bit-exact resume.
//!
//! Reading order: `options`, `schedule`, `job` (inputs and outputs), `trainer` (the loop), `checkpoint`.
//! Non-goals: choosing data or a shape (`pipeline`), arithmetic (`compute`, `model`), printing (`cli`).

mod begin;
mod change;
mod check;
pub mod checkpoint;
mod error;
mod evaluate;
mod job;
mod ledger;
mod length;
mod meter;
mod options;
mod patience;
mod phase;
mod phase_options;
mod precision;
mod ranges;
mod schedule;
mod signals;
mod spike;
mod summary;
mod tensors;
mod trainer;
mod tuning;

pub use change::Change;
pub use checkpoint::{Checkpoints, Which};
pub use error::{Error, ErrorKind, Result};
pub use evaluate::{Evaluation, evaluate, weighted};
pub use job::{Ending, Job, Outcome, Sampler, Start};
pub use length::RunLength;
pub use options::TrainOptions;
pub use patience::Patience;
pub use phase::Phase;
pub use phase_options::{PhaseOptions, PhaseSchedule};
pub use ranges::Problem;
pub use schedule::{DecayShape, Piece, Schedule, ScheduleKind};
pub use signals::{
    EXIT_AFTER_SIGINT, EXIT_AFTER_SIGTERM, HEARTBEAT_FILE, Hold, Obeying, StopFlag, survive_file_size_limit,
};
pub use summary::environment;
pub use tensors::micro_batch_size;
pub use trainer::train;
pub use tuning::{Base, Tuning};
