//! What to do about an error: the one place where what the crates below report, which are facts alone, meets
//! the recipe's keys and the program's commands.
//!
//! [`crate::Error`] tells both. Who puts an error of a crate below into words of its own takes [`told`].

use std::borrow::Cow;
use std::fmt;
use std::io;

use store::limit::Limit;

/// Where the system gives no more threads.
pub const NO_THREAD: &str = "the system gives no more threads: the limit on processes (`ulimit -u`), that of the \
                             container, or the memory for their stacks (`ulimit -v`) is reached. Raise it, or use fewer \
                             with --threads 1";

const MAKE_AGAIN: &str =
    "Run `text2llm data prepare` with the same recipe: it makes the folder again from the same text";

/// What lifts a limit, or goes without.
pub fn of_limit(limit: Limit) -> &'static str {
    match limit {
        Limit::FileSize => "Raise it (`ulimit -f unlimited`) and run the same command again",
        Limit::OpenFiles => "Raise it (`ulimit -n 1024`) and run the same command again",
        Limit::SystemOpenFiles => "End what holds many, or raise it, and run the same command again",
        Limit::Memory => {
            "Raise it, or take less with --threads 1, a smaller train.micro_batch_size or model.size"
        }
        Limit::Quota => "Free some space and run the same command again",
        _ => "Raise it and run the same command again",
    }
}

/// An error's words and what to do about it.
pub(crate) fn told<E: Remedy + fmt::Display>(error: &E) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}. {remedy}"),
        None => error.to_string(),
    }
}

/// That a stage is run over what ranks left, and not each of them has done its share; `again` is what the
/// command has beside the rank's number, with a space before it.
pub(crate) fn of_ranks(error: &corpus::Error, again: &str) -> Option<String> {
    let corpus::Error::RanksMissing { stage, of, ranks } = error else { return None };
    let (first, _) = ranks.first()?;
    Some(format!(
        "Run each of them again, with the same recipe: `text2llm data stage {stage} --rank {first} --of {of}{again}`"
    ))
}

/// An error that somebody can do something about.
pub(crate) trait Remedy {
    /// What, as a sentence without its full stop.
    fn remedy(&self) -> Option<Cow<'static, str>>;
}

fn of_io(error: &io::Error) -> Option<Cow<'static, str>> {
    let known = match error.kind() {
        io::ErrorKind::StorageFull => Some("Free some space and run the same command again"),
        io::ErrorKind::PermissionDenied => Some("Check the permissions of the folder"),
        io::ErrorKind::ReadOnlyFilesystem => Some("Choose a writable place with --output-dir"),
        _ => Limit::of(error).map(of_limit),
    };
    known.map(Cow::from)
}

impl Remedy for store::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            store::Error::Io { source, .. } => of_io(source),
            store::Error::Locked { .. } => Some("Wait for it, or stop it, and try again".into()),
            store::Error::NotOurs { found, .. } => {
                let what = if found.is_all() { "it" } else { "that" };
                Some(format!("Move {what} elsewhere, and run the same command again").into())
            }
            _ => None,
        }
    }
}

impl Remedy for runs::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            runs::Error::NoName => Some("Give an id, or `latest`".into()),
            runs::Error::NoRuns { .. } => Some("Start one with `text2llm run`".into()),
            runs::Error::NoSuchRun { .. } | runs::Error::NoFolder { .. } => {
                Some("See `text2llm list`".into())
            }
            runs::Error::Ambiguous { .. } => Some("Give the whole id".into()),
            runs::Error::Store(error) => error.remedy(),
            _ => None,
        }
    }
}

impl Remedy for compute::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            compute::Error::OutOfMemory { .. } => Some(
                "Lower train.micro_batch_size or train.sequence_length, set train.recompute = true, or choose a \
                 smaller model. Where it is a limit that is reached, that of the process (`ulimit -v`) or of its \
                 container, raise it"
                    .into(),
            ),
            compute::Error::WithoutCuda => {
                Some("Build it with `cargo build --release --features cuda`, or use --device cpu".into())
            }
            compute::Error::NoLibrary { install, .. } => {
                Some(format!("To have it: {install}; or use --device cpu").into())
            }
            compute::Error::OldGpu { .. } => Some("Use --device cpu".into()),
            compute::Error::Compile { .. } => {
                Some("A newer NVRTC may know this GPU: pip install -U nvidia-cuda-nvrtc".into())
            }
            compute::Error::Load { .. } => Some(
                "A compiler newer than the driver makes what it cannot read: update the driver, or install the NVRTC of \
                 its own CUDA version"
                    .into(),
            ),
            _ => None,
        }
    }
}

impl Remedy for formats::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            formats::Error::Io { source, .. } => of_io(source),
            formats::Error::Store(error) => error.remedy(),
            _ => None,
        }
    }
}

impl Remedy for model::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            model::Error::Device(error) => error.remedy(),
            model::Error::Format(error) => error.remedy(),
            model::Error::Store(error) => error.remedy(),
            _ => None,
        }
    }
}

impl Remedy for tokens::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        let words = match self {
            tokens::Error::TooFewTokens { .. } => "Lower train.sequence_length or add text",
            tokens::Error::TooFewSequences { .. } => {
                "Lower train.batch_size or train.sequence_length, or add text"
            }
            tokens::Error::TooManySequences { .. } => {
                "Raise train.sequence_length, or name fewer files in data.paths"
            }
            tokens::Error::CursorBeyond { .. } => {
                "The checkpoint belongs to other data or another train.sequence_length: restore them, or start a new run"
            }
            tokens::Error::NothingMixed { .. } => {
                "Raise data.mix.token_budget, or the weights of entries that hold text"
            }
            tokens::Error::Corrupt { fault: tokens::Fault::Changed { .. }, .. } => {
                "Run `text2llm data prepare` with the same recipe, which makes it again, and then resume"
            }
            tokens::Error::Store(error) if error.kind() != store::ErrorKind::Corrupt => {
                return error.remedy();
            }
            tokens::Error::Corrupt { .. } | tokens::Error::Store(_) => MAKE_AGAIN,
            _ => return None,
        };
        Some(words.into())
    }
}

impl Remedy for tokenizer::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            tokenizer::Error::NoText => Some("Check data.paths".into()),
            tokenizer::Error::File { .. } => Some("Train the tokenizer again".into()),
            tokenizer::Error::Store(error) => error.remedy(),
            _ => None,
        }
    }
}

impl Remedy for corpus::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            corpus::Error::RanksMissing { .. } => of_ranks(self, "").map(Cow::from),
            corpus::Error::RanksEndEarly { .. } => Some("Remove their folders and run them again".into()),
            corpus::Error::Corrupt { fault, .. } => of_fault(fault).map(Cow::from),
            corpus::Error::Store(error) => error.remedy(),
            corpus::Error::Tokens(error) => error.remedy(),
            corpus::Error::Tokenizer(error) => error.remedy(),
            corpus::Error::Perplexity(error) => error.remedy(),
            _ => None,
        }
    }
}

fn of_fault(fault: &corpus::Fault) -> Option<&'static str> {
    match fault {
        corpus::Fault::NoDocuments | corpus::Fault::Documents(_) | corpus::Fault::OtherStage(_) => {
            Some(MAKE_AGAIN)
        }
        corpus::Fault::DocumentsChanged => Some("Run this rank again"),
        corpus::Fault::Verdicts => Some("Remove its folder and run the rank again"),
        corpus::Fault::Classifier(_) => Some("Train it again with `text2llm data classifier train`"),
        _ => None,
    }
}

impl Remedy for cloud::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            cloud::Error::Store(error) => error.remedy(),
            cloud::Error::Limit { limit, .. } => Some(of_limit(*limit).into()),
            _ => None,
        }
    }
}

impl Remedy for train::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            // It says itself how much space to free.
            train::Error::Save { source, .. } if source.kind() != train::ErrorKind::StorageFull => {
                source.remedy()
            }
            train::Error::Store(error) => error.remedy(),
            train::Error::Formats(error) => error.remedy(),
            train::Error::Model(error) => error.remedy(),
            train::Error::Tokens(error) => error.remedy(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::Error;

    #[test]
    fn an_error_of_a_crate_below_is_told_with_its_remedy_whatever_it_came_through() {
        let memory = || compute::Error::OutOfMemory { needed_bytes: 7, device: "CPU".to_owned() };
        let locked = || store::Error::Locked { path: PathBuf::from("runs/a"), pid: Some(7) };
        let changed = || tokens::Error::Corrupt {
            path: PathBuf::from("train-00000.bin"),
            fault: tokens::Fault::Changed { from: 0, to: 8 },
        };
        let full = || store::Error::io("write", Path::new("x"))(io::ErrorKind::StorageFull.into());
        let nothing = runs::Error::NoRuns { folder: PathBuf::from("runs") };
        for (error, fact, remedy) in [
            (Error::from(memory()), "needs 7 bytes on CPU. ", "Lower train.micro_batch_size"),
            (model::Error::from(memory()).into(), "needs 7 bytes on CPU. ", "train.recompute = true"),
            (train::Error::from(model::Error::from(memory())).into(), "bytes on CPU. ", "smaller model"),
            (locked().into(), "`runs/a` is in use by process 7. ", "Wait for it"),
            (corpus::Error::from(locked()).into(), "in use by process 7. ", "Wait for it"),
            (train::Error::from(changed()).into(), "at bytes 0 to 8; ", "data prepare` with the same recipe"),
            (corpus::Error::from(full()).into(), "cannot write `x`", "Free some space"),
            (nothing.into(), "no runs in `runs`. ", "Start one with `text2llm run`"),
        ] {
            let told = error.to_string();
            assert!(told.contains(fact) && told.contains(remedy), "{told}");
            assert_eq!(told.matches(remedy).count(), 1, "{told}");
        }
    }

    #[test]
    fn the_crates_below_name_no_command_and_no_key_of_training() {
        let told = [
            compute::Error::WithoutCuda.to_string(),
            compute::Error::OutOfMemory { needed_bytes: 7, device: String::new() }.to_string(),
            tokens::Error::TooFewTokens { tokens: 1, sequence_length: 2 }.to_string(),
            store::Error::Locked { path: PathBuf::new(), pid: None }.to_string(),
            runs::Error::NoName.to_string(),
        ];
        for words in told {
            assert!(!["train.", "--", "`text2llm"].iter().any(|named| words.contains(named)), "{words}");
        }
    }
}
