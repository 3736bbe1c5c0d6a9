//! What is an embedding compared with, and how does that learn? One face for the index and for the heads without.

use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::{Csr, TopK};
use xmc_nn::Tensor;
use xmc_nn::checkpoint::Checkpoint;
use xmc_nn::optim::Swa;

use super::cluster_head::ROWS_AT_ONCE;
use super::exhaustive::{Exhaustive, ExhaustiveStep};
use super::index::{Index, PartGradients, Rates, Scale};
use super::stages::{save_classifiers, save_clusters, save_graph};
use crate::error::{Error, Result};
use crate::index::{Dtype, Filter, LabelEmbeddings, search};
use crate::methods::checkpoints::named;
use crate::methods::classifier::with_one;

/// A head.
pub(super) enum HeadState {
    /// The labels that an index leads to.
    Index(Box<Index>),
    /// All labels, or all of a step.
    Exhaustive(Box<Exhaustive>),
}

/// What the micro-batches of a step add up.
pub(super) enum StepState {
    /// Of an index.
    Index(IndexStep),
    /// Of a head without an index.
    Exhaustive(ExhaustiveStep),
}

/// Embeddings of a step of an index, and the gradients of its parts.
pub(super) struct IndexStep {
    scale: Scale,
    /// `[B, d]`, part after part.
    x: Vec<f32>,
    parts: Vec<PartGradients>,
}

impl HeadState {
    /// Makes what depends on the beginning of an epoch.
    pub(super) fn begin_epoch(&mut self) {
        if let HeadState::Index(index) = self {
            index.renew_parents();
        }
    }

    /// Begins a step on `rows` of `y`; `lambda` weighs the loss of the shortlist.
    pub(super) fn begin(&self, y: &Csr, rows: &[u32], lambda: f32) -> StepState {
        match self {
            HeadState::Index(index) => {
                let most = rows.iter().map(|&row| y.row(row as usize).len()).max().unwrap_or(0);
                let scale = index.scale(rows.len(), most, lambda);
                StepState::Index(IndexStep { scale, x: Vec::new(), parts: Vec::new() })
            }
            HeadState::Exhaustive(head) => StepState::Exhaustive(head.begin(y, rows)),
        }
    }

    /// Adds the part of a step whose embeddings are `x [b, d]`, of `rows`; returns its loss and d loss / d x.
    pub(super) fn part(
        &self,
        state: &mut StepState,
        x: &Tensor,
        y: &Csr,
        rows: &[u32],
    ) -> Result<(f64, Tensor)> {
        match (self, state) {
            (HeadState::Index(index), StepState::Index(state)) => {
                let part = index.part(x, &y.select_rows(rows), state.scale)?;
                state.x.extend_from_slice(x.host());
                state.parts.push(part.gradients);
                Ok((part.loss, part.dx))
            }
            (HeadState::Exhaustive(head), StepState::Exhaustive(state)) => head.part(state, x, y, rows),
            _ => Err(other_head()),
        }
    }

    /// Moves everything by what a step added up; `seed` is that of rounding by chance.
    pub(super) fn apply(&mut self, state: StepState, rates: Rates, seed: u64) -> Result<()> {
        match (self, state) {
            (HeadState::Index(index), StepState::Index(state)) => {
                index.apply(&state.x, &state.parts, rates, seed)
            }
            (HeadState::Exhaustive(head), StepState::Exhaustive(state)) => head.apply(state, rates.labels),
            _ => Err(other_head()),
        }
    }

    /// The best `k` labels for each of the embeddings `x [n, d]`.
    pub(super) fn best(&mut self, x: &Tensor, k: usize) -> Result<TopK> {
        match self {
            HeadState::Index(index) => {
                let (cols, mut top) = (x.cols(), TopK::new());
                for block in x.host().chunks(ROWS_AT_ONCE * cols.max(1)) {
                    let block = Tensor::from_host(block.len() / cols, cols, block.to_vec(), x.device())?;
                    let found = index.predict(&block, k, None, None)?;
                    for i in 0..found.rows() {
                        top.push_ranked(found.row(i));
                    }
                }
                Ok(top)
            }
            HeadState::Exhaustive(head) => {
                head.classifier_mut().settle()?;
                let weights = head.classifier().weights();
                let labels = LabelEmbeddings::from_values(x.cols() + 1, weights, Dtype::F32)?;
                search(&with_one(x)?, &labels, k, &Filter::none())
            }
        }
    }

    /// Lets weights catch up with the decay that they owe.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self {
            HeadState::Index(index) => index.settle(),
            HeadState::Exhaustive(head) => head.classifier_mut().settle(),
        }
    }

    /// Whether it is made of finite numbers.
    pub(super) fn is_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        match self {
            HeadState::Index(index) => {
                finite(index.clusters())
                    && index.graph().logits().is_none_or(finite)
                    && (0..index.labels().labels() as u32).into_par_iter().all(|label| {
                        let mut row = vec![0.0; index.labels().dim() + 1];
                        classifier(index, label, &mut row);
                        finite(&row)
                    })
            }
            HeadState::Exhaustive(head) => finite(head.classifier().weights()),
        }
    }

    /// An average of nothing yet, for clusters and classifiers (edges are not averaged).
    pub(super) fn average(&self) -> Swa {
        Swa::new(match self {
            HeadState::Index(index) => {
                index.clusters().len() + index.labels().labels() * (index.labels().dim() + 1)
            }
            HeadState::Exhaustive(head) => head.classifier().weights().len(),
        })
    }

    /// Takes the parameters as they are into their average.
    pub(super) fn add_to(&mut self, average: &mut Swa) -> Result<()> {
        self.settle()?;
        match self {
            HeadState::Index(index) => {
                let cols = index.labels().dim() + 1;
                let clusters = index.clusters().len() / cols;
                let read = |i: usize, row: &mut [f32]| match i.checked_sub(clusters) {
                    None => row.copy_from_slice(&index.clusters()[i * cols..(i + 1) * cols]),
                    Some(label) => classifier(index, label as u32, row),
                };
                Ok(average.update_rows(cols, read)?)
            }
            HeadState::Exhaustive(head) => Ok(average.update(head.classifier().weights())?),
        }
    }

    /// Replaces the parameters by their average.
    pub(super) fn take_from(&mut self, average: &Swa) -> Result<()> {
        match self {
            HeadState::Index(index) => {
                let (clusters, labels) = average.average().split_at(index.clusters().len());
                index.set_clusters(clusters)?;
                set_classifiers(index, |label, row| {
                    row.copy_from_slice(&labels[label as usize * row.len()..][..row.len()]);
                })
            }
            HeadState::Exhaustive(head) => head.classifier_mut().set_weights(average.average()),
        }
    }

    /// Everything that later steps depend on, by name.
    pub(super) fn state(&self) -> Vec<(String, &[f32])> {
        match self {
            HeadState::Index(index) => {
                index.state().into_iter().map(|(name, values)| (format!("head.{name}"), values)).collect()
            }
            HeadState::Exhaustive(head) => {
                let classifier = head.classifier();
                let mut state = vec![("head".to_owned(), classifier.weights())];
                state.extend(named("head.adamw", classifier.optimizer().state()));
                state
            }
        }
    }

    /// Puts back what `state` gave.
    pub(super) fn restore(&mut self, saved: &mut Checkpoint) -> Result<()> {
        match self {
            HeadState::Index(index) => index.restore(|name| saved.take(&format!("head.{name}"))),
            HeadState::Exhaustive(head) => {
                let classifier = head.classifier_mut();
                classifier.set_weights(&saved.take("head").unwrap_or_default())?;
                let optimizer = classifier.optimizer_mut();
                Ok(optimizer.restore(|name| saved.take(&format!("head.adamw.{name}")))?)
            }
        }
    }

    /// Writes the files of a finished head.
    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        match self {
            HeadState::Index(index) => {
                let (labels, cols) = (index.labels().labels(), index.labels().dim() + 1);
                save_clusters(dir, cols, index.clusters())?;
                save_graph(dir, index.graph())?;
                save_classifiers(dir, labels, cols, |label, row| classifier(index, label, row))
            }
            HeadState::Exhaustive(head) => {
                let (weights, cols) = (head.classifier().weights(), head.classifier().cols());
                save_classifiers(dir, weights.len() / cols, cols, |label, row| {
                    row.copy_from_slice(&weights[label as usize * cols..][..cols]);
                })
            }
        }
    }
}

/// Writes weights and bias of a label to `row [d + 1]`.
fn classifier(index: &Index, label: u32, row: &mut [f32]) {
    let Some((bias, weights)) = row.split_last_mut() else { return };
    index.labels().row(label, weights);
    *bias = index.labels().bias(label);
}

/// Sets all classifiers: `read(label, row [d + 1])` writes weights and bias of a label.
pub(super) fn set_classifiers(index: &mut Index, read: impl Fn(u32, &mut [f32]) + Sync) -> Result<()> {
    let (labels, dim) = (index.labels().labels(), index.labels().dim());
    let mut row = vec![0.0; dim + 1];
    let biases: Vec<f32> = (0..labels as u32)
        .map(|label| {
            read(label, &mut row);
            row[dim]
        })
        .collect();
    index.labels_mut().set_biases(&biases)?;
    index.labels_mut().fill(|label, weights| {
        let mut row = vec![0.0; dim + 1];
        read(label, &mut row);
        weights.copy_from_slice(&row[..dim]);
    });
    Ok(())
}

/// A step goes with the head that began it.
fn other_head() -> Error {
    Error::Mismatch("the step of another head".to_owned())
}
