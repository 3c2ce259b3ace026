//! The model that a run starts from: weights, shape and tokenizer of `train.init`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use model::{ModelConfig, Parameter, StateKind, Stored};
use recipe::Recipe;
use runs::run::RunDir;
use store::fs::{Fs, RealFs};
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;
use train::checkpoint::TensorStore;

use crate::meta::RunMeta;
use crate::open_model::{OpenModel, chat_template};
use crate::{Error, Result};

/// An open base model.
pub struct BaseModel {
    path: PathBuf,
    stored: Mutex<Stored>,
    config: ModelConfig,
    tokenizer: Tokenizer,
    stop_ids: Vec<u32>,
    hash: String,
}

impl BaseModel {
    /// Opens what a recipe's `train.init` names, relative to `base_dir`; `None` if it names nothing.
    ///
    /// # Errors
    /// A model that is missing, damaged, of another family, or with a tokenizer that does not fit it.
    pub fn of_recipe(recipe: &Recipe, base_dir: &Path) -> Result<Option<BaseModel>> {
        let Some(path) = path_of(recipe, base_dir)? else { return Ok(None) };
        let base = BaseModel::open(&path)?;
        let config = adjusted(&base.config, &path, recipe)?;
        Ok(Some(BaseModel { config, ..base }))
    }

    /// Opens the base of a run, which must be the one that it started from.
    ///
    /// # Errors
    /// As [`BaseModel::of_recipe`]; another model than the run's.
    pub fn of_run(run: &RunDir, meta: &RunMeta) -> Result<Option<BaseModel>> {
        let base = BaseModel::of_recipe(&meta.recipe, &meta.base_dir)?;
        if let (Some(base), Some(wanted)) = (&base, &meta.inputs.base)
            && base.hash != *wanted
        {
            return Err(Error::Data {
                message: format!(
                    "run {} was started from another model than `{}` is now (BLAKE3 {} instead of {wanted}): \
                     restore it",
                    run.id(),
                    base.path.display(),
                    base.hash
                ),
            });
        }
        Ok(base)
    }

    /// Opens a model and hashes what decides what it computes.
    fn open(path: &Path) -> Result<BaseModel> {
        let open = OpenModel::open(path)?;
        let hash = open.hash()?;
        let OpenModel { path, stored, tokenizer, stop_ids } = open;
        let config = stored.config().clone();
        Ok(BaseModel { path, stored: Mutex::new(stored), config, tokenizer, stop_ids, hash })
    }

    /// The shape of a recipe's base, without reading its weights; `None` if it has none.
    ///
    /// # Errors
    /// As [`BaseModel::of_recipe`].
    pub fn shape_of(recipe: &Recipe, base_dir: &Path) -> Result<Option<ModelConfig>> {
        let Some(path) = path_of(recipe, base_dir)? else { return Ok(None) };
        Ok(Some(adjusted(Stored::open(&RealFs, &path)?.config(), &path, recipe)?))
    }

    /// Its folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its files keep queries, keys and values in one matrix, and gate and up in another.
    pub fn has_fused_projections(&self) -> bool {
        self.stored().hf().fused_projections
    }

    /// Its shape, as the recipe trains it.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ids that end a text.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Its chat template, if it has one.
    ///
    /// # Errors
    /// A template that cannot be read.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        chat_template(&self.path, &self.tokenizer)
    }

    /// Loads all weights; adapters are left as they are.
    ///
    /// # Errors
    /// A damaged file.
    pub fn load<D: compute::Device>(&self, weights: &mut model::Weights<D>) -> Result<()> {
        Ok(self.stored().load(weights)?)
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl train::Base for BaseModel {
    fn hash(&self) -> &str {
        &self.hash
    }

    fn write_trained(&self, tensors: &mut dyn TensorStore) -> train::Result<()> {
        for tensor in tensors.saved_tensors() {
            let is_weight = tensor.kind == StateKind::Weight && !Parameter::is_adapter_name(&tensor.name);
            if is_weight {
                let values = self.stored().read(&tensor.name, &tensor.shape)?;
                tensors.write_tensor(&tensor, &values)?;
            }
        }
        Ok(())
    }
}

/// Where a recipe's base is; `None` if it has none.
fn path_of(recipe: &Recipe, base_dir: &Path) -> Result<Option<PathBuf>> {
    let Some(init) = &recipe.train.init else { return Ok(None) };
    let path = base_dir.join(init);
    if RealFs.exists(&path) {
        return Ok(Some(path));
    }
    let message = format!(
        "train.init: `{}` does not exist: name a model folder in Hugging Face format or a GGUF file",
        path.display()
    );
    Err(Error::Argument { message })
}

/// A base's shape with the recipe's longer context, scaling of rotary positions, and dropout.
fn adjusted(config: &ModelConfig, path: &Path, recipe: &Recipe) -> Result<ModelConfig> {
    let options = &recipe.model;
    let mut config = config.clone();
    if let Some(context) = options.max_position_embeddings {
        config.max_position_embeddings = context;
    }
    if let Some(scaling) = options.rope_scaling.clone() {
        config.rope_scaling = Some(scaling.into());
    }
    config.dropout = options.dropout as f32;
    if recipe.train.sequence_length > config.max_position_embeddings {
        return Err(Error::Argument {
            message: format!(
                "train.sequence_length = {} is longer than the context of `{}`, {} tokens: lower it, or set \
                 model.max_position_embeddings and model.rope_scaling",
                recipe.train.sequence_length,
                path.display(),
                config.max_position_embeddings
            ),
        });
    }
    config.validate()?;
    Ok(config)
}
