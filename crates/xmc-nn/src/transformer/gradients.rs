//! How do chunks become gradients of weights? dW = dY^T X, summed over the chunks of a group in their order.
//!
//! Backward leaves both operands laid out; then tasks of a fixed number of rows of dW run through all chunks, so that
//! a block of dW stays in the cache while they are added. Biases and norms are summed per chunk, then over chunks.

use rayon::prelude::*;

use super::config::Config;
use super::places::{Affine, LayerPlaces};
use super::relative::DistanceBias;
use crate::ops::matmul::{Lhs, Precision, Rhs, product};
use crate::ops::reduce::axpy;

/// Elements of a block of dW that one task sums: 512 KiB.
const BLOCK: usize = 128 * 1024;

/// The factors of dW = dY^T X from one chunk.
#[derive(Debug)]
pub(crate) struct Factors {
    /// dY^T `[out, t]`
    pub(crate) outputs: Lhs,
    /// X `[t, in]`
    pub(crate) inputs: Rhs,
}

/// Factors of the four matrices of a layer.
#[derive(Debug)]
pub(crate) struct Operands {
    pub(crate) qkv: Factors,
    pub(crate) out: Factors,
    pub(crate) up: Factors,
    pub(crate) down: Factors,
}

impl Operands {
    pub(crate) fn new(precision: Precision) -> Self {
        let empty = || Factors { outputs: Lhs::new(precision), inputs: Rhs::new(precision) };
        Operands { qkv: empty(), out: empty(), up: empty(), down: empty() }
    }
}

/// Sums over the tokens of a chunk: gradients of a layer's biases and norms, and of the distance bias.
#[derive(Debug)]
pub(crate) struct LayerGradients {
    pub(crate) qkv_bias: Vec<f32>,
    pub(crate) out_bias: Vec<f32>,
    /// Weight and bias.
    pub(crate) attention_norm: [Vec<f32>; 2],
    pub(crate) up_bias: Vec<f32>,
    pub(crate) down_bias: Vec<f32>,
    pub(crate) norm: [Vec<f32>; 2],
    /// By distance `[heads, 2 reach - 1]`; empty without distance bias.
    pub(crate) relative: Vec<f32>,
}

impl LayerGradients {
    pub(crate) fn new(config: &Config) -> Self {
        let h = || vec![0.0; config.hidden];
        let relative = if config.relative_buckets == 0 {
            0
        } else {
            config.heads * DistanceBias::width(config.max_positions())
        };
        LayerGradients {
            qkv_bias: vec![0.0; 3 * config.hidden],
            out_bias: h(),
            attention_norm: [h(), h()],
            up_bias: vec![0.0; config.intermediate],
            down_bias: h(),
            norm: [h(), h()],
            relative: vec![0.0; relative],
        }
    }

    /// Sets all to zero but the distance bias, which is summed over layers.
    pub(crate) fn clear(&mut self) {
        let [a, b] = &mut self.attention_norm;
        let [c, d] = &mut self.norm;
        for part in
            [a, b, c, d, &mut self.qkv_bias, &mut self.out_bias, &mut self.up_bias, &mut self.down_bias]
        {
            part.fill(0.0);
        }
    }

    /// Adds to the gradients of all parameters.
    pub(crate) fn add_to(&self, at: &LayerPlaces, grads: &mut [f32]) {
        for (norm, at) in [(&self.attention_norm, &at.attention_norm), (&self.norm, &at.norm)] {
            axpy(1.0, &norm[0], &mut grads[at.weight.clone()]);
            axpy(1.0, &norm[1], &mut grads[at.bias.clone()]);
        }
        for (bias, at) in [
            (&self.qkv_bias, &at.qkv),
            (&self.out_bias, &at.out),
            (&self.up_bias, &at.up),
            (&self.down_bias, &at.down),
        ] {
            axpy(1.0, bias, &mut grads[at.bias.clone()]);
        }
    }
}

/// A block of rows of one dW.
struct Block<'a> {
    matrix: fn(&Operands) -> &Factors,
    first_row: usize,
    cols: usize,
    sums: &'a mut [f32],
}

/// Adds the gradients of a layer's matrices, `operands` of all chunks in order, to the gradients of all parameters.
pub(crate) fn add_weight_gradients(at: &LayerPlaces, operands: &[&Operands], grads: &mut [f32]) {
    let (origin, mut rest) = (at.range().start, &mut grads[at.range()]);
    let mut taken = origin;
    let mut blocks = Vec::new();
    let mut cut = |at: &Affine, matrix: fn(&Operands) -> &Factors| {
        let (_, from_weight) = std::mem::take(&mut rest).split_at_mut(at.weight.start - taken);
        let (weight, after) = from_weight.split_at_mut(at.weight.len());
        (rest, taken) = (after, at.weight.end);
        let cols = at.weight.len() / at.bias.len();
        let rows = (BLOCK / cols).next_multiple_of(32);
        for (i, sums) in weight.chunks_mut(rows * cols).enumerate() {
            blocks.push(Block { matrix, first_row: i * rows, cols, sums });
        }
    };
    cut(&at.qkv, |o| &o.qkv);
    cut(&at.out, |o| &o.out);
    cut(&at.up, |o| &o.up);
    cut(&at.down, |o| &o.down);
    blocks.into_par_iter().with_max_len(1).for_each(|block| {
        let rows = block.first_row..block.first_row + block.sums.len() / block.cols;
        for chunk in operands {
            let factors = (block.matrix)(chunk);
            product(&factors.outputs, &factors.inputs, rows.clone(), block.sums, block.cols, true);
        }
    });
}
