//! Where a run's weights start, and which of them it trains.

use model::{AdapterConfig, DType, Preference, Trainable, WeightTypes};
use serde_json::{Value, json};

use crate::Result;
use crate::checkpoint::TensorStore;

/// Fine-tuning: what is trained of given weights. The default trains all weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// Adapters to train instead of the weights.
    pub adapter: Option<AdapterConfig>,
    /// Types in which frozen matrices are kept; `None`: that of products.
    pub frozen: Option<WeightTypes>,
}

impl Tuning {
    /// The blocks that the layers' frozen matrices are quantized to, where they are.
    pub fn quantization(&self) -> Option<DType> {
        match self.frozen {
            Some(WeightTypes::Layers { hidden, .. }) if hidden.is_blocks() => Some(hidden),
            _ => None,
        }
    }

    /// The parameters that are trained.
    pub fn trainable(&self) -> Trainable {
        if self.adapter.is_some() { Trainable::Adapters } else { Trainable::All }
    }
}

/// Weights of another model that a run starts from.
pub trait Base {
    /// Identifies the weights: a checkpoint of a run with another base is not continued.
    fn hash(&self) -> &str;
    /// Writes the initial values of all weights that are trained, of adapters where it has some. Frozen
    /// ones are in place before training begins.
    ///
    /// # Errors
    /// A damaged file; a tensor that the base does not have.
    fn write_trained(&self, tensors: &mut dyn TensorStore) -> Result<()>;
}

/// What a checkpoint must agree with to be continued: the shape, the base, what is trained of it, and how
/// preferences are learned.
pub(crate) fn identity(
    shape: Value,
    base: Option<&str>,
    adapter: Option<&AdapterConfig>,
    preference: Option<&Preference>,
) -> Value {
    match (base, adapter, preference) {
        (None, None, None) => shape,
        (_, _, None) => json!({ "shape": shape, "base": base, "adapter": adapter }),
        _ => json!({ "shape": shape, "base": base, "adapter": adapter, "preference": preference }),
    }
}
