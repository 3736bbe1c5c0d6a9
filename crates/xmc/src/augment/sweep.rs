//! What would other thresholds and other numbers of neighbours add?
//!
//! Each point is a build with the neighbours that are there: nothing is embedded or searched again. Where pairs are known that
//! are true and not in the matrix (hidden by a simulated bias, or judged), each point says how many of them it adds.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

use super::build::{BuildConfig, BuildReport, build};
use super::leaks::Guard;
use super::mapping::Mapping;
use crate::error::{Error, Result};

/// A build of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What it added.
    #[serde(flatten)]
    pub report: BuildReport,
    /// How that fits pairs that are known to be true.
    pub truth: Option<Agreement>,
}

/// New pairs beside true ones that the original lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// True pairs that were added.
    pub found: usize,
    /// Share of the true pairs.
    pub recall: f64,
    /// Share of the new pairs.
    pub precision: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

impl Agreement {
    /// `found` of `truth` true pairs among `new` pairs.
    pub(super) fn new(found: f64, truth: f64, new: f64) -> Self {
        let share = |whole: f64| if whole > 0.0 { found / whole } else { 0.0 };
        let sum = truth + new;
        let f1 = if sum > 0.0 { 2.0 * found / sum } else { 0.0 };
        Agreement { found: found as usize, recall: share(truth), precision: share(new), f1 }
    }
}

/// A point for each of `ks` and each of `taus`, all else as in `config`.
///
/// # Errors
/// If a build fails, or more neighbours are asked for than there are.
pub fn sweep(
    mapping: &Mapping<'_>,
    y: &Csr,
    config: &BuildConfig,
    (ks, taus): (&[usize], &[f32]),
    truth: Option<&Csr>,
    guard: &Guard,
) -> Result<Vec<Point>> {
    if let Some(truth) = truth.filter(|truth| (truth.rows(), truth.cols()) != (y.rows(), y.cols())) {
        return Err(Error::Mismatch(format!(
            "true pairs of {} rows and {} labels for a matrix of {} rows and {} labels",
            truth.rows(),
            truth.cols(),
            y.rows(),
            y.cols()
        )));
    }
    if let Some(&k) = ks.iter().find(|&&k| k > mapping.width() && mapping.width() > 0) {
        let stored = mapping.width();
        return Err(Error::Mismatch(format!(
            "k = {k}: only {stored} neighbours are stored; map again with more"
        )));
    }
    // What the original has need not be found.
    let missing = truth.map(|truth| truth.filter(|i, l, _| y.row(i).indices.binary_search(&l).is_err()));
    let mut points = Vec::new();
    for &k in ks {
        for &tau in taus {
            let built = build(mapping, y, &BuildConfig { k, tau, ..config.clone() }, guard)?;
            let truth = missing.as_ref().map(|missing| {
                let is_true =
                    |row: u32, label: u32| missing.row(row as usize).indices.binary_search(&label).is_ok();
                let found = built.pairs.iter().filter(|pair| is_true(pair.row, pair.label)).count();
                Agreement::new(found as f64, missing.nnz() as f64, built.pairs.len() as f64)
            });
            points.push(Point { report: built.report, truth });
        }
    }
    Ok(points)
}
