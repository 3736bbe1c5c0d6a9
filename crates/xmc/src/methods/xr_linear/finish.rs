//! The end of a training: the model folder, put together beside its place and moved there.

use std::fs;
use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use super::stages::{RANKER, VECTORIZER};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::manifest::{self, DataSummary, Manifest};
use crate::model::publish::publish;
use crate::run::{Identity, Run};

/// Links the results of the stages into one folder, describes them and publishes the folder as `out`.
pub(super) fn write(
    run: &Run,
    data: &Dataset,
    identity: &Identity,
    model: &Model,
    metrics: Option<&Report>,
    out: &Path,
) -> Result<Manifest> {
    let dir = run.scratch("model")?;
    data.labels.names().save(&dir.join("labels"))?;
    let method = model.xr_linear();
    if method.vectorizer().is_some() {
        take(&run.stage_dir(VECTORIZER).join(VECTORIZER), &dir.join(VECTORIZER))?;
    }
    for t in 0..method.trees().len() {
        let name = format!("{RANKER}.{t}");
        take(&run.stage_dir(&name).join(RANKER), &dir.join(&name))?;
    }
    let manifest = Manifest {
        format: manifest::FORMAT,
        version: identity.version.clone(),
        method: identity.method.clone(),
        config: identity.config.clone(),
        seed: identity.seed,
        data: DataSummary {
            name: data.name.clone(),
            rows: data.train.rows(),
            labels: data.labels.len(),
            features: method.num_features(),
            fingerprint: identity.data.clone(),
        },
        metrics: metrics.map(|report| report.values.iter().map(|(k, v)| (k.to_owned(), v.into())).collect()),
        files: Vec::new(),
    };
    let manifest = manifest.seal(&dir)?;
    publish(&dir, out, &run.stage_dir("old"))?;
    Ok(manifest)
}

/// A second name for a finished file, so that a crash here leaves the stage as it is; a copy where links do not exist.
fn take(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ())).map_err(Error::io(from))
}
