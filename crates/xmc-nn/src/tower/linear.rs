//! y = x Wᵀ + b: a layer of the head, for a batch of vectors.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::matmul::{Lhs, Precision, Rhs, View, product};
use crate::ops::reduce::{add_bias, column_sums};
use crate::params::Layout;

/// Rows of a block that one task computes.
const ROWS: usize = 64;

/// Weight `[out, in]` and bias `[out]`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Range<usize>,
    bias: Range<usize>,
    input: usize,
    output: usize,
    precision: Precision,
    /// W^T, laid out.
    forward: Rhs,
}

impl Linear {
    /// Appends `NAME.weight` and `NAME.bias` to `layout`.
    pub(super) fn new(
        name: &str,
        input: usize,
        output: usize,
        layout: &mut Layout,
        precision: Precision,
    ) -> Self {
        Linear {
            weight: layout.push(format!("{name}.weight"), &[output, input]),
            bias: layout.push(format!("{name}.bias"), &[output]),
            input,
            output,
            precision,
            forward: Rhs::new(precision),
        }
    }

    /// Lays out the weights again.
    pub(super) fn refresh(&mut self, params: &[f32]) {
        self.forward.fill(self.view(params).t());
    }

    /// y `[b, out]` of `x [b, in]`.
    pub(super) fn forward(&self, params: &[f32], x: &[f32]) -> Vec<f32> {
        let mut y = self.multiply(x, &self.forward);
        add_bias(&mut y, &params[self.bias.clone()]);
        y
    }

    /// dx `[b, in]` from `dy [b, out]`; adds the gradients of weight and bias to `grads`.
    pub(super) fn backward(&self, params: &[f32], x: &[f32], dy: &[f32], grads: &mut [f32]) -> Vec<f32> {
        let b = x.len() / self.input;
        column_sums(dy, &mut grads[self.bias.clone()]);
        let (mut outputs, mut inputs) = (Lhs::new(self.precision), Rhs::new(self.precision));
        outputs.fill(View::new(dy, b, self.output).t());
        inputs.fill(View::new(x, b, self.input));
        let tasks = grads[self.weight.clone()].par_chunks_mut(ROWS * self.input).enumerate();
        tasks.for_each(|(i, block)| {
            let rows = i * ROWS..i * ROWS + block.len() / self.input;
            product(&outputs, &inputs, rows, block, self.input, true);
        });

        let mut transposed = Rhs::new(self.precision);
        transposed.fill(self.view(params));
        self.multiply(dy, &transposed)
    }

    fn view<'a>(&self, params: &'a [f32]) -> View<'a> {
        View::new(&params[self.weight.clone()], self.output, self.input)
    }

    /// a B, blocks of rows in parallel.
    fn multiply(&self, a: &[f32], b: &Rhs) -> Vec<f32> {
        let (k, n) = (b.depth(), b.cols());
        let mut c = vec![0.0; a.len() / k * n];
        c.par_chunks_mut(ROWS * n).zip(a.par_chunks(ROWS * k)).for_each(|(c, a)| {
            let rows = a.len() / k;
            let mut lhs = Lhs::new(self.precision);
            lhs.fill(View::new(a, rows, k));
            product(&lhs, b, 0..rows, c, n, false);
        });
        c
    }
}
