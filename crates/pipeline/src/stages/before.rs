//! What the stages before one have left, in this project or in a share.

use std::path::Path;

use corpus::CorpusOptions;
use runs::report::Reporter;
use store::fs::RealFs;
use store::manifest::Manifest;
use store::stage::Stage;
use tokenizer::Tokenizer;

use super::data;
use super::expected::Expected;
use super::request::Request;

use crate::Result;
use crate::share::{Folder, Share};

/// Looks for what stages have left; what is found is kept.
pub(super) struct Before<'a> {
    pub request: &'a Request<'a>,
    /// Where to look instead of the project.
    share: Option<&'a Share>,
    /// What the recipe asks of the corpus, where its files are not to be looked at.
    options: Option<&'a CorpusOptions>,
    /// The documents' hash and the tokenizer that was made of them.
    found: Option<(String, Tokenizer)>,
    reporter: &'a mut dyn Reporter,
}

impl<'a> Before<'a> {
    /// Of the files at hand, each of them hashed.
    pub fn of_files(
        request: &'a Request<'a>,
        share: Option<&'a Share>,
        reporter: &'a mut dyn Reporter,
    ) -> Before<'a> {
        Before { request, share, options: None, found: None, reporter }
    }

    /// By the recipe's options alone: the ranks themselves have compared the files.
    pub fn by_options(
        request: &'a Request<'a>,
        options: &'a CorpusOptions,
        share: Option<&'a Share>,
        reporter: &'a mut dyn Reporter,
    ) -> Before<'a> {
        Before { request, share, options: Some(options), found: None, reporter }
    }

    /// The manifest of a folder of the project; `None` where there is none.
    pub fn mark(&self, folder: &Path) -> Result<Option<Manifest>> {
        match self.share {
            Some(share) => share.mark(&Folder::name_of(self.request.project, folder)),
            None => Ok(Manifest::read(&RealFs, folder).ok()),
        }
    }

    /// What a stage that reads the recipe's text must be made of: `by` its options, and `of` its files too
    /// where these are looked at.
    pub fn of_text(
        &mut self,
        by: impl FnOnce(&CorpusOptions) -> Stage,
        of: impl FnOnce(&CorpusOptions, &Path) -> corpus::Result<Stage>,
    ) -> Result<Expected> {
        if let Some(options) = self.options {
            return Ok(Expected { stage: by(options), of_any_inputs: true });
        }
        let options = data::corpus_sources(self.request, self.reporter)?.options;
        Ok(Expected::exactly(of(&options, &self.request.base_dir)?))
    }

    /// The hash of the documents.
    pub fn documents(&self) -> Result<Option<String>> {
        let manifest = match self.share {
            Some(_) => self.mark(&self.request.project.documents())?,
            None => data::documents_manifest(self.request),
        };
        Ok(manifest.map(|manifest| manifest.hash()))
    }

    /// The hash of the documents, and the tokenizer that was made of them. From a share it is brought: it is
    /// small, and the vocabulary's hash is in it.
    pub fn tokenizer(&mut self) -> Result<Option<&(String, Tokenizer)>> {
        if self.found.is_none() {
            let Some(documents) = self.documents()? else { return Ok(None) };
            let project = self.request.project;
            if let Some(share) = self.share {
                let made_by = data::TOKENIZER_STAGE.to_owned();
                share.bring(project, &Folder::new(project, &project.tokenizer(), made_by), self.reporter)?;
            }
            let tokenizer = data::tokenizer_at_hand(self.request, &documents)?;
            self.found = tokenizer.map(|tokenizer| (documents, tokenizer));
        }
        Ok(self.found.as_ref())
    }
}
