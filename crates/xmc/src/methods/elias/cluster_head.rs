//! How well does each cluster fit an embedding? One linear classifier for each of C clusters, all of them at every step.
//!
//! `logits = x Wᵀ + b`, forward and back: three products of 2 b C d operations. Weights `[C, d + 1]`, the bias last, move
//! by AdamW; biases do not decay.

use rayon::prelude::*;
use xmc_data::TopK;
use xmc_nn::Precision;
use xmc_nn::ops::matmul::{Rhs, View, add_transposed, multiply};
use xmc_nn::ops::reduce::{add_bias, column_sums};
use xmc_nn::optim::{AdamWConfig, RowAdamW};

use super::beam;
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// Rows whose best clusters are looked for at a time.
pub(super) const ROWS_AT_ONCE: usize = 1024;

/// Classifiers of the clusters and their optimiser.
#[derive(Debug)]
pub(super) struct ClusterHead {
    /// `[C, d + 1]`
    weights: Vec<f32>,
    dim: usize,
    /// All rows move at every step, so this is AdamW as it is.
    optimizer: RowAdamW,
    precision: Precision,
    /// W^T `[d, C]` and W `[C, d]`, laid out.
    forward: Rhs,
    backward: Rhs,
    biases: Vec<f32>,
}

impl ClusterHead {
    /// Weights from -1/sqrt(d) to 1/sqrt(d), biases 0.
    pub(super) fn new(
        clusters: usize,
        dim: usize,
        adam: AdamWConfig,
        precision: Precision,
        seed: u64,
    ) -> Self {
        let bound = 1.0 / (dim as f32).sqrt();
        let mut draws = Draws::new(seed, Purpose::Clusters, 0);
        let mut weights = vec![0.0; clusters * (dim + 1)];
        for row in weights.chunks_exact_mut(dim + 1) {
            row[..dim].fill_with(|| bound * draws.symmetric());
        }
        let optimizer = RowAdamW::new(clusters, dim + 1, adam).with_decaying(dim);
        let (forward, backward) = (Rhs::new(precision), Rhs::new(precision));
        let mut head =
            ClusterHead { weights, dim, optimizer, precision, forward, backward, biases: Vec::new() };
        head.lay_out();
        head
    }

    fn lay_out(&mut self) {
        let (rows, cols) = (self.weights.len() / (self.dim + 1), self.dim + 1);
        if rows == 0 {
            return;
        }
        let weights = View::strided(&self.weights, rows, self.dim, cols);
        self.forward.fill(weights.t());
        self.backward.fill(weights);
        self.biases = self.weights.chunks_exact(cols).map(|row| row[self.dim]).collect();
    }

    /// Number of clusters C.
    pub(super) fn clusters(&self) -> usize {
        self.biases.len()
    }

    /// All weights `[C, d + 1]`, the bias last.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Replaces all weights.
    pub(super) fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        if weights.len() != self.weights.len() {
            let (found, expected) = (weights.len(), self.weights.len());
            return Err(Error::Mismatch(format!("{found} weights of clusters, expected {expected}")));
        }
        self.weights.copy_from_slice(weights);
        self.lay_out();
        Ok(())
    }

    /// Logits `[b, C]` of embeddings `x [b, d]`.
    pub(super) fn logits(&self, x: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; x.len() / self.dim * self.clusters()];
        multiply(x, &self.forward, &mut logits, false);
        add_bias(&mut logits, &self.biases);
        logits
    }

    /// Adds the `beam` best clusters of each row of `x [n, d]` with their scores to `top`.
    pub(super) fn best(&self, x: &[f32], ln_alpha: f32, beam: usize, top: &mut TopK) {
        for x in x.chunks(ROWS_AT_ONCE * self.dim) {
            let logits = self.logits(x);
            let rows = logits.par_chunks_exact(self.clusters().max(1)).with_max_len(1);
            let row = |logits: &[f32]| {
                let best = beam::best(logits, ln_alpha - beam::normaliser(logits), beam);
                best.into_iter().map(|c| (c.cluster, c.log_score().exp())).collect()
            };
            let rows: Vec<Vec<(u32, f32)>> = rows.map(row).collect();
            for row in &rows {
                top.push_ranked(row);
            }
        }
    }

    /// Adds d loss / d x to `dx [b, d]`, from that of the logits.
    pub(super) fn backward(&self, dlogits: &[f32], dx: &mut [f32]) {
        multiply(dlogits, &self.backward, dx, true);
    }

    /// Moves all weights by the gradients of the parts of a step: d loss / d logits `[b, C]` with embeddings `[b, d]`.
    pub(super) fn step(&mut self, parts: &[(&[f32], &[f32])], lr: f32) -> Result<()> {
        let (cols, clusters) = (self.dim + 1, self.clusters());
        let mut grads = vec![0.0; self.weights.len()];
        let mut biases = vec![0.0; clusters];
        for &(dlogits, x) in parts {
            add_transposed((dlogits, clusters), (x, self.dim), &mut grads, cols, self.precision);
            column_sums(dlogits, &mut biases);
        }
        for (row, bias) in grads.chunks_exact_mut(cols).zip(biases) {
            row[self.dim] = bias;
        }
        let all: Vec<u32> = (0..clusters as u32).collect();
        self.optimizer.step(&mut self.weights, &all, &mut grads, lr, 1.0)?;
        self.lay_out();
        Ok(())
    }

    /// What the optimiser remembers.
    pub(super) fn optimizer(&self) -> &RowAdamW {
        &self.optimizer
    }

    /// What the optimiser remembers, to be replaced.
    pub(super) fn optimizer_mut(&mut self) -> &mut RowAdamW {
        &mut self.optimizer
    }
}
