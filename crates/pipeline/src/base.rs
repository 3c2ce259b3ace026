//! The model that a run starts from: weights, shape and tokenizer of `train.init`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use model::{AdapterConfig, ModelConfig, Parameter, StateKind, Stored, WeightTypes, adapter_folder};
use recipe::Recipe;
use runs::run::RunDir;
use store::fs::RealFs;
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;
use train::checkpoint::TensorStore;

use crate::base_of_adapter::{Adapter, base_of_adapter};
use crate::meta::RunMeta;
use crate::open_model::{OpenModel, chat_template};
use crate::run_checkpoint::RunCheckpoint;
use crate::{Error, Result, base_path};

/// An open base model.
pub struct BaseModel {
    path: PathBuf,
    /// Where it is a checkpoint of a run.
    checkpoint: Option<Box<RunCheckpoint>>,
    stored: Mutex<Stored>,
    config: ModelConfig,
    tokenizer: Tokenizer,
    stop_ids: Vec<u32>,
    /// Of its weights, shape and tokenizer.
    weights_hash: String,
    /// An adapter that is trained on, where `train.init` names one.
    adapter: Option<PathBuf>,
    /// Of all that a run starts from.
    hash: String,
}

impl BaseModel {
    /// Opens what a recipe's `train.init` names, relative to `base_dir`; `None` if it names nothing.
    ///
    /// # Errors
    /// A model that is missing, damaged, of another family, or with a tokenizer that does not fit it.
    pub fn of_recipe(recipe: &Recipe, base_dir: &Path) -> Result<Option<BaseModel>> {
        let Some(path) = base_path::of_recipe(recipe, base_dir)? else { return Ok(None) };
        let base = match adapter_folder::is_adapter(&RealFs, &path) {
            true => BaseModel::of_adapter(&path, recipe)?,
            false => BaseModel::of(OpenModel::open(&path)?)?,
        };
        if recipe.tuning().adapter.is_some_and(|adapter| adapter.dora && !adapter.covers_whole_groups())
            && base.has_fused_projections()
        {
            let message = format!(
                "adapter.dora: `{}` keeps q, k and v in one matrix, and gate and up in another: name all \
                 modules of a matrix in adapter.target_modules, or none",
                base.path.display()
            );
            return Err(Error::Argument { message });
        }
        let config = adjusted(&base.config, &base.path, recipe)?;
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

    /// Opens the base of an adapter that is trained on.
    ///
    /// # Errors
    /// An adapter of another shape than the recipe's; a base that is not there, or another one.
    fn of_adapter(folder: &Path, recipe: &Recipe) -> Result<BaseModel> {
        let (found, _) = adapter_folder::read_config(&RealFs, folder)?;
        let refuse = |message: String| Error::Argument {
            message: format!("train.init: `{}` is an adapter{message}", folder.display()),
        };
        let Some(wanted) = recipe.tuning().adapter else {
            let out = "; to train all weights, merge it into its base first (`text2llm merge`)";
            return Err(refuse(out.to_owned()));
        };
        if (AdapterConfig { dropout: wanted.dropout, ..found.clone() }) != wanted {
            let modules: Vec<&str> = found.target_modules.iter().map(|module| module.name()).collect();
            return Err(refuse(format!(
                " of another shape than [adapter]: set rank = {}, alpha = {:?}, rank_stabilized = {}, dora = {} \
                 and target_modules = {modules:?}",
                found.rank, found.alpha, found.rank_stabilized, found.dora
            )));
        }
        let open = base_of_adapter(folder)?.ok_or_else(|| refuse(" without weights".to_owned()))?;
        let base = BaseModel::of(open)?;
        let weights = store::hash::hash_file(&RealFs, &folder.join(formats::peft::WEIGHTS_FILE))?;
        let hash = store::hash::hash_bytes(format!("{}{weights}", base.hash).as_bytes());
        Ok(BaseModel { adapter: Some(folder.to_owned()), hash, ..base })
    }

    /// Hashes what decides what a model computes.
    fn of(open: OpenModel) -> Result<BaseModel> {
        let hash = open.hash()?;
        let OpenModel { path, checkpoint, stored, tokenizer, stop_ids } = open;
        let config = stored.config().clone();
        Ok(BaseModel {
            path,
            checkpoint,
            stored: Mutex::new(stored),
            config,
            tokenizer,
            stop_ids,
            weights_hash: hash.clone(),
            adapter: None,
            hash,
        })
    }

    /// Where a recipe's base is: of an adapter, the model that it was trained on; `None` if it has none.
    /// [`BaseModel::of_recipe`] checks that it still is the same model.
    ///
    /// # Errors
    /// A model that is not there.
    pub fn location_of(recipe: &Recipe, base_dir: &Path) -> Result<Option<PathBuf>> {
        let Some(path) = base_path::of_recipe(recipe, base_dir)? else { return Ok(None) };
        Ok(Some(Adapter::find(&path, None)?.map_or(path, |adapter| adapter.base)))
    }

    /// The shape of a recipe's base, without reading its weights; `None` if it has none.
    ///
    /// # Errors
    /// As [`BaseModel::of_recipe`].
    pub fn shape_of(recipe: &Recipe, base_dir: &Path) -> Result<Option<ModelConfig>> {
        let Some(path) = BaseModel::location_of(recipe, base_dir)? else { return Ok(None) };
        Ok(Some(adjusted(&OpenModel::shape(&path)?, &path, recipe)?))
    }

    /// Its folder or file; of a run, the checkpoint's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The types that its weights are stored in.
    ///
    /// # Errors
    /// A file without a weight that the shape requires.
    pub fn weight_types(&self) -> Result<WeightTypes> {
        Ok(self.stored().weight_types(None)?)
    }

    /// The hash of its weights, shape and tokenizer, an adapter aside.
    pub fn weights_hash(&self) -> &str {
        &self.weights_hash
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
        chat_template(&self.path, self.checkpoint.as_deref(), &self.tokenizer)
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
        let adapter = match &self.adapter {
            Some(folder) => adapter_folder::read(&RealFs, folder, &self.config)?,
            None => BTreeMap::new(),
        };
        for tensor in tensors.saved_tensors().into_iter().filter(|tensor| tensor.kind == StateKind::Weight) {
            if let Some(values) = adapter.get(&tensor.name) {
                tensors.write_tensor(&tensor, values)?;
            } else if !Parameter::is_adapter_name(&tensor.name) {
                let values = self.stored().read(&tensor.name, &tensor.shape)?;
                tensors.write_tensor(&tensor, &values)?;
            }
        }
        Ok(())
    }
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
