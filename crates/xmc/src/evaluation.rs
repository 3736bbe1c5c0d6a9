//! How good is a model on labelled rows, and how fast?

use std::time::Instant;

use xmc_data::dataset::Dataset;
use xmc_data::dataset::Part;
use xmc_data::metrics::{self, EvaluateConfig, Propensity, Report, label_counts};

use crate::error::{Error, Result};
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
    // Filtered labels are taken out of the predictions, and as many must stand behind them.
    let deepest = options.cuts.iter().copied().max().unwrap_or(1);
    let top_k = deepest + most_filtered(&part.filter);
    let search = PredictOptions { top_k, beam_size: options.beam_size, exact: options.exact };
    let start = Instant::now();
    let predictions = match (model.reads_texts(), &part.texts, &part.features) {
        (true, Some(texts), _) => model.predict(texts, &search)?,
        (false, _, Some(x)) => model.predict_features(x, &search)?,
        (true, None, _) => {
            return Err(Error::file(&data.path, "no texts, but the model was trained on texts"));
        }
        (false, _, None) => {
            return Err(Error::file(&data.path, "no features, but the model was trained on features"));
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let config = EvaluateConfig {
        ks: options.cuts.clone(),
        propensity: Propensity::for_dataset(&data.name),
        resamples: options.resamples,
        ..EvaluateConfig::default()
    };
    let (counts, train_rows) = (label_counts(&data.train.y), data.train.rows());
    let report = match &pairing {
        None => metrics::evaluate(&predictions, &part.y, &counts, train_rows, &part.filter, &config)?,
        Some(pairing) => {
            let (y, filter) = (pairing.matrix(&part.y)?, pairing.filter(&part.filter));
            metrics::evaluate(&predictions, &y, &pairing.counts(&counts), train_rows, &filter, &config)?
        }
    };
    let unknown_labels = pairing.map(|pairing| pairing.unknown as u64).filter(|&unknown| unknown > 0);
    let docs_per_second = Some(part.rows() as f64 / seconds.max(f64::MIN_POSITIVE));
    Ok(Report { unknown_labels, seconds: Some(seconds), docs_per_second, ..report })
}

/// The largest number of filter pairs of one row.
fn most_filtered(filter: &[(u32, u32)]) -> usize {
    let mut rows: Vec<u32> = filter.iter().map(|&(row, _)| row).collect();
    rows.sort_unstable();
    rows.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0)
}
