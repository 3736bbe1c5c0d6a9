//! The baseline without label texts: every label has weights of its own (one-vs-all).
//!
//! ```text
//! s_il = (x_i . w_l + b_l) / tau
//! ```
//!
//! Weights and bias of a label stand in one row `[w_l, b_l]`, so that the finished head is a matrix of label embeddings
//! like any other, for texts whose embedding ends with a 1. Weights decay, biases do not. Only labels that a step sees
//! pay for it.

use xmc_nn::optim::{AdamWConfig, RowAdamW};
use xmc_nn::{Device, Tensor};

use crate::error::{Error, Result};
use crate::methods::random::{Draws, Purpose};

/// Weights of all labels, and how they move.
pub(super) struct Classifier {
    /// `[L, d + 1]`
    weights: Vec<f32>,
    optimizer: RowAdamW,
    cols: usize,
}

/// Gradients of the rows of a step.
pub(super) struct RowGradients {
    ids: Vec<u32>,
    /// `[ids, d + 1]`
    pub(super) values: Vec<f32>,
}

impl Classifier {
    /// Weights from -1/sqrt(d) to 1/sqrt(d), biases 0.
    pub(super) fn new(num_labels: usize, dim: usize, config: AdamWConfig, seed: u64) -> Self {
        let cols = dim + 1;
        let bound = 1.0 / (dim as f32).sqrt();
        let mut draws = Draws::new(seed, Purpose::Head, 0);
        let weights = (0..num_labels * cols)
            .map(|i| if i % cols == dim { 0.0 } else { bound * draws.symmetric() })
            .collect();
        let optimizer = RowAdamW::new(num_labels, cols, config).with_decaying(dim);
        Classifier { weights, optimizer, cols }
    }

    /// Label vectors `[l, d]` of `labels`, and b / tau of each.
    pub(super) fn select(&self, labels: &[u32], tau: f32, device: Device) -> Result<(Tensor, Vec<f32>)> {
        let d = self.cols - 1;
        let mut values = Vec::with_capacity(labels.len() * d);
        let mut offset = Vec::with_capacity(labels.len());
        for &id in labels {
            let row = &self.weights[id as usize * self.cols..(id as usize + 1) * self.cols];
            values.extend_from_slice(&row[..d]);
            offset.push(row[d] / tau);
        }
        Ok((Tensor::from_host(labels.len(), d, values, device)?, offset))
    }

    /// Gradients of the rows from those of their vectors `[l, d]` and of b / tau `[l]`.
    pub(super) fn gradients(&self, labels: &[u32], dy: &Tensor, doffset: &[f32], tau: f32) -> RowGradients {
        let rows = dy.host().chunks_exact(self.cols - 1).zip(doffset);
        let values = rows.flat_map(|(row, bias)| row.iter().copied().chain([bias / tau])).collect();
        RowGradients { ids: labels.to_vec(), values }
    }

    /// Moves the rows of a step.
    pub(super) fn step(&mut self, mut gradients: RowGradients, lr: f32, grad_scale: f32) -> Result<()> {
        let RowGradients { ids, values } = &mut gradients;
        Ok(self.optimizer.step(&mut self.weights, ids, values, lr, grad_scale)?)
    }

    /// Lets all rows catch up with the decay that they owe.
    pub(super) fn settle(&mut self) -> Result<()> {
        Ok(self.optimizer.settle(&mut self.weights)?)
    }

    /// All rows as label embeddings `[L, d + 1]`.
    pub(super) fn to_tensor(&self, device: Device) -> Result<Tensor> {
        Ok(Tensor::from_host(self.weights.len() / self.cols, self.cols, self.weights.clone(), device)?)
    }

    /// All weights `[L, d + 1]`.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Replaces all weights.
    pub(super) fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        if weights.len() != self.weights.len() {
            let (found, expected) = (weights.len(), self.weights.len());
            return Err(Error::Mismatch(format!("{found} weights for a head of {expected}")));
        }
        self.weights.copy_from_slice(weights);
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
