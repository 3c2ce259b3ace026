//! The weights of a model on a device: what training, evaluation and decoding have in common.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::network::{Network, Regions};
use crate::parameters::{Parameter, Storage};
use crate::rope;
use compute::{DType, Device, Tensor};

/// A model's weights by name, and the device whose arena they lie in. A model for a purpose adds to them what
/// that purpose needs: [`crate::TrainingModel`], [`crate::Evaluator`], [`crate::Decoder`].
pub struct Weights<D: Device> {
    pub(crate) device: D,
    pub(crate) config: ModelConfig,
    pub(crate) network: Network,
    pub(crate) regions: Regions,
    storage: Storage,
    /// Master weights were replaced since their rounded copies were made.
    rounded_is_stale: bool,
    /// Weights changed since the norms of rows were computed, which DoRA needs.
    norms_are_stale: bool,
}

impl<D: Device> Weights<D> {
    /// Allocates an arena of `bytes` with the regions in it, and fills the rotary tables, which are (T, d/2).
    ///
    /// # Errors
    /// A device without the memory.
    pub(crate) fn allocate(
        mut device: D,
        config: ModelConfig,
        storage: Storage,
        regions: Regions,
        tables: [Tensor; 2],
        bytes: usize,
    ) -> Result<Weights<D>> {
        device.allocate(bytes)?;
        let network = Network::new(&config, &storage, &regions);
        let (rounded_is_stale, norms_are_stale) = (true, true);
        let mut weights =
            Weights { device, config, network, regions, storage, rounded_is_stale, norms_are_stale };
        weights.fill_rotary_tables(tables);
        Ok(weights)
    }

    /// Fills rotary tables (T, d/2) of cosines and sines.
    pub(crate) fn fill_rotary_tables(&mut self, [cos, sin]: [Tensor; 2]) {
        let tables = rope::tables(&self.config, cos.rows);
        self.device.upload(cos, &tables.cos);
        self.device.upload(sin, &tables.sin);
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device, to change its settings between calls.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Every parameter, in a fixed order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.network.parameters
    }

    /// Bytes that a parameter takes as it is stored.
    ///
    /// # Errors
    /// No such parameter.
    pub fn parameter_bytes(&self, name: &str) -> Result<usize> {
        let tensor = self.find(name)?.weight;
        Ok(tensor.dtype.bytes(tensor.rows, tensor.columns))
    }

    /// The names of its matrices' types, that of most elements first, joined by `+`.
    pub fn type_names(&self) -> String {
        let mut elements: Vec<(DType, usize)> = Vec::new();
        for parameter in self.parameters().iter().filter(|parameter| parameter.is_matrix()) {
            match elements.iter_mut().find(|(dtype, _)| *dtype == parameter.weight.dtype) {
                Some((_, count)) => *count += parameter.len(),
                None => elements.push((parameter.weight.dtype, parameter.len())),
            }
        }
        elements.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        elements.iter().map(|(dtype, _)| dtype.name()).collect::<Vec<_>>().join("+")
    }

    /// Whether a parameter is stored in this type.
    ///
    /// # Errors
    /// No such parameter.
    pub fn is_stored_as(&self, name: &str, dtype: DType) -> Result<bool> {
        Ok(self.find(name)?.weight.dtype == dtype)
    }

    /// Values of a parameter, row-major in its shape.
    ///
    /// # Errors
    /// No such parameter, or one that is stored in blocks.
    pub fn download(&mut self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.find(name)?.weight;
        if tensor.dtype.is_blocks() {
            let message = format!("weights stored as {} cannot be read back", tensor.dtype.name());
            return Err(Error::Tensor { name: name.to_string(), message });
        }
        Ok(self.device.download(tensor))
    }

    /// Replaces a parameter's values, rounded to the type that it is stored in.
    ///
    /// # Errors
    /// No such parameter, or another number of values.
    pub fn upload(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let parameter = self.find(name)?;
        check_len(parameter, values)?;
        let tensor = parameter.weight;
        self.device.upload(tensor, values);
        self.replaced();
        Ok(())
    }

    /// Replaces a parameter that is stored in blocks by others, bit for bit; [`quant`] has their form.
    ///
    /// # Errors
    /// No such parameter, one that is not stored in blocks, or another number of them.
    pub fn upload_blocks(&mut self, name: &str, from: &[u8]) -> Result<()> {
        let tensor = self.find(name)?.weight;
        let refuse = |message| Err(Error::Tensor { name: name.to_string(), message });
        if !tensor.dtype.is_blocks() {
            return refuse(format!("got quantized blocks for a tensor of type {}", tensor.dtype.name()));
        }
        let expected = tensor.dtype.block_format().bytes_of(tensor.len());
        if from.len() != expected {
            return refuse(format!("got {} bytes, the model has {expected}", from.len()));
        }
        self.device.upload_blocks(tensor, from);
        self.replaced();
        Ok(())
    }

    /// Copies every parameter from another model of the same configuration.
    ///
    /// # Errors
    /// A parameter that the other does not have in this size, or stores in blocks.
    pub fn copy_from<E: Device>(&mut self, other: &mut Weights<E>) -> Result<()> {
        self.copy(other, |_| true)
    }

    /// Copies every adapter from another model of the same configuration.
    ///
    /// # Errors
    /// As [`Weights::copy_from`].
    pub fn copy_adapters_from<E: Device>(&mut self, other: &mut Weights<E>) -> Result<()> {
        self.copy(other, Parameter::is_adapter)
    }

    fn copy<E: Device>(&mut self, other: &mut Weights<E>, wanted: impl Fn(&Parameter) -> bool) -> Result<()> {
        for index in 0..self.network.parameters.len() {
            let parameter = &self.network.parameters[index];
            if wanted(parameter) {
                let name = parameter.name.clone();
                let values = other.download(&name)?;
                self.upload(&name, &values)?;
            }
        }
        Ok(())
    }

    /// Draws initial values: normal, norms 1, biases 0.
    pub fn initialize(&mut self, seed: u64) {
        for parameter in &self.network.parameters {
            self.device.upload(parameter.weight, &parameter.initial_values(seed));
        }
        self.replaced();
        self.initialize_magnitudes();
    }

    /// Draws initial values of the adapters of a base that is loaded: A as PEFT does, B 0; with DoRA m is the
    /// norm of each row.
    pub fn initialize_adapters(&mut self, seed: u64) {
        for parameter in self.network.parameters.iter().filter(|parameter| parameter.is_adapter()) {
            self.device.upload(parameter.weight, &parameter.initial_values(seed));
        }
        self.replaced();
        self.initialize_magnitudes();
    }

    fn initialize_magnitudes(&mut self) {
        self.update_norms();
        for adapter in self.network.linears().filter_map(|linear| linear.adapter.as_ref()) {
            for magnitude in adapter.parts.iter().filter_map(|part| part.magnitude) {
                let inverse = self.device.download(magnitude.inverse_norm);
                let norms: Vec<f32> = inverse.iter().map(|inverse| 1.0 / inverse).collect();
                self.device.upload(magnitude.stored, &norms);
            }
        }
        self.replaced();
    }

    /// Whether the model has adapters.
    pub fn has_adapters(&self) -> bool {
        self.storage.adapter.is_some()
    }

    /// Updates what is derived from weights before they are used: the bfloat16 copies after master weights
    /// were replaced (the optimizer keeps them up to date otherwise), and the norms that DoRA needs.
    pub(crate) fn update_derived(&mut self) {
        self.round();
        self.update_norms();
    }

    /// Something derived from weights is stale: they were replaced, or updated by the optimizer.
    fn replaced(&mut self) {
        (self.rounded_is_stale, self.norms_are_stale) = (true, true);
    }

    /// The optimizer updated the trained weights and their rounded copies.
    pub(crate) fn updated(&mut self) {
        self.norms_are_stale = true;
    }

    fn update_norms(&mut self) {
        if let (Some(buffers), true) = (self.network.norm_buffers, self.norms_are_stale) {
            for linear in self.network.linears() {
                buffers.update(&mut self.device, linear);
            }
        }
        self.norms_are_stale = false;
    }

    fn round(&mut self) {
        if let (Some(start), true) = (self.regions.rounded, self.rounded_is_stale) {
            let columns = self.network.bytes.master / DType::F32.size();
            let from = vector(self.regions.master, columns);
            let to = Tensor { offset: start, dtype: DType::Bf16, ..from };
            self.device.copy(from, to);
        }
        self.rounded_is_stale = false;
    }

    /// Lets the master weights be those at another place.
    pub(crate) fn set_master(&mut self, start: usize) {
        self.regions.master = start;
        self.network = Network::new(&self.config, &self.storage, &self.regions);
        self.replaced();
    }

    /// The parameter of a name.
    ///
    /// # Errors
    /// No such parameter.
    pub(crate) fn find(&self, name: &str) -> Result<&Parameter> {
        self.network.parameters.iter().find(|parameter| parameter.name == name).ok_or_else(|| Error::Tensor {
            name: name.to_string(),
            message: "this model has no such tensor".to_string(),
        })
    }
}

/// Refuses another number of values than a parameter has.
pub(crate) fn check_len(parameter: &Parameter, values: &[f32]) -> Result<()> {
    if values.len() == parameter.len() {
        return Ok(());
    }
    let message = format!("got {} values, the model has {}", values.len(), parameter.len());
    Err(Error::Tensor { name: parameter.name.clone(), message })
}

/// `columns` f32 values from an offset on.
pub(crate) fn vector(offset: usize, columns: usize) -> Tensor {
    Tensor { offset, dtype: DType::F32, rows: 1, columns, row_stride: columns }
}
