//! The rules that documents are filtered by: the options, and the files that they name.

use std::collections::BTreeMap;
use std::path::Path;

use store::fs::Fs;
use store::manifest;

use crate::classifier::Classifier;
use crate::contamination::EvaluationItems;
use crate::filter::UrlFilter;
use crate::perplexity::Perplexity;
use crate::{CorpusOptions, Error, Result};

/// Everything that a filter decision depends on besides the document.
pub struct Rules<'a> {
    pub options: &'a CorpusOptions,
    pub urls: UrlFilter,
    pub evaluations: Option<EvaluationItems>,
    pub classifier: Option<Classifier>,
    pub perplexity: Option<Perplexity>,
}

impl<'a> Rules<'a> {
    /// Reads block lists, evaluation sets and models.
    pub fn open(fs: &dyn Fs, options: &'a CorpusOptions, project: &Path) -> Result<Rules<'a>> {
        let lists = block_lists(options, project)?;
        let classifier = options
            .classifier
            .as_ref()
            .map(|options| Classifier::open(fs, &project.join(&options.model)))
            .transpose()?;
        let perplexity =
            options.perplexity.as_ref().map(|options| Perplexity::open(fs, project, options)).transpose()?;
        Ok(Rules {
            options,
            urls: UrlFilter::new(&options.filters, lists.values().flat_map(|text| text.lines())),
            evaluations: evaluations(options, project)?,
            classifier,
            perplexity,
        })
    }
}

/// The evaluation sets to look for.
pub fn evaluations(options: &CorpusOptions, project: &Path) -> Result<Option<EvaluationItems>> {
    options.decontaminate.as_ref().map(|options| EvaluationItems::read(options, project)).transpose()
}

/// The files that the rules are read from, with their hashes, for manifests.
pub fn hashes(fs: &dyn Fs, options: &CorpusOptions, project: &Path) -> Result<BTreeMap<String, String>> {
    let mut hashes: BTreeMap<String, String> = block_lists(options, project)?
        .into_iter()
        .map(|(name, text)| (format!("url_block_lists:{name}"), manifest::hash_bytes(text.as_bytes())))
        .collect();
    for name in options.decontaminate.iter().flat_map(|options| &options.against) {
        let hash = manifest::hash_file(fs, &project.join(name)).map_err(|error| Error::Options {
            key: "decontaminate.against",
            message: format!("cannot read `{name}`: {error}"),
        })?;
        hashes.insert(format!("decontaminate:{name}"), hash);
    }
    if let Some(classifier) = &options.classifier {
        let hash = manifest::hash_file(fs, &project.join(&classifier.model))?;
        hashes.insert(format!("classifier:{}", classifier.model), hash);
    }
    if let Some(perplexity) = &options.perplexity {
        for (name, path) in perplexity.files(fs, project)? {
            let hash = manifest::hash_file(fs, &path).map_err(|error| Error::Options {
                key: "perplexity.model",
                message: format!("{error}: use a model folder as exported by `run`"),
            })?;
            hashes.insert(name, hash);
        }
    }
    Ok(hashes)
}

/// The block lists' names and texts.
fn block_lists(options: &CorpusOptions, project: &Path) -> Result<BTreeMap<String, String>> {
    let read = |name: &String| {
        let path = project.join(name);
        let text = std::fs::read_to_string(&path).map_err(|error| Error::Options {
            key: "filters.url_block_lists",
            message: format!("cannot read `{name}` ({error}; looked for `{}`)", path.display()),
        })?;
        Ok((name.clone(), text))
    };
    options.filters.url_block_lists.iter().map(read).collect()
}
