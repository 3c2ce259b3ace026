//! Remedies of errors: the one place where the facts that the crates below report meet the recipe's keys and
//! the program's commands. [`crate::Error`] displays both. To format an error of a crate below with its
//! remedy, use [`told`].

use std::borrow::Cow;
use std::fmt;
use std::io;

use store::limit::Limit;

/// Explains why a thread could not be started, with a remedy.
pub const NO_THREAD: &str = "the system allows no more threads: the limit on processes (`ulimit -u`), of the \
                             container, or on memory for their stacks (`ulimit -v`) is reached. Raise it, or \
                             use fewer threads with --threads 1";

const MAKE_AGAIN: &str =
    "Run `text2llm data prepare` with the same recipe to create the folder again from the same text";

/// The remedy for a reached limit.
pub fn of_limit(limit: Limit) -> &'static str {
    match limit {
        Limit::FileSize => "Raise it (`ulimit -f unlimited`) and run the same command again",
        Limit::OpenFiles => "Raise it (`ulimit -n 1024`) and run the same command again",
        Limit::SystemOpenFiles => {
            "Stop programs that hold many files open, or raise it, and run the same command again"
        }
        Limit::Memory => {
            "Raise it, or use less memory with --threads 1, a smaller train.micro_batch_size or model.size"
        }
        Limit::Quota => "Free some space and run the same command again",
        _ => "Raise it and run the same command again",
    }
}

/// An error's message with its remedy.
pub(crate) fn told<E: Remedy + fmt::Display>(error: &E) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}. {remedy}"),
        None => error.to_string(),
    }
}

/// The remedy if not all ranks of a stage have finished; `again`: additional flags for the command, with a
/// leading space.
pub(crate) fn of_ranks(error: &corpus::Error, again: &str) -> Option<String> {
    let corpus::Error::RanksMissing { stage, of, ranks } = error else { return None };
    let (first, _) = ranks.first()?;
    Some(format!(
        "Run each of these again with the same recipe: `text2llm data stage {stage} \
         --rank {first} --of {of}{again}`"
    ))
}

/// An error with a remedy.
pub(crate) trait Remedy {
    /// The remedy, as a sentence without its full stop.
    fn remedy(&self) -> Option<Cow<'static, str>>;
}

fn of_io(error: &io::Error) -> Option<Cow<'static, str>> {
    let known = match error.kind() {
        io::ErrorKind::StorageFull => Some("Free some space and run the same command again"),
        io::ErrorKind::PermissionDenied => Some("Check the permissions of the folder"),
        io::ErrorKind::ReadOnlyFilesystem => Some("Choose a writable folder with --output-dir"),
        _ => Limit::of(error).map(of_limit),
    };
    known.map(Cow::from)
}

impl Remedy for store::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            store::Error::Io { source, .. } => of_io(source),
            store::Error::Locked { .. } => Some("Wait for it or stop it, then try again".into()),
            store::Error::NotOurs { found, .. } => {
                let what = if found.is_all() { "it" } else { "that" };
                Some(format!("Move {what} elsewhere and run the same command again").into())
            }
            _ => None,
        }
    }
}

impl Remedy for runs::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            runs::Error::NoName => Some("Pass an id, or `latest`".into()),
            runs::Error::NoRuns { .. } => Some("Start one with `text2llm run`".into()),
            runs::Error::NoSuchRun { .. } | runs::Error::NoFolder { .. } => {
                Some("See `text2llm list`".into())
            }
            runs::Error::Ambiguous { .. } => Some("Pass the full id".into()),
            runs::Error::Store(error) => error.remedy(),
            _ => None,
        }
    }
}

impl Remedy for compute::Error {
    fn remedy(&self) -> Option<Cow<'static, str>> {
        match self {
            compute::Error::OutOfMemory { .. } => Some(
                "Lower train.micro_batch_size or train.sequence_length, set train.recompute = true, or use a \
                 smaller model. If a limit of the process (`ulimit -v`) or of its container is the cause, \
                 raise it"
                    .into(),
            ),
            compute::Error::WithoutCuda => {
                Some("Build it with `cargo build --release --features cuda`, or use --device cpu".into())
            }
            compute::Error::NoLibrary { install, .. } => {
                Some(format!("Install it: {install}; or use --device cpu").into())
            }
            compute::Error::OldGpu { .. } => Some("Use --device cpu".into()),
            compute::Error::Compile { .. } => {
                Some("A newer NVRTC may support this GPU: pip install -U nvidia-cuda-nvrtc".into())
            }
            compute::Error::Load { .. } => Some(
                "NVRTC may be newer than the driver: update the driver, or install the NVRTC of the driver's \
                 CUDA version"
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
                "Raise train.sequence_length, or list fewer files in data.paths"
            }
            tokens::Error::CursorBeyond { .. } => {
                "The checkpoint belongs to other data or another train.sequence_length: restore them, or start a \
                 new run"
            }
            tokens::Error::NothingMixed { .. } => {
                "Raise data.mix.token_budget, or the weights of entries that have text"
            }
            tokens::Error::Corrupt { fault: tokens::Fault::Changed { .. }, .. } => {
                "Run `text2llm data prepare` with the same recipe to create it again, then resume"
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
            tokenizer::Error::File { .. } => Some("Train the tokenizer again, or get the file again".into()),
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
            corpus::Error::Store(error) if error.kind() == store::ErrorKind::Corrupt => {
                Some(MAKE_AGAIN.into())
            }
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
        corpus::Fault::Decisions => Some("Remove its folder and run the rank again"),
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
        let damaged = || tokenizer::Error::File {
            path: PathBuf::from("tokenizer.json"),
            message: "cut off".to_owned(),
        };
        let other = || store::Error::Corrupt {
            path: PathBuf::from("train.jsonl.zst"),
            damage: store::Damage::Missing,
        };
        let documents = || corpus::Error::Corrupt {
            path: PathBuf::from("train.jsonl.zst"),
            fault: corpus::Fault::Documents("cut off".to_owned()),
        };
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
            (tokenizer::Error::NoText.into(), "there is no text", "Check data.paths"),
            (damaged().into(), "`tokenizer.json` is damaged: cut off. ", "Train the tokenizer again"),
            (corpus::Error::from(damaged()).into(), "is damaged: cut off. ", "Train the tokenizer again"),
            (documents().into(), "`train.jsonl.zst` is damaged", "data prepare` with the same recipe"),
            (
                corpus::Error::from(other()).into(),
                "`train.jsonl.zst` is damaged",
                "data prepare` with the same",
            ),
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
