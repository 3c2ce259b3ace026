//! Models on disk, whatever their form: a folder of Hugging Face's, or a GGUF file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compute::{DType, Device};
use formats::gguf::{self, TensorType};
use formats::hf;
use formats::safetensors::{Dtype, WeightFiles};
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
    hf: hf::Config,
    config: ModelConfig,
}

enum Form {
    Folder(Box<WeightFiles>),
    Gguf(Box<gguf::Reader>),
}

impl Stored {
    /// Opens a model folder, or a file that ends in `.gguf`.
    ///
    /// # Errors
    /// Neither; a file that is damaged, or of another family; weights that are not those of its
    /// configuration.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Stored> {
        if !is_gguf(path) {
            let (config, hf) = folder::read_config(fs, path)?;
            let mut files = WeightFiles::open(fs, path)?;
            folder::check_weights(&files, &config, &hf)?;
            folder::check_zero_biases(&mut files, config.num_hidden_layers)?;
            return Ok(Stored { form: Form::Folder(Box::new(files)), hf, config });
        }
        let mut reader = gguf::Reader::open(fs, path)?;
        let hf = gguf::config(&mut reader)?;
        let config = ModelConfig::from_hf(&hf);
        config.validate().map_err(folder::in_file(path))?;
        folder::check_shapes(&config, path, |name| match gguf::tensor_name(name) {
            Some(name) => Ok(Some(reader.require(&name)?.shape.clone())),
            None => Ok(None),
        })?;
        Ok(Stored { form: Form::Gguf(Box::new(reader)), hf, config })
    }

    /// Opens a safetensors file of all weights under their own names, as a checkpoint has it, for a model of
    /// shape `hf`.
    ///
    /// # Errors
    /// A file that is damaged; weights that are not those of the shape.
    pub fn of_weights_file(fs: &dyn Fs, file: &Path, hf: hf::Config) -> Result<Stored> {
        let config = ModelConfig::from_hf(&hf);
        config.validate()?;
        let files = WeightFiles::of_file(fs, file)?;
        folder::check_weights(&files, &config, &hf)?;
        Ok(Stored { form: Form::Folder(Box::new(files)), hf, config })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The shape as Hugging Face's `config.json` has it, with token ids.
    pub fn hf(&self) -> &hf::Config {
        &self.hf
    }

    /// The GGUF file's keys and values; `None` for safetensors.
    pub fn gguf_metadata(&self) -> Option<&gguf::Metadata> {
        match &self.form {
            Form::Folder(_) => None,
            Form::Gguf(reader) => Some(reader.metadata()),
        }
    }

    /// Names and shapes of the parameters.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let parameters = Network::parameters_of(&self.config).into_iter();
        parameters.map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    /// The files with weights.
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.form {
            Form::Folder(files) => files.paths().map(Path::to_path_buf).collect(),
            Form::Gguf(reader) => vec![reader.path().to_path_buf()],
        }
    }

    /// The types in which the weights are kept: `dtype` for all of them, or those they are stored in. Types
    /// without products of their own become f32, and so does a fused matrix whose parts differ (bfloat16
    /// where none of them is f32).
    ///
    /// # Errors
    /// A file without a weight that the shape requires.
    pub fn weight_types(&self, dtype: Option<DType>) -> Result<WeightTypes> {
        if let Some(dtype) = dtype {
            return Ok(WeightTypes::All(dtype));
        }
        let mut types = BTreeMap::new();
        for Parameter { name, .. } in
            Network::parameters_of(&self.config).into_iter().filter(Parameter::is_matrix)
        {
            let dtype = match &self.form {
                Form::Folder(files) => {
                    let entry = files.find(&folder::Place::of(&name, &self.hf).tensor);
                    if entry.is_some_and(|e| e.dtype == Dtype::BF16) { DType::Bf16 } else { DType::F32 }
                }
                Form::Gguf(reader) => {
                    let tensor = gguf::tensor_name(&name).map(|name| reader.require(&name)).transpose()?;
                    tensor.map_or(DType::F32, |tensor| kept(tensor.tensor_type))
                }
            };
            types.insert(name, dtype);
        }
        Ok(WeightTypes::Each(types))
    }

    /// Loads the weights; adapters are left as they are. Blocks go over as they are where the model keeps
    /// them in the same type.
    ///
    /// # Errors
    /// A missing tensor, another shape, a corrupt file: the file is named.
    pub fn load<D: Device>(&mut self, weights: &mut Weights<D>) -> Result<()> {
        for parameter in weights.parameters().to_vec().iter().filter(|parameter| !parameter.is_adapter()) {
            let name = &parameter.name;
            match self.blocks(parameter, |dtype| weights.is_stored_as(name, dtype).unwrap_or(false))? {
                Some(blocks) => weights.upload_blocks(name, &blocks)?,
                None => weights.upload(name, &self.read(name, &parameter.shape)?)?,
            }
        }
        Ok(())
    }

    /// The values of a parameter, row-major in its shape.
    ///
    /// # Errors
    /// As [`Stored::load`].
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match &mut self.form {
            Form::Folder(files) => folder::read(files, &self.hf, name, shape),
            Form::Gguf(reader) => {
                check_shape(reader, name, shape)?;
                Ok(reader.read_parameter_f32(name, &self.hf)?)
            }
        }
    }

    /// The blocks of a parameter, where it is stored in ones that the model keeps.
    fn blocks(&mut self, parameter: &Parameter, keeps: impl Fn(DType) -> bool) -> Result<Option<Vec<u8>>> {
        let Form::Gguf(reader) = &mut self.form else { return Ok(None) };
        let dtype = kept(check_shape(reader, &parameter.name, &parameter.shape)?);
        if !dtype.is_blocks() || !keeps(dtype) {
            return Ok(None);
        }
        Ok(Some(reader.read_parameter_bytes(&parameter.name, &self.hf)?))
    }
}

/// Whether a path is that of a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    !path.is_dir() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Checks the shape of a parameter in a GGUF file; returns its type there.
fn check_shape(reader: &gguf::Reader, name: &str, shape: &[usize]) -> Result<TensorType> {
    let file_name = gguf::tensor_name(name).ok_or_else(|| Error::Tensor {
        name: name.to_owned(),
        message: "GGUF has no name for this tensor".to_string(),
    })?;
    let tensor = reader.require(&file_name)?;
    if tensor.shape != shape {
        let message = format!("{file_name} has shape {:?}, the model has {:?}", tensor.shape, shape);
        return Err(Error::Folder { path: reader.path().to_path_buf(), message });
    }
    Ok(tensor.tensor_type)
}

/// The type that a model keeps a tensor in.
fn kept(tensor_type: TensorType) -> DType {
    match tensor_type {
        TensorType::BF16 => DType::Bf16,
        TensorType::Blocks(BlockFormat::Q8_0) => DType::Q8_0,
        TensorType::Blocks(BlockFormat::Q4_0) => DType::Q4_0,
        _ => DType::F32,
    }
}
