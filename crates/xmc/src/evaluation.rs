//! How good is a model on labelled rows, and how fast?

mod sweep;

use std::borrow::Cow;
use std::time::Instant;

use xmc_data::dataset::{Dataset, Part};
use xmc_data::metrics::{self, EvaluateConfig, Propensity, Report, Unseen, label_counts};
use xmc_data::{CsrBuilder, LabelSet, TopK};

use crate::error::{Error, Result};
use crate::index::Filter;
use crate::methods::Method;
use crate::model::{Model, PredictOptions, Predictor};
use crate::pairing::{Pairing, pair};

pub use sweep::{Sweep, SweepPoint, sweep};

/// What to measure.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// Cuts k of the metrics.
    pub cuts: Vec<usize>,
    /// Bootstrap resamples for confidence intervals; 0 leaves them out.
    pub resamples: usize,
    /// How far to search; how many labels are wanted is told by the cuts.
    pub search: PredictOptions,
    /// Whether a label whose name is the text itself is no answer, as where texts and labels are the same things.
    pub drop_self: bool,
}

impl EvaluateOptions {
    /// The metrics at these cuts, without intervals, searched as the model was told in training.
    pub fn at(cuts: &[usize]) -> Self {
        EvaluateOptions {
            cuts: cuts.to_vec(),
            resamples: 0,
            search: PredictOptions::top(0),
            drop_self: false,
        }
    }

    /// Labels of a row that the cuts need.
    fn deepest(&self) -> usize {
        self.cuts.iter().copied().max().unwrap_or(1) + usize::from(self.drop_self)
    }
}

/// Predicts the rows of `part` and compares with their labels; `data` holds the training labels that propensities and
/// bands come from. Labels are those of the same name; see [`Report::unknown_labels`] for what the model lacks. The
/// time is that from texts (or features) to labels.
pub fn evaluate(model: &Model, data: &Dataset, part: &Part, options: &EvaluateOptions) -> Result<Report> {
    let measure = Measure::new(model, data, part)?;
    let start = Instant::now();
    let mut predictions = predict(model, data, part, &measure, options)?;
    if options.drop_self {
        predictions = without_themselves(model.labels(), &predictions, part)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let docs_per_second = Some(part.rows() as f64 / seconds.max(f64::MIN_POSITIVE));
    let unseen = measure.unseen(model, &predictions, options)?;
    Ok(Report { seconds: Some(seconds), docs_per_second, unseen, ..measure.report(&predictions, options)? })
}

/// `predictions` without the labels that are named as the text of their row.
fn without_themselves(labels: &LabelSet, predictions: &TopK, part: &Part) -> Result<TopK> {
    let Some(texts) = &part.texts else {
        let problem = "a label cannot be told from a row that has no text: leave --drop-self out";
        return Err(Error::Mismatch(problem.to_owned()));
    };
    let index = labels.index();
    let mut left = TopK::new();
    for (i, text) in texts.iter().enumerate() {
        let itself = index.get(text.trim()).map(|label| label.0);
        let row = predictions.row(i).iter().filter(|&&(label, _)| Some(label) != itself);
        left.push_ranked(&row.copied().collect::<Vec<_>>());
    }
    Ok(left)
}

/// What predictions are compared with.
struct Measure<'a> {
    data: &'a Dataset,
    part: &'a Part,
    /// Labels of the data as the model knows them, if that differs.
    pairing: Option<Pairing>,
    /// Pairs that do not count, sorted.
    filter: Cow<'a, [(u32, u32)]>,
}

impl<'a> Measure<'a> {
    fn new(model: &Model, data: &'a Dataset, part: &'a Part) -> Result<Self> {
        let pairing = pair(model, data)?;
        let filter = match &pairing {
            None => Cow::Borrowed(part.filter.as_slice()),
            Some(pairing) => Cow::Owned(pairing.filter(&part.filter)),
        };
        Ok(Measure { data, part, pairing, filter })
    }

    /// The largest number of filter pairs of one row.
    fn most_filtered(&self) -> usize {
        let mut rows: Vec<u32> = self.filter.iter().map(|&(row, _)| row).collect();
        rows.sort_unstable();
        rows.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0)
    }

    /// How good `predictions` are on labels that training left out, if the model knows which those are.
    fn unseen(&self, model: &Model, predictions: &TopK, options: &EvaluateOptions) -> Result<Option<Unseen>> {
        let Some(method) = model.quest() else { return Ok(None) };
        let mut unseen = vec![true; method.num_labels()];
        for &label in &method.sampled().seen {
            unseen.get_mut(label as usize).into_iter().for_each(|unseen| *unseen = false);
        }
        let y = match &self.pairing {
            None => Cow::Borrowed(&self.part.y),
            Some(pairing) => Cow::Owned(pairing.matrix(&self.part.y)?),
        };
        let mut kept = CsrBuilder::new();
        for row in y.iter() {
            kept.push(row.iter().filter(|&(label, _)| unseen.get(label as usize).copied().unwrap_or(false)));
        }
        let y = kept.finish(y.cols())?;
        let labels = unseen.iter().filter(|&&unseen| unseen).count() as u64;
        if y.nnz() == 0 {
            return Ok((labels > 0).then(|| Unseen { labels, ..Unseen::default() }));
        }
        let config = EvaluateConfig { ks: options.cuts.clone(), resamples: 0, ..EvaluateConfig::default() };
        let (counts, rows) = (vec![0; y.cols()], self.data.train.rows());
        let report = metrics::evaluate(predictions, &y, &counts, rows, &self.filter, &config)?;
        Ok(Some(Unseen { labels, rows: report.rows, values: report.values }))
    }

    /// How good `predictions` are, without times.
    fn report(&self, predictions: &TopK, options: &EvaluateOptions) -> Result<Report> {
        let config = EvaluateConfig {
            ks: options.cuts.clone(),
            propensity: Propensity::for_dataset(&self.data.name),
            resamples: options.resamples,
            ..EvaluateConfig::default()
        };
        let (counts, train_rows) = (label_counts(&self.data.train.y), self.data.train.rows());
        let (y, filter) = (&self.part.y, &self.filter);
        let Some(pairing) = &self.pairing else {
            return Ok(metrics::evaluate(predictions, y, &counts, train_rows, filter, &config)?);
        };
        let (y, counts) = (pairing.matrix(y)?, pairing.counts(&counts));
        let report = metrics::evaluate(predictions, &y, &counts, train_rows, filter, &config)?;
        let unknown_labels = Some(pairing.unknown as u64).filter(|&unknown| unknown > 0);
        Ok(Report { unknown_labels, ..report })
    }
}

/// Answers deep enough for all cuts, once the filtered pairs are taken out.
fn predict(
    model: &Model,
    data: &Dataset,
    part: &Part,
    measure: &Measure<'_>,
    options: &EvaluateOptions,
) -> Result<TopK> {
    let search = |top_k| PredictOptions { top_k, ..options.search };
    // As many labels as are filtered must stand behind the others.
    let deeper = || search(options.deepest() + measure.most_filtered());
    match (model.method(), &part.texts, &part.features) {
        // Filtered labels take no part in the search.
        (Method::Dexml(method), Some(texts), _) => {
            method.predict_texts(texts, &search(options.deepest()), Filter::pairs(&measure.filter))
        }
        (Method::Quest(method), Some(texts), _) => {
            method.predict_texts(texts, &search(options.deepest()), Filter::pairs(&measure.filter))
        }
        (_, Some(texts), _) if model.reads_texts() => model.predict(texts, &deeper()),
        (_, _, Some(x)) if !model.reads_texts() => model.predict_features(x, &deeper()),
        _ => Err(missing(model, data)),
    }
}

/// What to say when rows are not what the model reads.
fn missing(model: &Model, data: &Dataset) -> Error {
    let what = if model.reads_texts() { "texts" } else { "features" };
    Error::file(&data.path, format!("no {what}, but the model was trained on {what}"))
}

#[cfg(test)]
mod tests {
    use xmc_data::Strings;

    use super::*;

    /// The example of a query that is a label itself: found first, it takes the place of a right one.
    #[test]
    fn a_text_that_finds_itself_loses_no_place() {
        let labels = LabelSet::new(["a", "b", "c", "d", "e", "z"]);
        let mut y = CsrBuilder::new();
        y.push([1, 4, 5].map(|label| (label, 1.0)));
        let texts = Some(Strings::new(["a"]));
        let part = Part { texts, features: None, y: y.finish(6).unwrap(), filter: Vec::new() };
        let mut ranked = TopK::new();
        ranked.push_ranked(&[(0, 0.9), (1, 0.8), (2, 0.7), (3, 0.6), (4, 0.5)]);
        let left = without_themselves(&labels, &ranked, &part).unwrap();
        let config = EvaluateConfig { ks: vec![1, 5], resamples: 0, ..EvaluateConfig::default() };
        for (predictions, expected) in
            [(&ranked, [0.0, 0.0, 200.0 / 3.0]), (&left, [100.0, 100.0 / 3.0, 200.0 / 3.0])]
        {
            let report = metrics::evaluate(predictions, &part.y, &[1; 6], 1, &[], &config).unwrap();
            for (name, value) in ["P@1", "R@1", "R@5"].into_iter().zip(expected) {
                let found = report.values.get(name).unwrap();
                assert!((found - value).abs() < 1e-9, "{name}: {found}, expected {value}");
            }
        }
    }
}
