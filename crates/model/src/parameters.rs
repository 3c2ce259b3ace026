//! The tensors of a model by their Hugging Face names: shapes, roles, initial values, the types they are
//! stored in, and which of them are trained.

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
}

/// The distribution that initial values are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InitialValues {
    Normal { deviation: f64 },
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
        self.role != Role::Vector
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
}

impl Trainable {
    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Trainable::All => true,
            Trainable::Nothing => false,
            Trainable::Only(names) => names.contains(name),
        }
    }
}

/// The types that matrices are stored in where they are not trained. Norms and biases are f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightTypes {
    /// One type; beside matrices of four bits, the embedding and the output layer get eight, as is usual.
    All(DType),
    /// By name; f32 for names that are missing.
    Each(BTreeMap<String, DType>),
}

impl WeightTypes {
    pub(crate) fn of(&self, name: &str) -> DType {
        match self {
            WeightTypes::All(DType::Q4_0) if ENDS.contains(&name) => DType::Q8_0,
            WeightTypes::All(dtype) => *dtype,
            WeightTypes::Each(types) => types.get(name).copied().unwrap_or(DType::F32),
        }
    }

    /// The type of the key/value cache: f32 where all weights are f32, else bfloat16.
    pub(crate) fn cache(&self) -> DType {
        let narrow = match self {
            WeightTypes::All(dtype) => *dtype != DType::F32,
            WeightTypes::Each(types) => types.values().any(|&dtype| dtype != DType::F32),
        };
        if narrow { DType::Bf16 } else { DType::F32 }
    }
}

/// The token embedding and the output layer.
const ENDS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];
