//! Checks before a training: whether a recipe can run on this machine. Changes nothing.
//!
//! Reading order: this file, `check` (a result), `machine` (H100, Mac).

mod check;
mod machine;

use std::path::Path;

use compute::{DeviceKind, Target};
use corpus::examples::Records;
use pipeline::base::BaseModel;
use pipeline::chat_model::ChatModel;
use pipeline::plan::{self, Plan};
use pipeline::prices::Gpu;
use pipeline::project::Project;
use recipe::Place;
use store::fs::RealFs;
use store::secret;

use crate::failure::{Failure, Outcome};
use crate::output::bytes;
use crate::select::Selected;

pub use check::{Check, Status};
pub use machine::Machine;

/// What to check.
pub struct Preflight<'a> {
    /// The recipe, or why it cannot be used.
    pub selected: Outcome<Selected>,
    /// The project folder, which may not exist yet.
    pub project: &'a Project,
    /// The machine that this should be.
    pub machine: Machine,
    /// Free disk space that is needed at least, in GB.
    pub minimum_disk_gb: f64,
    /// Whether an API key of Weights & Biases is needed.
    pub wandb: bool,
    /// The device and threads of the training.
    pub target: Target,
}

impl Preflight<'_> {
    /// All checks, in the order in which a person would fix them.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = machine::checks(self.machine);
        let mut plan = None;
        match &self.selected {
            Ok(selected) => {
                checks.push(Check::ok("recipe", format!("{} ({})", selected.recipe.name, selected.source)));
                checks.push(self.device(selected));
                checks.extend(data(selected));
                checks.extend(model(selected));
                let is_complete =
                    checks.iter().all(|check| check.status != Status::Error || !is_input(check.name));
                if is_complete {
                    plan = self.memory(selected, &mut checks);
                } else {
                    checks.push(Check::warning("memory", "not checked, since files are missing"));
                }
            }
            Err(failure) => checks.extend(mistakes(failure)),
        }
        let needed = plan.map_or(0, |plan| plan.disk_bytes).max((1e9 * self.minimum_disk_gb) as u64);
        checks.push(disk(self.project.root(), needed));
        if self.wandb {
            checks.push(wandb(std::env::var_os("WANDB_API_KEY").is_some_and(|key| !key.is_empty())));
        }
        checks
    }

    fn device(&self, selected: &Selected) -> Check {
        let target = match self.machine {
            Machine::H100 => Target { place: DeviceKind::Cuda(0), ..self.target },
            _ => self.target,
        };
        if !target.is_cpu() && !cfg!(feature = "cuda") {
            return Check::error("device", "this program was built without CUDA")
                .remedy("rebuild it with `cargo build --release --features cuda`");
        }
        let checked = target.check().map_err(|error| error.to_string());
        let precision = || selected.recipe.train.check_precision(target).map_err(|error| error.to_string());
        match checked.and_then(|()| precision()) {
            Ok(()) if target.is_cpu() => {
                Check::ok("device", format!("the CPU, {} threads", target.cpu_threads()))
            }
            Ok(()) => Check::ok("device", "the GPU"),
            Err(message) => Check::error("device", message)
                .remedy("`text2llm doctor` lists what is installed and how to install what is missing"),
        }
    }

    /// Checks the memory that the recipe's plan needs.
    fn memory(&self, selected: &Selected, checks: &mut Vec<Check>) -> Option<Plan> {
        let planned = plan::plan(&selected.recipe, self.project, &selected.base_dir, self.target);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(error) => {
                checks.push(Check::error("plan", error.to_string()));
                return None;
            }
        };
        // Where the GPU cannot be asked for its free memory, that of the data sheet counts.
        if self.machine == Machine::H100
            && (self.target.is_cpu() || !cfg!(feature = "cuda"))
            && let Ok(gpu) = Gpu::named("h100")
        {
            plan = plan.on_gpu(&selected.recipe, gpu);
        }
        checks.extend(plan.warnings.iter().map(|warning| Check::warning("plan", warning)));
        let needed = bytes(plan.memory.total_bytes);
        checks.push(match (plan.memory_shortage(), plan.memory.available_bytes) {
            (Some(shortage), _) => Check::error("memory", shortage),
            (None, Some(free)) => {
                Check::ok("memory", format!("training needs {needed} of {} that are free", bytes(free)))
            }
            (None, None) => {
                Check::warning("memory", format!("training needs {needed}; free memory is unknown"))
            }
        });
        Some(plan)
    }
}

/// Whether a check is of files, without which there is no plan.
fn is_input(name: &str) -> bool {
    matches!(name, "data" | "model")
}

/// The mistakes of a recipe, one check each.
fn mistakes(failure: &Failure) -> Vec<Check> {
    let Failure::Pipeline(pipeline::Error::Recipe(errors)) = failure else {
        return vec![Check::error("recipe", failure.to_string())];
    };
    let of = |diagnostic: &recipe::Diagnostic| {
        let place = match &diagnostic.place {
            Some(Place::Line { file, line, column, .. }) => format!("{file}:{line}:{column}: "),
            Some(Place::Outside(given)) => format!("{given}: "),
            None => String::new(),
        };
        let message = format!("{place}{}", diagnostic.message);
        Check { remedy: diagnostic.help.clone(), ..Check::error("recipe", secret::masked(&message)) }
    };
    errors.0.iter().map(of).collect()
}

/// The files of examples; the text of `[data]` is checked by the plan.
fn data(selected: &Selected) -> Option<Check> {
    let options = selected.recipe.finetune.as_ref()?;
    let mut found = (0, 0);
    for entries in [&options.data, &options.validation] {
        match Records::find(&RealFs, entries, &selected.base_dir) {
            Ok(records) => found = (found.0 + records.files().len(), found.1 + records.bytes(&RealFs)),
            Err(error) => {
                let remedy =
                    "correct finetune.data or finetune.validation in the recipe, or pass --data FILE";
                return Some(Check::error("data", error.to_string()).remedy(remedy));
            }
        }
    }
    Some(Check::ok("data", format!("{} files of examples, {}", found.0, bytes(found.1))))
}

/// The model that the recipe starts from, if any: its shape, and for examples its tokenizer and template.
fn model(selected: &Selected) -> Option<Check> {
    let init = selected.recipe.train.init.as_ref()?;
    let path = selected.base_dir.join(init);
    let opened = BaseModel::shape_of(&selected.recipe, &selected.base_dir).and_then(|_| {
        let Some(options) = &selected.recipe.finetune else { return Ok(()) };
        let located = BaseModel::location_of(&selected.recipe, &selected.base_dir)?;
        ChatModel::open(&located.unwrap_or_else(|| path.clone()), options, &selected.base_dir).map(drop)
    });
    Some(match opened {
        Ok(()) => Check::ok("model", path.display().to_string()),
        Err(error) if path.exists() => Check::error("model", error.to_string()),
        Err(error) => Check::error("model", error.to_string())
            .remedy("download the base model and pass its folder or GGUF file with --init MODEL"),
    })
}

fn disk(folder: &Path, needed: u64) -> Check {
    let shown = folder.display();
    match store::system::free_disk_bytes(folder) {
        Some(free) if free >= needed => Check::ok(
            "disk",
            format!("{} free on the disk of `{shown}`, {} are needed", bytes(free), bytes(needed)),
        ),
        Some(free) => Check::error(
            "disk",
            format!("{} free on the disk of `{shown}`, and {} are needed", bytes(free), bytes(needed)),
        )
        .remedy("free some space, or choose a folder on another disk with --project"),
        None => Check::warning("disk", format!("the free space on the disk of `{shown}` is unknown")),
    }
}

/// Never takes the key itself, so that it cannot be printed.
fn wandb(is_set: bool) -> Check {
    if is_set {
        return Check::ok("wandb", "WANDB_API_KEY is set");
    }
    Check::error("wandb", "WANDB_API_KEY is not set").remedy("set it, or check without --wandb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_a_recipe_have_their_position() {
        let text = "[train]\nstep = 3\nbatch_size = \"many\"\n";
        let errors = recipe::Recipe::load("r.toml", text, &[]).expect_err("two mistakes");
        let checks = mistakes(&errors.into());
        assert_eq!(checks.len(), 2, "{checks:?}");
        assert!(checks.iter().all(|check| check.status == Status::Error && check.name == "recipe"));
        let lines: Vec<String> = checks.iter().map(Check::line).collect();
        let key = lines.iter().find(|line| line.contains("r.toml:2:1: ")).expect("the misspelled key");
        assert!(key.starts_with("error    recipe ") && key.contains("; the nearest valid key is `steps`"));
        assert!(lines.iter().any(|line| line.contains("r.toml:3:14: ")), "{lines:?}");
    }

    #[test]
    fn a_disk_of_any_size_can_be_too_small() {
        let folder = std::env::temp_dir().join("not/there/yet");
        assert_eq!(disk(&folder, 1).status, Status::Ok);
        let full = disk(&folder, u64::MAX);
        assert!(full.status == Status::Error && full.remedy.is_some(), "{full:?}");
    }

    #[test]
    fn a_key_is_set_or_not() {
        assert_eq!(wandb(true).status, Status::Ok);
        assert_eq!(wandb(false).status, Status::Error);
    }
}
