//! How good is a model on labelled rows, and how fast?

use std::borrow::Cow;
use std::time::Instant;

use xmc_data::TopK;
use xmc_data::dataset::{Dataset, Part};
use xmc_data::metrics::{self, EvaluateConfig, Propensity, Report, label_counts};

use crate::error::{Error, Result};
use crate::index::Filter;
use crate::methods::Method;
use crate::model::{Model, PredictOptions, Predictor};
use crate::pairing::pair;

/// What to measure.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Cuts k of the metrics.
    pub cuts: Vec<usize>,
    /// Bootstrap resamples for confidence intervals; 0 leaves them out.
    pub resamples: usize,
    /// Nodes kept at every inner level of a tree; the model's own number if not given.
    pub beam_size: Option<usize>,
    /// Search until no better label is possible, instead of keeping a beam.
    pub exact: bool,
}

/// Predicts the rows of `part` and compares with their labels; `data` holds the training labels that propensities and
/// bands come from. Labels are those of the same name; see [`Report::unknown_labels`] for what the model lacks. The
/// time is that from texts (or features) to labels.
pub fn evaluate(model: &Model, data: &Dataset, part: &Part, options: &EvaluateOptions) -> Result<Report> {
    let pairing = pair(model, data)?;
    let filter = match &pairing {
        None => Cow::Borrowed(part.filter.as_slice()),
        Some(pairing) => Cow::Owned(pairing.filter(&part.filter)),
    };
    let start = Instant::now();
    let predictions = predict(model, data, part, &filter, options)?;
    let seconds = start.elapsed().as_secs_f64();
    let config = EvaluateConfig {
        ks: options.cuts.clone(),
        propensity: Propensity::for_dataset(&data.name),
        resamples: options.resamples,
        ..EvaluateConfig::default()
    };
    let (counts, train_rows) = (label_counts(&data.train.y), data.train.rows());
    let report = match &pairing {
        None => metrics::evaluate(&predictions, &part.y, &counts, train_rows, &filter, &config)?,
        Some(pairing) => {
            let (y, counts) = (pairing.matrix(&part.y)?, pairing.counts(&counts));
            metrics::evaluate(&predictions, &y, &counts, train_rows, &filter, &config)?
        }
    };
    let unknown_labels = pairing.map(|pairing| pairing.unknown as u64).filter(|&unknown| unknown > 0);
    let docs_per_second = Some(part.rows() as f64 / seconds.max(f64::MIN_POSITIVE));
    Ok(Report { unknown_labels, seconds: Some(seconds), docs_per_second, ..report })
}

/// Answers deep enough for all cuts, once the pairs of `filter` (sorted) are taken out.
fn predict(
    model: &Model,
    data: &Dataset,
    part: &Part,
    filter: &[(u32, u32)],
    options: &EvaluateOptions,
) -> Result<TopK> {
    let missing = |what: &str| {
        let problem = format!("no {what}, but the model was trained on {what}");
        Err(Error::file(&data.path, problem))
    };
    let deepest = options.cuts.iter().copied().max().unwrap_or(1);
    let search = |top_k| PredictOptions { top_k, beam_size: options.beam_size, exact: options.exact };
    // As many labels as are filtered must stand behind the others.
    let deeper = || search(deepest + most_filtered(filter));
    match (model.method(), &part.texts, &part.features) {
        // Filtered labels take no part in the search.
        (Method::Dexml(method), Some(texts), _) => {
            method.predict_texts(texts, &search(deepest), Filter::pairs(filter))
        }
        (_, Some(texts), _) if model.reads_texts() => model.predict(texts, &deeper()),
        (_, _, Some(x)) if !model.reads_texts() => model.predict_features(x, &deeper()),
        _ => missing(if model.reads_texts() { "texts" } else { "features" }),
    }
}

/// The largest number of filter pairs of one row.
fn most_filtered(filter: &[(u32, u32)]) -> usize {
    let mut rows: Vec<u32> = filter.iter().map(|&(row, _)| row).collect();
    rows.sort_unstable();
    rows.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0)
}
