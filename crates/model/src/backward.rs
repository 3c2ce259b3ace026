//! The backward over a batch, written out: from the loss to the gradients of the trained weights.
//!
//! It carries one gradient of the residual stream from the loss to the lowest trained layer. Norms' outputs
//! and swiglu's are computed again, which is cheaper than keeping them; with [`crate::Training::recompute`]
//! only the stream before each layer is kept.

use crate::forward::{Pass, Place, qk_norms, rms_norm, rotation, split_qkv};
use crate::layout::TrainingLayout;
use crate::linear::{Linear, LinearPass};
use crate::network::Norm;
use compute::device::{AttentionBackward, LinearCrossEntropyGradient, RmsNormBackward};
use compute::{Device, Tensor};

/// A forward whose gradients are wanted.
pub(crate) struct Backward<'a, D: Device> {
    pub pass: Pass<'a, D>,
    pub layout: &'a TrainingLayout,
    pub dropout_seed: u64,
    /// The number of rows whose loss is computed, where they were gathered.
    pub gathered: Option<usize>,
}

impl<D: Device> Backward<'_, D> {
    /// Adds the batch's loss, and the gradients of the loss times `scale`.
    pub fn accumulate(&mut self, scale: f32) {
        let seed = self.dropout_seed;
        self.pass.forward(Some(seed));
        self.backward_from_loss(scale);
    }

    /// The same after a forward, of which the activations are still there.
    pub fn backward_from_loss(&mut self, scale: f32) {
        let dweight = self.pass.network.head.gradients.first().map(|gradient| gradient.tensor);
        let dx = self.pass.rows.of(self.layout.d_normed);
        let gradient = LinearCrossEntropyGradient { dx, dweight, scale };
        match self.gathered {
            Some(count) => self.pass.gathered_loss(count, gradient, self.layout.d_hidden),
            None => self.pass.loss(Some(gradient)),
        }
        self.backward();
    }

    /// From `d_normed` to the gradients.
    fn backward(&mut self) {
        let (network, rows) = (self.pass.network, self.pass.rows);
        let layers = network.layers.len();
        let d_residual = rows.of(self.layout.d_residual);
        let norm = self.pass.final_norm(rows.of(self.pass.buffers.residual[layers]));
        let d_normed = rows.of(self.layout.d_normed);
        self.pass.device.rmsnorm_backward(RmsNormBackward {
            forward: norm,
            dout: d_normed,
            dx: d_residual,
            overwrite: true,
            dweight: network.norm.gradient,
        });
        for index in (network.first_trained_layer..layers).rev() {
            // The last layer's activations are still there.
            if self.layout.recompute && index + 1 < layers {
                self.pass.activations(index, Some(self.dropout_seed));
            }
            self.mlp(index);
            self.attention(index);
        }
        if let Some(gradient) = network.embedding_gradient {
            self.pass.dropout(d_residual, Some(self.dropout_seed), 0);
            let tokens = rows.vector(self.pass.buffers.tokens);
            self.pass.device.embedding_backward(tokens, d_residual, gradient);
        }
    }

    /// The gradient that reaches a block's output: the residual's, through the block's dropout, in the type
    /// of operands.
    fn block_gradient(&mut self, site: usize) -> Tensor {
        let d_residual = self.pass.rows.of(self.layout.d_residual);
        if self.pass.config.dropout == 0.0 && self.layout.regions.rounded.is_none() {
            return d_residual;
        }
        let masked = self.pass.rows.of(self.layout.d_normed);
        self.pass.device.copy(d_residual, masked);
        self.pass.dropout(masked, Some(self.dropout_seed), site);
        masked
    }

    fn mlp(&mut self, index: usize) {
        let d_out = self.block_gradient(2 * index + 2);
        let [down, gate_up_pass] = [Place::Down, Place::GateUp].map(|place| self.linear(index, place));
        let Backward { pass, layout, .. } = self;
        let (rows, buffers) = (pass.rows, pass.buffers);
        let (w, a) = (&pass.network.layers[index], &buffers.layers[index]);
        let (gate_up, hidden, d_hidden) =
            (rows.of(a.gate_up), rows.of(buffers.hidden), rows.of(layout.d_hidden));

        w.down.input_gradient(pass.device, d_out, d_hidden, &down);
        pass.device.swiglu_backward(gate_up, d_hidden, hidden);
        w.down.weight_gradients(pass.device, d_out, hidden, &down);
        let input = (rows.of(a.middle), rows.of(a.mlp_rstd));
        self.normed_linear((&w.gate_up, gate_up_pass), gate_up, w.mlp_norm, input);
    }

    fn attention(&mut self, index: usize) {
        let d_out = self.block_gradient(2 * index + 1);
        let [output, qkv_pass] = [Place::Output, Place::Qkv].map(|place| self.linear(index, place));
        let Backward { pass, layout, .. } = self;
        let (rows, buffers) = (pass.rows, pass.buffers);
        let (w, a) = (&pass.network.layers[index], &buffers.layers[index]);
        let (d_qkv, d_attention) = (rows.of(layout.d_qkv), rows.of(layout.d_attention));

        w.output.input_gradient(pass.device, d_out, d_attention, &output);
        w.output.weight_gradients(pass.device, d_out, rows.of(a.attention), &output);
        let [dq, dk, dv] = split_qkv(pass.config, d_qkv);
        let forward = pass.attention(index);
        pass.device.attention_backward(AttentionBackward { forward, dout: d_attention, dq, dk, dv });
        if pass.config.is_rotated(index) {
            let positions = rows.vector(buffers.positions);
            pass.device.rope(rotation(pass.config, d_qkv, [buffers.cos, buffers.sin], positions, true));
        }
        if let (Some((raw, rstd)), Some(norms)) = (a.qk_raw, w.qk_norm) {
            for (op, d, norm) in qk_norms(pass.config, rows.of(raw), rows.of(rstd), norms, d_qkv) {
                let (dout, dx, dweight) = (d, d, norm.gradient);
                pass.device.rmsnorm_backward(RmsNormBackward {
                    forward: op,
                    dout,
                    dx,
                    overwrite: true,
                    dweight,
                });
            }
        }
        let input = (rows.of(buffers.residual[index]), rows.of(a.attention_rstd));
        self.normed_linear((&w.qkv, qkv_pass), d_qkv, w.attention_norm, input);
    }

    fn linear(&self, index: usize, place: Place) -> LinearPass {
        self.pass.linear(index, place, Some(self.dropout_seed))
    }

    /// The backward of a linear layer over the norm of the stream x, whose output's gradient is `d_out`: adds
    /// to the gradients of both weights and of the stream.
    fn normed_linear(
        &mut self,
        (linear, linear_pass): (&Linear, LinearPass),
        d_out: Tensor,
        norm: Norm,
        (x, rstd): (Tensor, Tensor),
    ) {
        let Backward { pass, layout, .. } = self;
        let rows = pass.rows;
        let (normed, d_normed) = (rows.of(pass.buffers.normed), rows.of(layout.d_normed));
        let forward = rms_norm(pass.config, x, norm, rstd);
        if linear.needs_input() {
            pass.device.rmsnorm(forward, normed);
        }
        linear.input_gradient(pass.device, d_out, d_normed, &linear_pass);
        linear.weight_gradients(pass.device, d_out, normed, &linear_pass);
        let (dout, dx, dweight) = (d_normed, rows.of(layout.d_residual), norm.gradient);
        pass.device.rmsnorm_backward(RmsNormBackward { forward, dout, dx, overwrite: false, dweight });
    }
}
