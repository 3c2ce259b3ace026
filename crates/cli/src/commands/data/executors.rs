//! `data prepare --executor`: flags for preparing data with many processes, and the executor they select.

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

/// What starts the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExecutorChoice {
    /// Processes on this machine.
    Local,
    /// Slurm job arrays.
    Slurm,
    /// Ray tasks; set RAY_ADDRESS to use a cluster.
    Ray,
    /// Kubernetes Indexed Jobs; writes their manifests without applying them.
    Kubernetes,
}

/// Flags for preparing data with many processes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many machines")]
pub struct ExecutorArguments {
    /// Distribute the work over ranks with this executor. All ranks must see the project folder; with
    /// --share, only Slurm nodes must, for their logs
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorChoice>,
    /// Exchange results through object storage instead of a shared file system: s3://BUCKET/PREFIX. Without
    /// --executor, finished results are downloaded and the rest is computed here and uploaded
    #[arg(long, value_name = "URL", env = "TEXT2LLM_SHARE", hide_env = true)]
    pub share: Option<String>,
    /// Number of ranks (processes)
    #[arg(long, value_name = "N", default_value_t = 2, requires = "executor")]
    pub ranks: usize,
    /// How often to retry a failed rank
    #[arg(long, value_name = "N", default_value_t = 2, requires = "executor")]
    pub retries: usize,
    /// local: number of ranks to run at once [default: the number of threads]
    #[arg(long, value_name = "K", requires = "executor")]
    pub parallel: Option<usize>,
    /// ray, kubernetes: CPUs per rank
    #[arg(long, value_name = "N", default_value_t = 1, requires = "executor")]
    pub cpus: usize,
    /// slurm: option for sbatch, such as --time=2:00:00; can be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true, requires = "executor")]
    pub sbatch_option: Vec<String>,
    /// ray: Python interpreter that has Ray installed
    #[arg(long, value_name = "PROGRAM", default_value = "python3", requires = "executor")]
    pub python: String,
    /// kubernetes: container image that contains this program
    #[arg(long, value_name = "IMAGE", requires = "executor", required_if_eq("executor", "kubernetes"))]
    pub image: Option<String>,
    /// kubernetes: persistent volume claim that holds the project; not needed with --share
    #[arg(long, value_name = "NAME", requires = "executor")]
    pub volume_claim: Option<String>,
    /// kubernetes: mount path of the volume in the pods [default: the project folder]
    #[arg(long, value_name = "DIR", requires = "executor")]
    pub mount_path: Option<PathBuf>,
    /// kubernetes: Secret to expose as environment variables of the pods, such as AWS_ACCESS_KEY_ID
    #[arg(long, value_name = "NAME", requires = "executor")]
    pub secret: Option<String>,
    /// kubernetes: namespace of the Jobs
    #[arg(long, value_name = "NAME", default_value = "default", requires = "executor")]
    pub namespace: String,
}

/// Prepares data with many processes; `None` if the executor only writes manifests for others to start.
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
    console.prose(
        "Nothing was applied. Review the Jobs, then run this; it applies each one after the \
         previous has completed:",
    );
    console.data(&manifests.command)
}
