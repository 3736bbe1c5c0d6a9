//! How often is each label true, predicted, and found?
//!
//! Counted with atomic whole numbers, whose sums are the same in any order: one array for all threads instead of one
//! for each. A prediction is counted under the first cut that its rank is within; sums over cuts follow at the end.
//! `2 x cuts x L x 4` bytes.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::csr::Csr;

/// Number of rows of each label, `[L]`; a stored value above 0 is a label. O(nnz).
pub fn label_counts(y: &Csr) -> Vec<u32> {
    let mut counts = vec![0; y.cols()];
    for (&label, _) in y.indices().iter().zip(y.values()).filter(|&(_, &value)| value > 0.0) {
        counts[label as usize] += 1;
    }
    counts
}

/// Counts while rows are added.
#[derive(Debug)]
pub(super) struct LabelCounts {
    num_labels: usize,
    /// `[L]`
    positives: Vec<AtomicU32>,
    /// `[cut][L]`
    predicted: Vec<AtomicU32>,
    /// `[cut][L]`
    hits: Vec<AtomicU32>,
}

/// The counts of all rows.
#[derive(Debug)]
pub(super) struct Counted {
    /// Rows in which the label is true, `[L]`.
    pub(super) positives: Vec<u32>,
    /// Rows in which it is among the first k predictions, `[cut][L]`.
    pub(super) predicted: Vec<Vec<u32>>,
    /// Rows in which both hold, `[cut][L]`.
    pub(super) hits: Vec<Vec<u32>>,
}

impl LabelCounts {
    pub(super) fn new(cuts: &[usize], num_labels: usize) -> Self {
        let zeros = |n: usize| (0..n).map(|_| AtomicU32::new(0)).collect::<Vec<_>>();
        LabelCounts {
            num_labels,
            positives: zeros(num_labels),
            predicted: zeros(cuts.len() * num_labels),
            hits: zeros(cuts.len() * num_labels),
        }
    }

    pub(super) fn add_truth(&self, labels: &[u32]) {
        for &label in labels {
            self.positives[label as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a prediction whose rank is within cut number `cut`, but not within the one before.
    pub(super) fn add_prediction(&self, cut: usize, label: u32, hit: bool) {
        let at = cut * self.num_labels + label as usize;
        self.predicted[at].fetch_add(1, Ordering::Relaxed);
        if hit {
            self.hits[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn finish(self) -> Counted {
        let up_to_cut = |counts: Vec<AtomicU32>| {
            let mut sums = vec![0u32; self.num_labels];
            counts
                .chunks(self.num_labels.max(1))
                .map(|of_cut| {
                    sums.iter_mut().zip(of_cut).for_each(|(sum, n)| *sum += n.load(Ordering::Relaxed));
                    sums.clone()
                })
                .collect()
        };
        Counted {
            predicted: up_to_cut(self.predicted),
            hits: up_to_cut(self.hits),
            positives: self.positives.into_iter().map(AtomicU32::into_inner).collect(),
        }
    }
}

impl Counted {
    /// Mean over all labels of F1 at a cut, 0 for labels neither true nor predicted, in percent.
    pub(super) fn macro_f1(&self, cut: usize) -> f64 {
        let counts = self.hits[cut].iter().zip(&self.predicted[cut]).zip(&self.positives);
        let sum: f64 = counts
            .map(|((&hits, &predicted), &positives)| {
                (f64::from(hits), f64::from(predicted) + f64::from(positives))
            })
            .map(|(hits, all)| if all > 0.0 { 2.0 * hits / all } else { 0.0 })
            .sum();
        100.0 * sum / self.positives.len() as f64
    }

    /// Share of the true labels found at least once at a cut, in percent.
    pub(super) fn coverage(&self, cut: usize) -> f64 {
        let found = self.hits[cut].iter().filter(|&&n| n > 0).count();
        let present = self.positives.iter().filter(|&&n| n > 0).count();
        100.0 * found as f64 / present as f64
    }
}
