//! How does a training that was killed go on as if nothing had happened? From its last checkpoint: named runs of floats
//! (parameters, what the optimisers remember) and where it stood, in one file that is written aside and renamed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xmc_nn::checkpoint::{self, Checkpoint};

use crate::error::{Error, Result};

/// The folder in which an unfinished training keeps its state.
pub(crate) struct Checkpoints {
    dir: PathBuf,
    every: Duration,
    last: Instant,
}

impl Checkpoints {
    /// In the existing folder `dir`, every so many minutes.
    pub(crate) fn new(dir: &Path, minutes: f32) -> Self {
        Checkpoints {
            dir: dir.to_owned(),
            every: Duration::from_secs_f32(minutes.min(1e6) * 60.0),
            last: Instant::now(),
        }
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether there is one.
    pub(crate) fn exist(&self) -> bool {
        self.path().exists()
    }

    /// Whether it is time for the next.
    pub(crate) fn due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    /// Writes everything that later steps depend on, and where the training stands.
    pub(crate) fn save(&mut self, state: &[(String, &[f32])], progress: &impl Serialize) -> Result<()> {
        let meta = serde_json::to_value(progress).map_err(|e| Error::Mismatch(e.to_string()))?;
        write(&self.path(), state, &meta)?;
        self.last = Instant::now();
        Ok(())
    }

    /// Hands the state of the last checkpoint to `put_back`, and returns where the training stood; `None` if there is
    /// no checkpoint.
    pub(crate) fn restore<P: DeserializeOwned>(
        &self,
        put_back: impl FnOnce(&mut Checkpoint) -> Result<()>,
    ) -> Result<Option<P>> {
        let path = self.path();
        if !self.exist() {
            return Ok(None);
        }
        let read = || {
            let mut saved = checkpoint::load(&path)?;
            put_back(&mut saved)?;
            serde_json::from_value(saved.meta).map(Some).map_err(|e| Error::file(&path, e.to_string()))
        };
        read().map_err(|problem| self.damaged(&problem))
    }

    /// Adds to a problem with a file what can be done about it.
    pub(crate) fn damaged(&self, problem: &Error) -> Error {
        let dir = self.dir.display();
        Error::Mismatch(format!("{problem}; remove {dir} or train without --resume"))
    }

    fn path(&self) -> PathBuf {
        self.dir.join("checkpoint.safetensors")
    }
}

/// Writes runs of floats, aside and renamed.
pub(crate) fn write(path: &Path, tensors: &[(String, &[f32])], meta: &Value) -> Result<()> {
    let tensors: Vec<(&str, &[f32])> =
        tensors.iter().map(|(name, values)| (name.as_str(), *values)).collect();
    Ok(checkpoint::save(path, &tensors, meta)?)
}

/// The state of an optimiser under the name of what it moves.
pub(crate) fn named<'s>(
    of: &str,
    parts: Vec<(&'static str, &'s [f32])>,
) -> impl Iterator<Item = (String, &'s [f32])> {
    parts.into_iter().map(move |(name, values)| (format!("{of}.{name}"), values))
}

/// Where a training of an encoder stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Epochs finished.
    pub(crate) epoch: usize,
    /// Batches of the present epoch finished.
    pub(crate) batch: usize,
    /// Steps done.
    pub(crate) step: u64,
    /// Epochs after which the best parameters were found, 0 for those it began with.
    pub(crate) best_epoch: Option<usize>,
    /// Bits of the metric then, so that reading it back changes nothing.
    best_bits: u64,
    /// Validations since then.
    pub(crate) stale: usize,
    /// The epoch in which labels were mined last.
    pub(crate) mined: Option<usize>,
    /// Bytes of the curves.
    pub(crate) curves: u64,
    /// Milliseconds of training, over all attempts.
    pub(crate) milliseconds: u64,
}

impl Progress {
    /// The best metric so far.
    pub(crate) fn best(&self) -> Option<f64> {
        self.best_epoch.map(|_| f64::from_bits(self.best_bits))
    }

    /// Notes a validation; true if there was no better one so far. Of equal ones the latest is kept, as it has learned
    /// most, but only a better one is progress.
    pub(crate) fn note(&mut self, epoch: usize, metric: f64) -> bool {
        let progress = self.best().is_none_or(|best| metric > best);
        let keep = progress || self.best() == Some(metric);
        self.stale = if progress { 0 } else { self.stale + 1 };
        if keep {
            (self.best_epoch, self.best_bits) = (Some(epoch), metric.to_bits());
        }
        keep
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
