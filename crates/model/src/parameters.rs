//! The tensors of a model by their Hugging Face names: shapes, roles, initial values, the types they are
//! stored in, and which of them are trained.

use crate::adapter::{AdapterConfig, is_adapter};
use compute::rng::Rng;
use compute::{DType, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// One named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Hugging Face's name.
    pub name: String,
    /// Its shape in Hugging Face's layout.
    pub shape: Vec<usize>,
    /// Its role in the model.
    pub role: Role,
    /// The layer it belongs to, from 0.
    pub layer: Option<usize>,
    /// Where its values are stored.
    pub(crate) weight: Tensor,
    /// Its place from the start of each region of gradients and moments; `None`: it is frozen.
    pub(crate) state: Option<Tensor>,
    pub(crate) initial: InitialValues,
}

/// The role of a parameter, which determines its learning-rate scale and its optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix of a layer.
    Hidden,
    /// The token embedding, and the output layer if they are tied.
    Embedding,
    /// The output layer, if not tied.
    Head,
    /// A norm or a bias.
    Vector,
    /// A matrix of an adapter, or its magnitudes.
    Adapter,
}

/// The distribution that initial values are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InitialValues {
    Normal { deviation: f64 },
    Uniform { bound: f64 },
    Ones,
    Zeros,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a matrix, which weight decay applies to, rather than a norm or a bias.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() > 1
    }

    /// Whether a name is that of an adapter's parameter.
    pub fn is_adapter_name(name: &str) -> bool {
        is_adapter(name)
    }

    /// Whether it belongs to an adapter.
    pub fn is_adapter(&self) -> bool {
        self.role == Role::Adapter
    }

    /// Whether training updates it.
    pub fn is_trainable(&self) -> bool {
        self.state.is_some()
    }

    /// The initial values for a seed: a function of the name, so that neither order nor fusion changes them.
    pub(crate) fn initial_values(&self, seed: u64) -> Vec<f32> {
        match self.initial {
            InitialValues::Ones => vec![1.0; self.len()],
            InitialValues::Zeros => vec![0.0; self.len()],
            InitialValues::Normal { deviation } => {
                let mut values = vec![0.0; self.len()];
                Rng::from_parts(seed, &self.name, &[]).fill_normal(&mut values, deviation);
                values
            }
            InitialValues::Uniform { bound } => {
                let mut rng = Rng::from_parts(seed, &self.name, &[]);
                (0..self.len()).map(|_| (bound * (2.0 * rng.uniform() - 1.0)) as f32).collect()
            }
        }
    }
}

/// Which parameters training updates. The others are frozen: they have no gradient and no moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trainable {
    /// Every parameter.
    #[default]
    All,
    /// None: the model only computes.
    Nothing,
    /// The parameters of these names.
    Only(BTreeSet<String>),
    /// The adapters.
    Adapters,
}

impl Trainable {
    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Trainable::All => true,
            Trainable::Nothing => false,
            Trainable::Only(names) => names.contains(name),
            Trainable::Adapters => is_adapter(name),
        }
    }
}

/// What a model's weights consist of, and how they are stored.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    /// Of frozen matrices.
    pub types: WeightTypes,
    pub trainable: Trainable,
    pub adapter: Option<AdapterConfig>,
}

impl Storage {
    /// Without adapters, nothing trained, all matrices of one type.
    pub fn frozen(dtype: DType) -> Storage {
        Storage { types: WeightTypes::All(dtype), trainable: Trainable::Nothing, adapter: None }
    }
}

/// The types that matrices are stored in where they are not trained. Norms and biases are f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightTypes {
    /// One type; beside matrices of four bits, the embedding and the output layer get eight, as is usual.
    All(DType),
    /// One type for the matrices of layers, and one for the embedding and the output layer.
    Layers {
        /// Of the layers' matrices.
        hidden: DType,
        /// Of the embedding and the output layer.
        ends: DType,
    },
    /// By name; f32 for names that are missing.
    Each(BTreeMap<String, DType>),
}

impl WeightTypes {
    pub(crate) fn of(&self, name: &str) -> DType {
        match self {
            WeightTypes::All(DType::Q4_0) if ENDS.contains(&name) => DType::Q8_0,
            WeightTypes::All(dtype) => *dtype,
            WeightTypes::Layers { ends, .. } if ENDS.contains(&name) => *ends,
            WeightTypes::Layers { hidden, .. } => *hidden,
            WeightTypes::Each(types) => types.get(name).copied().unwrap_or(DType::F32),
        }
    }

    /// The type of the key/value cache: f32 where all weights are f32, else bfloat16.
    pub(crate) fn cache(&self) -> DType {
        let narrow = match self {
            WeightTypes::All(dtype) => *dtype != DType::F32,
            WeightTypes::Layers { hidden, ends } => [*hidden, *ends] != [DType::F32; 2],
            WeightTypes::Each(types) => types.values().any(|&dtype| dtype != DType::F32),
        };
        if narrow { DType::Bf16 } else { DType::F32 }
    }
}

/// The token embedding and the output layer.
const ENDS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];
