//! Which files make the linear part of a model?

use std::path::Path;

use super::stages::{RANKER, VECTORIZER};
use crate::error::Result;
use crate::model::finish::take;
use crate::run::Run;

/// Takes the results of the stages into the model folder `dir`: the vectorizer if there is one, and the trees with their
/// rankers.
pub(in crate::methods) fn parts(run: &Run, vectorizer: bool, trees: usize, dir: &Path) -> Result<()> {
    if vectorizer {
        take(&run.stage_dir(VECTORIZER).join(VECTORIZER), &dir.join(VECTORIZER))?;
    }
    (0..trees).try_for_each(|t| {
        let name = format!("{RANKER}.{t}");
        take(&run.stage_dir(&name).join(RANKER), &dir.join(&name))
    })
}
