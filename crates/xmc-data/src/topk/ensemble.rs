//! How do several models vote on one ranking?
//!
//! The labels of a merged row are all those that any model predicts. With n models, `s_i` the score of a label in
//! model i (missing labels count 0), `j_i` its rank there (from 0), `m` the longest row over all models:
//!
//! ```text
//! average          sum_i s_i / n
//! rank-average     sum_i (m - j_i) / n
//! sigmoid-average  sum_i 1 / (1 + exp(-s_i)) / n
//! softmax-average  sum_i exp(s_i) / (sum of exp(s) over the row of model i) / n
//! round-robin      max_i (m - j_i + (n - i) / (n + 1)) / n       i from 0: first ranks first, earlier models first
//! ```
//!
//! Sums run over the scores of a label in rising order, so all rules but round-robin give the same bits for any order
//! of the models. `average` suits probabilities; scores below 0 (logarithms, margins) would rank below the 0 of a
//! missing label: use `sigmoid-average` or `softmax-average` there. A row costs O(p log p), p its predictions in all
//! models. Source: CsrEnsembler of PECOS.
//!
//! ```
//! use xmc_data::TopK;
//! use xmc_data::topk::ensemble::{merge, EnsembleRule};
//! let (mut a, mut b) = (TopK::new(), TopK::new());
//! a.push(&mut [(7, 0.5), (3, 0.25)]);
//! b.push(&mut [(3, 0.75), (4, 0.5)]);
//! let merged = merge(&[a, b], EnsembleRule::Average, 2).unwrap();
//! assert_eq!(merged.row(0), [(3, 0.5), (4, 0.25)]);
//! ```

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use super::{TopK, by_score};
use crate::error::{Error, Result};

/// Rows a parallel task merges.
const ROWS_PER_TASK: usize = 1024;

/// How scores of several models become one; formulas in the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnsembleRule {
    /// Mean of the scores.
    #[default]
    Average,
    /// Mean of the ranks, counted from the end of the longest row.
    RankAverage,
    /// Mean of the scores after a sigmoid.
    SigmoidAverage,
    /// Mean of the scores after a softmax over the row.
    SoftmaxAverage,
    /// First ranks of all models, then second ranks, …; earlier models first.
    RoundRobin,
}

/// Merges predictions of the same rows by several models and keeps the best `k` of each row.
pub fn merge(models: &[TopK], rule: EnsembleRule, k: usize) -> Result<TopK> {
    merge_ranked(models, rule, models.iter().map(TopK::longest).max().unwrap_or(0), k)
}

/// The same with m of the formulas given as `longest`, so that rows merged in several calls can be compared.
pub fn merge_ranked(models: &[TopK], rule: EnsembleRule, longest: usize, k: usize) -> Result<TopK> {
    let Some(first) = models.first() else {
        return Err(Error::Shape("an ensemble needs at least one set of predictions".to_owned()));
    };
    let n = first.rows();
    if let Some((i, other)) = models.iter().enumerate().find(|(_, model)| model.rows() != n) {
        let rows = other.rows();
        return Err(Error::Shape(format!(
            "model 0 predicts {n} rows, model {i} predicts {rows}: expected as many"
        )));
    }
    let parts: Vec<TopK> = (0..n.div_ceil(ROWS_PER_TASK))
        .into_par_iter()
        .map(|task| {
            let start = task * ROWS_PER_TASK;
            merge_rows(models, rule, longest, k, start..(start + ROWS_PER_TASK).min(n))
        })
        .collect();
    let mut merged = TopK::new();
    for part in &parts {
        merged.append(part);
    }
    Ok(merged)
}

fn merge_rows(
    models: &[TopK],
    rule: EnsembleRule,
    longest: usize,
    k: usize,
    range: std::ops::Range<usize>,
) -> TopK {
    let mut merged = TopK::new();
    let mut out = Vec::new();
    for i in range {
        rule.merge_row(models.iter().map(|model| model.row(i)), longest, &mut out);
        out.truncate(k);
        merged.push_ranked(&out);
    }
    merged
}

impl EnsembleRule {
    /// Merges one row of each model into `out`, best first; allocates nothing once `out` is large enough.
    ///
    /// `longest` is m of the formulas: at least the length of each row, and the same for all rows that are compared.
    pub fn merge_row<'a>(
        self,
        rows: impl ExactSizeIterator<Item = &'a [(u32, f32)]>,
        longest: usize,
        out: &mut Vec<(u32, f32)>,
    ) {
        out.clear();
        let n = rows.len();
        for (i, row) in rows.enumerate() {
            self.votes(row, i, n, longest, out);
        }
        out.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut kept = 0;
        let mut at = 0;
        while let Some(&(label, vote)) = out.get(at) {
            let mut score = f64::from(vote);
            at += 1;
            while let Some(&(_, vote)) = out.get(at).filter(|next| next.0 == label) {
                // Votes rise: the last one is the largest.
                score = if self == EnsembleRule::RoundRobin { vote.into() } else { score + f64::from(vote) };
                at += 1;
            }
            out[kept] = (label, (score / n as f64) as f32);
            kept += 1;
        }
        out.truncate(kept);
        out.sort_unstable_by(by_score);
    }

    /// Appends what model `i` of `n` gives to each label of its row.
    fn votes(self, row: &[(u32, f32)], i: usize, n: usize, longest: usize, out: &mut Vec<(u32, f32)>) {
        let ranked = row.iter().enumerate();
        match self {
            EnsembleRule::Average => out.extend_from_slice(row),
            EnsembleRule::RankAverage => {
                out.extend(ranked.map(|(j, e)| (e.0, longest.saturating_sub(j) as f32)));
            }
            EnsembleRule::SigmoidAverage => {
                out.extend(
                    row.iter().map(|&(label, s)| (label, (1.0 / (1.0 + (-f64::from(s)).exp())) as f32)),
                );
            }
            EnsembleRule::SoftmaxAverage => {
                let max = row.iter().map(|e| f64::from(e.1)).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|e| (f64::from(e.1) - max).exp()).sum();
                out.extend(row.iter().map(|e| (e.0, ((f64::from(e.1) - max).exp() / sum) as f32)));
            }
            EnsembleRule::RoundRobin => {
                let priority = (n - i) as f64 / (n + 1) as f64;
                out.extend(ranked.map(|(j, e)| (e.0, (longest.saturating_sub(j) as f64 + priority) as f32)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    const RULES: [EnsembleRule; 5] = [
        EnsembleRule::Average,
        EnsembleRule::RankAverage,
        EnsembleRule::SigmoidAverage,
        EnsembleRule::SoftmaxAverage,
        EnsembleRule::RoundRobin,
    ];

    fn predictions(rows: &[Vec<(u32, f32)>]) -> TopK {
        let mut top = TopK::new();
        for row in rows {
            top.push(&mut row.clone());
        }
        top
    }

    #[test]
    fn every_rule_equals_its_formula_in_numpy() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ensemble.json");
        let case: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows = |value: &serde_json::Value| -> Vec<Vec<(u32, f32)>> {
            serde_json::from_value(value.clone()).unwrap()
        };
        let models: Vec<TopK> =
            case["models"].as_array().unwrap().iter().map(|model| predictions(&rows(model))).collect();
        for rule in RULES {
            let name = serde_json::to_value(rule).unwrap();
            let merged = merge(&models, rule, 1000).unwrap();
            for (i, expected) in rows(&case["merged"][name.as_str().unwrap()]).iter().enumerate() {
                let ids = |row: &[(u32, f32)]| row.iter().map(|e| e.0).collect::<Vec<_>>();
                assert_eq!(ids(merged.row(i)), ids(expected), "{name} row {i}");
                for (ours, theirs) in merged.row(i).iter().zip(expected) {
                    assert!(
                        (ours.1 - theirs.1).abs() < 1e-6,
                        "{name} row {i}: {ours:?}, expected {theirs:?}"
                    );
                }
            }
        }
    }

    /// A few models over the same rows; scores are multiples of 1/16, so that sums of them are exact.
    fn models() -> impl Strategy<Value = Vec<TopK>> {
        let row = btree_map(0u32..20, (-64i16..64).prop_map(|s| f32::from(s) / 16.0), 0..8);
        vec(vec(row.prop_map(|row| row.into_iter().collect::<Vec<_>>()), 3), 1..5)
            .prop_map(|models| models.iter().map(|rows| predictions(rows)).collect())
    }

    proptest! {
        #[test]
        fn the_order_of_models_matters_to_round_robin_only(mut models in models()) {
            let all = |models: &[TopK]| RULES[..4].iter().map(|&r| merge(models, r, 9).unwrap()).collect::<Vec<_>>();
            let before = all(&models);
            models.reverse();
            prop_assert_eq!(before, all(&models));
        }

        #[test]
        fn one_model_keeps_its_ranking(models in models()) {
            let alone = &models[..1];
            for rule in [EnsembleRule::Average, EnsembleRule::RankAverage, EnsembleRule::RoundRobin] {
                let merged = merge(alone, rule, 100).unwrap();
                for i in 0..3 {
                    let ids = |top: &TopK| top.labels(i).map(|(label, _)| label).collect::<Vec<_>>();
                    prop_assert_eq!(ids(&merged), ids(&alone[0]));
                }
            }
            prop_assert_eq!(&merge(alone, EnsembleRule::Average, 100).unwrap(), &alone[0]);
        }

        #[test]
        fn merged_rows_are_ranked_cut_and_hold_each_label_once(models in models(), k in 0usize..12) {
            for rule in RULES {
                let (all, cut) = (merge(&models, rule, 100).unwrap(), merge(&models, rule, k).unwrap());
                for i in 0..3 {
                    let row = all.row(i);
                    prop_assert!(row.windows(2).all(|w| by_score(&w[0], &w[1]).is_lt()));
                    let mut ids: Vec<u32> = row.iter().map(|e| e.0).collect();
                    ids.sort_unstable();
                    let mut union: Vec<u32> = models.iter().flat_map(|m| m.row(i)).map(|e| e.0).collect();
                    union.sort_unstable();
                    union.dedup();
                    prop_assert_eq!(ids, union);
                    prop_assert_eq!(cut.row(i), &row[..k.min(row.len())]);
                }
            }
        }

        #[test]
        fn softmax_votes_of_a_row_sum_to_one(models in models()) {
            let merged = merge(&models, EnsembleRule::SoftmaxAverage, 100).unwrap();
            for i in 0..3 {
                let filled = models.iter().filter(|m| !m.row(i).is_empty()).count() as f32;
                let sum: f32 = merged.row(i).iter().map(|e| e.1).sum();
                prop_assert!((sum - filled / models.len() as f32).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn round_robin_deals_first_ranks_before_second_ones() {
        let a = predictions(&[vec![(1, 0.9), (2, 0.8)]]);
        let b = predictions(&[vec![(5, 0.1), (1, 0.05), (6, 0.01)]]);
        let merged = merge(&[a, b], EnsembleRule::RoundRobin, 10).unwrap();
        assert_eq!(merged.row(0).iter().map(|e| e.0).collect::<Vec<_>>(), [1, 5, 2, 6]);
    }

    #[test]
    fn models_of_different_rows_are_refused() {
        let (a, b) = (predictions(&[vec![]]), predictions(&[vec![], vec![]]));
        let message = merge(&[a, b], EnsembleRule::Average, 5).unwrap_err().to_string();
        assert_eq!(message, "model 0 predicts 1 rows, model 1 predicts 2: expected as many");
        assert!(merge(&[], EnsembleRule::Average, 5).is_err());
    }
}
