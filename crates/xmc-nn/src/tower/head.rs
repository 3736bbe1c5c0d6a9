//! What follows the pooled vector? An optional projection, then length 1.

use std::ops::Range;

use rayon::prelude::*;

use super::TowerConfig;
use crate::ops::matmul::{Lhs, Precision, Rhs, View, product};
use crate::ops::reduce::{add_bias, column_sums};
use crate::params::Layout;
use crate::pool::{normalize, normalize_backward};

/// Rows of a block that one task computes.
const ROWS: usize = 64;

/// Projection `[p, h]` and norm.
#[derive(Debug)]
pub(crate) struct Head {
    projection: Option<Projection>,
    normalize: bool,
    /// Width of its input.
    hidden: usize,
    dim: usize,
    precision: Precision,
}

#[derive(Debug)]
struct Projection {
    weight: Range<usize>,
    bias: Range<usize>,
    /// W^T, laid out.
    forward: Rhs,
}

/// What backward needs: input `[b, h]`, output `[b, dim]` and the lengths before the norm.
#[derive(Debug)]
pub(crate) struct HeadTape {
    pooled: Vec<f32>,
    output: Vec<f32>,
    lengths: Vec<f32>,
}

impl Head {
    /// Appends the projection to `layout`.
    pub(crate) fn new(hidden: usize, config: TowerConfig, layout: &mut Layout, precision: Precision) -> Self {
        let projection = config.projection.map(|dim| Projection {
            weight: layout.push("bottleneck.weight", &[dim, hidden]),
            bias: layout.push("bottleneck.bias", &[dim]),
            forward: Rhs::new(precision),
        });
        let dim = config.projection.unwrap_or(hidden);
        Head { projection, normalize: config.normalize, hidden, dim, precision }
    }

    /// Width of an embedding.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Lays out the projection again.
    pub(crate) fn refresh(&mut self, params: &[f32]) {
        if let Some(projection) = &mut self.projection {
            let weight = View::new(&params[projection.weight.clone()], self.dim, self.hidden);
            projection.forward.fill(weight.t());
        }
    }

    /// Embeddings `[b, dim]` of `pooled [b, h]`, and the tape.
    pub(crate) fn forward(&self, params: &[f32], pooled: Vec<f32>) -> HeadTape {
        let mut output = match &self.projection {
            None => pooled.clone(),
            Some(projection) => {
                let mut output = vec![0.0; pooled.len() / self.hidden * self.dim];
                self.multiply(&pooled, &projection.forward, &mut output);
                add_bias(&mut output, &params[projection.bias.clone()]);
                output
            }
        };
        let lengths = if self.normalize {
            output.chunks_exact_mut(self.dim).map(normalize).collect()
        } else {
            Vec::new()
        };
        HeadTape { pooled, output, lengths }
    }

    /// Gradient of the pooled vectors `[b, h]` from that of the embeddings, `de [b, dim]`; adds those of the
    /// projection to `grads`.
    pub(crate) fn backward(
        &self,
        params: &[f32],
        tape: &HeadTape,
        de: &[f32],
        grads: &mut [f32],
    ) -> Vec<f32> {
        let mut de = de.to_vec();
        for ((e, &length), de) in
            tape.output.chunks_exact(self.dim).zip(&tape.lengths).zip(de.chunks_exact_mut(self.dim))
        {
            normalize_backward(e, length, de);
        }
        let Some(projection) = &self.projection else { return de };
        let b = tape.pooled.len() / self.hidden;
        column_sums(&de, &mut grads[projection.bias.clone()]);
        let (mut outputs, mut inputs) = (Lhs::new(self.precision), Rhs::new(self.precision));
        outputs.fill(View::new(&de, b, self.dim).t());
        inputs.fill(View::new(&tape.pooled, b, self.hidden));
        let tasks = grads[projection.weight.clone()].par_chunks_mut(ROWS * self.hidden).enumerate();
        tasks.for_each(|(i, block)| {
            let rows = i * ROWS..i * ROWS + block.len() / self.hidden;
            product(&outputs, &inputs, rows, block, self.hidden, true);
        });

        let mut transposed = Rhs::new(self.precision);
        transposed.fill(View::new(&params[projection.weight.clone()], self.dim, self.hidden));
        let mut dpooled = vec![0.0; tape.pooled.len()];
        self.multiply(&de, &transposed, &mut dpooled);
        dpooled
    }

    /// The embeddings, without copying.
    pub(crate) fn finish(tape: HeadTape) -> Vec<f32> {
        tape.output
    }

    /// c = a B, blocks of rows in parallel.
    fn multiply(&self, a: &[f32], b: &Rhs, c: &mut [f32]) {
        let (k, n) = (b.depth(), b.cols());
        c.par_chunks_mut(ROWS * n).zip(a.par_chunks(ROWS * k)).for_each(|(c, a)| {
            let rows = a.len() / k;
            let mut lhs = Lhs::new(self.precision);
            lhs.fill(View::new(a, rows, k));
            product(&lhs, b, 0..rows, c, n, false);
        });
    }
}

impl HeadTape {
    /// The embeddings `[b, dim]`.
    pub(crate) fn output(&self) -> &[f32] {
        &self.output
    }
}
