//! `data prepare --executor`: the flags of many processes, and which executor they choose.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pipeline::executor::kubernetes::{self, Cluster, Volume};
use pipeline::executor::local::Local;
use pipeline::executor::ray::Ray;
use pipeline::executor::slurm::Slurm;
use pipeline::executor::{self, Executor, Launch};
use pipeline::share::Share;
use pipeline::stages::{PreparedData, Request};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Who starts ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExecutorChoice {
    /// Processes of this machine.
    Local,
    /// Job arrays of Slurm.
    Slurm,
    /// Tasks of Ray; RAY_ADDRESS names a cluster.
    Ray,
    /// Writes manifests of Kubernetes Indexed Jobs, and applies nothing.
    Kubernetes,
}

/// Preparing data with many processes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many machines")]
pub struct ExecutorArguments {
    /// Share the work among ranks; all must see the project folder; with --share, only Slurm's nodes must,
    /// for their logs
    #[arg(long, value_name = "WHO")]
    pub executor: Option<ExecutorChoice>,
    /// Object storage that passes on what ranks make, where they see no common folder: s3://BUCKET/PREFIX.
    /// Without --executor, what is there is brought, and the rest is made here and pushed
    #[arg(long, value_name = "ADDRESS", env = "TEXT2LLM_SHARE", hide_env = true)]
    pub share: Option<String>,
    /// Processes that share the work
    #[arg(long, value_name = "N", default_value_t = 2, requires = "executor")]
    pub ranks: usize,
    /// How often a rank that failed is tried again
    #[arg(long, value_name = "N", default_value_t = 2, requires = "executor")]
    pub retries: usize,
    /// local: at most so many ranks at once [default: as many as there are threads]
    #[arg(long, value_name = "K", requires = "executor")]
    pub parallel: Option<usize>,
    /// ray, kubernetes: processors of a rank
    #[arg(long, value_name = "N", default_value_t = 1, requires = "executor")]
    pub cpus: usize,
    /// slurm: an option for sbatch, such as --time=2:00:00; may be given more than once
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true, requires = "executor")]
    pub sbatch_option: Vec<String>,
    /// ray: a Python that has Ray
    #[arg(long, value_name = "PROGRAM", default_value = "python3", requires = "executor")]
    pub python: String,
    /// kubernetes: an image that holds this program
    #[arg(long, value_name = "IMAGE", requires = "executor", required_if_eq("executor", "kubernetes"))]
    pub image: Option<String>,
    /// kubernetes: the claim of the volume that holds the project; with --share none is needed
    #[arg(long, value_name = "NAME", requires = "executor")]
    pub volume_claim: Option<String>,
    /// kubernetes: where pods find the volume [default: the project folder]
    #[arg(long, value_name = "DIR", requires = "executor")]
    pub mount_path: Option<PathBuf>,
    /// kubernetes: the Secret whose keys become variables of the pods, such as AWS_ACCESS_KEY_ID
    #[arg(long, value_name = "NAME", requires = "executor")]
    pub secret: Option<String>,
    /// kubernetes: the namespace
    #[arg(long, value_name = "NAME", default_value = "default", requires = "executor")]
    pub namespace: String,
}

/// Prepares by many processes; `None` where others are to start them.
pub fn run(
    which: ExecutorChoice,
    arguments: &ExecutorArguments,
    request: &Request<'_>,
    again: Vec<String>,
    console: &mut Console,
) -> Outcome<Option<PreparedData>> {
    let stop = train::StopFlag::of_process().map_err(pipeline::Error::from)?;
    let share = arguments.share.as_deref().map(Share::open).transpose()?;
    let launch = Launch {
        request,
        share: share.as_ref(),
        program: std::env::current_exe()?,
        arguments: again,
        ranks: arguments.ranks,
        retries: arguments.retries,
        stop: &stop,
    };
    let mut executor: Box<dyn Executor> = match which {
        ExecutorChoice::Local => Box::new(Local { parallel: arguments.parallel.unwrap_or(0) }),
        ExecutorChoice::Slurm => Box::new(Slurm { sbatch_options: arguments.sbatch_option.clone() }),
        ExecutorChoice::Ray => Box::new(Ray::new(arguments.python.clone(), arguments.cpus.max(1))),
        ExecutorChoice::Kubernetes => {
            let project = || request.project.root().to_owned();
            let volume = arguments.volume_claim.clone().map(|claim| Volume {
                claim,
                mount_path: arguments.mount_path.clone().unwrap_or_else(project),
            });
            let cluster = Cluster {
                image: arguments.image.clone().ok_or_else(|| Failure::message("--image is needed"))?,
                namespace: arguments.namespace.clone(),
                volume,
                secret: arguments.secret.clone(),
                program: "text2llm".to_owned(),
                cpus: arguments.cpus.max(1),
            };
            return write_manifests(&launch, &cluster, console).map(|()| None);
        }
    };
    Ok(Some(executor::prepare(&launch, executor.as_mut(), console.reporter().as_mut())?))
}

fn write_manifests(launch: &Launch<'_>, cluster: &Cluster, console: &mut Console) -> Outcome {
    let manifests = kubernetes::write(launch, cluster, console.reporter().as_mut())?;
    if !console.is_human() {
        return console
            .result("kubernetes", &json!({ "files": manifests.files, "script": manifests.script }));
    }
    console.prose("Nothing is applied. Look at the Jobs; this applies them in order, each once the one before is complete:");
    console.data(&manifests.command)
}
