//! A linear layer, forward and backward: the one form in which matrices enter the model.
//!
//! The adapters of its matrices (`adapter`) have an A each, one after the other, so that one product serves
//! all; each has a B of its own, whose product is added to that matrix's outputs. With DoRA (`dora`) the sum
//! is then scaled by outputs.

use compute::device::{Axpby, Gemm};
use compute::{Device, Tensor};

/// `y = x·Wᵀ + b`, with W of shape (out, in). Its rows may be several parameters one after the other
/// (queries, keys and values; gate and up), each trained or frozen, with or without an adapter.
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
    pub adapter: Option<Box<Adapter>>,
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

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Zero,
    /// f32, of the output's shape.
    Residual(Tensor),
    /// The output itself.
    Accumulate,
}

/// Buffers that linear layers need beside their operands, for `rows` rows of this type.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinearBuffers {
    /// Of adapters, where there are any.
    pub adapter: Option<AdapterScratch>,
    /// As [`LinearPass::dequantized`].
    pub dequantized: Option<Tensor>,
}

/// What linear layers need beside their operands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinearPass {
    /// Of the layer's adapter; `None`: it is left out.
    pub adapter: Option<AdapterPass>,
    /// (1, elements of the largest matrix): room for a matrix in blocks as products read it; `None`: products
    /// read the blocks.
    pub dequantized: Option<Tensor>,
}

impl LinearPass {
    /// A pass that uses these buffers. `dropout`: the probability of dropping an element of an adapter's
    /// input, and the seed that decides which.
    pub fn of(buffers: &LinearBuffers, dropout: Option<(f32, u64)>) -> LinearPass {
        let adapter = buffers.adapter.map(|scratch| AdapterPass { scratch, dropout });
        LinearPass { adapter, dequantized: buffers.dequantized }
    }
}

impl Linear {
    /// `out = x·Wᵀ + b (+ residual)`; x is (rows, in), out (rows, out).
    pub fn forward<D: Device>(
        &self,
        device: &mut D,
        x: Tensor,
        out: Tensor,
        residual: Option<Tensor>,
        pass: &LinearPass,
    ) {
        if let (Some(residual), Some(scaled)) = (residual, self.scaled_buffers(pass)) {
            // The magnitudes scale the product before the residual is added to it.
            let product = shaped(scaled.output, out.rows, out.columns);
            self.forward(device, x, product, None, pass);
            if residual.offset != out.offset {
                device.copy(residual, out);
            }
            return device.add(out, product);
        }
        let start = residual.map_or(Start::Zero, Start::Residual);
        let weight = self.readable(device, pass);
        multiply(device, x, weight, out, start);
        if let (Some(adapter), Some(pass)) = (&self.adapter, &pass.adapter) {
            adapter.forward(device, x, out, pass);
            adapter.scale_outputs(device, out);
        }
        if let Some(bias) = self.bias {
            device.add_bias(out, bias);
        }
    }

    /// `d_x = d_out·W`.
    pub fn input_gradient<D: Device>(&self, device: &mut D, d_out: Tensor, d_x: Tensor, pass: &LinearPass) {
        let weight = self.readable(device, pass);
        let d_out = match (&self.adapter, self.scaled_buffers(pass)) {
            (Some(adapter), Some(scaled)) => {
                let d_scaled = shaped(scaled.d_output, d_out.rows, d_out.columns);
                device.copy(d_out, d_scaled);
                adapter.scale_outputs(device, d_scaled);
                d_scaled
            }
            _ => d_out,
        };
        device.gemm(product(d_out, weight, d_x));
        if let (Some(adapter), Some(pass)) = (&self.adapter, &pass.adapter) {
            adapter.input_gradient(device, d_out, d_x, pass);
        }
    }

    /// Adds `d_outᵀ·x` to the gradients of the trained rows, and column sums of `d_out` to those of the bias;
    /// follows [`Linear::input_gradient`].
    pub fn weight_gradients<D: Device>(&self, device: &mut D, d_out: Tensor, x: Tensor, pass: &LinearPass) {
        for gradient in &self.bias_gradients {
            device.bias_backward(d_out.column_range(gradient.first, gradient.len), gradient.tensor);
        }
        self.own_gradients(device, d_out, x);
        let (Some(adapter), Some(adapter_pass)) = (&self.adapter, &pass.adapter) else { return };
        let Some(scaled) = self.scaled_buffers(pass) else {
            let hidden = adapter.hidden(device, x, adapter_pass);
            return adapter.weight_gradients(device, d_out, (x, hidden), adapter_pass);
        };
        let product = shaped(scaled.output, d_out.rows, d_out.columns);
        let weight = self.readable(device, pass);
        multiply(device, x, weight, product, Start::Zero);
        let hidden = adapter.hidden(device, x, adapter_pass);
        adapter.add_outputs(device, hidden, product);
        adapter.magnitude_gradients(device, d_out, product);
        // As left by `input_gradient`.
        let d_scaled = shaped(scaled.d_output, d_out.rows, d_out.columns);
        adapter.weight_gradients(device, d_scaled, (x, hidden), adapter_pass);
    }

    /// Where outputs lie before they are scaled, in a layer whose adapter has magnitudes.
    fn scaled_buffers(&self, pass: &LinearPass) -> Option<ScaledOutputs> {
        let has_magnitudes = self.adapter.as_ref()?.parts.iter().any(|part| part.magnitude.is_some());
        pass.adapter.as_ref()?.scratch.scaled.filter(|_| has_magnitudes)
    }

    /// Whether [`Linear::weight_gradients`] reads x.
    pub fn needs_input(&self) -> bool {
        !self.gradients.is_empty() || self.adapter.as_ref().is_some_and(|adapter| adapter.a.needs_input())
    }

    /// `out = x·Wᵀ + start`, without bias and adapter.
    pub fn multiply<D: Device>(&self, device: &mut D, x: Tensor, out: Tensor, start: Start) {
        multiply(device, x, self.operand, out, start);
    }

    /// `out = x·W`, or `out += x·W`.
    pub fn multiply_transposed<D: Device>(&self, device: &mut D, x: Tensor, out: Tensor, accumulate: bool) {
        device.gemm(Gemm { accumulate, ..product(x, self.operand, out) });
    }

    /// Adds `d_outᵀ·x` to the gradients of the trained rows.
    pub fn own_gradients<D: Device>(&self, device: &mut D, d_out: Tensor, x: Tensor) {
        for gradient in &self.gradients {
            let d_out = d_out.column_range(gradient.first, gradient.len);
            device.gemm(Gemm { a_transposed: true, accumulate: true, ..product(d_out, x, gradient.tensor) });
        }
    }

    /// W as products of many rows read it.
    fn readable<D: Device>(&self, device: &mut D, pass: &LinearPass) -> Tensor {
        match pass.dequantized {
            Some(room) if self.operand.dtype.is_blocks() => {
                let room = shaped(room, self.operand.rows, self.operand.columns);
                device.copy(self.operand, room);
                room
            }
            _ => self.operand,
        }
    }
}

/// `out = x·weightᵀ + start`.
fn multiply<D: Device>(device: &mut D, x: Tensor, weight: Tensor, out: Tensor, start: Start) {
    let (residual, accumulate) = match start {
        Start::Zero => (None, false),
        Start::Residual(residual) => (Some(residual), false),
        Start::Accumulate => (None, true),
    };
    device.gemm(Gemm { b_transposed: true, residual, accumulate, ..product(x, weight, out) });
}

/// `out = a·b`.
pub(crate) fn product(a: Tensor, b: Tensor, out: Tensor) -> Gemm {
    Gemm { a, a_transposed: false, b, b_transposed: false, out, residual: None, accumulate: false }
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

/// What DoRA adds to the adapter of a matrix, each (1, outputs) of f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Magnitude {
    /// m.
    pub stored: Tensor,
    /// Of m; `None`: it is not trained.
    pub gradient: Option<Tensor>,
    /// 1 / ‖row of W + s·B·A‖.
    pub inverse_norm: Tensor,
    /// m times that.
    pub gain: Tensor,
}

/// B of one of the matrices.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The first output of the matrix within the layer's.
    pub first: usize,
    /// (outputs, rank).
    pub b: Linear,
    /// Of DoRA; `None`: a plain adapter.
    pub magnitude: Option<Magnitude>,
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
    /// Of DoRA; `None`: a plain adapter.
    pub scaled: Option<ScaledOutputs>,
}

/// Outputs of a layer before magnitudes scale them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScaledOutputs {
    /// (1, N · widest output): W·x + s·B·A·dropout(x).
    pub output: Tensor,
    /// As `output`: its gradient, from [`Linear::input_gradient`] to [`Linear::weight_gradients`].
    pub d_output: Tensor,
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
        self.add_outputs(device, hidden, out);
    }

    /// `out += B·hidden`.
    fn add_outputs<D: Device>(&self, device: &mut D, hidden: Tensor, out: Tensor) {
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

    /// Adds to the gradients of A and B, for an input and what [`Adapter::hidden`] has just made of it;
    /// follows [`Adapter::input_gradient`] of the same layer.
    fn weight_gradients<D: Device>(
        &self,
        device: &mut D,
        d_out: Tensor,
        (x, hidden): (Tensor, Tensor),
        pass: &AdapterPass,
    ) {
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

    /// Multiplies the outputs, or their gradient, by the gains of their rows.
    fn scale_outputs<D: Device>(&self, device: &mut D, out: Tensor) {
        for part in &self.parts {
            if let Some(magnitude) = &part.magnitude {
                device.scale_columns(out.column_range(part.first, part.b.stored.rows), magnitude.gain);
            }
        }
    }

    /// Adds to the gradients of the magnitudes; `product` is W·x + s·B·A·dropout(x).
    fn magnitude_gradients<D: Device>(&self, device: &mut D, d_out: Tensor, product: Tensor) {
        for part in &self.parts {
            if let Some(Magnitude { gradient: Some(gradient), inverse_norm, .. }) = part.magnitude {
                let [d_out, product] =
                    [d_out, product].map(|t| t.column_range(part.first, part.b.stored.rows));
                device.column_dots(d_out, product, inverse_norm, gradient);
            }
        }
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
