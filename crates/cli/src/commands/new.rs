//! `text2llm new`: create a project folder with a commented recipe.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Console;

/// Create a project with a commented recipe
///
/// Writes NAME/text2llm.toml with every key of a recipe, its meaning, range and default.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Folder of the new project; its last component is the model's name
    #[arg(value_name = "NAME")]
    pub name: PathBuf,
    /// Example recipe to take values from
    #[arg(long, value_name = "EXAMPLE", default_value = "quickstart")]
    pub example: String,
}

/// Writes the recipe.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let Some(text) = recipe::examples::find(&arguments.example) else {
        return Err(Failure::message(format!(
            "there is no example `{}`; the examples are {}",
            arguments.example,
            recipe::examples::names().join(", ")
        )));
    };
    let folder = match &global.project {
        Some(project) => project.join(&arguments.name),
        None => arguments.name.clone(),
    };
    let folder = std::path::absolute(folder)?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = folder.join("text2llm.toml");
    if path.exists() && !console.confirm(&format!("`{}` exists. Overwrite it?", path.display()))? {
        return Err(Failure::message(format!(
            "`{}` already exists: choose another name, or overwrite it with --yes",
            path.display()
        )));
    }
    let recipe = recipe::commented(&name, text);
    // The folder's name may contain characters that a recipe's name may not.
    recipe::Recipe::load(&path.display().to_string(), &recipe, &[])?;
    std::fs::create_dir_all(&folder)
        .and_then(|()| store::fs::regular::create(&path)?.write_all(recipe.as_bytes()))
        .map_err(store::Error::io("write", &path))?;
    if console.is_human() {
        let shown = arguments.name.display();
        console.prose(&format!("Wrote {}", path.display()));
        console.prose("Next:");
        for command in [&format!("cd {shown}"), "text2llm plan", "text2llm run"] {
            console.prose(&format!("  {command}"));
        }
        Ok(())
    } else {
        console.result("new", &json!({ "recipe": path, "name": name, "example": arguments.example }))
    }
}
