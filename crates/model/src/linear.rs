//! A linear layer, forward and backward: the one form in which matrices enter the model.

use compute::device::Gemm;
use compute::{Device, Tensor};

/// `y = x·Wᵀ + b`, with W of shape (out, in). Its rows may be several parameters one after the other
/// (queries, keys and values; gate and up), each trained or frozen.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// W as it is stored: f32 where any part of it is trained.
    pub stored: Tensor,
    /// W as products read it: rounded to the type of activations, or `stored` itself.
    pub operand: Tensor,
    /// Of the trained rows; none: W is frozen.
    pub gradients: Vec<Gradient>,
    /// (1, out).
    pub bias: Option<Tensor>,
    /// Of the trained stretches of the bias.
    pub bias_gradients: Vec<Gradient>,
}

/// The gradient of consecutive outputs: rows of a matrix, or elements of a bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradient {
    /// The first of these outputs.
    pub first: usize,
    /// How many they are.
    pub len: usize,
    /// (len, in), or (1, len) of a bias.
    pub tensor: Tensor,
}

impl Linear {
    /// `out = x·Wᵀ + b (+ residual)`; x is (rows, in), out (rows, out).
    pub fn forward<D: Device>(&self, device: &mut D, x: Tensor, out: Tensor, residual: Option<Tensor>) {
        let weight = self.operand;
        device.gemm(Gemm { b_transposed: true, residual, ..product(x, weight, out) });
        if let Some(bias) = self.bias {
            device.add_bias(out, bias);
        }
    }

    /// `d_x = d_out·W`.
    pub fn input_gradient<D: Device>(&self, device: &mut D, d_out: Tensor, d_x: Tensor) {
        device.gemm(product(d_out, self.operand, d_x));
    }

    /// Adds `d_outᵀ·x` to the gradients of the trained rows, and column sums of `d_out` to those of the bias.
    pub fn weight_gradients<D: Device>(&self, device: &mut D, d_out: Tensor, x: Tensor) {
        for gradient in &self.bias_gradients {
            device.bias_backward(d_out.column_range(gradient.first, gradient.len), gradient.tensor);
        }
        for gradient in &self.gradients {
            let d_out = d_out.column_range(gradient.first, gradient.len);
            device.gemm(Gemm { a_transposed: true, accumulate: true, ..product(d_out, x, gradient.tensor) });
        }
    }

    /// Whether [`Linear::weight_gradients`] reads x.
    pub fn needs_input(&self) -> bool {
        !self.gradients.is_empty()
    }
}

/// `out = a·b`.
pub(crate) fn product(a: Tensor, b: Tensor, out: Tensor) -> Gemm {
    Gemm { a, a_transposed: false, b, b_transposed: false, out, residual: None, accumulate: false }
}
