//! Which labels does a step see?
//!
//! ```text
//! all        every label
//! in-batch   the kept positives of the rows of the batch
//! pool:N     those and N random labels
//! hard       those and, for every row, some labels that the model wrongly ranks high
//! ```
//!
//! Whatever brought a label into the pool: if it is a positive of a row, it is none of that row's negatives.
//! (spec: DEXML, 3.5)

use std::borrow::Cow;

use xmc_data::Csr;
use xmc_nn::loss::Targets;

use super::config::{DexmlConfig, Negatives, PoolBy};
use super::mining::Shortlist;
use super::positives;
use crate::random::{Draws, Purpose};

/// Labels of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pool {
    /// Their ids, rising; `None` is all.
    pub(super) labels: Option<Vec<u32>>,
    /// -log of the chance of each to be in the pool, if scores are corrected by it.
    pub(super) offset: Option<Vec<f32>>,
}

impl Pool {
    /// Ids of its labels, of `num_labels`.
    pub(super) fn ids(&self, num_labels: usize) -> Cow<'_, [u32]> {
        match &self.labels {
            Some(labels) => Cow::Borrowed(labels),
            None => Cow::Owned((0..num_labels as u32).collect()),
        }
    }

    /// The targets of a step as places in the pool.
    pub(super) fn targets<'t>(&self, targets: &'t Targets) -> Cow<'t, Targets> {
        match &self.labels {
            Some(labels) => Cow::Owned(targets.in_pool(labels)),
            None => Cow::Borrowed(targets),
        }
    }
}

/// Draws pools.
pub(super) struct Sampler {
    negatives: Negatives,
    logq: bool,
    num_negatives: usize,
    num_labels: usize,
    seed: u64,
    /// Rows of a batch.
    batch_size: usize,
    /// Chance that a learning row keeps a label in a step, `[L]`; empty where nothing is corrected by it.
    share: Vec<f32>,
    /// Sums of (positives + 1) up to and with each label, `[L]`; empty for uniform draws.
    cumulative: Vec<u64>,
}

impl Sampler {
    /// For batches of the rows `learn` of `y` `[n, L]`.
    pub(super) fn new(config: &DexmlConfig, y: &Csr, learn: &[u32], seed: u64) -> Self {
        let mut counts = vec![0u64; y.cols()];
        for &row in learn {
            y.row(row as usize).indices.iter().for_each(|&label| counts[label as usize] += 1);
        }
        let cumulative = match config.pool_by {
            PoolBy::Uniform => Vec::new(),
            PoolBy::Frequency => counts
                .iter()
                .scan(0, |sum, count| {
                    *sum += count + 1;
                    Some(*sum)
                })
                .collect(),
        };
        Sampler {
            negatives: config.negatives,
            logq: config.logq,
            num_negatives: config.num_negatives,
            num_labels: y.cols(),
            seed,
            batch_size: config.batch_size.min(learn.len()),
            share: if config.logq { share(config, y, learn) } else { Vec::new() },
            cumulative,
        }
    }

    /// The pool of step `step` with these `rows` and their `targets` over all labels.
    pub(super) fn draw(
        &self,
        step: u64,
        rows: &[u32],
        targets: &Targets,
        shortlist: Option<&Shortlist>,
    ) -> Pool {
        let kept = (0..targets.len()).flat_map(|i| targets.row(i)).filter(|t| t.kept).map(|t| t.label);
        let mut labels: Vec<u32> = kept.collect();
        match self.negatives {
            Negatives::All => return Pool { labels: None, offset: None },
            Negatives::Pool(n) if n >= self.num_labels => return Pool { labels: None, offset: None },
            Negatives::Pool(n) => labels.extend(self.random(step, n)),
            Negatives::InBatch => {}
            Negatives::Hard => match shortlist {
                Some(shortlist) => labels.extend(shortlist.draw(rows, self.num_negatives, self.seed, step)),
                None => labels.extend(self.random(step, rows.len().saturating_mul(self.num_negatives))),
            },
        }
        labels.sort_unstable();
        labels.dedup();
        let offset = self.logq.then(|| labels.iter().map(|&label| -self.chance(label).ln()).collect());
        Pool { labels: Some(labels), offset }
    }

    /// `n` labels, or as many as there are: different ones if all are alike, else with repetitions.
    fn random(&self, step: u64, n: usize) -> Vec<u32> {
        let n = n.min(self.num_labels);
        let mut draws = Draws::new(self.seed, Purpose::Pool, step);
        match self.cumulative.last() {
            None => draws.distinct(n, self.num_labels),
            Some(&total) => (0..n)
                .map(|_| {
                    let at = draws.below(total);
                    self.cumulative.partition_point(|&sum| sum <= at) as u32
                })
                .collect(),
        }
    }

    /// The chance of a label to be in a pool: 1 - (not drawn) (kept by no row of the batch).
    fn chance(&self, label: u32) -> f32 {
        let Negatives::Pool(n) = self.negatives else { return 1.0 };
        let l = label as usize;
        let drawn = match self.cumulative.last() {
            None => n as f64 / self.num_labels as f64,
            Some(&total) => {
                let before = if l == 0 { 0 } else { self.cumulative[l - 1] };
                1.0 - (1.0 - (self.cumulative[l] - before) as f64 / total as f64).powf(n as f64)
            }
        };
        let positive = 1.0 - (1.0 - f64::from(self.share[l])).powf(self.batch_size as f64);
        (1.0 - (1.0 - drawn) * (1.0 - positive)) as f32
    }
}

/// Mean chance of the rows `learn` of `y` to train on each label in a step, `[L]`.
fn share(config: &DexmlConfig, y: &Csr, learn: &[u32]) -> Vec<f32> {
    let mut share = vec![0.0; y.cols()];
    for &row in learn {
        let row = y.row(row as usize);
        for (label, value) in row.iter() {
            share[label as usize] += positives::chance(config, value, row.values);
        }
    }
    let n = learn.len().max(1) as f32;
    share.into_iter().map(|sum: f32| (sum / n).min(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use xmc_nn::loss::Draw;

    use super::super::config::{CriterionKind, Positives, TopkSize};
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        num_labels: usize,
        positives: Vec<Vec<u32>>,
        sampled_pos: Vec<u32>,
        sampled_neg: Vec<Vec<u32>>,
        pool: Vec<u32>,
        targets: Vec<Vec<u32>>,
    }

    fn matrix(rows: &[Vec<u32>], cols: usize) -> Csr {
        let mut indptr = vec![0];
        for row in rows {
            indptr.push(indptr[indptr.len() - 1] + row.len() as u64);
        }
        let indices = rows.concat();
        let values = vec![1.0; indices.len()];
        Csr::new(rows.len(), cols, indptr, indices, values).unwrap()
    }

    fn config(negatives: &str) -> DexmlConfig {
        DexmlConfig { negatives: negatives.to_owned().try_into().unwrap(), ..DexmlConfig::default() }
    }

    #[test]
    fn pool_and_targets_are_those_of_the_specification() {
        let golden = include_str!("../../../tests/golden/dexml_hnm_pool.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let y = matrix(&golden.positives, golden.num_labels);
        let rows: Vec<u32> = (0..y.rows() as u32).collect();
        // One positive of each row, by giving it all the chance.
        let given = golden.positives.iter().zip(&golden.sampled_pos).map(|(row, &chosen)| {
            row.iter().map(|&l| (l, if l == chosen { 1e6 } else { 1e-6 })).collect::<Vec<_>>()
        });
        let mut targets = Targets::from_rows(given, false);
        targets.sample(1, Draw::ByRelevance, 1, 1, &rows).unwrap();
        let shortlist = Shortlist::new(rows.clone(), golden.sampled_neg.clone());
        let sampler = Sampler::new(&DexmlConfig { num_negatives: 2, ..config("hard") }, &y, &rows, 1);
        let pool = sampler.draw(0, &rows, &targets, Some(&shortlist));
        assert_eq!(pool.labels.as_deref(), Some(&golden.pool[..]));
        let inside = targets.in_pool(&golden.pool);
        let found: Vec<Vec<u32>> =
            (0..rows.len()).map(|i| inside.row(i).iter().map(|t| t.label).collect()).collect();
        assert_eq!(found, golden.targets);
    }

    #[test]
    fn a_random_pool_holds_the_positives_and_as_many_labels_as_asked() {
        let y = matrix(&[vec![3], vec![90, 91]], 100);
        let targets = Targets::from_csr(&y, &[0, 1], false);
        for pool_by in [PoolBy::Uniform, PoolBy::Frequency] {
            let sampler = Sampler::new(&DexmlConfig { pool_by, ..config("pool:20") }, &y, &[0, 1], 7);
            let labels = sampler.draw(5, &[0, 1], &targets, None).labels.unwrap();
            assert!([3, 90, 91].iter().all(|l| labels.contains(l)) && labels.is_sorted_by(|a, b| a < b));
            assert!((13..=23).contains(&labels.len()), "{labels:?}");
            assert_ne!(labels, sampler.draw(6, &[0, 1], &targets, None).labels.unwrap());
        }
        let labels =
            Sampler::new(&config("in-batch"), &y, &[0, 1], 7).draw(5, &[0, 1], &targets, None).labels;
        assert_eq!(labels, Some(vec![3, 90, 91]));
        let all = Sampler::new(&config("pool:100"), &y, &[0, 1], 7).draw(5, &[0, 1], &targets, None);
        assert_eq!(all, Pool { labels: None, offset: None });
    }

    #[test]
    fn the_correction_is_the_logarithm_of_how_often_a_label_is_in_the_pool() {
        let rows: Vec<Vec<u32>> =
            (0..40).map(|i| vec![if i < 10 { 0 } else { 1 + i % 9 }, 10 + i % 2, 12, 13]).collect();
        let y = matrix(&rows, 60);
        let learn: Vec<u32> = (0..40).collect();
        let kinds = [
            (PoolBy::Uniform, CriterionKind::DecoupledSoftmax, Positives::All),
            (PoolBy::Frequency, CriterionKind::DecoupledSoftmax, Positives::All),
            (PoolBy::Uniform, CriterionKind::DecoupledSoftmax, Positives::Sample),
            (PoolBy::Uniform, CriterionKind::SoftTopk, Positives::All),
        ];
        for (pool_by, criterion, positives) in kinds {
            let topk = TopkSize::Fixed(2);
            let config = DexmlConfig { criterion, positives, topk, pool_by, ..config("pool:12") };
            let config = DexmlConfig { logq: true, batch_size: 4, ..config };
            let sampler = Sampler::new(&config, &y, &learn, 7);
            let (mut seen, mut corrected) = ([0.0; 60], [0.0; 60]);
            let steps = 4000;
            for step in 0..steps {
                let mut batch = learn.clone();
                Draws::new(7, Purpose::Order, step).shuffle(&mut batch);
                batch.truncate(4);
                batch.sort_unstable();
                let mut targets = Targets::from_csr(&y, &batch, false);
                if let Some(count) = config.kept_positives() {
                    targets.sample(count, Draw::ByRelevance, 7, step, &batch).unwrap();
                }
                let pool = sampler.draw(step, &batch, &targets, None);
                for (label, offset) in pool.labels.unwrap().into_iter().zip(pool.offset.unwrap()) {
                    seen[label as usize] += 1.0 / steps as f32;
                    corrected[label as usize] = (-offset).exp();
                }
            }
            for (label, (seen, corrected)) in seen.iter().zip(&corrected).enumerate() {
                assert!((seen - corrected).abs() < 0.05, "{config:?}, label {label}: {seen} {corrected}");
            }
        }
    }
}
