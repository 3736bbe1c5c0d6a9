//! How good are the predictions?
//!
//! Everything follows from the ranks at which the true labels of a row stand among its predictions. With `y` the true
//! labels of a row, `hit_j` = 1 if the prediction at rank `j` (from 1) is one of them, `w_l = 1 / p_l` the inverse
//! [propensity](Propensity) and `d_j = 1 / log2(1 + j)`:
//!
//! ```text
//! P@k       mean over rows of  sum_{j<=k} hit_j / k
//! R@k       mean over rows of  sum_{j<=k} hit_j / |y|
//! nDCG@k    mean over rows of  sum_{j<=k} hit_j d_j / z,               z = sum_{j<=min(k,|y|)} d_j
//! MRR@k     mean over rows of  1 / rank of the first hit, 0 if it is past k
//! PSP@k     sum over rows of sum_{j<=k} hit_j w_j        / the same for the best possible ranking
//! PSnDCG@k  sum over rows of sum_{j<=k} hit_j w_j d_j / z / the same for the best possible ranking
//! microF1@k 2 TP / (predicted + positives), counted over all rows and labels
//! macroF1@k mean over all L labels of the label's 2 TP / (predicted + positives), 0 where both are 0
//! coverage@k share of the labels that occur in the truth which are hit at least once
//! ```
//!
//! in percent. PSP and PSnDCG are ratios of sums, as pyxclib and the leaderboards compute them, not means of ratios.
//! macroF1 and coverage are those of napkinXC (macroF1 divides by L, so labels absent from the test set lower it).
//!
//! Conventions: a row with fewer than k predictions has misses at its end; a label predicted twice in a row counts at
//! its first place, the second is a miss; filter pairs are taken out of predictions and truth before ranks are
//! counted; rows without a true label are skipped and counted in [`Report::rows_without_labels`].
//!
//! Cost: O(predictions x log |y|) plus the bootstrap, parallel, the same bits at any number of threads.
//! Source: PECOS, pyxclib, napkinXC; Jain, Prabhu, Varma (KDD 2016) for the propensity-scored metrics.
//!
//! ```
//! use xmc_data::metrics::{evaluate, EvaluateConfig};
//! use xmc_data::{Csr, TopK};
//! // One row: labels 1 and 2 are true, the model ranks 1 first, then 0.
//! let y = Csr::new(1, 3, vec![0, 2], vec![1, 2], vec![1.0, 1.0]).unwrap();
//! let mut top = TopK::new();
//! top.push(&mut [(1, 0.9), (0, 0.4)]);
//! let report = evaluate(&top, &y, &[5, 3, 1], 9, &[], &EvaluateConfig::default()).unwrap();
//! assert_eq!(report.values.get("P@1"), Some(100.0));
//! assert_eq!(report.values.get("R@5"), Some(50.0));
//! ```

mod bands;
mod bootstrap;
mod counts;
mod propensity;
pub(crate) mod quantile;
mod ranking;
mod report;

pub use bands::{Band, Bands, PerBand};
pub use counts::label_counts;
pub use propensity::Propensity;
pub use report::{BandScores, Report, Unseen, Values};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::csr::Csr;
use crate::error::{Error, Result};
use crate::topk::TopK;

use counts::LabelCounts;
use ranking::{Measure, Ratio, RowScratch};

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateConfig {
    /// The cuts k, each at least 1; any order.
    pub ks: Vec<usize>,
    /// Constants of the propensity model.
    pub propensity: Propensity,
    /// Bootstrap resamples for the confidence intervals; 0 leaves them out.
    pub resamples: usize,
    /// Probability that an interval covers the value, between 0 and 1.
    pub confidence: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        EvaluateConfig {
            ks: vec![1, 3, 5, 10, 100],
            propensity: Propensity::default(),
            resamples: 1000,
            confidence: 0.95,
            seed: 0,
        }
    }
}

impl EvaluateConfig {
    /// An error that names the first setting outside its range.
    pub fn check(&self) -> Result<()> {
        if self.ks.is_empty() || self.ks.contains(&0) {
            return Err(Error::config("ks", format!("{:?}", self.ks), "one or more cuts of at least 1"));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(Error::config("confidence", self.confidence, "a number between 0 and 1"));
        }
        self.propensity.check()
    }
}

/// Rows are summed into at most this many groups: the unit of work of a thread and of the bootstrap. Row `i` belongs
/// to group `i mod GROUPS`, so the sums do not depend on the number of threads. With fewer rows each is its own group
/// and the bootstrap is the textbook one; above, resampling groups changes the width of an interval by about 1 %.
const GROUPS: usize = 4096;

/// Compares predictions `[n]` rows with the truth `y` `[n, L]` (a stored value above 0 is a true label).
///
/// `train_counts` `[L]` holds the number of training rows of each label and `num_train` the number of training rows;
/// they give propensities and bands. `filter` lists (row, label) pairs to leave out, in any order.
pub fn evaluate(
    predictions: &TopK,
    y: &Csr,
    train_counts: &[u32],
    num_train: usize,
    filter: &[(u32, u32)],
    config: &EvaluateConfig,
) -> Result<Report> {
    config.check()?;
    check_shapes(predictions, y, train_counts)?;
    let mut cuts = config.ks.clone();
    cuts.sort_unstable();
    cuts.dedup();
    let inverse = config.propensity.inverse(train_counts, num_train);
    let measure = Measure::new(&cuts, &inverse);
    let counts = LabelCounts::new(&cuts, y.cols());
    let mut pairs = filter.to_vec();
    pairs.sort_unstable();

    let groups = y.rows().clamp(1, GROUPS);
    let sums: Vec<(u64, Vec<Ratio>)> = (0..groups)
        .into_par_iter()
        .map_init(RowScratch::default, |scratch, group| {
            let mut cells = vec![Ratio::default(); measure.num_cells()];
            let mut rows = 0;
            for i in (group..y.rows()).step_by(groups) {
                scratch.load(y.row(i), filtered(&pairs, i), &inverse);
                if !scratch.truth().is_empty() {
                    rows += 1;
                    measure.add_row(scratch, predictions.row(i), &counts, &mut cells);
                }
            }
            (rows, cells)
        })
        .filter(|(rows, _)| *rows > 0)
        .collect();

    let rows: u64 = sums.iter().map(|(rows, _)| rows).sum();
    if rows == 0 {
        let n = y.rows();
        return Err(Error::Shape(format!("none of the {n} rows has a label: there is nothing to measure")));
    }
    let sums: Vec<Vec<Ratio>> = sums.into_iter().map(|(_, cells)| cells).collect();
    Ok(report::assemble(&sums, &counts.finish(), train_counts, rows, y, config, &cuts))
}

/// The labels that `pairs` (sorted) lists for row `i`.
fn filtered(pairs: &[(u32, u32)], i: usize) -> &[(u32, u32)] {
    let start = pairs.partition_point(|&(row, _)| (row as usize) < i);
    let rest = &pairs[start..];
    &rest[..rest.partition_point(|&(row, _)| row as usize == i)]
}

fn check_shapes(predictions: &TopK, y: &Csr, train_counts: &[u32]) -> Result<()> {
    if predictions.rows() != y.rows() {
        let (p, n) = (predictions.rows(), y.rows());
        return Err(Error::Shape(format!(
            "{p} rows of predictions for {n} rows of labels: expected as many"
        )));
    }
    if train_counts.len() != y.cols() {
        let (c, l) = (train_counts.len(), y.cols());
        return Err(Error::Shape(format!("training counts of {c} labels for {l} labels: expected as many")));
    }
    let outside = |i: usize| predictions.row(i).iter().find(|&&(label, _)| label as usize >= y.cols());
    let first = (0..y.rows()).into_par_iter().find_map_first(|i| outside(i).map(|&(label, _)| (i, label)));
    first.map_or(Ok(()), |(i, label)| {
        let l = y.cols();
        Err(Error::Shape(format!("row {i} of the predictions names label {label}: expected an id below {l}")))
    })
}

#[cfg(test)]
mod tests;
