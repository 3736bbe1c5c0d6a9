//! Which labels can still be among the best k?
//!
//! A threshold that only rises lets most scores pass by with one comparison; the few survivors go into a buffer that is
//! cut with a selection when it is full. O(n + k log(n/k)) for n scores in random order.

use xmc_data::topk::by_score;

use super::{Ranked, kernels};

/// Scores compared before the next selection.
const BLOCK: usize = 256;

/// A label whose exact score is in `[low, high]`.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    label: u32,
    low: f32,
    high: f32,
}

/// Candidates of one query.
#[derive(Clone, Debug)]
pub(super) struct Band {
    k: usize,
    /// More candidates than this are not worth ranking one by one.
    limit: usize,
    /// At least k labels reach this, here or elsewhere.
    floor: f32,
    candidates: Vec<Candidate>,
    /// So many candidates make a cut worth its time.
    full: usize,
    wide: bool,
}

impl Band {
    /// For labels that reach `floor`.
    pub(super) fn new(k: usize, floor: f32) -> Self {
        let full = k.saturating_mul(2).saturating_add(64);
        let limit = k.saturating_mul(16).saturating_add(1024);
        Band { k, limit, floor, candidates: Vec::new(), full, wide: false }
    }

    /// Labels whose highest possible score is below this need not be pushed.
    pub(super) fn floor(&self) -> f32 {
        self.floor
    }

    pub(super) fn push(&mut self, label: u32, low: f32, high: f32) {
        if high >= self.floor {
            self.candidates.push(Candidate { label, low, high });
            if self.candidates.len() >= self.full {
                self.cut();
            }
        }
    }

    /// Raises the floor and drops what is below it.
    pub(super) fn cut(&mut self) {
        if self.wide || self.candidates.len() <= self.k {
            return;
        }
        let (_, kth, _) = self.candidates.select_nth_unstable_by(self.k - 1, |a, b| b.low.total_cmp(&a.low));
        self.floor = self.floor.max(kth.low);
        let floor = self.floor;
        self.candidates.retain(|c| c.high >= floor);
        self.full = self.full.max(self.candidates.len().saturating_mul(2));
        if self.candidates.len() > self.limit {
            (self.wide, self.floor, self.candidates) = (true, f32::INFINITY, Vec::new());
        }
    }

    /// Takes the candidates of other labels.
    pub(super) fn merge(&mut self, other: Band) {
        self.wide |= other.wide;
        self.floor = self.floor.max(other.floor);
        self.candidates.extend(other.candidates);
    }

    /// Ranks the candidates by exact score; nothing if there are too many.
    ///
    /// The k most promising come first: their worst exact score is a better floor than that of intervals, and halves
    /// the band of what must be scored besides.
    pub(super) fn rank(mut self, scores: impl Fn(&[u32]) -> Vec<f32>) -> Option<Ranked> {
        self.cut();
        if self.wide {
            return None;
        }
        let mut row = Ranked::with_capacity(self.candidates.len());
        let add = |row: &mut Ranked, candidates: &[Candidate]| {
            let labels: Vec<u32> = candidates.iter().map(|c| c.label).collect();
            row.extend(labels.iter().copied().zip(scores(&labels)));
        };
        if self.candidates.len() > self.k {
            self.candidates.select_nth_unstable_by(self.k - 1, |a, b| b.low.total_cmp(&a.low));
            let rest = self.candidates.split_off(self.k);
            add(&mut row, &self.candidates);
            let floor = row.iter().fold(f32::INFINITY, |min, e| min.min(e.1));
            self.candidates = rest;
            self.candidates.retain(|c| c.high >= floor);
        }
        add(&mut row, &self.candidates);
        row.sort_unstable_by(by_score);
        row.truncate(self.k);
        Some(row)
    }
}

/// The best k of exact scores that come by rising label.
#[derive(Clone, Debug)]
pub(super) struct Best {
    k: usize,
    /// A score below this is not among the best; an equal one of a later label neither, so it is just above the k-th.
    floor: f32,
    row: Ranked,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Best { k, floor: f32::NEG_INFINITY, row: Ranked::new() }
    }

    pub(super) fn floor(&self) -> f32 {
        self.floor
    }

    pub(super) fn push(&mut self, label: u32, score: f32) {
        if score >= self.floor {
            self.row.push((label, score));
            if self.row.len() >= self.k.saturating_mul(2).saturating_add(64) {
                self.cut();
                self.floor = self.row.last().map_or(self.floor, |kth| kth.1.next_up());
            }
        }
    }

    fn cut(&mut self) {
        if self.row.len() > self.k {
            self.row.select_nth_unstable_by(self.k - 1, by_score);
            self.row.truncate(self.k);
        }
    }

    /// Takes the best of later labels.
    pub(super) fn merge(&mut self, later: Best) {
        self.row.extend(later.row);
        self.cut();
    }

    /// Best first.
    pub(super) fn rank(mut self) -> Ranked {
        self.cut();
        self.row.sort_unstable_by(by_score);
        self.row
    }
}

/// The positions of the best `k` of `scores`, best first, equal ones by rising position. NaN is never among them.
pub(crate) fn best_of(scores: &[f32], k: usize) -> Ranked {
    let mut best = Best::new(k.max(1));
    let mut found = Vec::new();
    for (n, block) in scores.chunks(BLOCK).enumerate() {
        found.clear();
        kernels::at_least(block, best.floor(), &mut found);
        for &at in &found {
            best.push((n * BLOCK) as u32 + at, block[at as usize]);
        }
    }
    let mut row = best.rank();
    row.truncate(k);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_scores_are_those_of_sorting_them() {
        let mut scores: Vec<f32> = (0..1500).map(|i| ((i * 7919) % 311) as f32).collect();
        scores[7] = f32::NAN;
        let mut want: Ranked = (0..).zip(scores.iter().copied()).filter(|(_, s)| !s.is_nan()).collect();
        want.sort_by(by_score);
        for k in [0, 1, 5, 25, 300, 2000] {
            assert_eq!(best_of(&scores, k), want[..k.min(want.len())]);
        }
    }
}
