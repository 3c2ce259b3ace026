//! Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685): beside a frozen matrix W (out, in) lie A
//! (rank, in) and B (out, rank), and the layer computes W·x + s·B·A·dropout(x).
//!
//! The matrices of one [`Linear`] have an A each, one after the other, so that one product serves all; each
//! has a B of its own, whose product is added to that matrix's outputs.

use crate::error::{Error, Result};
use crate::linear::{Linear, Start};
use compute::device::Axpby;
use compute::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A linear layer of a block, by Hugging Face's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The feed-forward's gate.
    GateProj,
    /// The feed-forward's input.
    UpProj,
    /// The feed-forward's output.
    DownProj,
}

impl Module {
    /// All of them.
    pub const ALL: [Module; 7] = [
        Module::QProj,
        Module::KProj,
        Module::VProj,
        Module::OProj,
        Module::GateProj,
        Module::UpProj,
        Module::DownProj,
    ];

    /// Hugging Face's name.
    pub fn name(self) -> &'static str {
        match self {
            Module::QProj => "q_proj",
            Module::KProj => "k_proj",
            Module::VProj => "v_proj",
            Module::OProj => "o_proj",
            Module::GateProj => "gate_proj",
            Module::UpProj => "up_proj",
            Module::DownProj => "down_proj",
        }
    }

    /// The module whose weight has this name.
    pub(crate) fn of_weight(name: &str) -> Option<Module> {
        let name = name.strip_suffix(".weight")?.rsplit('.').next()?;
        Module::ALL.into_iter().find(|module| module.name() == name)
    }
}

/// The shape of a model's adapters, and how they are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// r: rows of A and columns of B.
    pub rank: usize,
    /// α: outputs are multiplied by α/r.
    pub alpha: f64,
    /// Probability of dropping an element of A's input while training.
    pub dropout: f32,
    /// Multiply by α/√r instead (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732).
    pub rank_stabilized: bool,
    /// The linear layers that have an adapter, in every block.
    pub target_modules: BTreeSet<Module>,
}

impl Default for AdapterConfig {
    /// Rank 16, α 32, dropout 0.05, every linear layer of the blocks.
    fn default() -> AdapterConfig {
        AdapterConfig {
            rank: 16,
            alpha: 32.0,
            dropout: 0.05,
            rank_stabilized: false,
            target_modules: Module::ALL.into(),
        }
    }
}

impl AdapterConfig {
    /// What the product of B and A is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }) as f32
    }

    /// Checks that it can be built.
    ///
    /// # Errors
    /// [`Error::Adapter`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, message: String| Err(Error::Adapter { key, message });
        if !(1..=4096).contains(&self.rank) {
            return refuse("rank", format!("{} is outside 1..=4096", self.rank));
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return refuse("alpha", format!("{} is not a positive number", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", format!("{} is outside 0..1", self.dropout));
        }
        if self.target_modules.is_empty() {
            return refuse("target_modules", "no module is named".to_owned());
        }
        Ok(())
    }
}

/// The name of an adapter's matrix, from that of the weight it belongs to.
pub(crate) fn parameter_name(weight: &str, matrix: char) -> String {
    format!("{}.lora_{matrix}.weight", weight.trim_end_matches(".weight"))
}

/// Whether a parameter is an adapter's.
pub(crate) fn is_adapter(name: &str) -> bool {
    name.contains(".lora_")
}

/// The adapters of the matrices of one [`Linear`].
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    /// (parts · rank, in): A of each adapted matrix, one after the other.
    pub a: Linear,
    /// B of each, (outputs, rank), in the same order.
    pub parts: Vec<Part>,
    /// s.
    pub scale: f32,
}

/// B of one of the matrices.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The first output of the matrix within the layer's.
    pub first: usize,
    /// (outputs, rank).
    pub b: Linear,
}

/// Buffers that the adapters of all layers use one after the other, in the type of products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdapterScratch {
    /// (1, N · most A rows): s·A·x.
    pub hidden: Tensor,
    /// As `hidden`: the gradient of A·x, from [`Adapter::input_gradient`] to [`Adapter::weight_gradients`].
    pub d_hidden: Tensor,
    /// (1, N · widest input): the input after dropout, or a gradient on its way through it.
    pub input: Option<Tensor>,
}

/// What a pass over the adapters of one layer needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdapterPass {
    pub scratch: AdapterScratch,
    /// The probability of dropping an element of the input, and the seed that decides which.
    pub dropout: Option<(f32, u64)>,
}

impl AdapterPass {
    /// The input as A sees it.
    fn dropped<D: Device>(&self, device: &mut D, x: Tensor) -> Tensor {
        let (Some((p, seed)), Some(input)) = (self.dropout, self.scratch.input) else { return x };
        let input = shaped(input, x.rows, x.columns);
        device.copy(x, input);
        device.dropout(input, p, seed);
        input
    }
}

impl Adapter {
    /// `out += s·B·A·dropout(x)`; x is (N, in), out (N, out).
    pub fn forward<D: Device>(&self, device: &mut D, x: Tensor, out: Tensor, pass: &AdapterPass) {
        let hidden = self.hidden(device, x, pass);
        for (index, part) in self.parts.iter().enumerate() {
            let out = out.column_range(part.first, part.b.stored.rows);
            part.b.multiply(device, self.of_part(hidden, index), out, Start::Accumulate);
        }
    }

    /// `d_x += s·dropout(d_out·B)·A`, and leaves the gradient of A·x for [`Adapter::weight_gradients`].
    pub fn input_gradient<D: Device>(&self, device: &mut D, d_out: Tensor, d_x: Tensor, pass: &AdapterPass) {
        let d_hidden = shaped(pass.scratch.d_hidden, d_out.rows, self.a.stored.rows);
        for (index, part) in self.parts.iter().enumerate() {
            let d_out = d_out.column_range(part.first, part.b.stored.rows);
            part.b.multiply_transposed(device, d_out, self.of_part(d_hidden, index), false);
        }
        scale(device, d_hidden, self.scale);
        let (Some((p, seed)), Some(input)) = (pass.dropout, pass.scratch.input) else {
            return self.a.multiply_transposed(device, d_hidden, d_x, true);
        };
        let masked = shaped(input, d_x.rows, d_x.columns);
        self.a.multiply_transposed(device, d_hidden, masked, false);
        device.dropout(masked, p, seed);
        device.add(d_x, masked);
    }

    /// Adds to the gradients of A and B; follows [`Adapter::input_gradient`] of the same layer.
    pub fn weight_gradients<D: Device>(&self, device: &mut D, d_out: Tensor, x: Tensor, pass: &AdapterPass) {
        let hidden = self.hidden(device, x, pass);
        for (index, part) in self.parts.iter().enumerate() {
            let d_out = d_out.column_range(part.first, part.b.stored.rows);
            part.b.own_gradients(device, d_out, self.of_part(hidden, index));
        }
        let d_hidden = shaped(pass.scratch.d_hidden, d_out.rows, self.a.stored.rows);
        // As in the forward, where the last dropout of this scratch was.
        let x = match pass.dropout {
            Some(_) => shaped(pass.scratch.input.unwrap_or(x), x.rows, x.columns),
            None => x,
        };
        self.a.own_gradients(device, d_hidden, x);
    }

    /// s·A·dropout(x), (N, parts · rank).
    fn hidden<D: Device>(&self, device: &mut D, x: Tensor, pass: &AdapterPass) -> Tensor {
        let hidden = shaped(pass.scratch.hidden, x.rows, self.a.stored.rows);
        let x = pass.dropped(device, x);
        self.a.multiply(device, x, hidden, Start::Zero);
        scale(device, hidden, self.scale);
        hidden
    }

    /// The columns of a part.
    fn of_part(&self, hidden: Tensor, index: usize) -> Tensor {
        let rank = hidden.columns / self.parts.len();
        hidden.column_range(index * rank, rank)
    }
}

/// The beginning of a flat buffer as a (rows, columns) matrix.
pub(crate) fn shaped(buffer: Tensor, rows: usize, columns: usize) -> Tensor {
    buffer.column_range(0, rows * columns).reshape(rows, columns)
}

/// `x *= by`; x is contiguous.
fn scale<D: Device>(device: &mut D, x: Tensor, by: f32) {
    device.axpby(Axpby { a: by, x, b: 0.0, y: x, out: x });
}
