//! What did the augmentation change, in numbers?
//!
//! Pairs before and after, labels and rows that gained some, how evenly degrees are spread (quantiles, Gini), labels that had
//! no row and now have one, weights of the new pairs; and warnings where the numbers say that training will suffer.
//!
//! ```text
//! quantile q:  linear between the two values next to position q (n - 1), as numpy
//! Gini:        2 sum over i of i x_i / (n sum over i of x_i) - (n + 1) / n, x rising, i from 1; 0 is even, 1 all in one
//! ```

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

/// New pairs for each original one beyond which labels of an oracle are likely drowned.
const MOST_NEW: f64 = 10.0;
/// Share of the labels, and of the new pairs that these should not exceed.
const TOP_LABELS: f64 = 0.01;
/// See [`TOP_LABELS`].
const MOST_IN_TOP: f64 = 0.20;
/// Width of a bin of weights.
const BINS: usize = 20;

/// A matrix before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Pairs of the original.
    pub pairs: usize,
    /// Pairs of the augmented matrix.
    pub augmented: usize,
    /// Pairs that only the augmented matrix has.
    pub new: usize,
    /// New pairs for each original one.
    pub ratio: f64,
    /// Rows of the matrix.
    pub rows: Side,
    /// Columns of the matrix.
    pub labels: Side,
    /// Share of the new pairs that the 1 % of labels with most new pairs have.
    pub top_labels_share: f64,
    /// Weights of the new pairs.
    pub weights: Vec<Bin>,
    /// What should make a user think.
    pub warnings: Vec<String>,
}

/// What happened to rows, or to labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// How many there are.
    pub total: usize,
    /// How many gained a pair.
    pub gained: usize,
    /// How many had none and have one now: for labels, those that can be trained for the first time.
    pub first: usize,
    /// How many have none even now.
    pub empty: usize,
    /// Pairs of each, before.
    pub before: Degrees,
    /// Pairs of each, after.
    pub after: Degrees,
}

/// How many pairs each has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "quantiles are called what they are")]
pub struct Degrees {
    pub mean: f64,
    pub p10: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    pub gini: f64,
}

/// Values from `from` to less than `to`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower edge.
    pub from: f64,
    /// Upper edge; the last bin includes it.
    pub to: f64,
    /// Values in it.
    pub count: usize,
}

impl Statistics {
    /// Compares `augmented` with `original`, both `[n, L]`.
    pub fn new(original: &Csr, augmented: &Csr) -> Self {
        let fresh = new_pairs(original, augmented);
        let [rows_before, rows_after, rows_new] = [original, augmented, &fresh].map(row_degrees);
        let [labels_before, labels_after, labels_new] = [original, augmented, &fresh].map(column_degrees);
        let ratio = fresh.nnz() as f64 / original.nnz().max(1) as f64;
        let mut statistics = Statistics {
            pairs: original.nnz(),
            augmented: augmented.nnz(),
            new: fresh.nnz(),
            ratio,
            rows: Side::new(&rows_before, &rows_after, &rows_new),
            labels: Side::new(&labels_before, &labels_after, &labels_new),
            top_labels_share: top_share(&labels_new),
            weights: histogram(fresh.values()),
            warnings: Vec::new(),
        };
        statistics.warnings = statistics.warn();
        statistics
    }

    fn warn(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.ratio > MOST_NEW {
            warnings.push(format!(
                "{:.1} new pairs for each original one (more than {MOST_NEW}): raise tau, lower k, or set a budget of pairs",
                self.ratio
            ));
        }
        // Of few labels, 1 % is one label or none.
        if self.labels.total >= 100 && self.top_labels_share > MOST_IN_TOP {
            warnings.push(format!(
                "1 % of the labels take {:.0} % of the new pairs: cap the pairs of a label",
                100.0 * self.top_labels_share
            ));
        }
        if self.new == 0 {
            warnings.push("no new pair: nothing that was generated lies near a target; lower tau".to_owned());
        }
        warnings
    }
}

impl Side {
    fn new(before: &[u32], after: &[u32], new: &[u32]) -> Self {
        let both = || before.iter().zip(after);
        Side {
            total: before.len(),
            gained: new.iter().filter(|&&n| n > 0).count(),
            first: both().filter(|&(&b, &a)| b == 0 && a > 0).count(),
            empty: after.iter().filter(|&&n| n == 0).count(),
            before: Degrees::new(before),
            after: Degrees::new(after),
        }
    }
}

impl Degrees {
    /// Of `degrees` in any order.
    pub fn new(degrees: &[u32]) -> Self {
        let mut sorted = degrees.to_vec();
        sorted.sort_unstable();
        let n = sorted.len() as f64;
        let sum: f64 = sorted.iter().map(|&x| f64::from(x)).sum();
        let weighted: f64 = sorted.iter().zip(1u32..).map(|(&x, i)| f64::from(i) * f64::from(x)).sum();
        Degrees {
            mean: if n > 0.0 { sum / n } else { 0.0 },
            p10: quantile(&sorted, 0.10),
            p50: quantile(&sorted, 0.50),
            p90: quantile(&sorted, 0.90),
            p99: quantile(&sorted, 0.99),
            max: sorted.last().map_or(0.0, |&x| f64::from(x)),
            gini: if sum > 0.0 { 2.0 * weighted / (n * sum) - (n + 1.0) / n } else { 0.0 },
        }
    }
}

fn quantile(sorted: &[u32], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    let value = |at: f64| sorted.get(at as usize).map_or(0.0, |&x| f64::from(x));
    let (below, above) = (value(place.floor()), value(place.ceil()));
    below + (above - below) * place.fract()
}

/// Pairs that `augmented` has and `original` lacks.
pub(super) fn new_pairs(original: &Csr, augmented: &Csr) -> Csr {
    let none = original.rows();
    augmented.filter(|i, l, _| i >= none || original.row(i).indices.binary_search(&l).is_err())
}

fn row_degrees(y: &Csr) -> Vec<u32> {
    y.iter().map(|row| row.len() as u32).collect()
}

fn column_degrees(y: &Csr) -> Vec<u32> {
    xmc_data::metrics::label_counts(y)
}

fn top_share(new: &[u32]) -> f64 {
    let mut sorted = new.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let top = (TOP_LABELS * sorted.len() as f64).ceil() as usize;
    let sum = |counts: &[u32]| counts.iter().map(|&n| f64::from(n)).sum::<f64>();
    let all = sum(&sorted);
    if all > 0.0 { sum(&sorted[..top]) / all } else { 0.0 }
}

/// Bins of width 1 / 20 that hold something.
fn histogram(values: &[f32]) -> Vec<Bin> {
    let mut counts = vec![0; BINS];
    for &value in values {
        counts[((f64::from(value) * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let edge = |i: usize| i as f64 / BINS as f64;
    let bins = counts.into_iter().enumerate().map(|(i, count)| Bin { from: edge(i), to: edge(i + 1), count });
    bins.filter(|bin| bin.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::mapping::matrix;

    /// Numbers of `numpy.quantile` and of the formula of Gini over the same counts.
    #[test]
    fn degrees_are_those_of_numpy() {
        let d = Degrees::new(&[3, 0, 1, 7, 2, 2, 0, 12, 5, 1]);
        let expected = [3.3, 0.0, 2.0, 7.5, 11.55, 12.0];
        for (found, expected) in [d.mean, d.p10, d.p50, d.p90, d.p99, d.max].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
        }
        assert!((d.gini - 0.554_545_454_545_454_5).abs() < 1e-12, "{}", d.gini);
        assert!(Degrees::new(&[4, 4, 4]).gini.abs() < 1e-12);
        assert_eq!(Degrees::new(&[]).max, 0.0);
    }

    #[test]
    fn the_worked_example_has_two_new_pairs() {
        let y = matrix(&[&[(0, 1.0)], &[(0, 1.0)], &[(1, 1.0)], &[(2, 1.0)], &[(2, 1.0)], &[]], 3);
        let augmented = matrix(
            &[&[(0, 1.0)], &[(0, 1.0)], &[(1, 1.0)], &[(0, 0.805), (2, 1.0)], &[(2, 1.0)], &[(2, 0.975)]],
            3,
        );
        let s = Statistics::new(&y, &augmented);
        assert_eq!((s.pairs, s.augmented, s.new), (5, 7, 2));
        assert_eq!((s.rows.gained, s.rows.first, s.rows.empty), (2, 1, 0));
        assert_eq!((s.labels.gained, s.labels.first, s.labels.empty), (2, 0, 0));
        let bins: Vec<_> = s.weights.iter().map(|bin| (bin.from, bin.count)).collect();
        assert_eq!(bins, [(0.8, 1), (0.95, 1)]);
        assert_eq!(s.warnings, [""; 0]);
    }

    #[test]
    fn too_many_pairs_and_pairs_of_few_labels_are_warned_of() {
        let y = matrix(&[&[(150, 1.0)], &[]], 200);
        let many: Vec<(u32, f32)> = (0..2).map(|l| (l, 0.9)).chain([(150, 1.0)]).collect();
        let rows: Vec<&[(u32, f32)]> = vec![&many; 40];
        let s = Statistics::new(&y, &matrix(&rows, 200));
        assert!(s.warnings.iter().any(|w| w.contains("new pairs for each original")), "{:?}", s.warnings);
        assert!(s.warnings.iter().any(|w| w.contains("cap the pairs of a label")), "{:?}", s.warnings);
        assert!(Statistics::new(&y, &y).warnings[0].contains("no new pair"));
    }
}
