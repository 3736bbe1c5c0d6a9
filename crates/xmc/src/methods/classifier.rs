//! A head: every label (or node of a tree) has weights of its own.
//!
//! ```text
//! s_il = x_i . w_l + b_l
//! ```
//!
//! Weights and bias of a label stand in one row `[w_l, b_l]`, so that a finished head is a matrix of label embeddings
//! like any other, for texts whose embedding ends with a 1. Weights decay, biases do not. Only labels that a step sees
//! pay for it.

use std::path::Path;

use serde_json::json;
use xmc_nn::checkpoint;
use xmc_nn::optim::{AdamWConfig, RowAdamW};
use xmc_nn::{Device, Tensor};

use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// Name of the weights in their file.
const WEIGHTS: &str = "head";

/// Weights of all labels, and how they move.
pub(super) struct Classifier {
    /// `[L, d + 1]`
    weights: Vec<f32>,
    optimizer: RowAdamW,
    cols: usize,
}

/// Gradients of the rows of a step.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RowGradients {
    /// Labels, rising.
    pub(super) ids: Vec<u32>,
    /// `[ids, d + 1]`
    pub(super) values: Vec<f32>,
}

impl RowGradients {
    /// Adds the gradients of another part of the step; rows that only one part has stay as they are.
    pub(super) fn add(self, other: RowGradients) -> RowGradients {
        let (Some(cols), false) = (other.values.len().checked_div(other.ids.len()), self.ids.is_empty())
        else {
            return if self.ids.is_empty() { other } else { self };
        };
        let mut sum = RowGradients::default();
        let mut ours = self.ids.iter().zip(self.values.chunks_exact(cols)).peekable();
        for (&id, row) in other.ids.iter().zip(other.values.chunks_exact(cols)) {
            while let Some((&before, row)) = ours.next_if(|(ours, _)| **ours < id) {
                sum.push(before, row);
            }
            sum.push(id, row);
            if let Some((_, row)) = ours.next_if(|(ours, _)| **ours == id) {
                let last = sum.values.len() - cols;
                sum.values[last..].iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
        ours.for_each(|(&id, row)| sum.push(id, row));
        sum
    }

    fn push(&mut self, id: u32, row: &[f32]) {
        self.ids.push(id);
        self.values.extend_from_slice(row);
    }
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
        Classifier::with_weights(weights, dim, config)
    }

    /// Begins with `weights` `[L, dim + 1]`.
    pub(super) fn with_weights(weights: Vec<f32>, dim: usize, config: AdamWConfig) -> Self {
        let cols = dim + 1;
        let optimizer = RowAdamW::new(weights.len() / cols, cols, config).with_decaying(dim);
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

    /// Numbers of a label, d + 1.
    pub(super) fn cols(&self) -> usize {
        self.cols
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

/// Texts `[b, d]` as rows of weights and bias see them: `[b, d + 1]`, with a 1 at the end.
pub(super) fn with_one(x: &Tensor) -> Result<Tensor> {
    let d = x.cols();
    let values = x.host().chunks_exact(d).flat_map(|row| row.iter().copied().chain([1.0])).collect();
    Ok(Tensor::from_host(x.rows(), d + 1, values, x.device())?)
}

/// Writes weights `[L, cols]` of a head.
pub(super) fn save_weights(path: &Path, cols: usize, weights: &[f32]) -> Result<()> {
    Ok(checkpoint::save(path, &[(WEIGHTS, weights)], &json!({ "cols": cols }))?)
}

/// Reads what [`save_weights`] wrote.
pub(super) fn load_weights(path: &Path) -> Result<(usize, Vec<f32>)> {
    let mut saved = checkpoint::load(path)?;
    let cols = saved.meta["cols"].as_u64().unwrap_or(0) as usize;
    let weights = saved.take(WEIGHTS).filter(|weights| cols > 0 && weights.len().is_multiple_of(cols));
    Ok((cols, weights.ok_or_else(|| Error::file(path, "not the weights of a head"))?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn gradients_of_parts_add_up_row_by_row() {
        let part = |ids: &[u32], first: f32| RowGradients {
            ids: ids.to_vec(),
            values: (0..ids.len() * 2).map(|i| first + i as f32).collect(),
        };
        let parts = [&[][..], &[2, 5, 9], &[0, 5, 7], &[], &[9, 11], &[2, 5]];
        let mut sum = RowGradients::default();
        let mut want: BTreeMap<u32, [f32; 2]> = BTreeMap::new();
        for (ids, first) in parts.into_iter().zip([0.0, 10.0, 100.0, 1.0, 1000.0, 7.0]) {
            for (&id, row) in ids.iter().zip(part(ids, first).values.chunks_exact(2)) {
                let old = want.entry(id).or_default();
                *old = [old[0] + row[0], old[1] + row[1]];
            }
            sum = sum.add(part(ids, first));
        }
        assert_eq!(sum.ids, want.keys().copied().collect::<Vec<_>>());
        assert_eq!(sum.values, want.values().flatten().copied().collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_file_of_weights_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        save_weights(&path, 3, &[1.0; 6]).unwrap();
        assert_eq!(load_weights(&path).unwrap(), (3, vec![1.0; 6]));
        save_weights(&path, 3, &[1.0; 7]).unwrap();
        assert!(load_weights(&path).unwrap_err().to_string().contains("not the weights of a head"));
    }
}
