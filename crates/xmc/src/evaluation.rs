//! How good is a model on labelled rows, and how fast?

use std::time::Instant;

use xmc_data::dataset::Dataset;
use xmc_data::dataset::Part;
use xmc_data::metrics::{self, EvaluateConfig, Propensity, Report, label_counts};

use crate::error::{Error, Result};
use crate::model::{Model, PredictOptions, Predictor};

/// What to measure.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Cuts k of the metrics.
    pub cuts: Vec<usize>,
    /// Bootstrap resamples for confidence intervals; 0 leaves them out.
    pub resamples: usize,
}

/// Predicts the rows of `part` and compares with their labels; `data` holds the training labels that propensities and
/// bands come from. The time is that from texts (or features) to labels.
pub fn evaluate(model: &Model, data: &Dataset, part: &Part, options: &EvaluateOptions) -> Result<Report> {
    if model.labels().len() != data.labels.len() {
        let (known, found) = (model.labels().len(), data.labels.len());
        return Err(Error::file(&data.path, format!("{found} labels, but the model knows {known}")));
    }
    let search = PredictOptions::top(options.cuts.iter().copied().max().unwrap_or(1));
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
    let train = &data.train.y;
    let report =
        metrics::evaluate(&predictions, &part.y, &label_counts(train), train.rows(), &part.filter, &config)?;
    let docs_per_second = Some(part.rows() as f64 / seconds.max(f64::MIN_POSITIVE));
    Ok(Report { seconds: Some(seconds), docs_per_second, ..report })
}
