//! Which labels are right for which row, and which of those does this step train on?

use xmc_data::csr::Csr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

/// Values up to this are no positives: explicit zeros of a sparse matrix.
const SMALLEST_RELEVANCE: f32 = 1e-8;

/// One right label of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Row of the label among the l that the loss sees.
    pub label: u32,
    /// How right it is, above 0; 1 where relevance is not graded.
    pub relevance: f32,
    /// Whether this step trains on it. What becomes of one that is dropped is the criterion's affair.
    pub kept: bool,
}

/// How a sample of the positives of a row is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// With probability in proportion to their relevance.
    ByRelevance,
    /// All alike.
    Alike,
}

/// The positives of every row of a batch, labels rising within a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    indptr: Vec<usize>,
    entries: Vec<Target>,
    weighted: bool,
}

impl Targets {
    /// All positives of `rows` of `y [n, l]`, all kept. `weighted`: a positive counts as much as it is relevant.
    pub fn from_csr(y: &Csr, rows: &[u32], weighted: bool) -> Self {
        Self::from_rows(rows.iter().map(|&row| y.row(row as usize).iter()), weighted)
    }

    /// Positives as (label, relevance), row by row, in any order; a label given twice counts once, at its highest.
    pub fn from_rows<R>(rows: impl IntoIterator<Item = R>, weighted: bool) -> Self
    where
        R: IntoIterator<Item = (u32, f32)>,
    {
        let mut targets = Targets { indptr: vec![0], entries: Vec::new(), weighted };
        for row in rows {
            let mut positives: Vec<(u32, f32)> =
                row.into_iter().filter(|p| p.1 > SMALLEST_RELEVANCE).collect();
            positives.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
            positives.dedup_by_key(|p| p.0);
            targets.push(positives.into_iter().map(|(label, relevance)| Target {
                label,
                relevance,
                kept: true,
            }));
        }
        targets
    }

    fn push(&mut self, row: impl Iterator<Item = Target>) {
        self.entries.extend(row);
        self.indptr.push(self.entries.len());
    }

    /// Keeps the positives that `choose(row, positive)` says and drops the others.
    pub fn keep(&mut self, mut choose: impl FnMut(usize, &Target) -> bool) {
        for row in 0..self.len() {
            for target in &mut self.entries[self.indptr[row]..self.indptr[row + 1]] {
                target.kept = choose(row, target);
            }
        }
    }

    /// Keeps every positive with a chance of its relevance, always from 1 up, and drops the others. Whether one is kept is
    /// a pure function of (seed, step, row id, label).
    pub fn thin(&mut self, seed: u64, step: u64, row_ids: &[u32]) -> Result<()> {
        self.check_ids(row_ids)?;
        self.keep(|row, positive| {
            positive.relevance >= 1.0
                || uniform(seed, step, row_ids[row], positive.label) < f64::from(positive.relevance)
        });
        Ok(())
    }

    /// Keeps at most `n` positives of each row, drawn without replacement as `draw` says (by relevance: spec §3.1), and
    /// drops the rest. A draw is a pure function of (seed, step, row id, label).
    ///
    /// Each positive gets the key -ln(u) / relevance; the `n` smallest keys are such a draw (Efraimidis and Spirakis
    /// 2006, "Weighted random sampling with a reservoir").
    pub fn sample(&mut self, n: usize, draw: Draw, seed: u64, step: u64, row_ids: &[u32]) -> Result<()> {
        self.check_ids(row_ids)?;
        let mut keys: Vec<(f64, usize)> = Vec::new();
        for (row, &id) in row_ids.iter().enumerate() {
            let positives = &mut self.entries[self.indptr[row]..self.indptr[row + 1]];
            keys.clear();
            keys.extend(positives.iter().enumerate().map(|(i, positive)| {
                let u = uniform(seed, step, id, positive.label);
                let share = if draw == Draw::Alike { 1.0 } else { f64::from(positive.relevance) };
                (-u.ln() / share, i)
            }));
            keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (place, &(_, i)) in keys.iter().enumerate() {
                positives[i].kept = place < n;
            }
        }
        Ok(())
    }

    /// The same rows as a loss over a pool sees them: `pool` holds label ids, rising; labels become places in it.
    /// Positives outside the pool vanish; they count in no mean (spec §3.5).
    pub fn in_pool(&self, pool: &[u32]) -> Self {
        let mut inside = Targets { indptr: vec![0], entries: Vec::new(), weighted: self.weighted };
        for row in 0..self.len() {
            inside.push(self.row(row).iter().filter_map(|&target| {
                let label = pool.binary_search(&target.label).ok()? as u32;
                Some(Target { label, ..target })
            }));
        }
        inside
    }

    /// Number of rows b.
    pub fn len(&self) -> usize {
        self.indptr.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The positives of a row, labels rising.
    pub fn row(&self, row: usize) -> &[Target] {
        &self.entries[self.indptr[row]..self.indptr[row + 1]]
    }

    /// What a positive counts in the loss.
    pub(super) fn weight(&self, target: &Target) -> f64 {
        if self.weighted { target.relevance as f64 } else { 1.0 }
    }

    fn check_ids(&self, row_ids: &[u32]) -> Result<()> {
        if row_ids.len() == self.len() {
            return Ok(());
        }
        Err(Error::Shape(format!("{} row ids for targets of {} rows", row_ids.len(), self.len())))
    }

    /// Refuses labels that are not among `l`.
    pub(super) fn check(&self, rows: usize, l: usize) -> Result<()> {
        if self.len() != rows {
            return Err(Error::Shape(format!("targets of {} rows for {rows} embeddings", self.len())));
        }
        for row in 0..rows {
            if let Some(last) = self.row(row).last().filter(|last| last.label as usize >= l) {
                return Err(Error::Shape(format!(
                    "row {row} has label {}, but there are {l} labels",
                    last.label
                )));
            }
        }
        Ok(())
    }
}

/// A number inside (0, 1) that depends on the counters alone.
fn uniform(seed: u64, step: u64, row: u32, label: u32) -> f64 {
    let mut counters = [0; 16];
    counters[..8].copy_from_slice(&step.to_le_bytes());
    counters[8..12].copy_from_slice(&row.to_le_bytes());
    counters[12..].copy_from_slice(&label.to_le_bytes());
    ((xxh3_64_with_seed(&counters, seed) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(targets: &Targets, row: usize) -> Vec<u32> {
        targets.row(row).iter().filter(|t| t.kept).map(|t| t.label).collect()
    }

    #[test]
    fn rows_are_sorted_and_zeros_are_no_positives() {
        let targets = Targets::from_rows([vec![(7, 1.0), (2, 0.5), (3, 0.0), (7, 0.3)], vec![]], true);
        assert_eq!(targets.len(), 2);
        let row: Vec<_> = targets.row(0).iter().map(|t| (t.label, t.relevance)).collect();
        assert_eq!(row, [(2, 0.5), (7, 1.0)]);
        assert!(targets.row(1).is_empty());
        assert!(targets.check(2, 8).is_ok());
        let message = targets.check(2, 7).unwrap_err().to_string();
        assert_eq!(message, "row 0 has label 7, but there are 7 labels");
    }

    #[test]
    fn draws_depend_on_the_counters_alone() {
        let rows = [vec![(1, 1.0), (4, 1.0), (7, 1.0), (9, 1.0)], vec![(0, 1.0)], vec![]];
        let draw = |seed, step, ids: &[u32]| {
            let mut targets = Targets::from_rows(rows.clone(), false);
            targets.sample(2, Draw::ByRelevance, seed, step, ids).unwrap();
            targets
        };
        let first = draw(1, 5, &[30, 10, 20]);
        assert_eq!(first, draw(1, 5, &[30, 99, 98]));
        assert_eq!((kept(&first, 0).len(), kept(&first, 1).len(), kept(&first, 2).len()), (2, 1, 0));
        assert!((0..20).any(|step| kept(&draw(1, step, &[30, 10, 20]), 0) != kept(&first, 0)));
        assert!((0..20).any(|seed| kept(&draw(seed, 5, &[30, 10, 20]), 0) != kept(&first, 0)));
    }

    /// For relevances 1, 2, 3: P(first draw = j) = r_j / 6, and P(j among two draws) =
    /// sum over orders = r_j / 6 + sum over i != j of (r_i / 6) r_j / (6 - r_i).
    #[test]
    fn draws_follow_relevance() {
        let relevance = [1.0_f64, 2.0, 3.0];
        let draws = 20_000;
        for n in [1, 2] {
            let mut count = [0.0_f64; 3];
            for step in 0..draws {
                let mut targets = Targets::from_rows([[(0, 1.0), (1, 2.0), (2, 3.0)]], false);
                targets.sample(n, Draw::ByRelevance, 3, step, &[0]).unwrap();
                for label in kept(&targets, 0) {
                    count[label as usize] += 1.0 / draws as f64;
                }
            }
            for j in 0..3 {
                let second = |i: usize| relevance[i] / 6.0 * relevance[j] / (6.0 - relevance[i]);
                let later: f64 = (0..3).filter(|&i| i != j).map(second).sum();
                let expected = relevance[j] / 6.0 + if n == 2 { later } else { 0.0 };
                assert!((count[j] - expected).abs() < 0.015, "{n} {j}: {} {expected}", count[j]);
            }
        }
    }

    /// A sure positive is there in every step, one of 0.8 in four of five: 5 to 4 (S-25).
    #[test]
    fn thinned_positives_are_kept_as_often_as_they_are_right() {
        let (draws, mut count) = (20_000, [0.0_f64; 3]);
        for step in 0..draws {
            let mut targets = Targets::from_rows([[(0, 1.0), (1, 0.8), (2, 3.0)]], false);
            targets.thin(3, step, &[7]).unwrap();
            for label in kept(&targets, 0) {
                count[label as usize] += 1.0;
            }
        }
        let n = draws as f64;
        assert_eq!((count[0], count[2]), (n, n));
        assert!((count[1] - 0.8 * n).abs() < 3.0 * (0.16 * n).sqrt(), "{count:?}");
    }

    #[test]
    fn alike_means_that_relevance_decides_nothing() {
        let (draws, mut first) = (20_000, 0.0_f64);
        for step in 0..draws {
            let mut targets = Targets::from_rows([[(0, 1.0), (1, 9.0)]], false);
            targets.sample(1, Draw::Alike, 3, step, &[0]).unwrap();
            first += f64::from(u8::from(kept(&targets, 0) == [0]));
        }
        assert!((first - 1e4).abs() < 3.0 * (draws as f64 / 4.0).sqrt(), "{first}");
    }

    #[test]
    fn a_pool_renames_labels_and_forgets_the_rest() {
        let all = [vec![1, 4, 7, 9], vec![0, 11], vec![5], vec![2, 3, 8]];
        let targets =
            Targets::from_rows(all.map(|row| row.into_iter().map(|l| (l, 1.0)).collect::<Vec<_>>()), false);
        let pool = targets.in_pool(&[0, 1, 2, 3, 5, 6, 7, 10]);
        let rows: Vec<Vec<u32>> = (0..4).map(|i| kept(&pool, i)).collect();
        assert_eq!(rows, [vec![1, 6], vec![0], vec![4], vec![2, 3]]);
    }
}
