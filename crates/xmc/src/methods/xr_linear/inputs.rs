//! What training reads: features of rows and of labels, and further matrices that the user names.

use std::borrow::Cow;
use std::path::Path;

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_data::formats::npz;
use xmc_data::text::Vectorizer;
use xmc_linear::cluster::{ClusterConfig, Method, balanced_widths, read_tree};
use xmc_linear::label_features::{LabelFeatureKind, label_features};
use xmc_linear::ranker::{RankerConfig, RelevanceMode, check_relevance};
use xmc_linear::{Features, Tree};

use super::config::{FeatureSource, XrLinearConfig};
use super::stages::Fitted;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::methods::soft::{self, SoftValue};
use crate::run::Run;

/// Inputs from the table `files` of the configuration.
pub(in crate::methods) struct Extra {
    pub(in crate::methods) label_features: Option<Csr>,
    pub(in crate::methods) tree: Option<Tree>,
    pub(in crate::methods) relevance: Option<Csr>,
    pub(in crate::methods) negatives: Option<Csr>,
    /// The labels as ones, if their values are to be ignored.
    pub(in crate::methods) ones: Option<Csr>,
}

impl Extra {
    /// Reads what `config` names; an error, with the file, if it does not fit `data`.
    pub(in crate::methods) fn read(config: &XrLinearConfig, data: &Dataset) -> Result<Self> {
        let (files, y) = (&config.files, &data.train.y);
        let rows = (y.rows(), "one for each training row");
        let labels = (data.labels.len(), "one for each label");
        let of_entries = |key, path: &Path| matrix(key, path, rows, Some(labels));
        let tree = files.tree.as_deref().map(|path| read_tree(path, labels.0, &config.cluster));
        let relevance = files.relevance.as_deref().map(|path| {
            let relevance = of_entries("files.relevance", path)?;
            check_relevance(&relevance, y).map_err(|e| Error::file(path, e.to_string()))?;
            Ok::<_, Error>(relevance)
        });
        let negatives = files.negatives.as_deref().map(|path| of_entries("files.negatives", path));
        let features = files.label_features.as_deref();
        let features = features.map(|path| matrix("files.label_features", path, labels, None));
        let ones = match soft::read(y, config.value) {
            Cow::Owned(ones) => Some(ones),
            Cow::Borrowed(_) => None,
        };
        Ok(Extra {
            tree: tree.transpose()?,
            label_features: features.transpose()?,
            relevance: relevance.transpose()?,
            negatives: negatives.transpose()?,
            ones,
        })
    }

    /// The training labels as the settings read their values.
    pub(in crate::methods) fn labels<'a>(&'a self, data: &'a Dataset) -> &'a Csr {
        self.ones.as_ref().unwrap_or(&data.train.y)
    }

    /// What positives cost their rankers, and how the rankers read it: `files.relevance`, or else the labels' own values
    /// if they differ. Above the labels of a tree a node is right or wrong, unless the settings say otherwise.
    pub(in crate::methods) fn costs<'a>(
        &'a self,
        data: &'a Dataset,
        config: &'a XrLinearConfig,
    ) -> (Option<&'a Csr>, Cow<'a, RankerConfig>) {
        let ranker = Cow::Borrowed(&config.ranker);
        if self.relevance.is_some() || config.value != SoftValue::Weight || !soft::is_soft(&data.train.y) {
            return (self.relevance.as_ref(), ranker);
        }
        let relevance = match config.ranker.relevance {
            RelevanceMode::Disable => RelevanceMode::RankerOnly,
            asked => asked,
        };
        (Some(&data.train.y), Cow::Owned(RankerConfig { relevance, ..config.ranker.clone() }))
    }

    /// Adds them to what must not change between runs.
    pub(in crate::methods) fn mark(&self, print: &mut Fingerprint) {
        for matrix in [&self.label_features, &self.relevance, &self.negatives] {
            print.csr(matrix.as_ref());
        }
        if let Some(tree) = &self.tree {
            print.ids(tree.labels());
            (0..tree.depth()).for_each(|t| print.ids(tree.offsets(t)));
        }
    }
}

/// The matrix in the file of the setting `key`, with so many rows, and so many columns if that matters.
fn matrix(
    key: &str,
    path: &Path,
    (rows, of_rows): (usize, &str),
    cols: Option<(usize, &str)>,
) -> Result<Csr> {
    let matrix = npz::read(path)?;
    let wrong = |found: usize, what: &str, expected: usize, why: &str| {
        Error::file(path, format!("{found} {what}; `{key}` needs {expected}, {why}"))
    };
    if matrix.rows() != rows {
        return Err(wrong(matrix.rows(), "rows", rows, of_rows));
    }
    match cols {
        Some((cols, why)) if matrix.cols() != cols => Err(wrong(matrix.cols(), "columns", cols, why)),
        _ => Ok(matrix),
    }
}

/// Nodes of every level below the root of the `given` tree, or of the one that `config` grows; `None` if that depends on
/// more than the number of labels.
pub(in crate::methods) fn widths(
    num_labels: usize,
    config: &ClusterConfig,
    given: Option<&Tree>,
) -> xmc_data::Result<Option<Vec<usize>>> {
    let known = config.method == Method::Balanced || num_labels <= config.max_leaf_size;
    match given {
        Some(tree) => Ok(Some(tree.widths())),
        None if known => balanced_widths(num_labels, config).map(Some),
        None => Ok(None),
    }
}

/// Whether training uses the given features of `data`; an error if what the setting asks for is not there.
pub(in crate::methods) fn uses_given(source: FeatureSource, data: &Dataset) -> Result<bool> {
    let missing = |what: &str, instead: &str| {
        let problem = format!("no {what} for the training rows, but features = \"{instead}\" asks for them");
        Err(Error::file(&data.path, problem))
    };
    match source {
        FeatureSource::Given if data.train.features.is_none() => missing("features", "given"),
        FeatureSource::Text if data.train.texts.is_none() => missing("texts", "text"),
        FeatureSource::Auto => Ok(data.train.features.is_some()),
        chosen => Ok(chosen == FeatureSource::Given),
    }
}

/// Training rows as features `[n, d]`, and the vectorizer that made them of texts.
pub(in crate::methods) fn features(
    run: &mut Run,
    data: &Dataset,
    config: &XrLinearConfig,
) -> Result<(Option<Vectorizer>, Csr)> {
    match (uses_given(config.features, data)?, &data.train.features, &data.train.texts) {
        (true, Some(x), _) => Ok((None, x.clone())),
        (_, _, Some(texts)) => {
            let fitted = run.stage("vectorizer", || {
                let (vectorizer, x) = Vectorizer::fit(&config.vectorizer, texts)?;
                Ok(Fitted { vectorizer, x: Some(x) })
            })?;
            let x = fitted.x.unwrap_or_else(|| fitted.vectorizer.transform(texts));
            Ok((Some(fitted.vectorizer), x))
        }
        _ => Err(Error::file(&data.path, "neither texts nor features for the training rows")),
    }
}

/// One row of features for every label `[L, d']`.
pub(in crate::methods) fn label_rows(
    data: &Dataset,
    config: &XrLinearConfig,
    extra: &Extra,
    x: &Features,
    vectorizer: Option<&Vectorizer>,
) -> Result<Features> {
    let kind = config.label_features.kind;
    let unset = |key: &str, found: &str, expected: &str| -> Error {
        xmc_data::Error::config(key, found, expected).into()
    };
    let of_names;
    let given = match kind {
        LabelFeatureKind::Pifa => None,
        LabelFeatureKind::Given => {
            let needed = "a file, because label_features.kind = \"given\"";
            let given = extra.label_features.as_ref();
            Some(given.ok_or_else(|| unset("files.label_features", "nothing", needed))?)
        }
        LabelFeatureKind::Text | LabelFeatureKind::PifaAndText | LabelFeatureKind::Mix => {
            let needed = "pifa or given, because rows are not made of texts here";
            let chosen = match kind {
                LabelFeatureKind::PifaAndText => "pifa+text",
                LabelFeatureKind::Mix => "mix",
                _ => "text",
            };
            let vectorizer = vectorizer.ok_or_else(|| unset("label_features.kind", chosen, needed))?;
            of_names = vectorizer.transform(data.labels.names());
            Some(&of_names)
        }
    };
    Ok(label_features(&config.label_features, x, extra.labels(data), given)?)
}
