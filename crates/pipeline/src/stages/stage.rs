//! A stage of preparing data as a value. Whoever skips, redoes, shares or starts stages goes by what it says,
//! and by its name only to tell it.

use std::fmt;
use std::path::PathBuf;

use corpus::{Rank, Ranks};
use runs::report::{Phase, Reporter};
use serde::{Serialize, Serializer};

use super::before::Before;
use super::expected::Expected;
use super::phase::Done;
use super::request::Request;
use crate::Result;

/// A data stage.
#[derive(Clone, Copy)]
pub struct DataStage(pub(super) &'static Definition);

/// What a data stage is.
pub(super) struct Definition {
    /// As commands, folders and manifests have it.
    pub name: &'static str,
    /// The phase of a job that it belongs to.
    pub phase: Phase,
    /// Where it leaves what it makes.
    pub place: OutputFolder,
    /// The stages whose folders it reads.
    pub inputs: &'static [DataStage],
    /// Whether the request skips it: existing output is used, whatever its inputs and options were.
    pub is_left_out: fn(&Request<'_>) -> bool,
    /// What its folders are made of, in their order; `None` where a stage before it is missing.
    pub expected: fn(&mut Before<'_>, Rank) -> Result<Option<Vec<Expected>>>,
    /// Makes its folders, or leaves them where they are whole.
    pub make: fn(&Making<'_>, &mut dyn Reporter) -> Result<Done>,
}

/// Where a stage leaves what it makes.
pub(super) enum OutputFolder {
    /// Ranks share it: each has a folder in `data/ranks/`.
    Ranks,
    /// One process makes these folders of the project.
    Project(fn(&Request<'_>) -> Vec<PathBuf>),
}

/// What a stage is run for.
pub(super) struct Making<'a> {
    pub request: &'a Request<'a>,
    /// Which share of it, where ranks share it.
    pub rank: Rank,
    /// Where ranks leave what they make.
    pub ranks: &'a Ranks<'a>,
    /// What the command that runs a stage or a rank has beside its name and number, with a space before it;
    /// may be empty.
    pub again: &'a str,
}

impl DataStage {
    /// Its name in commands and folders.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether it is split among ranks.
    pub fn is_shared(self) -> bool {
        matches!(self.0.place, OutputFolder::Ranks)
    }

    /// The folders that it leaves; where ranks share it, that of a rank.
    pub(super) fn folders(self, request: &Request<'_>, rank: Rank) -> Vec<PathBuf> {
        match self.0.place {
            OutputFolder::Ranks => {
                let folder = request.project.ranks();
                let ranks = Ranks { folder: &folder, of: rank.of() };
                vec![ranks.of_rank(self.name(), rank.number())]
            }
            OutputFolder::Project(folders) => folders(request),
        }
    }

    /// Where the lock of a rank's share lies, which keeps a second process out of it.
    pub(super) fn lock_folder(self, request: &Request<'_>, rank: Rank) -> PathBuf {
        let name = format!("{}-{:05}-of-{:05}", self.name(), rank.number(), rank.of());
        request.project.ranks().join("locks").join(name)
    }
}

impl PartialEq for DataStage {
    fn eq(&self, other: &DataStage) -> bool {
        self.name() == other.name()
    }
}

impl Eq for DataStage {}

impl fmt::Debug for DataStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DataStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for DataStage {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
