//! How does a training end? With a model folder, put together beside its place and moved there.

use std::fs;
use std::path::Path;

use xmc_data::dataset::Dataset;
use xmc_data::metrics::Report;

use crate::error::{Error, Result};
use crate::model::LABELS;
use crate::model::manifest::{self, DataSummary, Manifest};
use crate::model::publish::publish;
use crate::run::{Identity, Run};

/// What is known of a training when its parts are done.
pub(crate) struct Finished<'a> {
    /// What it was trained on.
    pub(crate) data: &'a Dataset,
    /// Method, settings and seed.
    pub(crate) identity: &'a Identity,
    /// Number of sparse features, or size of an embedding.
    pub(crate) features: usize,
    /// How good it is on the test rows.
    pub(crate) metrics: Option<&'a Report>,
    /// Where the model is to lie.
    pub(crate) out: &'a Path,
}

/// Lets `fill` put the parts of the method into a folder with the label names, describes them and publishes the folder.
pub(crate) fn finish(
    run: &Run,
    finished: &Finished<'_>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<Manifest> {
    let Finished { data, identity, features, metrics, out } = *finished;
    let dir = run.scratch("model")?;
    data.labels.names().save(&dir.join(LABELS))?;
    fill(&dir)?;
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
            features,
            fingerprint: identity.data.clone(),
        },
        metrics: metrics.map(|report| report.values.iter().map(|(k, v)| (k.to_owned(), v.into())).collect()),
        added_labels: 0,
        files: Vec::new(),
    };
    let manifest = manifest.seal(&dir)?;
    publish(&dir, out, &run.stage_dir("old"))?;
    Ok(manifest)
}

/// A second name for a finished file, or for all files of a finished folder, so that a crash here leaves the stage as it
/// is; a copy where links do not exist.
pub(crate) fn take(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ())).map_err(Error::io(from));
    }
    fs::create_dir(to).map_err(Error::io(to))?;
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let entry = entry.map_err(Error::io(from))?;
        take(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
