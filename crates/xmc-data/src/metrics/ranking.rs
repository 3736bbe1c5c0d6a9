//! What does one row add to each metric?
//!
//! Every metric of a ranking is a quotient of two sums over rows: what the predictions gained and what was possible.
//! [`Measure::add_row`] walks the predictions of a row once and adds to both sums of every metric at every cut.
//! O(k log |y|) for each row.

use super::counts::LabelCounts;
use crate::csr::Row;

/// Metrics that are quotients of sums over rows; the order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Precision,
    Ndcg,
    PsPrecision,
    PsNdcg,
    Recall,
    ReciprocalRank,
    MicroF1,
}

impl Metric {
    pub(super) const ALL: [Metric; 7] = [
        Metric::Precision,
        Metric::Ndcg,
        Metric::PsPrecision,
        Metric::PsNdcg,
        Metric::Recall,
        Metric::ReciprocalRank,
        Metric::MicroF1,
    ];

    /// The name before `@k`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Metric::Precision => "P",
            Metric::Ndcg => "nDCG",
            Metric::PsPrecision => "PSP",
            Metric::PsNdcg => "PSnDCG",
            Metric::Recall => "R",
            Metric::ReciprocalRank => "MRR",
            Metric::MicroF1 => "microF1",
        }
    }
}

/// Numerator and denominator of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ratio {
    pub(super) gained: f64,
    pub(super) possible: f64,
}

impl Ratio {
    pub(super) fn add(&mut self, gained: f64, possible: f64) {
        self.gained += gained;
        self.possible += possible;
    }

    pub(super) fn percent(self) -> f64 {
        if self.possible > 0.0 { 100.0 * self.gained / self.possible } else { 0.0 }
    }
}

/// The true labels of the row at hand; kept between rows so that nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct RowScratch {
    /// True labels that the filter leaves, rising.
    truth: Vec<u32>,
    /// Labels that the filter takes out, rising.
    removed: Vec<u32>,
    /// Whether each true label was met among the predictions.
    met: Vec<bool>,
    /// Inverse propensities of the true labels, falling: the best possible ranking.
    best: Vec<f64>,
}

impl RowScratch {
    pub(super) fn load(&mut self, y: Row<'_>, filter: &[(u32, u32)], inverse: &[f64]) {
        self.removed.clear();
        self.removed.extend(filter.iter().map(|&(_, label)| label));
        self.truth.clear();
        let removed = &self.removed;
        self.truth.extend(
            y.iter()
                .filter(|&(label, value)| value > 0.0 && removed.binary_search(&label).is_err())
                .map(|(label, _)| label),
        );
        self.met.clear();
        self.met.resize(self.truth.len(), false);
        self.best.clear();
        self.best.extend(self.truth.iter().map(|&label| inverse[label as usize]));
        self.best.sort_unstable_by(|a, b| b.total_cmp(a));
    }

    pub(super) fn truth(&self) -> &[u32] {
        &self.truth
    }

    /// True at the first mention of a true label.
    fn hit(&mut self, label: u32) -> bool {
        self.truth.binary_search(&label).is_ok_and(|at| !std::mem::replace(&mut self.met[at], true))
    }
}

/// Discount `d_j` of rank j, from 1.
fn discount(j: usize) -> f64 {
    1.0 / (1.0 + j as f64).log2()
}

/// Sums of a row up to the rank reached.
#[derive(Default)]
struct Walk {
    rank: usize,
    hits: f64,
    /// Rank of the first hit, 0 before it.
    first: usize,
    gain: f64,
    weight: f64,
    weighted_gain: f64,
    /// The same two sums for the best possible ranking, up to `best_rank`.
    best_rank: usize,
    best_weight: f64,
    best_gain: f64,
}

impl Walk {
    fn predicted(&mut self, hit: bool, weight: f64) {
        self.rank += 1;
        if hit {
            let d = discount(self.rank);
            self.first = if self.first == 0 { self.rank } else { self.first };
            self.hits += 1.0;
            self.gain += d;
            self.weight += weight;
            self.weighted_gain += weight * d;
        }
    }

    fn best_up_to(&mut self, k: usize, best: &[f64]) {
        for &weight in best.iter().take(k).skip(self.best_rank) {
            self.best_rank += 1;
            self.best_weight += weight;
            self.best_gain += weight * discount(self.best_rank);
        }
    }
}

/// Cuts and tables, the same for all rows.
pub(super) struct Measure<'a> {
    cuts: &'a [usize],
    /// `1 / p_l`, `[L]`
    inverse: &'a [f64],
    /// Sum of the first j discounts, `[min(largest cut, L) + 1]`
    ideal: Vec<f64>,
}

impl<'a> Measure<'a> {
    /// `cuts` rise strictly.
    pub(super) fn new(cuts: &'a [usize], inverse: &'a [f64]) -> Self {
        let deepest = cuts.last().copied().unwrap_or(0).min(inverse.len());
        let mut ideal = Vec::with_capacity(deepest + 1);
        ideal.push(0.0);
        ideal.extend((1..=deepest).scan(0.0, |sum, j| {
            *sum += discount(j);
            Some(*sum)
        }));
        Measure { cuts, inverse, ideal }
    }

    /// Number of sums: metrics times cuts.
    pub(super) fn num_cells(&self) -> usize {
        Metric::ALL.len() * self.cuts.len()
    }

    /// Adds a row with at least one true label to `cells` (`[metric][cut]`) and to the counts of its labels.
    pub(super) fn add_row(
        &self,
        row: &mut RowScratch,
        predictions: &[(u32, f32)],
        counts: &LabelCounts,
        cells: &mut [Ratio],
    ) {
        counts.add_truth(&row.truth);
        let mut walk = Walk::default();
        let mut rest = predictions.iter().map(|&(label, _)| label);
        for (c, &k) in self.cuts.iter().enumerate() {
            while walk.rank < k {
                let Some(label) = rest.next() else { break };
                if row.removed.binary_search(&label).is_err() {
                    let hit = row.hit(label);
                    walk.predicted(hit, self.inverse[label as usize]);
                    counts.add_prediction(c, label, hit);
                }
            }
            walk.best_up_to(k, &row.best);
            for (m, &metric) in Metric::ALL.iter().enumerate() {
                let (gained, possible) = self.quotient(metric, &walk, k, row.truth.len());
                cells[m * self.cuts.len() + c].add(gained, possible);
            }
        }
    }

    /// Numerator and denominator of `metric` at `k` for a row with `positives` true labels.
    fn quotient(&self, metric: Metric, walk: &Walk, k: usize, positives: usize) -> (f64, f64) {
        let all = positives as f64;
        let ideal = self.ideal[k.min(positives)];
        match metric {
            Metric::Precision => (walk.hits / k as f64, 1.0),
            Metric::Ndcg => (walk.gain / ideal, 1.0),
            Metric::PsPrecision => (walk.weight, walk.best_weight),
            Metric::PsNdcg => (walk.weighted_gain / ideal, walk.best_gain / ideal),
            Metric::Recall => (walk.hits / all, 1.0),
            Metric::ReciprocalRank if walk.first == 0 => (0.0, 1.0),
            Metric::ReciprocalRank => (1.0 / walk.first as f64, 1.0),
            Metric::MicroF1 => (2.0 * walk.hits, walk.rank as f64 + all),
        }
    }
}
