//! Models and examples of a hub: downloaded to the cache, and known by their names there.

use std::path::{Path, PathBuf};

use cloud::hub::{Hub, Listing, Reference};
use model::Stored;
use recipe::Recipe;
use runs::report::{Phase, Reporter};
use store::fs::RealFs;

use crate::run_checkpoint::RunCheckpoint;
use crate::{Error, Result};

/// Begins the name of a cached model's folder.
const MODELS: &str = "models--";

/// Downloads a model that a command or a recipe names as `hf://OWNER/NAME[@REVISION][/FILE.gguf]` and returns
/// its folder or file; `None`: it names something else.
///
/// # Errors
/// No such model; parameters, which only datasets have; no answer and nothing in the cache; a file whose hash
/// is not the announced one.
pub fn model(entry: &str, reporter: &mut dyn Reporter) -> Result<Option<PathBuf>> {
    let Some(reference) = Reference::parse_model(entry)? else { return Ok(None) };
    let hub = Hub::from_environment();
    let listing = hub.list_model(&reference, &mut |note| reporter.warning(Phase::Prerequisites, note))?;
    fetch(&hub, &listing, reporter)?;
    let folder = hub.model_folder(&listing);
    Ok(Some(reference.pattern.map_or(folder.clone(), |file| folder.join(file))))
}

/// Downloads what a recipe names on a hub, and names the files in the cache instead: `train.init`,
/// `finetune.data` and `finetune.validation`. Of a run that `train.init` names, relative to `base_dir`, its
/// best checkpoint is named instead.
///
/// # Errors
/// As [`model`]; a run that another process trains.
pub fn localize(recipe: &mut Recipe, base_dir: &Path, reporter: &mut dyn Reporter) -> Result<()> {
    if let Some(init) = &recipe.train.init {
        let local = match model(init, reporter)? {
            Some(path) => Some(path),
            None => RunCheckpoint::find(&base_dir.join(init))?.map(|run| run.settled()).transpose()?,
        };
        if let Some(path) = local {
            recipe.train.init = Some(path.display().to_string());
        }
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

/// The files of a dataset `hf://OWNER/NAME[@REVISION][/PATTERN]`; `None`: it names something else. Short
/// names are of texts.
fn examples(entry: &str, reporter: &mut dyn Reporter) -> Result<Option<Vec<PathBuf>>> {
    let reference = entry.starts_with("hf://").then(|| Reference::parse(entry)).transpose()?.flatten();
    let Some(reference) = reference else { return Ok(None) };
    let hub = Hub::from_environment();
    let listing = hub.list(&reference, &mut |note| reporter.warning(Phase::Prerequisites, note))?;
    fetch(&hub, &listing, reporter)?;
    Ok(Some(listing.files.iter().map(|file| hub.path(&listing, file)).collect()))
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

/// Name and commit of a model in the cache, as PEFT names a base; `None`: the path is no cached model's.
pub(crate) fn name_of(path: &Path) -> Option<(String, String)> {
    let commit = path.file_name()?.to_str().filter(|name| is_commit(name))?;
    let commits = path.parent()?;
    let id = commits.file_name()?.to_str()?.strip_prefix(MODELS)?.replacen("--", "/", 1);
    (Hub::from_environment().model_commits(&id) == commits).then(|| (id, commit.to_owned()))
}

fn is_commit(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The cached folder of a model by name and commit; without a commit, if there is one folder only.
///
/// # Errors
/// Several commits in the cache.
pub(crate) fn cached(id: &str, commit: Option<&str>) -> Result<Option<PathBuf>> {
    if id.split('/').count() != 2 || id.contains("..") {
        return Ok(None);
    }
    let folder = Hub::from_environment().model_commits(id);
    // A download that was interrupted is none yet.
    let is_model = |path: &PathBuf| {
        path.join(model::folder::CONFIG_FILE).is_file() && Stored::open(&RealFs, path).is_ok()
    };
    if let Some(commit) = commit.filter(|commit| is_commit(commit)) {
        return Ok(Some(folder.join(commit)).filter(is_model));
    }
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(None) };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_model).collect();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        several => Err(Error::Data {
            message: format!(
                "`{}` has {several} revisions of {id}: pass the folder of one with --base",
                folder.display()
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_in_the_cache_have_names() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cached = Hub::from_environment().model_commits("owner/name").join(commit);
        assert_eq!(name_of(&cached), Some(("owner/name".to_owned(), commit.to_owned())));
        for other in
            [format!("/data/models--owner--name/{commit}"), "/data/models--owner--name/v1".to_owned()]
        {
            assert_eq!(name_of(Path::new(&other)), None);
        }
        assert_eq!(super::cached("../x", None).expect("no error"), None);
        assert_eq!(super::cached("owner/name-that-nobody-has", Some("../../x")).expect("no error"), None);
    }
}
