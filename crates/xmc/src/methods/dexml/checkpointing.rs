//! What must be remembered to continue as if nothing had happened?
//!
//! Parameters, what the optimisers remember, and where the run stands. Chance needs no memory: every draw is a function
//! of the seed and the step. The best parameters so far and the mined labels lie in files of their own: both are made
//! at the end of an epoch, and a run that is set back before that point makes the same ones again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xmc_nn::checkpoint;

use super::learner::Learner;
use super::mining::Shortlist;
use crate::error::{Error, Result};

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

    /// Notes a validation; true if it is the best so far.
    pub(super) fn note(&mut self, epoch: usize, metric: f64) -> bool {
        let better = self.best().is_none_or(|best| metric > best);
        if better {
            (self.best_epoch, self.best_bits, self.stale) = (Some(epoch), metric.to_bits(), 0);
        } else {
            self.stale += 1;
        }
        better
    }
}

/// The folder in which an unfinished training keeps its state.
pub(super) struct Checkpoints {
    dir: PathBuf,
    every: Duration,
    last: Instant,
}

impl Checkpoints {
    /// In the existing folder `dir`, every so many minutes.
    pub(super) fn new(dir: &Path, minutes: f32) -> Self {
        Checkpoints {
            dir: dir.to_owned(),
            every: Duration::from_secs_f32(minutes.min(1e6) * 60.0),
            last: Instant::now(),
        }
    }

    /// Where the curves grow.
    pub(super) fn curves(&self) -> PathBuf {
        self.dir.join("curves.jsonl")
    }

    /// Whether it is time for the next.
    pub(super) fn due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    /// Writes everything, aside and renamed.
    pub(super) fn save(&mut self, learner: &Learner<'_>, progress: &Progress) -> Result<()> {
        let meta = serde_json::to_value(progress).map_err(|e| Error::Mismatch(e.to_string()))?;
        write(&self.path(), &learner.state(), &meta)?;
        self.last = Instant::now();
        Ok(())
    }

    /// Sets `learner` back to the last checkpoint; `None` if there is none.
    pub(super) fn restore(&self, learner: &mut Learner<'_>) -> Result<Option<Progress>> {
        let path = self.path();
        if !path.exists() {
            return Ok(None);
        }
        let mut saved = checkpoint::load(&path)?;
        learner.restore(&mut saved)?;
        serde_json::from_value(saved.meta).map(Some).map_err(|e| Error::file(&path, e.to_string()))
    }

    fn path(&self) -> PathBuf {
        self.dir.join("checkpoint.safetensors")
    }

    /// Keeps the parameters as the best.
    pub(super) fn save_best(&self, learner: &Learner<'_>) -> Result<()> {
        write(&self.best(), &learner.parameters(), &Value::Null)
    }

    /// Goes back to the best parameters.
    pub(super) fn load_best(&self, learner: &mut Learner<'_>) -> Result<()> {
        learner.set_parameters(&mut checkpoint::load(&self.best())?)
    }

    fn best(&self) -> PathBuf {
        self.dir.join("best.safetensors")
    }

    fn shortlist(&self) -> PathBuf {
        self.dir.join("shortlist.safetensors")
    }

    /// Keeps the labels mined last.
    pub(super) fn save_shortlist(&self, shortlist: &Shortlist) -> Result<()> {
        shortlist.save(&self.shortlist())
    }

    /// The labels mined last.
    pub(super) fn load_shortlist(&self) -> Result<Shortlist> {
        Shortlist::load(&self.shortlist())
    }
}

fn write(path: &Path, tensors: &[(String, &[f32])], meta: &Value) -> Result<()> {
    let tensors: Vec<(&str, &[f32])> =
        tensors.iter().map(|(name, values)| (name.as_str(), *values)).collect();
    Ok(checkpoint::save(path, &tensors, meta)?)
}
