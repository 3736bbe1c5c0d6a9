//! How good are the parameters now? Measured on rows that were set apart, against all labels.

use xmc_data::Csr;
use xmc_data::dataset::Dataset;
use xmc_data::metrics::{self, EvaluateConfig, Propensity, Report, label_counts};
use xmc_nn::Tensor;

use super::dexml::{filter_of, parse_metric};
use crate::error::{Error, Result};
use crate::index::{Filter, LabelEmbeddings, search};

/// Cuts that are measured beside that of the deciding metric.
const CUTS: [usize; 5] = [1, 3, 5, 10, 100];

/// Rows set apart, their labels, and what they are measured by.
pub(super) struct Validation<'a> {
    rows: &'a [u32],
    y: Csr,
    /// Pairs that are not predicted for these rows.
    filter: Vec<(u32, u32)>,
    counts: Vec<u32>,
    train_rows: usize,
    config: EvaluateConfig,
    metric: &'a str,
}

impl<'a> Validation<'a> {
    /// Of the training rows `rows` (rising) of `data`; `None` if there are none to measure.
    pub(super) fn new(data: &Dataset, rows: &'a [u32], metric: &'a str) -> Result<Option<Self>> {
        let y = data.train.y.select_rows(rows);
        let filter = filter_of(&data.train.filter, rows);
        let hidden = |i: usize, label| filter.binary_search(&(i as u32, label)).is_ok();
        if !(0..y.rows()).any(|i| y.row(i).indices.iter().any(|&label| !hidden(i, label))) {
            return Ok(None);
        }
        let mut ks = CUTS.to_vec();
        ks.push(parse_metric(metric)?);
        let propensity = Propensity::for_dataset(&data.name);
        Ok(Some(Validation {
            rows,
            y,
            filter,
            counts: label_counts(&data.train.y),
            train_rows: data.train.rows(),
            config: EvaluateConfig { ks, propensity, resamples: 0, ..EvaluateConfig::default() },
            metric,
        }))
    }

    /// The rows, rising.
    pub(super) fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// Predicts and measures, given embeddings `x` of the rows and those of all labels; the number is that of the deciding
    /// metric.
    pub(super) fn measure(&self, x: &Tensor, labels: &LabelEmbeddings) -> Result<(f64, Report)> {
        let deepest = self.config.ks.iter().copied().max().unwrap_or(1);
        let found = search(x, labels, deepest, &Filter::pairs(&self.filter))?;
        let report =
            metrics::evaluate(&found, &self.y, &self.counts, self.train_rows, &self.filter, &self.config)?;
        let measured = report.values.get(self.metric);
        let metric = measured.ok_or_else(|| {
            Error::Mismatch(format!("the metric {} was not measured: choose another one", self.metric))
        })?;
        Ok((metric, report))
    }
}
