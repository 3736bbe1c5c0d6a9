//! Which edges from clusters to labels may stage 2 use? (spec: ELIAS, 2.4)
//!
//! ```text
//! M [n, C]   the b best clusters of each training row, with their scores s_c
//! S [C, L] = (Y^T M)^T / freq^gamma: how much cluster c is visited by rows that carry label l
//! ```
//!
//! A cluster keeps the kappa labels with the largest S, ties to the lower label. The published rule lets a label go that
//! is nowhere among them; here every label keeps the cluster that its rows visit most, in place of that cluster's weakest
//! edges, so nothing becomes unreachable. A label whose rows visit nothing keeps its former cluster.
//!
//! S is never there as a whole: a task holds one row of it, `[L]`. Cost: for every entry of M the labels of its row,
//! twice; memory 8 bytes for an entry of M, and 4 L for a thread.

use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::formats::npz;
use xmc_data::topk::by_score;
use xmc_data::{Csr, CsrBuilder};

use crate::error::{Error, Result};
use crate::run::Artifact;

/// Name of the file, in a stage and as the end of a run.
pub(super) const ADJACENCY: &str = "adjacency.npz";

/// Edges `[C, L]`; their values say how strong they were when they were chosen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Adjacency(pub(super) Csr);

impl Adjacency {
    /// Edges from the visits `m [n, C]` of the training rows and their labels `y [n, L]`: `kappa` for a cluster, visits
    /// divided by frequencies to the power `gamma`; `former` has the cluster of each label before.
    pub(super) fn of(m: &Csr, y: &Csr, kappa: usize, gamma: f32, former: &[u32]) -> Result<Self> {
        let weights = frequency_weights(y, gamma);
        let mut edges = CsrBuilder::new();
        for row in visited(m, y, &weights, kappa, &best_clusters(m, y, former)) {
            edges.push(row);
        }
        Ok(Adjacency(edges.finish(y.cols())?))
    }

    /// Reads the matrix that the setting `files.adjacency` names, for `labels` labels.
    pub(super) fn read(path: &Path, labels: usize) -> Result<Self> {
        let edges = npz::read(path)?;
        if edges.cols() != labels {
            let problem = format!("{} columns, expected {labels}, one for each label", edges.cols());
            return Err(Error::file(path, problem));
        }
        Ok(Adjacency(edges.filter(|_, _, value| value != 0.0)))
    }

    /// Labels that no edge leads to.
    pub(super) fn unreachable(&self) -> usize {
        let mut reached = vec![false; self.0.cols()];
        self.0.indices().iter().for_each(|&label| reached[label as usize] = true);
        reached.iter().filter(|reached| !**reached).count()
    }
}

impl Artifact for Adjacency {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(npz::write(&dir.join(ADJACENCY), &self.0)?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Adjacency(npz::read(&dir.join(ADJACENCY))?))
    }
}

/// `[L]`: 1 / freq^gamma.
fn frequency_weights(y: &Csr, gamma: f32) -> Vec<f32> {
    let mut frequency = vec![0u32; y.cols()];
    y.indices().iter().for_each(|&label| frequency[label as usize] += 1);
    frequency.into_iter().map(|rows| (rows.max(1) as f32).powf(-gamma)).collect()
}

/// `[L]`: the cluster that the rows of each label visit most, ties to the first; the former one where they visit none.
fn best_clusters(m: &Csr, y: &Csr, former: &[u32]) -> Vec<u32> {
    let rows_of = y.transpose();
    let best = |sums: &mut Sums, label: usize| {
        for (row, relevance) in rows_of.row(label).iter() {
            m.row(row as usize).iter().for_each(|(cluster, score)| sums.add(cluster, relevance * score));
        }
        sums.drain().min_by(by_score).map(|(cluster, _)| cluster)
    };
    (0..y.cols())
        .into_par_iter()
        .map_init(
            || Sums::new(m.cols()),
            |sums, label| best(sums, label).or(former.get(label).copied()).unwrap_or(0),
        )
        .collect()
}

/// The strongest edges of every cluster, rising by label; `keep` has the cluster of each label that stays in any case.
fn visited(m: &Csr, y: &Csr, weights: &[f32], kappa: usize, keep: &[u32]) -> Vec<Vec<(u32, f32)>> {
    let rows_of = m.transpose();
    let mut kept: Vec<Vec<u32>> = vec![Vec::new(); m.cols()];
    for (label, &cluster) in keep.iter().enumerate() {
        if let Some(kept) = kept.get_mut(cluster as usize) {
            kept.push(label as u32);
        }
    }
    let strongest = |sums: &mut Sums, cluster: usize| {
        for (row, score) in rows_of.row(cluster).iter() {
            y.row(row as usize).iter().for_each(|(label, relevance)| sums.add(label, relevance * score));
        }
        let kept = &kept[cluster];
        let weighted = |&label: &u32, sum: f32| (label, sum * weights[label as usize]);
        let mut edges: Vec<(u32, f32)> = kept
            .iter()
            // A label without visits has an edge all the same, and a zero in the matrix is none.
            .map(|label| weighted(label, sums.take(*label)))
            .map(|(label, strength)| (label, strength.max(f32::MIN_POSITIVE)))
            .collect();
        let mut others: Vec<(u32, f32)> = sums.drain().map(|(label, sum)| weighted(&label, sum)).collect();
        let room = kappa.saturating_sub(edges.len());
        if others.len() > room {
            if room > 0 {
                others.select_nth_unstable_by(room - 1, by_score);
            }
            others.truncate(room);
        }
        edges.append(&mut others);
        edges.sort_unstable_by_key(|&(label, _)| label);
        edges
    };
    (0..m.cols()).into_par_iter().map_init(|| Sums::new(y.cols()), strongest).collect()
}

/// Sums by id, of which few are not zero.
struct Sums {
    sums: Vec<f32>,
    touched: Vec<u32>,
}

impl Sums {
    fn new(ids: usize) -> Self {
        Sums { sums: vec![0.0; ids], touched: Vec::new() }
    }

    fn add(&mut self, id: u32, value: f32) {
        let sum = &mut self.sums[id as usize];
        if *sum == 0.0 && value > 0.0 {
            self.touched.push(id);
        }
        *sum += value.max(0.0);
    }

    /// The sum of `id`, which is 0 afterwards.
    fn take(&mut self, id: u32) -> f32 {
        std::mem::take(&mut self.sums[id as usize])
    }

    /// All sums above 0, which are 0 afterwards.
    fn drain(&mut self) -> impl Iterator<Item = (u32, f32)> {
        let sums = &mut self.sums;
        self.touched
            .drain(..)
            .map(|id| (id, std::mem::take(&mut sums[id as usize])))
            .filter(|&(_, v)| v > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn sparse(rows: &[Vec<f32>]) -> Csr {
        let mut m = CsrBuilder::new();
        for row in rows {
            m.push((0..).zip(row.iter().copied()).filter(|&(_, v)| v != 0.0));
        }
        m.finish(rows[0].len()).unwrap()
    }

    #[derive(Deserialize)]
    #[allow(non_snake_case, reason = "names of the file")]
    struct Golden {
        Y: Vec<Vec<f32>>,
        M: Vec<Vec<f32>>,
        kappa: usize,
        A_full: Vec<Vec<f32>>,
        A_approx: Vec<Vec<f32>>,
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../../tests/golden/elias_approx_A.json")).unwrap()
    }

    fn is_close(found: &[(u32, f32)], expected: &[f32]) {
        let expected: Vec<_> = (0..).zip(expected.iter().copied()).filter(|&(_, v)| v != 0.0).collect();
        assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
        for (a, b) in found.iter().zip(&expected) {
            assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-5, "{a:?} {b:?}");
        }
    }

    #[test]
    fn the_strongest_edges_are_the_recorded_ones() {
        let golden = golden();
        let (m, y) = (sparse(&golden.M), sparse(&golden.Y));
        let weights = frequency_weights(&y, 0.0);
        let all = visited(&m, &y, &weights, usize::MAX, &[]);
        let chosen = visited(&m, &y, &weights, golden.kappa, &[]);
        for c in 0..m.cols() {
            is_close(&all[c], &golden.A_full[c]);
            is_close(&chosen[c], &golden.A_approx[c]);
        }
    }

    #[test]
    fn every_label_keeps_the_cluster_that_its_rows_visit_most() {
        let golden = golden();
        let (m, y) = (sparse(&golden.M), sparse(&golden.Y));
        let former = vec![5; y.cols()];
        let edges = Adjacency::of(&m, &y, golden.kappa, 0.0, &former).unwrap();
        assert_eq!(edges.unreachable(), 0);
        for l in 0..y.cols() {
            let column: Vec<f32> = golden.A_full.iter().map(|row| row[l]).collect();
            let most = column.iter().copied().fold(0.0, f32::max);
            let best = if most > 0.0 { column.iter().position(|&v| v == most).unwrap() } else { 5 };
            assert!(edges.0.row(best).get(l as u32) > 0.0, "label {l}");
        }
    }

    #[test]
    fn rare_labels_gain_by_the_power_of_their_frequency() {
        // Label 0 has four rows, label 1 one; all visit cluster 0 alike.
        let y = sparse(&[vec![1.0, 1.0], vec![1.0, 0.0], vec![1.0, 0.0], vec![1.0, 0.0]]);
        let m = sparse(&vec![vec![0.5, 0.25]; 4]);
        let first = |gamma| {
            let edges = visited(&m, &y, &frequency_weights(&y, gamma), 2, &[]);
            edges[0].clone()
        };
        assert_eq!(first(0.0), [(0, 2.0), (1, 0.5)]);
        assert_eq!(first(0.5), [(0, 1.0), (1, 0.5)]);
        assert_eq!(first(1.0), [(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn a_label_without_rows_keeps_its_former_cluster() {
        let y = sparse(&[vec![1.0, 0.0, 0.0]]);
        let m = sparse(&[vec![0.0, 1.0]]);
        let edges = Adjacency::of(&m, &y, 1, 0.0, &[0, 0, 1]).unwrap();
        // Cluster 1 keeps both although kappa is 1: without its edge a label would be lost.
        assert_eq!(edges.0.row(1).indices, [0, 2]);
        assert_eq!(edges.0.row(0).indices, [1]);
        let dir = tempfile::tempdir().unwrap();
        edges.save(dir.path()).unwrap();
        assert_eq!(Adjacency::load(dir.path()).unwrap(), edges);
        assert_eq!(Adjacency::read(&dir.path().join(ADJACENCY), 3).unwrap().unreachable(), 0);
        let message = Adjacency::read(&dir.path().join(ADJACENCY), 4).unwrap_err().to_string();
        assert!(message.contains("3 columns, expected 4"), "{message}");
    }

    proptest! {
        #[test]
        fn clusters_keep_the_best_of_a_dense_product(seed in 0u64..1000, kappa in 1usize..6) {
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1u64 << 24) as f32
            };
            let (n, c, l) = (9, 4, 7);
            let m: Vec<Vec<f32>> = (0..n).map(|_| (0..c).map(|_| (draw() - 0.5).max(0.0)).collect()).collect();
            let y: Vec<Vec<f32>> = (0..n).map(|_| (0..l).map(|_| f32::from(draw() > 0.6)).collect()).collect();
            let dense = |c: usize, l: usize| (0..n).map(|i| y[i][l] * m[i][c]).sum::<f32>();
            let edges = Adjacency::of(&sparse(&m), &sparse(&y), kappa, 0.0, &[0; 7]).unwrap();
            prop_assert_eq!(edges.unreachable(), 0);
            for cluster in 0..c {
                let row = edges.0.row(cluster);
                // What is left out is no stronger than what stays, but for labels that are here at their best.
                let own = |l: usize| (0..c).all(|other| dense(other, l) <= dense(cluster, l) + 1e-6);
                let stays = |l: usize| row.get(l as u32) > 0.0;
                let weakest = (0..l).filter(|&l| stays(l) && !own(l)).map(|l| dense(cluster, l)).fold(9.0, f32::min);
                for out in (0..l).filter(|&l| !stays(l)) {
                    prop_assert!(dense(cluster, out) <= weakest + 1e-6);
                    prop_assert!(dense(cluster, out) == 0.0 || row.len() >= kappa);
                }
            }
        }
    }
}
