//! Where the model is that a recipe's `train.init` names.

use std::path::{Path, PathBuf};

use model::adapter_folder;
use recipe::Recipe;
use store::fs::{Fs, RealFs};

use crate::{Error, Result};

/// Where a recipe's base is, relative to `base_dir`; `None` if it names none.
///
/// # Errors
/// A path that does not exist.
pub(crate) fn of_recipe(recipe: &Recipe, base_dir: &Path) -> Result<Option<PathBuf>> {
    let Some(init) = &recipe.train.init else { return Ok(None) };
    let path = base_dir.join(init);
    // A project's model.
    let in_project = path.join("model");
    let is_model = |path: &Path| {
        RealFs.exists(&path.join(model::folder::CONFIG_FILE)) || adapter_folder::is_adapter(&RealFs, path)
    };
    if !is_model(&path) && is_model(&in_project) {
        return Ok(Some(in_project));
    }
    if RealFs.exists(&path) {
        return Ok(Some(path));
    }
    let message = format!(
        "train.init: `{}` does not exist: name a model folder in Hugging Face format, a GGUF file, an \
         adapter's folder, a project with a model, the folder of a run or of its checkpoint, or \
         hf://OWNER/NAME",
        path.display()
    );
    Err(Error::Argument { message })
}
