//! What does training read, and which settings need something that is not there? Asked before anything is computed.

use std::borrow::Cow;
use std::path::Path;

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_data::text::Vectorizer;

use super::adjacency::Adjacency;
use super::clusters::Clusters;
use super::config::{EliasConfig, Head, Stage};
use super::earlier::Model;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::methods::start::Start;
use crate::methods::xr_linear::inputs::features;
use crate::methods::xr_linear::{FeatureSource, XrLinearConfig};
use crate::model::manifest::{self, Manifest};
use crate::random::{Draws, Purpose};
use crate::run::Run;

/// What a run ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The clusters as a matrix.
    Clusters,
    /// The edges as a matrix.
    Adjacency,
    /// A model.
    Model,
}

impl End {
    /// What the last of the stages leaves.
    pub(super) fn of(config: &EliasConfig) -> Self {
        match config.stages.last() {
            Some(Stage::Cluster | Stage::Recluster) => End::Clusters,
            Some(Stage::Adjacency) => End::Adjacency,
            _ => End::Model,
        }
    }
}

/// Matrices that the table `files` names.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) clusters: Option<Clusters>,
    pub(super) adjacency: Option<Adjacency>,
}

impl Given {
    /// Reads them; an error, with the file, if one does not fit `labels` labels.
    pub(super) fn read(config: &EliasConfig, labels: usize) -> Result<Self> {
        let (clusters, adjacency) = (config.files.clusters.as_deref(), config.files.adjacency.as_deref());
        Ok(Given {
            clusters: clusters.map(|path| Clusters::read(path, labels)).transpose()?,
            adjacency: adjacency.map(|path| Adjacency::read(path, labels)).transpose()?,
        })
    }

    /// Refuses edges of other clusters than those that stage 2 begins with; `model` is what training begins with.
    pub(super) fn check(&self, config: &EliasConfig, model: Option<&Model<'_>>, labels: usize) -> Result<()> {
        let does = |stage| config.does(stage);
        let (Some(edges), Some(path)) = (&self.adjacency, &config.files.adjacency) else { return Ok(()) };
        let begins = does(Stage::Warmup) || does(Stage::Stage1) || model.is_some();
        if !does(Stage::Stage2) || does(Stage::Adjacency) || !begins {
            return Ok(());
        }
        let grown = does(Stage::Cluster) || (does(Stage::Recluster) && does(Stage::Stage1));
        let clusters = match (&self.clusters, model) {
            _ if grown => Clusters::number(labels, &config.cluster),
            (Some(clusters), _) => clusters.count,
            (None, Some(model)) => model.edges()?.0,
            (None, None) => return Ok(()),
        };
        let found = edges.0.rows();
        if found == clusters {
            return Ok(());
        }
        let problem =
            format!("{found} rows, expected {clusters}, one for each cluster that stage 2 begins with");
        Err(Error::file(path, problem))
    }

    /// Adds them to what must not change between runs.
    pub(super) fn mark(&self, print: &mut Fingerprint) {
        if let Some(clusters) = &self.clusters {
            print.ids(&clusters.of_label);
        }
        print.csr(self.adjacency.as_ref().map(|adjacency| &adjacency.0));
    }
}

/// The encoder to begin with; none if no stage reads one.
pub(super) fn start(config: &EliasConfig) -> Result<Option<Start>> {
    if config.stages == [Stage::Cluster] {
        return Ok(None);
    }
    Start::find(config.encoder.as_deref(), config.pooling).map(Some)
}

/// Refuses stages that need what neither an earlier one, nor a file, nor `model` in the setting `encoder` gives. Returns
/// whether stage 2 goes on with the edges of that model.
pub(super) fn check(config: &EliasConfig, model: Option<&Model<'_>>) -> Result<bool> {
    let does = |stage| config.does(stage);
    let refuse = |expected: &str| {
        let names: Vec<String> =
            config.stages.iter().map(|stage| format!("{stage:?}").to_lowercase()).collect();
        let other = model.filter(|model| !model.same_labels);
        let other = other.map(|model| format!(" ({} is one with other labels)", model.dir.display()));
        let expected = format!("{expected}{}", other.unwrap_or_default());
        Err(xmc_data::Error::config("stages", format!("[{}]", names.join(", ")), expected).into())
    };
    for (stage, reason) in [
        (Stage::Cluster, "the stage cluster groups labels by words"),
        (Stage::Ranker, "the ranker reads words"),
    ] {
        if does(stage) && config.vectorizer.is_empty() {
            let expected = format!("one or more vectorizers, because {reason}");
            return Err(xmc_data::Error::config("vectorizer", "[]", expected).into());
        }
    }
    if config.head != Head::Index {
        return Ok(false);
    }
    let goes_on = model.is_some_and(Model::goes_on);
    let grouped = goes_on || does(Stage::Cluster) || config.files.clusters.is_some();
    if does(Stage::Warmup) && !grouped {
        return refuse(
            "cluster before warmup, or a file in files.clusters, or a model of elias with these labels as encoder",
        );
    }
    if does(Stage::Stage1) && !grouped && !does(Stage::Recluster) {
        return refuse(
            "cluster or recluster before stage1, or a file in files.clusters, or a model of elias with these \
             labels as encoder",
        );
    }
    let trained = goes_on || does(Stage::Warmup) || does(Stage::Stage1);
    if does(Stage::Adjacency) && !trained {
        return refuse(
            "stage1 before adjacency, or a model of elias with these labels as encoder and no other clusters",
        );
    }
    let needs = does(Stage::Stage2) && !does(Stage::Adjacency) && config.files.adjacency.is_none();
    let stored = match model.filter(|model| needs && model.goes_on() && !does(Stage::Recluster)) {
        Some(model) => model.edges()?.1,
        None => false,
    };
    if needs && !stored {
        return refuse(
            "adjacency before stage2, or a file in files.adjacency, or a model of elias with these labels as \
             encoder that stage2 has trained",
        );
    }
    if does(Stage::Ranker) && !trained && !does(Stage::Stage2) {
        return refuse("stage1 or stage2 before ranker, or a model of elias with these labels as encoder");
    }
    Ok(stored)
}

/// Whether any stage reads words.
pub(super) fn reads_words(config: &EliasConfig) -> bool {
    let reads = [Stage::Cluster, Stage::Recluster, Stage::Ranker];
    !config.vectorizer.is_empty() && reads.iter().any(|&stage| config.does(stage))
}

/// Words `[n, f]` of the training texts, each row of length 1, and what made them; neither if no stage reads them.
pub(super) fn words(
    run: &mut Run,
    data: &Dataset,
    config: &EliasConfig,
) -> Result<(Option<Vectorizer>, Csr)> {
    if !reads_words(config) {
        return Ok((None, Csr::empty(data.train.rows(), 0)));
    }
    let linear = XrLinearConfig {
        features: FeatureSource::Text,
        vectorizer: config.vectorizer.clone(),
        ..XrLinearConfig::default()
    };
    let (vectorizer, mut words) = features(run, data, &linear)?;
    words.normalize_rows();
    Ok((vectorizer, words))
}

/// Rows that are set aside, rising.
pub(super) fn validation(config: &EliasConfig, rows: usize, seed: u64) -> Result<Vec<u32>> {
    if config.validation_rows >= rows {
        let expected = format!("less than {rows}, the number of training rows");
        return Err(xmc_data::Error::config("validation_rows", config.validation_rows, expected).into());
    }
    Ok(Draws::new(seed, Purpose::Split, 0).distinct(config.validation_rows, rows))
}

/// Labels `[n, L]` that may be learned from: none of the rows `validation`, which are set aside.
pub(super) fn learned<'a>(y: &'a Csr, validation: &[u32]) -> Cow<'a, Csr> {
    if validation.is_empty() {
        return Cow::Borrowed(y);
    }
    Cow::Owned(y.filter(|row, _, _| validation.binary_search(&(row as u32)).is_err()))
}

/// Says that the ranker is calibrated on rows which the model that training begins with may have learned from.
pub(super) fn seen_before(config: &EliasConfig, rows: usize, seed: u64) -> Result<Option<String>> {
    let dir = config.encoder.as_deref().filter(|dir| dir.join(manifest::NAME).is_file());
    let Some(dir) = dir.filter(|_| config.does(Stage::Ranker) && config.ranker.calibrate) else {
        return Ok(None);
    };
    let its = Manifest::read(dir)?;
    let set_aside = its.config["validation_rows"].as_u64() == Some(config.validation_rows as u64);
    if its.method == EliasConfig::METHOD && set_aside && (its.seed, its.data.rows) == (seed, rows) {
        return Ok(None);
    }
    Ok(Some(format!(
        "{}: this model may have learned from the {} rows that calibrate the ranker, which trusts it too much then; to \
         keep them apart, train it with the same data, validation_rows and --seed",
        dir.display(),
        config.validation_rows,
    )))
}

/// Says how many labels no edge leads to.
pub(super) fn unreachable(edges: &Adjacency, path: Option<&Path>) -> Option<String> {
    let labels = edges.unreachable();
    let path = path.filter(|_| labels > 0)?;
    Some(format!("{}: no edge leads to {labels} labels; they are never found", path.display()))
}
