//! What would be found without an index, and how much of it can the index reach? Brute force, written down plainly.
//!
//! ```text
//! by margin   the labels of the largest w_l . x + b_l: brute force over the classifiers alone
//! by path     the labels of the largest p_l = s_c s_cl sigmoid(w_l . x + b_l), over all clusters, edges and labels:
//!             what a search approximates
//! ```
//! Nothing here is shared with what is measured but products of matrices.

use rayon::prelude::*;
use serde_json::{Value, json};
use xmc::methods::elias::LearnedIndex;
use xmc::nn::Precision;
use xmc::nn::ops::matmul::{Lhs, Rhs, View, product};

/// Labels that are scored at a time.
const BLOCK: usize = 4096;
/// Queries that are answered at a time: each has the path to every label.
const QUERIES: usize = 32;
/// A score is called 1 from here on.
const ONE: f32 = 0.99;

/// The best labels of queries, and what the index thinks of them.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) by_margin: Vec<Vec<u32>>,
    pub(crate) by_path: Vec<Vec<u32>>,
    /// Score of the best path to each label in `by_margin`; 0 where none leads.
    paths: Vec<f32>,
    /// Clusters of a query with a score of 1.
    at_one: Vec<usize>,
    /// Share of the softmax that the ten best clusters of a query have.
    in_ten: Vec<f32>,
}

/// The best `top` labels of `queries [n, d]` among classifiers `labels [L, d + 1]`, biases last.
pub(crate) fn brute_force(
    queries: &[f32],
    labels: &[f32],
    index: &LearnedIndex,
    alpha: f32,
    top: usize,
) -> Truth {
    let dim = index.clusters().dim() - 1;
    let tasks: Vec<&[f32]> = queries.chunks(QUERIES * dim).collect();
    let parts: Vec<Truth> = tasks.into_par_iter().map(|x| block(x, labels, index, alpha, top)).collect();
    let mut truth = Truth::default();
    for part in parts {
        truth.by_margin.extend(part.by_margin);
        truth.by_path.extend(part.by_path);
        truth.paths.extend(part.paths);
        truth.at_one.extend(part.at_one);
        truth.in_ten.extend(part.in_ten);
    }
    truth
}

fn block(x: &[f32], labels: &[f32], index: &LearnedIndex, alpha: f32, top: usize) -> Truth {
    let dim = index.clusters().dim() - 1;
    let with_one: Vec<f32> = x.chunks(dim).flat_map(|row| row.iter().copied().chain([1.0])).collect();
    let mut truth = Truth::default();
    let num_labels = labels.len() / (dim + 1);
    let paths: Vec<Vec<f32>> = with_one
        .chunks(dim + 1)
        .map(|query| {
            let scores = cluster_scores(query, index, alpha, &mut truth);
            let mut paths = vec![0f32; num_labels];
            for (c, score) in scores.into_iter().enumerate() {
                let (ids, logs) = index.edges().of(c);
                for (&label, log) in ids.iter().zip(logs) {
                    let path = &mut paths[label as usize];
                    *path = path.max(score * log.exp());
                }
            }
            paths
        })
        .collect();
    let n = paths.len();
    let mut lhs = Lhs::new(Precision::F32);
    lhs.fill(View::new(&with_one, n, dim + 1));
    let mut rhs = Rhs::new(Precision::F32);
    let (mut by_margin, mut by_path) = (vec![Best::new(top); n], vec![Best::new(top); n]);
    let mut margins = vec![0.0; n * BLOCK];
    for (b, rows) in labels.chunks(BLOCK * (dim + 1)).enumerate() {
        let count = rows.len() / (dim + 1);
        rhs.fill(View::new(rows, count, dim + 1).t());
        product(&lhs, &rhs, 0..n, &mut margins, BLOCK, false);
        for (i, margins) in margins.chunks(BLOCK).enumerate() {
            for (label, &margin) in (b * BLOCK..).zip(&margins[..count]) {
                by_margin[i].push(label as u32, f64::from(margin));
                let p = f64::from(paths[i][label]) / (1.0 + f64::from(-margin).exp());
                by_path[i].push(label as u32, p);
            }
        }
    }
    for (i, best) in by_margin.into_iter().enumerate() {
        let ids = best.ids();
        truth.paths.extend(ids.iter().map(|&label| paths[i][label as usize]));
        truth.by_margin.push(ids);
    }
    truth.by_path = by_path.into_iter().map(Best::ids).collect();
    truth
}

/// s_c of all clusters.
fn cluster_scores(query: &[f32], index: &LearnedIndex, alpha: f32, truth: &mut Truth) -> Vec<f32> {
    let clusters = index.clusters();
    let mut scores: Vec<f32> = (0..clusters.rows())
        .map(|c| query.iter().zip(clusters.row(c).iter()).map(|(x, w)| x * w).sum())
        .collect();
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for v in &mut scores {
        *v = (*v - largest).exp();
    }
    let sum: f32 = scores.iter().sum();
    for v in &mut scores {
        *v /= sum;
    }
    let mut sorted = scores.clone();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    truth.in_ten.push(sorted.iter().take(10).sum());
    for v in &mut scores {
        *v = (alpha * *v).min(1.0);
    }
    truth.at_one.push(scores.iter().filter(|&&s| s >= ONE).count());
    scores
}

impl Truth {
    /// How peaked the index is, and what it thinks of the labels that brute force finds.
    pub(crate) fn describe(&self, index: &LearnedIndex) -> Value {
        let edges = index.edges();
        let at_one: usize =
            (0..edges.clusters()).map(|c| edges.of(c).1.iter().filter(|log| log.exp() >= ONE).count()).sum();
        let per_label = edges.per_label();
        let share =
            |floor: f32| self.paths.iter().filter(|&&p| p >= floor).count() as f64 / self.paths.len() as f64;
        let of_queries = |total: f64| total / self.at_one.len() as f64;
        json!({
            "what": "index", "clusters": edges.clusters(), "edges": edges.len(),
            "clusters_of_a_label": edges.len() as f64 / per_label.len() as f64,
            "edges_of_a_cluster_at_one": at_one as f64 / edges.clusters() as f64,
            "clusters_of_a_query_at_one": of_queries(self.at_one.iter().sum::<usize>() as f64),
            "softmax_in_ten_clusters": of_queries(self.in_ten.iter().map(|&v| f64::from(v)).sum()),
            "true_labels_with_a_path": share(f32::MIN_POSITIVE),
            "true_labels_with_path_0.1": share(0.1),
            "true_labels_with_path_0.5": share(0.5),
            "true_labels_with_path_1": share(ONE),
            "recall_of_all_paths": recall(&self.by_path, &self.by_margin),
        })
    }
}

/// Share of the true labels that were found.
pub(crate) fn recall(found: &[Vec<u32>], truth: &[Vec<u32>]) -> f64 {
    let hits: usize = found
        .iter()
        .zip(truth)
        .map(|(found, truth)| truth.iter().filter(|id| found.contains(id)).count())
        .sum();
    hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}

/// The largest few of many, by insertion.
#[derive(Clone)]
struct Best {
    most: usize,
    sorted: Vec<(f64, u32)>,
}

impl Best {
    fn new(most: usize) -> Self {
        Best { most, sorted: Vec::with_capacity(most + 1) }
    }

    /// Labels come by rising id: of equal scores the first stays.
    fn push(&mut self, label: u32, score: f64) {
        if self.sorted.len() == self.most && self.sorted.last().is_some_and(|last| last.0 >= score) {
            return;
        }
        let at = self.sorted.partition_point(|held| held.0 >= score);
        self.sorted.insert(at, (score, label));
        self.sorted.truncate(self.most);
    }

    fn ids(self) -> Vec<u32> {
        self.sorted.into_iter().map(|held| held.1).collect()
    }
}
