//! Selects the project folder and the recipe that a command works on.

use std::path::{Path, PathBuf};

use pipeline::project::Project;
use recipe::{Override, Recipe};

use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::{Failure, Outcome};

/// A recipe, and where it was found.
pub struct Selected {
    /// The recipe with all layers applied.
    pub recipe: Recipe,
    /// The name shown to people: a path, or "the embedded quickstart".
    pub source: String,
    /// The argument that selects it in another process: an absolute path, or the name of an example.
    pub argument: String,
    /// The folder that relative corpus paths start from.
    pub base_dir: PathBuf,
    /// Whether the user named a recipe or changed a key of it.
    pub explicit: bool,
    /// Whether `notify.command` came from a flag or the environment, not from the recipe.
    pub notify_is_said: bool,
}

/// The project folder: `--output-dir`, else `--project`, else the current folder.
pub fn project(global: &GlobalArguments, output_dir: Option<&Path>) -> Outcome<Project> {
    let root = match output_dir.or(global.project.as_deref()) {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_dir()?,
    };
    Ok(Project::new(root))
}

/// An existing project folder, for commands that only read.
pub fn existing_project(global: &GlobalArguments) -> Outcome<Project> {
    let project = project(global, None)?;
    if project.root().is_dir() {
        return Ok(project);
    }
    Err(Failure::message(format!(
        "there is no folder `{}`: pass an existing one with --project, or create one with `text2llm new \
         NAME`",
        project.root().display()
    )))
}

/// The recipe that the arguments name, with overrides from the environment and flags applied.
pub fn recipe(
    global: &GlobalArguments,
    arguments: &RecipeArguments,
    extra: &[Override],
    project: &Project,
) -> Outcome<Selected> {
    let Found { source, argument, text, base_dir } = find(global, arguments, project)?;
    let mut layers = Override::from_environment(environment());
    let environment_layers = layers.len();
    for (flag, path, value) in [
        ("--epochs", "train.epochs", &arguments.epochs),
        ("--batch-size", "train.batch_size", &arguments.batch_size),
        ("--learning-rate", "train.learning_rate", &arguments.learning_rate),
        ("--vocab-size", "tokenizer.vocab_size", &arguments.vocab_size),
    ] {
        if let Some(text) = value {
            layers.push(Override::typed_flag(flag, path, text));
        }
    }
    if !arguments.corpus_path.is_empty() {
        let mut paths = Vec::new();
        for path in &arguments.corpus_path {
            paths.push(toml::Value::String(corpus_path(path)?));
        }
        layers.push(Override::flag("--corpus-path", "data.paths", paths));
    }
    if let Some(seed) = global.seed {
        let seed = i64::try_from(seed)
            .map_err(|_| Failure::message(format!("--seed {seed}: the largest seed is {}", i64::MAX)))?;
        layers.push(Override::flag("--seed", "train.seed", seed));
    }
    layers.extend_from_slice(extra);
    for argument in &arguments.set {
        layers.push(Override::set(argument).map_err(recipe::RecipeErrors::from)?);
    }
    let explicit = arguments.recipe.is_some() || layers.len() > environment_layers;
    let notify_is_said = layers.iter().any(|layer| layer.path == "notify.command");
    let recipe = Recipe::load(&source, &text, &layers)?;
    Ok(Selected { recipe, source, argument, base_dir, explicit, notify_is_said })
}

/// A recipe's text and where it was found.
struct Found {
    source: String,
    argument: String,
    text: String,
    base_dir: PathBuf,
}

/// Arguments that select the same recipe and project in another process, whatever its current folder.
pub fn again(
    global: &GlobalArguments,
    arguments: &RecipeArguments,
    selected: &Selected,
    project: &Project,
) -> Outcome<Vec<String>> {
    let mut again = vec![selected.argument.clone()];
    let mut add = |flag: &str, value: &str| again.extend([flag.to_owned(), value.to_owned()]);
    for (flag, value) in [
        ("--epochs", &arguments.epochs),
        ("--batch-size", &arguments.batch_size),
        ("--learning-rate", &arguments.learning_rate),
        ("--vocab-size", &arguments.vocab_size),
    ] {
        value.iter().for_each(|value| add(flag, value));
    }
    for path in &arguments.corpus_path {
        add("--corpus-path", &corpus_path(path)?);
    }
    if let Some(seed) = global.seed {
        add("--seed", &seed.to_string());
    }
    arguments.set.iter().for_each(|set| add("--set", set));
    add("--project", &project.root().to_string_lossy());
    Ok(again)
}

/// A corpus path from the command line, made absolute: it is relative to the current folder, not the
/// recipe's.
fn corpus_path(path: &str) -> Outcome<String> {
    let is_place =
        !["sample", "-"].contains(&path) && (Path::new(path).exists() || !pipeline::is_remote(path));
    if is_place { absolute(path) } else { Ok(path.to_owned()) }
}

fn find(global: &GlobalArguments, arguments: &RecipeArguments, project: &Project) -> Outcome<Found> {
    let named = arguments.recipe.as_deref();
    // With --output-dir the project folder may be new; the recipe is then that of the project that would be
    // used without it.
    let stands_in = arguments.output_dir.as_ref().map(|_| {
        global.project.as_ref().map_or_else(|| "text2llm.toml".into(), |path| path.join("text2llm.toml"))
    });
    let beside = [Some(project.recipe_file()), stands_in];
    let path = match named {
        Some(name) => Some(PathBuf::from(name)),
        None => beside.into_iter().flatten().find(|path| path.is_file()),
    };
    let Some(path) = path else {
        let text = recipe::examples::QUICKSTART.to_owned();
        let (source, argument) = ("the embedded quickstart".to_owned(), "quickstart".to_owned());
        return Ok(Found { source, argument, text, base_dir: project.root().to_owned() });
    };
    // A folder `quickstart/` without a recipe, such as the output of the example, does not hide the example.
    let holds_recipe = if path.is_dir() { path.join("text2llm.toml").is_file() } else { path.exists() };
    if let Some(name) = named
        && !holds_recipe
    {
        if let Some(text) = recipe::examples::find(name) {
            let (source, text) = (format!("the embedded {name}"), text.to_owned());
            return Ok(Found {
                source,
                argument: name.to_owned(),
                text,
                base_dir: project.root().to_owned(),
            });
        }
        if path.exists() {
            return Err(Failure::message(format!(
                "there is no text2llm.toml in `{name}`: pass a recipe file"
            )));
        }
        return Err(Failure::message(format!(
            "there is no recipe `{name}`: pass a file, or one of the examples {}",
            recipe::examples::names().join(", ")
        )));
    }
    let path = if path.is_dir() { path.join("text2llm.toml") } else { path };
    let shown = path.display().to_string();
    let bytes = std::fs::read(&path)
        .map_err(|error| Failure::message(format!("cannot read the recipe `{shown}`: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::message(format!("the recipe `{shown}` is not UTF-8 text")))?;
    let path = std::path::absolute(&path)?;
    let base_dir = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    Ok(Found { source: shown, argument: path.to_string_lossy().into_owned(), text, base_dir })
}

fn absolute(path: &str) -> Outcome<String> {
    Ok(std::path::absolute(path)?.to_string_lossy().into_owned())
}

/// Environment variables that are UTF-8; this program uses no others.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
