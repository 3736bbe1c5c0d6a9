//! What must be remembered to continue as if nothing had happened?
//!
//! Parameters, what the optimisers remember, and where the run stands. Chance needs no memory: every draw is a function
//! of the seed and the step. The best parameters so far and the mined labels lie in files of their own: both are made
//! at the end of an epoch, and a run that is set back before that point makes the same ones again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xmc_nn::checkpoint;

use super::learner::Learner;
use super::mining::Shortlist;
use crate::error::Result;
use crate::methods::checkpoints::{Checkpoints, write};

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Epochs finished.
    pub(super) epoch: usize,
    /// Batches of the present epoch finished.
    pub(super) batch: usize,
    /// Steps done.
    pub(super) step: u64,
    /// Epochs after which the best parameters were found, 0 for those it began with.
    pub(super) best_epoch: Option<usize>,
    /// Bits of the metric then, so that reading it back changes nothing.
    best_bits: u64,
    /// Validations since then.
    pub(super) stale: usize,
    /// The epoch in which labels were mined last.
    pub(super) mined: Option<usize>,
    /// Bytes of the curves.
    pub(super) curves: u64,
    /// Milliseconds of training, over all attempts.
    pub(super) milliseconds: u64,
}

impl Progress {
    /// The best metric so far.
    pub(super) fn best(&self) -> Option<f64> {
        self.best_epoch.map(|_| f64::from_bits(self.best_bits))
    }

    /// Notes a validation; true if there was no better one so far. Of equal ones the latest is kept, as it has learned
    /// most, but only a better one is progress.
    pub(super) fn note(&mut self, epoch: usize, metric: f64) -> bool {
        let progress = self.best().is_none_or(|best| metric > best);
        let keep = progress || self.best() == Some(metric);
        self.stale = if progress { 0 } else { self.stale + 1 };
        if keep {
            (self.best_epoch, self.best_bits) = (Some(epoch), metric.to_bits());
        }
        keep
    }
}

/// What an unfinished training keeps, beside its state: curves, best parameters, mined labels.
pub(super) struct Files<'a>(pub(super) &'a Checkpoints);

impl Files<'_> {
    /// Where the curves grow.
    pub(super) fn curves(&self) -> PathBuf {
        self.0.dir().join("curves.jsonl")
    }

    /// Keeps the parameters as the best.
    pub(super) fn save_best(&self, learner: &Learner<'_>) -> Result<()> {
        write(&self.best(), &learner.parameters(), &Value::Null)
    }

    /// Goes back to the best parameters.
    pub(super) fn load_best(&self, learner: &mut Learner<'_>) -> Result<()> {
        let mut read = || learner.set_parameters(&mut checkpoint::load(&self.best())?);
        read().map_err(|problem| self.0.damaged(&problem))
    }

    fn best(&self) -> PathBuf {
        self.0.dir().join("best.safetensors")
    }

    fn shortlist(&self) -> PathBuf {
        self.0.dir().join("shortlist.safetensors")
    }

    /// Keeps the labels mined last.
    pub(super) fn save_shortlist(&self, shortlist: &Shortlist) -> Result<()> {
        shortlist.save(&self.shortlist())
    }

    /// The labels mined last.
    pub(super) fn load_shortlist(&self) -> Result<Shortlist> {
        Shortlist::load(&self.shortlist()).map_err(|problem| self.0.damaged(&problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_validations_the_latest_is_kept_and_is_no_progress() {
        let mut progress = Progress::default();
        let noted: Vec<bool> = [0.0, 0.0, 3.0, 2.0, 3.0]
            .iter()
            .zip(0..)
            .map(|(&metric, epoch)| progress.note(epoch, metric))
            .collect();
        assert_eq!(noted, [true, true, true, false, true]);
        assert_eq!((progress.best(), progress.best_epoch, progress.stale), (Some(3.0), Some(4), 2));
    }
}
