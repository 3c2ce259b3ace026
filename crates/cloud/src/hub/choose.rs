//! Which files of a dataset are its text: those of the pattern, else those of one format and one split; and
//! which files of a model are needed to use it.

use super::file::{Hash, RemoteFile};
use super::reference::Reference;
use crate::{Error, Result};

/// Formats that contain text, the most structured first: a dataset often has the same text in several.
const FORMATS: [&[&str]; 6] = [
    &["parquet"],
    &["jsonl", "ndjson"],
    &["csv", "tsv"],
    &["json"],
    &["txt", "md"],
    &["html", "xml", "warc", "wet", "tar", "tgz", "zip", "pdf"],
];
const PACKINGS: [&str; 4] = ["gz", "zst", "bz2", "xz"];
/// Names of splits that are not for training.
const OTHER_SPLITS: [&str; 6] = ["test", "validation", "valid", "val", "dev", "eval"];
const TRAIN: &str = "train";

/// The files that a reference means, in the order of their paths.
pub fn files(reference: &Reference, all: Vec<RemoteFile>) -> Result<Vec<RemoteFile>> {
    let fail = |message: String| Err(Error::Reference { entry: reference.entry.clone(), message });
    let mut files = all;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let shown: Vec<String> = files.iter().take(8).map(|file| file.path.clone()).collect();
    if let Some(pattern) = &reference.pattern {
        let glob = match glob::Pattern::new(pattern) {
            Ok(glob) => glob,
            Err(error) => return fail(format!("`{pattern}` is not a valid pattern: {error}")),
        };
        files.retain(|file| glob.matches(&file.path));
    } else {
        let format =
            |file: &RemoteFile| FORMATS.iter().position(|format| format.contains(&extension(&file.path)));
        files.retain(|file| !file.path.starts_with('.') && !is_about(&file.path));
        if let Some(best) = files.iter().filter_map(format).min() {
            files.retain(|file| format(file) == Some(best));
        } else {
            files.clear();
        }
    }
    if let Some(config) = &reference.config {
        files.retain(|file| {
            let folders = file.path.rsplit_once('/').map_or("", |(folders, _)| folders);
            folders.split('/').any(|folder| folder == config) || has_word(&file.path, config)
        });
    }
    match &reference.split {
        Some(split) => files.retain(|file| has_word(&file.path, split)),
        None if reference.pattern.is_some() => {}
        None if files.iter().any(|file| has_word(&file.path, TRAIN)) => {
            files.retain(|file| has_word(&file.path, TRAIN));
        }
        None => files.retain(|file| !OTHER_SPLITS.iter().any(|split| has_word(&file.path, split))),
    }
    if files.is_empty() {
        return fail(format!("this matches no file of the dataset, which has: {}", shown.join(", ")));
    }
    if let Some((path, reason)) = unusable(&files) {
        return fail(format!(
            "this matches `{path}`, which cannot be used: {reason}; select other files with a pattern, \
             hf://OWNER/NAME/PATTERN"
        ));
    }
    Ok(files)
}

/// The first file that cannot be used, and why.
fn unusable(files: &[RemoteFile]) -> Option<(&str, &str)> {
    files.iter().find_map(|file| match &file.hash {
        Hash::Unusable(reason) => Some((file.path.as_str(), reason.as_str())),
        _ => None,
    })
}

/// Files of a model beside its weights.
const MODEL_FILES: [&str; 8] = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.json",
];

/// The files of a model that a reference means: one of GGUF by its name, else the folder's weights in
/// safetensors with what belongs to them.
pub fn model_files(reference: &Reference, all: Vec<RemoteFile>) -> Result<Vec<RemoteFile>> {
    let fail = |message: String| Err(Error::Reference { entry: reference.entry.clone(), message });
    let mut files = all;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let ggufs: Vec<String> =
        files.iter().filter(|file| file.path.ends_with(".gguf")).map(|file| file.path.clone()).collect();
    if let Some(name) = &reference.pattern {
        files.retain(|file| file.path == *name);
        if files.is_empty() || !name.ends_with(".gguf") {
            let there = if ggufs.is_empty() { "none".to_owned() } else { ggufs.join(", ") };
            return fail(format!("it has no GGUF file `{name}`; it has: {there}"));
        }
    } else {
        // model.safetensors, or model-00001-of-00002.safetensors.
        let is_weights = |path: &str| path.starts_with("model") && path.ends_with(".safetensors");
        let is_template = |path: &str| path.starts_with("additional_chat_templates/");
        let is_needed = |path: &str| {
            MODEL_FILES.contains(&path) || is_template(path) || (is_weights(path) && !path.contains('/'))
        };
        files.retain(|file| is_needed(&file.path));
        if !files.iter().any(|file| is_weights(&file.path)) {
            let hint = match ggufs.first() {
                Some(first) => format!("; name one of its GGUF files, as in hf://{}/{first}", reference.id),
                None => String::new(),
            };
            return fail(format!("it has no weights in safetensors{hint}"));
        }
    }
    match unusable(&files) {
        Some((path, reason)) => fail(format!("`{path}` cannot be used: {reason}")),
        None => Ok(files),
    }
}

/// The last extension that is not a compression.
fn extension(path: &str) -> &str {
    let mut extensions = path.rsplit('.');
    let last = extensions.next().unwrap_or_default();
    if PACKINGS.contains(&last) { extensions.next().unwrap_or_default() } else { last }
}

/// Texts that describe the dataset.
fn is_about(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    ["readme", "license", "changelog", "dataset_info"].iter().any(|about| name.starts_with(about))
}

/// Whether a path has a word among its parts.
fn has_word(path: &str, word: &str) -> bool {
    path.split(['/', '-', '_', '.']).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_format_and_one_split_are_taken() {
        let all = [
            "README.md",
            "TinyStories-train.txt",
            "data/validation-00000-of-00001.parquet",
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "fr/test.jsonl.gz",
        ];
        let json = ["dataset_infos.json", "en/c4-train.00001.json.gz"].map(|path| RemoteFile {
            path: path.into(),
            bytes: 1,
            hash: Hash::GitBlob(String::new()),
        });
        let found = files(&Reference::parse("hf://a/b").unwrap().unwrap(), json.to_vec()).unwrap();
        assert_eq!(found, [json[1].clone()]);
        let files = |entry: &str| {
            let listed = all.map(|path| RemoteFile {
                path: path.into(),
                bytes: 1,
                hash: Hash::GitBlob(String::new()),
            });
            let found = files(&Reference::parse(entry).unwrap().unwrap(), listed.to_vec());
            found.map(|files| files.into_iter().map(|file| file.path).collect::<Vec<_>>())
        };
        assert_eq!(
            files("hf://a/b").unwrap(),
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
        );
        assert_eq!(files("hf://a/b?split=validation").unwrap(), [all[2]]);
        assert_eq!(files("hf://a/b/*.txt").unwrap(), [all[1]]);
        assert_eq!(files("hf://a/b/fr/*?config=fr").unwrap(), [all[5]]);
        let odd = RemoteFile {
            path: "data/train:1.parquet".into(),
            bytes: 1,
            hash: Hash::Unusable("its name cannot be".into()),
        };
        let chosen = |entry: &str, file: &RemoteFile| {
            super::files(&Reference::parse(entry).unwrap().unwrap(), vec![file.clone()])
        };
        let message = chosen("hf://a/b", &odd).unwrap_err().to_string();
        assert!(
            message.contains("matches `data/train:1.parquet`") && message.contains("PATTERN"),
            "{message}"
        );
        let other = RemoteFile { path: ".odd:".into(), ..odd };
        assert!(chosen("hf://a/b", &other).unwrap_err().to_string().contains("no file of the dataset"));
        let message = files("hf://a/b?split=dev").unwrap_err().to_string();
        assert!(message.contains("which has: README.md"), "{message}");
    }
}
