//! What is asked of a job.

use std::path::PathBuf;

use compute::Target;
use recipe::Recipe;

use crate::meta::Until;
use crate::project::Project;

/// What `run` and `train` ask for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where.
    pub project: &'a Project,
    /// What.
    pub recipe: Recipe,
    /// The folder that relative corpus paths start from.
    pub base_dir: PathBuf,
    /// Where the recipe came from, in words.
    pub recipe_source: String,
    /// Whether the user named a recipe or changed a key, rather than taking what is there.
    pub recipe_is_explicit: bool,
    /// Use `data/documents/` as it is.
    pub skip_corpus: bool,
    /// Use `tokenizer/` as it is.
    pub skip_tokenizer: bool,
    /// Continue the latest unfinished run.
    pub resume: bool,
    /// Continue it with what of the recipe was changed since and may change within a run.
    pub accept_changes: bool,
    /// Train although a finished run has the same recipe and data.
    pub fresh: bool,
    /// How far to go.
    pub until: Until,
    /// Where to compute.
    pub target: Target,
    /// Go on where a prerequisite is not met but work may still succeed.
    pub accept_risks: bool,
    /// The program to measure generation with, in a process of its own; `None`: this process.
    pub generator: Option<PathBuf>,
}

impl Request<'_> {
    /// The arguments that go on with the run that this began.
    pub(super) fn again(&self) -> String {
        let mut again = match self.until {
            Until::Training => "train --resume".to_owned(),
            Until::Export => "run --resume".to_owned(),
        };
        for (given, flag) in
            [(self.skip_corpus, " --skip-corpus"), (self.skip_tokenizer, " --skip-tokenizer")]
        {
            if given {
                again.push_str(flag);
            }
        }
        again
    }
}

/// What `resume` asks for.
#[derive(Clone, Debug)]
pub struct ResumeRequest<'a> {
    /// Where.
    pub project: &'a Project,
    /// Run id, its unique beginning or end, or `latest`.
    pub run: String,
    /// latest, best or a step.
    pub checkpoint: String,
    /// How far beyond the run's end.
    pub more: Option<More>,
    /// Where to compute.
    pub target: Target,
    /// Go on where a prerequisite is not met but work may still succeed.
    pub accept_risks: bool,
    /// The program to measure generation with, in a process of its own; `None`: this process.
    pub generator: Option<PathBuf>,
}

/// How far beyond a run's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Passes over the training text.
    Epochs(u64),
    /// Optimizer steps.
    Steps(u64),
    /// The decay of a warm-up-stable-decay schedule, begun at the checkpoint, over so many steps; the run
    /// then ends.
    DecayNow(u64),
}
