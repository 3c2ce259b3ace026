//! What is asked of `cargo xtask attack`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which attacks to run, for how long, and from which seed.
#[derive(Args)]
pub struct Arguments {
    /// Only these attacks
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Attack>,
    /// Time of each attack
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub seconds: u64,
    /// A fixed number of cases instead of a time limit: the numbers of a release
    #[arg(long, conflicts_with = "seconds")]
    pub full: bool,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Repeat this case only
    #[arg(long, value_name = "NUMBER", requires = "only")]
    pub case: Option<u64>,
    /// Start at this case
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with = "case")]
    pub from: u64,
    /// Also write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The program to attack [default: built from this repository]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// The attacks, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// SIGKILL at random moments, and a resume
    Kills,
    /// SIGKILL at single system calls, and a resume
    Syscalls,
    /// System calls fail, once or from some call on
    Errors,
    /// One bit of a project's files is flipped
    Flips,
    /// Damaged files for every reader
    Mutations,
    /// Malformed, huge, slow and foreign requests to the dashboard
    Requests,
}

impl Attack {
    /// In their order.
    pub const ALL: [Attack; 6] =
        [Attack::Kills, Attack::Syscalls, Attack::Errors, Attack::Flips, Attack::Mutations, Attack::Requests];

    /// As `--only` has it.
    pub fn name(self) -> &'static str {
        match self {
            Attack::Kills => "kills",
            Attack::Syscalls => "syscalls",
            Attack::Errors => "errors",
            Attack::Flips => "flips",
            Attack::Mutations => "mutations",
            Attack::Requests => "requests",
        }
    }

    /// What `--full` does of it.
    pub fn full_count(self) -> u64 {
        match self {
            Attack::Kills => 40,
            Attack::Syscalls => 340,
            Attack::Errors => 382,
            Attack::Flips => 4_560,
            Attack::Mutations => 336_000,
            Attack::Requests => 2_157,
        }
    }
}
