//! How do chunks become gradients of weights? dW = dY^T X, summed over the chunks of a group in their order.
//!
//! Backward leaves both operands laid out; then tasks of a fixed number of rows of dW run through all chunks, so that
//! a block of dW stays in the cache while they are added. Biases and norms are summed per chunk, then over chunks.

use std::ops::Range;

use rayon::prelude::*;

use super::config::Config;
use super::places::{Affine, LayerPlaces};
use super::relative::DistanceBias;
use super::weights::strips;
use crate::ops::matmul::{Lhs, Precision, Rhs, product};
use crate::ops::reduce::axpy;

/// Elements of dW that one task sums at a time: 288 KiB, a part of the second cache. Twice as many save 2% of a step
/// on two cores but leave only ten tasks for a layer of MiniLM.
const BLOCK: usize = 72 * 1024;

/// Columns that a block is thought to have at most: wider matrices are summed strip by strip.
const WIDTH: usize = 768;

/// The factors of dW = dY^T X of a layer's matrices from one chunk: dY^T `[out, t]`, X `[t, in]`.
#[derive(Debug)]
pub(crate) struct Operands {
    pub(crate) dqkv: Lhs,
    pub(crate) x: Rhs,
    pub(crate) dout: Lhs,
    pub(crate) attended: Rhs,
    /// By strip of inner columns.
    pub(crate) dup: Vec<Lhs>,
    pub(crate) x1: Rhs,
    pub(crate) ddown: Lhs,
    /// By strip of inner columns.
    pub(crate) inner: Vec<Rhs>,
}

/// One of a layer's matrices, or a strip of one.
#[derive(Clone, Copy)]
enum Matrix {
    Qkv,
    Out,
    Up { strip: usize },
    Down { strip: usize },
}

impl Operands {
    pub(crate) fn new(config: &Config, precision: Precision) -> Self {
        let (lhs, rhs) = (|| Lhs::new(precision), || Rhs::new(precision));
        Operands {
            dqkv: lhs(),
            x: rhs(),
            dout: lhs(),
            attended: rhs(),
            dup: strips(config.intermediate).map(|_| lhs()).collect(),
            x1: rhs(),
            ddown: lhs(),
            inner: strips(config.intermediate).map(|_| rhs()).collect(),
        }
    }

    /// Adds rows of a dW, or of a strip of its columns, to `sums`, whose rows are `stride` apart.
    fn add(&self, matrix: Matrix, rows: Range<usize>, sums: &mut [f32], stride: usize) {
        let (outputs, inputs) = match matrix {
            Matrix::Qkv => (&self.dqkv, &self.x),
            Matrix::Out => (&self.dout, &self.attended),
            Matrix::Up { strip } => (&self.dup[strip], &self.x1),
            Matrix::Down { strip } => (&self.ddown, &self.inner[strip]),
        };
        product(outputs, inputs, rows, sums, stride, true);
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

/// Rows of one dW.
struct Block<'a> {
    /// One after the other, each with its first column.
    matrices: Vec<(Matrix, usize)>,
    first_row: usize,
    cols: usize,
    sums: &'a mut [f32],
}

/// Adds the gradients of a layer's matrices, `operands` of all chunks in order, to the gradients of all parameters.
pub(crate) fn add_weight_gradients(at: &LayerPlaces, operands: &[&Operands], grads: &mut [f32]) {
    let (h, f) = (at.down.bias.len(), at.up.bias.len());
    let mut blocks = Vec::new();
    let mut cut = |matrices: &[(Matrix, usize)], cols: usize, dweight| {
        let rows = (BLOCK / cols.min(WIDTH)).next_multiple_of(32);
        for (i, sums) in <[f32]>::chunks_mut(dweight, rows * cols).enumerate() {
            blocks.push(Block { matrices: matrices.to_vec(), first_row: i * rows, cols, sums });
        }
    };
    let [dqkv, dout, dup, ddown] = split(grads, [&at.qkv, &at.out, &at.up, &at.down]);
    let down: Vec<_> =
        strips(f).enumerate().map(|(strip, columns)| (Matrix::Down { strip }, columns.start)).collect();
    cut(&down, f, ddown);
    cut(&[(Matrix::Qkv, 0)], h, dqkv);
    let mut rest = dup;
    for (strip, columns) in strips(f).enumerate() {
        let (dweight, after) = rest.split_at_mut(columns.len() * h);
        cut(&[(Matrix::Up { strip }, 0)], h, dweight);
        rest = after;
    }
    cut(&[(Matrix::Out, 0)], h, dout);
    blocks.into_par_iter().with_max_len(1).for_each(|block| {
        let rows = block.first_row..block.first_row + block.sums.len() / block.cols;
        for (matrix, column) in block.matrices {
            for chunk in operands {
                chunk.add(matrix, rows.clone(), &mut block.sums[column..], block.cols);
            }
        }
    });
}

/// The gradients of weights that lie in this order.
fn split<'a, const N: usize>(grads: &'a mut [f32], places: [&Affine; N]) -> [&'a mut [f32]; N] {
    let (mut rest, mut taken) = (grads, 0);
    places.map(|at| {
        let (weight, after) =
            std::mem::take(&mut rest)[at.weight.start - taken..].split_at_mut(at.weight.len());
        (rest, taken) = (after, at.weight.end);
        weight
    })
}
