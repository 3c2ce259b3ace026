//! Ranks as pods of Kubernetes Indexed Jobs. Nothing is applied here: the manifests are files to look at and
//! apply.
//!
//! A Job a stage, in JSON, which Kubernetes reads as it reads YAML. Jobs know no order among them, so a
//! script applies them one by one, each after the one before is complete. Pods work in a project on a volume
//! that all of them mount, or, with a share, in one of their own.

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

/// The variable that numbers the pods of an Indexed Job.
const RANK: &str = "$(JOB_COMPLETION_INDEX)";
/// Where pods without a volume work, and find the recipe.
const SCRATCH: &str = "/scratch";
const RECIPE_FOLDER: &str = "/recipe";
const RECIPE: &str = "recipe";
const RECIPE_FILE: &str = "text2llm.toml";
/// Variables that name what is on this machine only.
const OF_THIS_MACHINE: [&str; 4] =
    ["AWS_CONFIG_FILE", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "TEXT2LLM_CACHE"];

/// Where and as what the pods run.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// An image whose entry point is this program, or that has it at `program`.
    pub image: String,
    /// The namespace.
    pub namespace: String,
    /// The volume that holds the project folder; only with a share can there be none.
    pub volume: Option<Volume>,
    /// The Secret whose keys become variables of the pods.
    pub secret: Option<String>,
    /// The program in the image.
    pub program: String,
    /// Processors of a pod.
    pub cpus: usize,
}

/// A volume that all pods see.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its claim.
    pub claim: String,
    /// Where it is mounted; it must hold the project at the same path as here.
    pub mount_path: PathBuf,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifests {
    /// A file a stage, in order.
    pub files: Vec<PathBuf>,
    /// Applies them, in order.
    pub script: PathBuf,
    /// Runs the script, for a shell.
    pub command: String,
}

/// Writes a Job a stage into `data/ranks/kubernetes/`, and a script that applies them.
///
/// # Errors
/// A recipe that leads nowhere; a project or recipe outside the volume; the disk.
pub fn write(launch: &Launch<'_>, cluster: &Cluster, reporter: &mut dyn Reporter) -> Result<Manifests> {
    let folders =
        [("the project", launch.request.project.root()), ("the recipe's folder", &launch.request.base_dir)];
    for (what, path) in folders {
        if let Some(volume) = &cluster.volume
            && !path.starts_with(&volume.mount_path)
        {
            return Err(Error::Argument {
                message: format!(
                    "{what} `{}` is not below `{}`, where pods find the volume: give its mount point with --mount-path",
                    path.display(),
                    volume.mount_path.display()
                ),
            });
        }
    }
    if cluster.volume.is_none() && launch.share.is_none() {
        let message =
            "pods need a common folder, by --volume-claim, or object storage, by --share".to_owned();
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

/// Ends with the calls of `stage`, which are added.
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

/// Two projects in one namespace must not take each other's Jobs and recipes for theirs.
fn name(launch: &Launch<'_>, what: &str) -> String {
    let root = launch.request.project.root().to_string_lossy();
    let hash = store::manifest::hash_bytes(root.as_bytes());
    format!("text2llm-{what}-{}", &hash[..8])
}

/// The recipe that pods cannot find by its path; `None` where they can, or where it is an example's name.
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

/// The command of a pod, with what lies elsewhere there.
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
