//! What is an embedding compared with, and how does that learn? One face for the index and for the heads without.

use std::path::Path;

use xmc_data::{Csr, TopK};
use xmc_nn::Tensor;
use xmc_nn::checkpoint::Checkpoint;
use xmc_nn::optim::Swa;

use super::exhaustive::{Exhaustive, ExhaustiveStep};
use super::stages::classifiers_path;
use crate::error::Result;
use crate::index::{Dtype, Filter, LabelEmbeddings, search};
use crate::methods::checkpoints::named;
use crate::methods::classifier::with_one;

/// A head.
pub(super) enum HeadState {
    /// All labels, or all of a step.
    Exhaustive(Exhaustive),
}

/// What the micro-batches of a step add up.
pub(super) enum StepState {
    /// Of a head without an index.
    Exhaustive(ExhaustiveStep),
}

/// Learning rates of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadRates {
    /// Of classifiers and edges.
    pub(super) labels: f32,
}

impl HeadState {
    /// Begins a step on `rows` of `y`.
    pub(super) fn begin(&self, y: &Csr, rows: &[u32]) -> StepState {
        match self {
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
            (HeadState::Exhaustive(head), StepState::Exhaustive(state)) => head.part(state, x, y, rows),
        }
    }

    /// Moves everything by what a step added up.
    pub(super) fn apply(&mut self, state: StepState, rates: HeadRates) -> Result<()> {
        match (self, state) {
            (HeadState::Exhaustive(head), StepState::Exhaustive(state)) => head.apply(state, rates.labels),
        }
    }

    /// The best `k` labels for each of the embeddings `x [n, d]`.
    pub(super) fn best(&mut self, x: &Tensor, k: usize) -> Result<TopK> {
        match self {
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
            HeadState::Exhaustive(head) => head.classifier_mut().settle(),
        }
    }

    /// Whether it is made of finite numbers.
    pub(super) fn is_finite(&self) -> bool {
        match self {
            HeadState::Exhaustive(head) => head.classifier().weights().iter().all(|v| v.is_finite()),
        }
    }

    /// An average of nothing yet.
    pub(super) fn average(&self) -> Swa {
        match self {
            HeadState::Exhaustive(head) => Swa::new(head.classifier().weights().len()),
        }
    }

    /// Takes the parameters as they are into their average.
    pub(super) fn add_to(&mut self, average: &mut Swa) -> Result<()> {
        self.settle()?;
        match self {
            HeadState::Exhaustive(head) => Ok(average.update(head.classifier().weights())?),
        }
    }

    /// Replaces the parameters by their average.
    pub(super) fn take_from(&mut self, average: &Swa) -> Result<()> {
        match self {
            HeadState::Exhaustive(head) => head.classifier_mut().set_weights(average.average()),
        }
    }

    /// Everything that later steps depend on, by name.
    pub(super) fn state(&self) -> Vec<(String, &[f32])> {
        match self {
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
            HeadState::Exhaustive(head) => {
                let classifier = head.classifier();
                let (weights, cols) = (classifier.weights(), classifier.cols());
                LabelEmbeddings::write(
                    &classifiers_path(dir),
                    weights.len() / cols,
                    cols,
                    Dtype::F32,
                    |writer| writer.push(weights),
                )
            }
        }
    }
}
