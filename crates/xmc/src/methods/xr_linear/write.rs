//! Which files make a model of XR-Linear?

use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use super::stages::{RANKER, VECTORIZER};
use crate::error::Result;
use crate::methods::Method;
use crate::model::Model;
use crate::model::finish::{Finished, finish, take};
use crate::model::manifest::Manifest;
use crate::run::{Identity, Run};

/// Publishes the results of the stages as the model folder that `model` names.
pub(super) fn write(
    run: &Run,
    data: &Dataset,
    identity: &Identity,
    model: &Model,
    metrics: Option<&Report>,
) -> Result<Manifest> {
    let Method::XrLinear(method) = model.method();
    let finished = Finished { data, identity, features: method.num_features(), metrics, out: model.path() };
    finish(run, &finished, |dir| {
        if method.vectorizer().is_some() {
            take(&run.stage_dir(VECTORIZER).join(VECTORIZER), &dir.join(VECTORIZER))?;
        }
        (0..method.trees().len()).try_for_each(|t| {
            let name = format!("{RANKER}.{t}");
            take(&run.stage_dir(&name).join(RANKER), &dir.join(&name))
        })
    })
}
