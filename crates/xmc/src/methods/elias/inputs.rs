//! What does training read, and which settings need something that is not there? Asked before anything is computed.

use std::path::Path;

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_data::text::Vectorizer;

use super::adjacency::Adjacency;
use super::clusters::Clusters;
use super::config::{EliasConfig, Head, Stage};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::methods::random::{Draws, Purpose};
use crate::methods::start::Start;
use crate::methods::xr_linear::inputs::features;
use crate::methods::xr_linear::{FeatureSource, XrLinearConfig};
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

/// Refuses stages that need what neither an earlier one nor a file gives; `goes_on` says that training begins with a
/// model of ELIAS.
pub(super) fn check(config: &EliasConfig, goes_on: bool) -> Result<()> {
    let does = |stage| config.does(stage);
    let (files, refuse) = (&config.files, |expected: &str| {
        let names: Vec<String> =
            config.stages.iter().map(|stage| format!("{stage:?}").to_lowercase()).collect();
        Err(xmc_data::Error::config("stages", format!("[{}]", names.join(", ")), expected).into())
    });
    if does(Stage::Cluster) && config.vectorizer.is_empty() {
        let expected = "one or more vectorizers, because the stage cluster groups labels by words";
        return Err(xmc_data::Error::config("vectorizer", "[]", expected).into());
    }
    if does(Stage::Ranker) && config.vectorizer.is_empty() {
        let expected = "one or more vectorizers, because the ranker reads words";
        return Err(xmc_data::Error::config("vectorizer", "[]", expected).into());
    }
    if config.head != Head::Index {
        return Ok(());
    }
    let grouped = goes_on || does(Stage::Cluster) || files.clusters.is_some();
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
        return refuse("stage1 before adjacency, or a model of elias with these labels as encoder");
    }
    if does(Stage::Stage2) && !does(Stage::Adjacency) && files.adjacency.is_none() {
        return refuse("adjacency before stage2, or a file in files.adjacency");
    }
    if does(Stage::Ranker) && !trained && !does(Stage::Stage2) {
        return refuse("stage1 or stage2 before ranker, or a model of elias with these labels as encoder");
    }
    Ok(())
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

/// Says how many labels no edge leads to.
pub(super) fn unreachable(edges: &Adjacency, path: Option<&Path>) -> Option<String> {
    let labels = edges.unreachable();
    let path = path.filter(|_| labels > 0)?;
    Some(format!("{}: no edge leads to {labels} labels; they are never found", path.display()))
}
