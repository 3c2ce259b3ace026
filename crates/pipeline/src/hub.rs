//! Models and examples of a hub: downloaded to the cache, and known by their names there.

use std::path::{Path, PathBuf};

use cloud::hub::{Hub, Listing, Reference};
use recipe::Recipe;
use runs::report::{Phase, Reporter};

use crate::{Error, Result};

/// Begins the name of a cached model's folder.
const MODELS: &str = "models--";

/// Downloads a model that a command or a recipe names as `hf://OWNER/NAME[@REVISION][/FILE.gguf]` and returns
/// its folder or file; `None`: it names something else.
///
/// # Errors
/// No such model; no answer and nothing in the cache; a file whose hash is not the announced one.
pub fn model(entry: &str, reporter: &mut dyn Reporter) -> Result<Option<PathBuf>> {
    let Some(reference) = reference(entry)? else { return Ok(None) };
    let hub = Hub::from_environment();
    let listing = hub.list_model(&reference, &mut |note| reporter.warning(Phase::Prerequisites, note))?;
    fetch(&hub, &listing, reporter)?;
    let folder = hub.model_folder(&listing);
    Ok(Some(reference.pattern.map_or(folder.clone(), |file| folder.join(file))))
}

/// Downloads what a recipe names on a hub, and names the files in the cache instead: `train.init`,
/// `finetune.data` and `finetune.validation`.
///
/// # Errors
/// As [`model`].
pub fn localize(recipe: &mut Recipe, reporter: &mut dyn Reporter) -> Result<()> {
    if let Some(init) = &recipe.train.init
        && let Some(path) = model(init, reporter)?
    {
        recipe.train.init = Some(path.display().to_string());
    }
    let Some(options) = &mut recipe.finetune else { return Ok(()) };
    for entries in [&mut options.data, &mut options.validation] {
        let mut local = Vec::new();
        for entry in entries.drain(..) {
            match examples(&entry, reporter)? {
                Some(paths) => local.extend(paths.into_iter().map(|path| path.display().to_string())),
                None => local.push(entry),
            }
        }
        *entries = local;
    }
    Ok(())
}

/// The files of a dataset `hf://OWNER/NAME[@REVISION][/PATTERN]`; `None`: it names something else.
fn examples(entry: &str, reporter: &mut dyn Reporter) -> Result<Option<Vec<PathBuf>>> {
    let Some(reference) = reference(entry)? else { return Ok(None) };
    let hub = Hub::from_environment();
    let listing = hub.list(&reference, &mut |note| reporter.warning(Phase::Prerequisites, note))?;
    fetch(&hub, &listing, reporter)?;
    Ok(Some(listing.files.iter().map(|file| hub.path(&listing, file)).collect()))
}

/// An entry that begins with `hf://`; short names are of texts.
fn reference(entry: &str) -> Result<Option<Reference>> {
    Ok(if entry.starts_with("hf://") { Reference::parse(entry)? } else { None })
}

fn fetch(hub: &Hub, listing: &Listing, reporter: &mut dyn Reporter) -> Result<()> {
    let total = listing.files.iter().map(|file| file.bytes).sum();
    let mut done = 0;
    for file in &listing.files {
        hub.fetch(listing, file, &mut |bytes| {
            reporter.progress(Phase::Prerequisites, done + bytes, total, "bytes downloaded")
        })?;
        done += file.bytes;
    }
    Ok(())
}

/// Name and commit of a model in the cache, as PEFT names a base.
pub(crate) fn name_of(path: &Path) -> Option<(String, String)> {
    let commit = path.file_name()?.to_str()?;
    let id = path.parent()?.file_name()?.to_str()?.strip_prefix(MODELS)?;
    Some((id.replacen("--", "/", 1), commit.to_owned()))
}

/// The cached folder of a model by name and commit; without a commit, if there is one folder only.
///
/// # Errors
/// A cache that cannot be read.
pub(crate) fn cached(id: &str, commit: Option<&str>) -> Result<Option<PathBuf>> {
    if id.split('/').count() != 2 || id.contains("..") {
        return Ok(None);
    }
    let folder = cloud::cache_folder().join("hub").join(format!("{MODELS}{}", id.replacen('/', "--", 1)));
    let is_model = |path: &PathBuf| path.join(model::folder::CONFIG_FILE).is_file();
    if let Some(commit) = commit {
        return Ok(Some(folder.join(commit)).filter(is_model));
    }
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(None) };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_model).collect();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        several => Err(Error::Data {
            message: format!(
                "`{}` has {several} revisions of {id}: set base_model_name_or_path to the folder of one",
                folder.display()
            ),
        }),
    }
}
