//! What must be remembered to continue as if nothing had happened?
//!
//! Parameters, what the optimisers remember, and where the run stands. Chance needs no memory: every draw is a function
//! of the seed and the step. The best parameters so far and the mined labels lie in files of their own: both are made
//! at the end of an epoch, and a run that is set back before that point makes the same ones again.

use std::path::PathBuf;

use serde_json::Value;
use xmc_nn::checkpoint;

use super::learner::Learner;
use super::mining::Shortlist;
use crate::error::Result;
use crate::methods::checkpoints::{Checkpoints, write};

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
