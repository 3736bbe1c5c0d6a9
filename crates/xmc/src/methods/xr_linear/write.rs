//! Which files make a model of XR-Linear?

use super::stages::{RANKER, VECTORIZER};
use crate::error::Result;
use crate::model::finish::{Finished, finish, take};
use crate::model::manifest::Manifest;
use crate::run::Run;

/// Publishes the results of the stages: a vectorizer if the model `reads_texts`, and the trees with their rankers.
pub(super) fn write(run: &Run, finished: &Finished<'_>, reads_texts: bool, trees: usize) -> Result<Manifest> {
    finish(run, finished, |dir| {
        if reads_texts {
            take(&run.stage_dir(VECTORIZER).join(VECTORIZER), &dir.join(VECTORIZER))?;
        }
        (0..trees).try_for_each(|t| {
            let name = format!("{RANKER}.{t}");
            take(&run.stage_dir(&name).join(RANKER), &dir.join(&name))
        })
    })
}
