//! What a model can be laid out for: training, evaluation or decoding, and how it computes.

use crate::adapter::AdapterConfig;
use crate::parameters::{Storage, Trainable, WeightTypes};
use compute::{DType, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The purpose of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// A [`crate::TrainingModel`].
    Train(Training),
    /// An [`crate::Evaluator`].
    Evaluate(Evaluation),
    /// A [`crate::Decoder`].
    Decode(Decoding),
}

/// Layout for training: micro-batches of at most `batch_size` × `sequence_length` tokens, and how they are
/// computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// B.
    pub batch_size: usize,
    /// T.
    pub sequence_length: usize,
    /// Arithmetic of products, and type of what layers keep.
    pub precision: Precision,
    /// Activation checkpointing: keep only the residual stream before each layer; the backward pass
    /// recomputes the layer (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    /// Bit-identical, for an additional forward pass.
    pub recompute: bool,
    /// Optimizer of the layers' weight matrices.
    pub optimizer: Optimizer,
    /// Whether a moving average of the weights is kept.
    pub average: bool,
    /// Which parameters are trained.
    pub trainable: Trainable,
    /// Adapters, if the model has them.
    pub adapter: Option<AdapterConfig>,
    /// Types of frozen matrices; `None`: that of products.
    pub frozen: Option<WeightTypes>,
    /// Minimum size of the logits of one chunk of rows. It grows with the output layer: each chunk reads it
    /// twice and adds to its gradient.
    pub logits_bytes: usize,
}

impl Training {
    /// Every parameter by AdamW, without recomputation or an average.
    pub fn new(batch_size: usize, sequence_length: usize, precision: Precision) -> Training {
        Training {
            batch_size,
            sequence_length,
            precision,
            recompute: false,
            optimizer: Optimizer::AdamW,
            average: false,
            trainable: Trainable::All,
            adapter: None,
            frozen: None,
            logits_bytes: Target::cpu(0).logits_bytes(),
        }
    }

    /// What the weights consist of.
    pub(crate) fn storage(&self) -> Storage {
        Storage {
            types: self.frozen.clone().unwrap_or(WeightTypes::All(self.precision.dtype())),
            trainable: self.trainable.clone(),
            adapter: self.adapter.clone(),
        }
    }
}

/// Optimizer of the layers' weight matrices; AdamW updates embedding, output layer and norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW, with two moments per weight (Loshchilov & Hutter 2019).
    AdamW,
    /// Muon for the layers' weight matrices, with one moment per weight (Jordan et al. 2024); AdamW for
    /// embedding, output layer and norms.
    Muon,
}

/// Layout for evaluation: batches of at most `batch_size` × `sequence_length` tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// B.
    pub batch_size: usize,
    /// T.
    pub sequence_length: usize,
    /// Type of matrices and activations.
    pub precision: Precision,
    /// Adapters, if the model has them.
    pub adapter: Option<AdapterConfig>,
    /// As [`Training::logits_bytes`].
    pub logits_bytes: usize,
}

impl Evaluation {
    /// Logits in chunks as the CPU has them.
    pub fn new(batch_size: usize, sequence_length: usize, precision: Precision) -> Evaluation {
        let logits_bytes = Target::cpu(0).logits_bytes();
        Evaluation { batch_size, sequence_length, precision, adapter: None, logits_bytes }
    }

    /// What the weights consist of.
    pub(crate) fn storage(&self) -> Storage {
        Storage { adapter: self.adapter.clone(), ..Storage::frozen(self.precision.dtype()) }
    }
}

/// Layout for decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoding {
    /// Number of sequences that are continued together.
    pub sequences: usize,
    /// Tokens of the longest one.
    pub max_sequence: usize,
    /// The types of its matrices.
    pub weights: WeightTypes,
    /// Adapters, if the model has them.
    pub adapter: Option<AdapterConfig>,
}

impl Decoding {
    /// One sequence, all in f32.
    pub fn one(max_sequence: usize) -> Decoding {
        Decoding { sequences: 1, max_sequence, weights: WeightTypes::All(DType::F32), adapter: None }
    }

    /// What the weights consist of.
    pub(crate) fn storage(&self) -> Storage {
        Storage { types: self.weights.clone(), trainable: Trainable::Nothing, adapter: self.adapter.clone() }
    }
}

/// Arithmetic of training. Master weights, moments, gradients of weights and the residual stream are f32 in
/// either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 operands and activations; f32 weights, optimizer state and accumulation (Micikevicius et al.
    /// 2018).
    Bf16,
}

impl Precision {
    /// The type of operands and activations.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
}
