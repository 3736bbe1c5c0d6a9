//! How well would search do if it looked at every label? The heads without an index, to compare with. (spec: ELIAS, 2.6)
//!
//! ```text
//! one-vs-all   loss = mean of BCE(sigmoid(w_l . x_i + b_l), 1(l is right for i)) over all rows of a step and all labels
//! batch        the same over the labels that are right for any row of the step
//! ```
//!
//! Scores pass by in blocks of labels (`xmc_nn::loss`) and are never stored. Cost of a step: 6 b l d operations for the
//! l labels compared, and several passes over their weights; memory 4 times the weights at rest, 7 within a step.

use xmc_data::Csr;
use xmc_nn::loss::{Criterion, LossOptions, Targets, loss};
use xmc_nn::optim::AdamWConfig;
use xmc_nn::{Precision, Tensor};

use super::config::Head;
use crate::error::Result;
use crate::methods::classifier::{Classifier, RowGradients};

/// Classifiers that are compared with a text one and all.
pub(super) struct Exhaustive {
    classifier: Classifier,
    labels: usize,
    candidates: Candidates,
    precision: Precision,
}

/// Labels that a text is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// All of them.
    All,
    /// Those of the rows of the step.
    OfStep,
}

/// What the micro-batches of a step add up.
#[derive(Debug)]
pub(super) struct ExhaustiveStep {
    /// Labels that are compared, rising.
    pool: Vec<u32>,
    sum: RowGradients,
    rows: usize,
}

impl Candidates {
    /// Those of `head`; `None` if it has an index.
    pub(super) fn of(head: Head) -> Option<Self> {
        match head {
            Head::Index => None,
            Head::OneVsAll => Some(Candidates::All),
            Head::Batch => Some(Candidates::OfStep),
        }
    }
}

impl Exhaustive {
    /// Begins with weights `[L, d + 1]` for embeddings of `dim` columns.
    pub(super) fn new(
        candidates: Candidates,
        weights: Vec<f32>,
        dim: usize,
        adam: AdamWConfig,
        precision: Precision,
    ) -> Self {
        let labels = weights.len() / (dim + 1);
        Exhaustive { classifier: Classifier::with_weights(weights, dim, adam), labels, candidates, precision }
    }

    /// Begins a step on `rows` of `y`.
    pub(super) fn begin(&self, y: &Csr, rows: &[u32]) -> ExhaustiveStep {
        let pool = match self.candidates {
            Candidates::All => (0..self.labels as u32).collect(),
            Candidates::OfStep => {
                let right = |&row: &u32| y.row(row as usize).iter().filter(|(_, value)| *value > 0.0);
                let mut pool: Vec<u32> = rows.iter().flat_map(right).map(|(label, _)| label).collect();
                pool.sort_unstable();
                pool.dedup();
                pool
            }
        };
        ExhaustiveStep { pool, sum: RowGradients::default(), rows: rows.len() }
    }

    /// Adds the part of a step whose embeddings are `x [b, d]`, of `rows`; returns its loss and d loss / d x.
    pub(super) fn part(
        &self,
        step: &mut ExhaustiveStep,
        x: &Tensor,
        y: &Csr,
        rows: &[u32],
    ) -> Result<(f64, Tensor)> {
        if step.pool.is_empty() {
            return Ok((0.0, Tensor::zeros(x.rows(), x.cols(), x.device())));
        }
        let (weights, bias) = self.classifier.select(&step.pool, 1.0, x.device())?;
        let targets = Targets::from_csr(y, rows, false).in_pool(&step.pool);
        let options = LossOptions {
            precision: self.precision,
            step_rows: Some(step.rows),
            ..LossOptions::new(Criterion::Bce, 1.0)
        };
        let found = loss(x, &weights, Some(&bias), &targets, &options)?;
        let doffset = found.doffset.unwrap_or_default();
        let gradients = self.classifier.gradients(&step.pool, &found.dy, &doffset, 1.0);
        step.sum = std::mem::take(&mut step.sum).add(gradients);
        Ok((found.loss, found.dx))
    }

    /// Moves the classifiers by what a step added up.
    pub(super) fn apply(&mut self, step: ExhaustiveStep, lr: f32) -> Result<()> {
        self.classifier.step(step.sum, lr, 1.0)
    }

    /// The classifiers.
    pub(super) fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The classifiers, to be replaced.
    pub(super) fn classifier_mut(&mut self) -> &mut Classifier {
        &mut self.classifier
    }
}

#[cfg(test)]
mod tests {
    use xmc_data::CsrBuilder;
    use xmc_nn::Device;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        logits: Vec<Vec<f32>>,
        y_inds: Vec<Vec<u32>>,
        pad: u32,
        ova_loss: f64,
        d_logits: Vec<Vec<f32>>,
        batch_loss: f64,
        d_batch_logits: Vec<Vec<f32>>,
    }

    /// Embeddings are logits, and the weights of label l pick logit l out; so d loss / d x is d loss / d logits.
    #[test]
    fn both_losses_are_those_of_the_golden_file() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/elias_ova_bce.json")).unwrap();
        let (rows, labels) = (golden.logits.len(), golden.logits[0].len());
        let x = Tensor::from_host(rows, labels, golden.logits.concat(), Device::Cpu).unwrap();
        let mut y = CsrBuilder::new();
        for row in &golden.y_inds {
            let mut row: Vec<u32> = row.iter().copied().filter(|&label| label != golden.pad).collect();
            row.sort_unstable();
            y.push(row.into_iter().map(|label| (label, 1.0)));
        }
        let y = y.finish(labels).unwrap();
        let weights = |i: usize| (0..=labels).map(move |j| f32::from(u8::from(i == j)));
        let all: Vec<u32> = (0..rows as u32).collect();
        for (candidates, want, slopes) in [
            (Candidates::All, golden.ova_loss, &golden.d_logits),
            (Candidates::OfStep, golden.batch_loss, &golden.d_batch_logits),
        ] {
            let head = Exhaustive::new(
                candidates,
                (0..labels).flat_map(weights).collect(),
                labels,
                AdamWConfig::default(),
                Precision::F32,
            );
            let mut step = head.begin(&y, &all);
            let (loss, dx) = head.part(&mut step, &x, &y, &all).unwrap();
            assert!((loss - want).abs() < 1e-6, "{candidates:?}: {loss} {want}");
            for (dx, slopes) in dx.host().chunks_exact(labels).zip(slopes) {
                let found = step.pool.iter().map(|&label| dx[label as usize]);
                assert!(found.zip(slopes).all(|(a, b)| (a - b).abs() < 1e-6), "{candidates:?}");
            }
            // In parts the sum is the same.
            let mut parts = head.begin(&y, &all);
            let mut sum = 0.0;
            for row in 0..rows {
                let x = Tensor::from_host(1, labels, golden.logits[row].clone(), Device::Cpu).unwrap();
                sum += head.part(&mut parts, &x, &y, &[row as u32]).unwrap().0;
            }
            assert!((sum - want).abs() < 1e-6);
            assert_eq!(parts.sum.ids, step.sum.ids);
            for (a, b) in parts.sum.values.iter().zip(&step.sum.values) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_step_without_labels_has_no_loss_over_the_labels_of_the_step() {
        let y = Csr::empty(2, 3);
        let x = Tensor::from_host(2, 1, vec![1.0, -1.0], Device::Cpu).unwrap();
        let new =
            |candidates| Exhaustive::new(candidates, vec![0.0; 6], 1, AdamWConfig::default(), Precision::F32);
        let head = new(Candidates::OfStep);
        let mut step = head.begin(&y, &[0, 1]);
        assert_eq!(head.part(&mut step, &x, &y, &[0, 1]).unwrap().0, 0.0);
        // All labels are wrong for them, which is something to learn.
        let head = new(Candidates::All);
        let mut step = head.begin(&y, &[0, 1]);
        let (loss, _) = head.part(&mut step, &x, &y, &[0, 1]).unwrap();
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-6, "{loss}");
        assert!(step.sum.values.chunks_exact(2).all(|row| row[1] > 0.0));
    }
}
