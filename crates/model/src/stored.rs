//! Models on disk, whatever their form: a folder of Hugging Face's, or a GGUF file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compute::{DType, Device};
use formats::gguf::{self, TensorType};
use formats::safetensors::{self, Dtype};
use quant::BlockFormat;
use store::fs::Fs;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::folder;
use crate::network::Network;
use crate::parameters::{Parameter, WeightTypes};
use crate::weights::Weights;

/// A model to be loaded.
pub struct Stored {
    form: Form,
    config: ModelConfig,
}

enum Form {
    Folder(PathBuf),
    Gguf(Box<gguf::Reader>, Box<formats::hf::Config>),
}

impl Stored {
    /// Opens a model folder, or a file that ends in `.gguf`.
    ///
    /// # Errors
    /// Neither; a file that is damaged, or of another family; weights that are not those of its
    /// configuration.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Stored> {
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if path.is_dir() || !is_gguf {
            let (config, _) = folder::read_config(fs, path)?;
            folder::check_weights(fs, path, &config)?;
            return Ok(Stored { form: Form::Folder(path.to_path_buf()), config });
        }
        let mut reader = gguf::Reader::open(fs, path)?;
        let hf = gguf::config(&mut reader)?;
        let config = ModelConfig::from_hf(&hf);
        config.validate().map_err(folder::in_file(path))?;
        folder::check_shapes(&config, path, |name| match gguf::tensor_name(name) {
            Some(name) => Ok(Some(reader.require(&name)?.shape.clone())),
            None => Ok(None),
        })?;
        Ok(Stored { form: Form::Gguf(Box::new(reader), Box::new(hf)), config })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The types in which decoding keeps the weights: `dtype` for all of them, or those they are stored in.
    /// Types without products of their own become f32, and so does a fused matrix whose parts differ
    /// (bfloat16 where none of them is f32).
    ///
    /// # Errors
    /// A file without a weight that the shape requires.
    pub fn weight_types(&self, fs: &dyn Fs, dtype: Option<DType>) -> Result<WeightTypes> {
        if let Some(dtype) = dtype {
            return Ok(WeightTypes::All(dtype));
        }
        let mut types = BTreeMap::new();
        let matrices = Network::parameters_of(&self.config).into_iter().filter(Parameter::is_matrix);
        match &self.form {
            Form::Folder(path) => {
                let reader = safetensors::Reader::open_with(fs, &path.join(folder::WEIGHTS_FILE))?;
                for Parameter { name, .. } in matrices {
                    let entry = reader.find(&name);
                    let dtype =
                        if entry.is_some_and(|e| e.dtype == Dtype::BF16) { DType::Bf16 } else { DType::F32 };
                    types.insert(name, dtype);
                }
            }
            Form::Gguf(reader, _) => {
                for Parameter { name, .. } in matrices {
                    let tensor = gguf::tensor_name(&name).map(|name| reader.require(&name)).transpose()?;
                    types.insert(name, tensor.map_or(DType::F32, |tensor| kept(tensor.tensor_type)));
                }
            }
        }
        Ok(WeightTypes::Each(types))
    }

    /// Loads the weights. Blocks go over as they are where the model keeps them in the same type.
    ///
    /// # Errors
    /// A missing tensor, another shape, a corrupt file: the file is named.
    pub fn load<D: Device>(&mut self, fs: &dyn Fs, weights: &mut Weights<D>) -> Result<()> {
        let (reader, hf) = match &mut self.form {
            Form::Folder(path) => return folder::load(fs, path, weights),
            Form::Gguf(reader, hf) => (reader, hf),
        };
        for parameter in weights.parameters().to_vec() {
            let name = &parameter.name;
            let file_name = gguf::tensor_name(name).ok_or_else(|| Error::Tensor {
                name: name.clone(),
                message: "GGUF has no name for this tensor".to_string(),
            })?;
            let tensor = reader.require(&file_name)?;
            if tensor.shape != parameter.shape {
                let message =
                    format!("{file_name} has shape {:?}, the model has {:?}", tensor.shape, parameter.shape);
                return Err(Error::Folder { path: reader.path().to_path_buf(), message });
            }
            let dtype = kept(tensor.tensor_type);
            if dtype.is_blocks() && weights.is_stored_as(name, dtype)? {
                let bytes = reader.read_parameter_bytes(name, hf)?;
                weights.upload_blocks(name, &bytes)?;
            } else {
                let values = reader.read_parameter_f32(name, hf)?;
                weights.upload(name, &values)?;
            }
        }
        Ok(())
    }
}

/// The type that decoding keeps a tensor in.
fn kept(tensor_type: TensorType) -> DType {
    match tensor_type {
        TensorType::BF16 => DType::Bf16,
        TensorType::Blocks(BlockFormat::Q8_0) => DType::Q8_0,
        TensorType::Blocks(BlockFormat::Q4_0) => DType::Q4_0,
        _ => DType::F32,
    }
}
