//! What is asked of a job.

use std::path::PathBuf;

use compute::Target;
use recipe::Recipe;

use crate::meta::Until;
use crate::project::Project;

/// The request of `run` and `train`.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The project.
    pub project: &'a Project,
    /// The recipe.
    pub recipe: Recipe,
    /// The folder that relative corpus paths start from.
    pub base_dir: PathBuf,
    /// Description of the recipe's origin.
    pub recipe_source: String,
    /// Whether the user named a recipe or changed a key, instead of using the existing one.
    pub recipe_is_explicit: bool,
    /// Use `data/documents/` without checking that it is up to date.
    pub skip_corpus: bool,
    /// Use `tokenizer/` without checking that it is up to date.
    pub skip_tokenizer: bool,
    /// Continue the latest unfinished run.
    pub resume: bool,
    /// Apply changed recipe keys that may change within a run.
    pub accept_changes: bool,
    /// Train even if a finished run has the same recipe and data.
    pub fresh: bool,
    /// The last phase to run.
    pub until: Until,
    /// Device and threads.
    pub target: Target,
    /// Continue if a prerequisite is not met but work may still succeed.
    pub accept_risks: bool,
    /// The program to measure generation with, in a separate process; `None`: this process.
    pub generator: Option<PathBuf>,
}

impl Request<'_> {
    /// The arguments that continue the run that this request started.
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

/// The request of `resume`.
#[derive(Clone, Debug)]
pub struct ResumeRequest<'a> {
    /// The project.
    pub project: &'a Project,
    /// Run id, a unique prefix or suffix of it, or `latest`.
    pub run: String,
    /// latest, best or a step.
    pub checkpoint: String,
    /// How to extend the run, if at all.
    pub more: Option<More>,
    /// Device and threads.
    pub target: Target,
    /// Continue if a prerequisite is not met but work may still succeed.
    pub accept_risks: bool,
    /// The program to measure generation with, in a separate process; `None`: this process.
    pub generator: Option<PathBuf>,
}

/// How to extend a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// By epochs.
    Epochs(u64),
    /// By optimizer steps.
    Steps(u64),
    /// Starts the decay of a warmup-stable-decay schedule at the checkpoint, over this many steps; then the
    /// run ends.
    DecayNow(u64),
}
