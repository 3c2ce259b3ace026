//! Ranks as pods of Kubernetes Indexed Jobs. Nothing is applied here: manifests are written for review.
//!
//! One Job per stage, in JSON, which Kubernetes accepts like YAML. Jobs have no order, so a script applies
//! them one by one, each after the previous has completed. Pods work in a project on a volume that all of
//! them mount or, with a share, in scratch space of their own.

use std::path::{Path, PathBuf};

use corpus::Rank;
use runs::report::Reporter;
use serde_json::{Value, json};
use store::atomic;
use store::fs::{Fs, RealFs};

use super::{Launch, rank_environment};
use crate::project::quoted;
use crate::stages::{DataStage, shared};
use crate::{Error, Result};

/// The environment variable with the index of a pod in an Indexed Job.
const RANK: &str = "$(JOB_COMPLETION_INDEX)";
/// Folders of pods without a volume: the project, and the recipe.
const SCRATCH: &str = "/scratch";
const RECIPE_FOLDER: &str = "/recipe";
const RECIPE: &str = "recipe";
const RECIPE_FILE: &str = "text2llm.toml";
/// Environment variables that refer to this machine only.
const OF_THIS_MACHINE: [&str; 4] =
    ["AWS_CONFIG_FILE", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "TEXT2LLM_CACHE"];

/// Configuration of the pods.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// An image whose entry point is this program, or that has it at `program`.
    pub image: String,
    /// The namespace.
    pub namespace: String,
    /// The volume with the project folder; optional only with a share.
    pub volume: Option<Volume>,
    /// The Secret whose keys become environment variables of the pods.
    pub secret: Option<String>,
    /// The program in the image.
    pub program: String,
    /// CPUs per pod.
    pub cpus: usize,
}

/// A volume that all pods see.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its persistent volume claim.
    pub claim: String,
    /// Its mount path; it must contain the project at the same path as here.
    pub mount_path: PathBuf,
}

/// The written files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifests {
    /// One manifest per stage, in order.
    pub files: Vec<PathBuf>,
    /// The script that applies them in order.
    pub script: PathBuf,
    /// The shell command that runs the script.
    pub command: String,
}

/// Writes one Job per stage to `data/ranks/kubernetes/`, and a script that applies them.
///
/// # Errors
/// A recipe with missing files; a project or recipe outside of the volume; I/O errors.
pub fn write(launch: &Launch<'_>, cluster: &Cluster, reporter: &mut dyn Reporter) -> Result<Manifests> {
    let folders =
        [("the project", launch.request.project.root()), ("the recipe's folder", &launch.request.base_dir)];
    for (what, path) in folders {
        if let Some(volume) = &cluster.volume
            && !path.starts_with(&volume.mount_path)
        {
            return Err(Error::Argument {
                message: format!(
                    "{what} `{}` is not below `{}`, the mount path of the volume in the pods: set it with \
                     --mount-path",
                    path.display(),
                    volume.mount_path.display()
                ),
            });
        }
    }
    if cluster.volume.is_none() && launch.share.is_none() {
        let message =
            "pods need a shared file system (--volume-claim) or object storage (--share)".to_owned();
        return Err(Error::Argument { message });
    }
    Rank::new(0, launch.ranks)?;
    crate::stop::settle(shared::gathered(launch.request, reporter))?;
    let folder = launch.request.project.ranks().join("kubernetes");
    RealFs.create_dir_all(&folder).map_err(store::Error::io("create the folder", &folder))?;
    let script_file = folder.join("apply.sh");
    let command = format!("sh {}", quoted(&script_file.to_string_lossy()));
    let mut manifests = Manifests { files: Vec::new(), script: script_file, command };
    let mut script = SCRIPT.replace("@NAMESPACE@", &quoted(&cluster.namespace));
    let recipe = recipe_file(launch, cluster);
    if let Some(recipe) = recipe {
        let path = folder.join("0-recipe.json");
        atomic::write_json(&RealFs, &path, &config_map(launch, recipe, cluster)?)?;
        script += "kubectl apply --namespace \"$namespace\" --filename 0-recipe.json\n";
        manifests.files.push(path);
    }
    for (number, stage) in (1..).zip(DataStage::ALL) {
        let file = format!("{number}-{stage}.json");
        script += &format!("stage {file} {}\n", name(launch, stage.name()));
        let path = folder.join(file);
        atomic::write_json(&RealFs, &path, &job(launch, cluster, stage))?;
        manifests.files.push(path);
    }
    atomic::write(&RealFs, &manifests.script, script.as_bytes())?;
    Ok(manifests)
}

/// The beginning of the script; calls of `stage` are appended.
const SCRIPT: &str = r#"#!/bin/sh
# Applies the Jobs of text2llm one after another.
set -eu
cd "$(dirname "$0")"
namespace=@NAMESPACE@
stage() {
  # A Job that is complete, of another recipe or other text, would count as this one.
  kubectl delete --namespace "$namespace" --ignore-not-found "job/$2"
  kubectl apply --namespace "$namespace" --filename "$1"
  while :; do
    ended=$(kubectl get --namespace "$namespace" "job/$2" --output 'jsonpath={.status.conditions[?(@.status=="True")].type}')
    case " $ended " in
      *" Complete "*) return ;;
      *" Failed "*)
        echo "$2 failed: kubectl logs --namespace $namespace --selector job-name=$2" >&2
        exit 1
        ;;
    esac
    sleep "${PAUSE:-5}"
  done
}
"#;

/// Names include a hash of the project, since two projects in one namespace must not share Jobs and recipes.
fn name(launch: &Launch<'_>, what: &str) -> String {
    let root = launch.request.project.root().to_string_lossy();
    let hash = store::manifest::hash_bytes(root.as_bytes());
    format!("text2llm-{what}-{}", &hash[..8])
}

/// The recipe file if pods cannot read it by its path; `None` if they can, or if it is the name of an
/// example.
fn recipe_file<'a>(launch: &'a Launch<'_>, cluster: &Cluster) -> Option<&'a Path> {
    let recipe = launch.arguments.first().map(Path::new)?;
    (cluster.volume.is_none() && recipe.is_file()).then_some(recipe)
}

fn config_map(launch: &Launch<'_>, recipe: &Path, cluster: &Cluster) -> Result<Value> {
    let bytes = RealFs.read(recipe).map_err(store::Error::io("read", recipe))?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name(launch, RECIPE), "namespace": cluster.namespace, "labels": { "app": "text2llm" } },
        "data": { RECIPE_FILE: String::from_utf8_lossy(&bytes) },
    }))
}

/// The command of a pod, with paths replaced that differ there.
fn arguments(launch: &Launch<'_>, cluster: &Cluster, stage: DataStage) -> Vec<String> {
    let mut words = launch.command(stage, RANK);
    if cluster.volume.is_none() {
        let root = launch.request.project.root().to_string_lossy();
        let recipe = recipe_file(launch, cluster).map(Path::to_string_lossy);
        for word in &mut words {
            if *word == root {
                SCRATCH.clone_into(word);
            } else if recipe.as_ref().is_some_and(|recipe| recipe == word) {
                *word = format!("{RECIPE_FOLDER}/{RECIPE_FILE}");
            }
        }
    }
    words
}

fn job(launch: &Launch<'_>, cluster: &Cluster, stage: DataStage) -> Value {
    let pods = if stage.is_shared() { launch.ranks } else { 1 };
    let mut variables = rank_environment(launch, cluster.cpus);
    let (mounts, volumes, folder);
    match &cluster.volume {
        Some(volume) => {
            folder = launch.request.project.root().to_owned();
            mounts = json!([{ "name": "project", "mountPath": volume.mount_path }]);
            volumes = json!([{ "name": "project", "persistentVolumeClaim": { "claimName": volume.claim } }]);
        }
        None => {
            variables.retain(|name, _| !OF_THIS_MACHINE.contains(&name.as_str()));
            variables.insert("TEXT2LLM_CACHE".to_owned(), format!("{SCRATCH}/cache"));
            folder = PathBuf::from(SCRATCH);
            let mut mounted = vec![json!({ "name": "scratch", "mountPath": SCRATCH })];
            let mut known = vec![json!({ "name": "scratch", "emptyDir": {} })];
            if recipe_file(launch, cluster).is_some() {
                mounted.push(json!({ "name": "recipe", "mountPath": RECIPE_FOLDER }));
                known.push(json!({ "name": "recipe", "configMap": { "name": name(launch, RECIPE) } }));
            }
            (mounts, volumes) = (Value::from(mounted), Value::from(known));
        }
    }
    let environment: Vec<Value> =
        variables.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let secrets: Vec<Value> =
        cluster.secret.iter().map(|name| json!({ "secretRef": { "name": name } })).collect();
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name(launch, stage.name()), "namespace": cluster.namespace, "labels": { "app": "text2llm" } },
        "spec": {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            // The limit is over all pods; a failed share is started again.
            "backoffLimit": launch.retries * pods,
            "template": {
                "metadata": { "labels": { "app": "text2llm", "stage": stage.name() } },
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "text2llm",
                        "image": cluster.image,
                        "command": [cluster.program],
                        "args": arguments(launch, cluster, stage),
                        "workingDir": folder,
                        "env": environment,
                        "envFrom": secrets,
                        "resources": { "requests": { "cpu": cluster.cpus.to_string() } },
                        "volumeMounts": mounts,
                    }],
                    "volumes": volumes,
                },
            },
        },
    })
}
