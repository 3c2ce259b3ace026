//! Ranks as pods of Kubernetes Indexed Jobs. Nothing is applied here: the manifests are files to look at and apply.
//!
//! A Job a stage, in JSON, which Kubernetes reads as it reads YAML. Jobs know no order among them, so they are applied one by one, each
//! after the one before is complete.

use std::path::{Path, PathBuf};

use corpus::Rank;
use serde_json::{Value, json};
use store::atomic;
use store::fs::{Fs, RealFs};
use store::report::Reporter;

use super::{Launch, rank_environment};
use crate::stages::shared::{self, DataStage};
use crate::{Error, Result};

/// The variable that numbers the pods of an Indexed Job.
const RANK: &str = "$(JOB_COMPLETION_INDEX)";

/// Where and as what the pods run.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// An image whose entry point is this program, or that has it at `program`.
    pub image: String,
    /// The namespace.
    pub namespace: String,
    /// The claim of the volume that holds the project folder.
    pub volume_claim: String,
    /// Where the volume is mounted; it must hold the project at the same path as here.
    pub mount_path: PathBuf,
    /// The program in the image.
    pub program: String,
    /// Processors of a pod.
    pub cpus: usize,
}

/// What was written, and the commands that carry it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifests {
    /// A file a stage, in order.
    pub files: Vec<PathBuf>,
    /// What applies them, in order.
    pub commands: Vec<String>,
}

/// Writes a Job a stage into `data/ranks/kubernetes/`.
///
/// # Errors
/// A recipe that leads nowhere; a project or recipe outside the volume; the disk.
pub fn write(launch: &Launch<'_>, cluster: &Cluster, reporter: &mut dyn Reporter) -> Result<Manifests> {
    for (what, path) in
        [("the project", launch.request.project.root()), ("the recipe's folder", &launch.request.base_dir)]
    {
        if !path.starts_with(&cluster.mount_path) {
            return Err(Error::Argument {
                message: format!(
                    "{what} `{}` is not below `{}`, where pods find the volume: give its mount point with --mount-path",
                    path.display(),
                    cluster.mount_path.display()
                ),
            });
        }
    }
    Rank::new(0, launch.ranks)?;
    shared::gathered(launch.request, reporter)?;
    let folder = launch.request.project.ranks().join("kubernetes");
    RealFs.create_dir_all(&folder).map_err(store::Error::io("create the folder", &folder))?;
    let mut manifests = Manifests { files: Vec::new(), commands: Vec::new() };
    for (number, stage) in (1..).zip(DataStage::ALL) {
        let path = folder.join(format!("{number}-{stage}.json"));
        atomic::write_json(&RealFs, &path, &job(launch, cluster, stage))?;
        manifests.commands.push(apply(&path, cluster, stage));
        manifests.files.push(path);
    }
    Ok(manifests)
}

fn apply(path: &Path, cluster: &Cluster, stage: DataStage) -> String {
    let namespace = &cluster.namespace;
    format!(
        "kubectl apply -n {namespace} -f '{}' && kubectl wait -n {namespace} --for=condition=complete --timeout=-1s job/{}",
        path.display(),
        name(stage)
    )
}

fn name(stage: DataStage) -> String {
    format!("text2llm-{stage}")
}

fn job(launch: &Launch<'_>, cluster: &Cluster, stage: DataStage) -> Value {
    let pods = if stage.is_shared() { launch.ranks } else { 1 };
    let environment: Vec<Value> = rank_environment(launch, cluster.cpus)
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name(stage), "namespace": cluster.namespace, "labels": { "app": "text2llm" } },
        "spec": {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            // Over all pods; the share of one that failed is begun anew.
            "backoffLimit": launch.retries * pods,
            "template": {
                "metadata": { "labels": { "app": "text2llm", "stage": stage.name() } },
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "text2llm",
                        "image": cluster.image,
                        "command": [cluster.program],
                        "args": launch.command(stage, RANK),
                        "workingDir": launch.request.project.root(),
                        "env": environment,
                        "resources": { "requests": { "cpu": cluster.cpus.to_string() } },
                        "volumeMounts": [{ "name": "project", "mountPath": cluster.mount_path }],
                    }],
                    "volumes": [{
                        "name": "project",
                        "persistentVolumeClaim": { "claimName": cluster.volume_claim },
                    }],
                },
            },
        },
    })
}
