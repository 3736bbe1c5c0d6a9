//! How does a finished index find labels? Clusters, paths, then few classifiers.
//!
//! ```text
//! clusters   log s_c = min(0, ln alpha + logit_c - lse(logits)); the best `beam` of them
//! paths      log s_c + log s_cl along the best `edges` of each, a label by its best path; the best `shortlist` of them
//! labels     log p_l = log path + log sigmoid(w_l . x + b_l); the best `top_k`
//! ```
//!
//! Scores are p. A path is never below its label: log p <= log path. So paths are followed from the best on, and no
//! further than the k-th best label so far: the rest of the shortlist cannot be among the answers, and costs nothing.
//!
//! Clusters and classifiers are matrices of [`index`](crate::index). Of int8 ones the codes are read, and exact rows only
//! where the [error](crate::index::bound) of codes leaves open what is best. The answers are those of exact rows; only
//! the sum over all clusters, lse, is made of codes where clusters are not near the best.

use std::cmp::Ordering;

use xmc_data::topk::by_score;
use xmc_nn::Precision;
use xmc_nn::ops::softmax::log_sum_exp;

use super::edges::Edges;
use super::merge::{Found, Merge, Sorted};
use crate::error::{Error, Result};
use crate::index::{Dtype, LabelEmbeddings, Query};

/// Paths that are followed before it is asked whether more are worth it.
const BLOCK: usize = 256;

/// Clusters at least whose logits are exact in the sum over all of them.
const SUMMED: usize = 64;

/// From a text to the labels that are scored.
#[derive(Clone, Debug)]
pub struct LearnedIndex {
    /// `[C, d + 1]`, biases last
    clusters: LabelEmbeddings,
    edges: Edges,
    /// ln alpha, the gain of clusters
    gain: f32,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Clusters that a text goes to.
    pub beam: usize,
    /// Edges of a cluster that are followed, from the best on.
    pub edges: usize,
    /// Labels that are scored, K.
    pub shortlist: usize,
    /// Labels that are answered.
    pub top_k: usize,
}

impl LearnedIndex {
    /// Puts clusters `[C, d + 1]` (biases last), their edges and their gain alpha together.
    pub fn new(clusters: LabelEmbeddings, edges: Edges, alpha: f32) -> Result<Self> {
        if clusters.rows() != edges.clusters() || clusters.rows() == 0 {
            let (rows, known) = (clusters.rows(), edges.clusters());
            return Err(Error::Mismatch(format!(
                "{rows} clusters, but edges of {known}: mixed from two models?"
            )));
        }
        Ok(LearnedIndex { clusters, edges, gain: alpha.ln() })
    }

    /// How clusters are best stored beside labels in this precision. They are few, and all of them are read for a text:
    /// codes are what is fast, and the exact copy beside them costs little.
    pub fn clusters_dtype(labels: Dtype) -> Dtype {
        if labels == Dtype::F32 { Dtype::F32 } else { Dtype::Int8 }
    }

    /// Weights and biases of the clusters.
    pub fn clusters(&self) -> &LabelEmbeddings {
        &self.clusters
    }

    /// Where clusters lead to.
    pub fn edges(&self) -> &Edges {
        &self.edges
    }
}

/// Buffers to search for one text after the other; one for each thread. Nothing is allocated once they are warm.
pub struct Searcher<'m> {
    index: &'m LearnedIndex,
    labels: &'m LabelEmbeddings,
    reach: Reach,
    query: Query,
    /// `[C]`
    logits: Vec<f32>,
    /// Clusters and their log s_c, best first.
    beam: Vec<(u32, f32)>,
    candidates: Vec<u32>,
    scores: Vec<f32>,
    errors: Vec<f32>,
    /// The paths of each cluster in `beam`.
    lists: Vec<Paths<'m>>,
    merge: Merge,
    /// Labels and their best paths, best first.
    paths: Vec<Found>,
    bounds: Vec<Bounds>,
    found: Vec<(u32, f32)>,
}

/// The paths over a cluster of log-probability `log`, by falling log-probability.
#[derive(Clone, Copy, Debug)]
struct Paths<'m> {
    ids: &'m [u32],
    values: &'m [f32],
    log: f32,
}

impl Sorted for Paths<'_> {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn get(&self, at: usize) -> (u32, f32) {
        (self.ids[at], self.log + self.values[at])
    }
}

/// A label whose log p is in `[low, high]`.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    label: u32,
    path: f32,
    low: f32,
    high: f32,
}

impl<'m> Searcher<'m> {
    /// Searches `index` for rows of `labels` `[L, d + 1]`, biases last.
    pub fn new(index: &'m LearnedIndex, labels: &'m LabelEmbeddings, reach: Reach) -> Self {
        Searcher {
            index,
            labels,
            reach,
            query: Query::default(),
            logits: Vec::new(),
            beam: Vec::new(),
            candidates: Vec::new(),
            scores: Vec::new(),
            errors: Vec::new(),
            lists: Vec::new(),
            merge: Merge::default(),
            paths: Vec::new(),
            bounds: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The best labels for the embedding `x [d]`, best first, and their p.
    pub fn search(&mut self, x: &[f32]) -> Result<&[(u32, f32)]> {
        self.query.set_with_one(x, &self.index.clusters)?;
        let error = self.index.clusters.coarse(&mut self.query, &mut self.logits);
        self.choose(error);
        self.answer(x)
    }

    /// The same if the logits `[C]` of the clusters are known, as products in `precision`.
    pub(super) fn search_with(
        &mut self,
        x: &[f32],
        logits: &[f32],
        precision: Precision,
    ) -> Result<&[(u32, f32)]> {
        self.query.set_with_one(x, &self.index.clusters)?;
        let error = self.index.clusters.product_error(&self.query, precision);
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.choose(error);
        self.answer(x)
    }

    /// Leaves the best clusters in `beam`, by logits that are off by at most `error`.
    fn choose(&mut self, error: f32) {
        let b = self.reach.beam.clamp(1, self.logits.len());
        // The sum is made of the clusters near the best: these shall be exact too.
        let near = if error > 0.0 { b.max(SUMMED).min(self.logits.len()) } else { b };
        self.near_best(near, 2.0 * error);
        if error > 0.0 {
            self.index.clusters.exact_of(&self.query, &self.candidates, &mut self.scores);
            for (&c, &score) in self.candidates.iter().zip(&self.scores) {
                self.logits[c as usize] = score;
            }
        }
        let (largest, sum) = log_sum_exp(&self.logits, (f32::NEG_INFINITY, 0.0));
        let log_sum = f64::from(largest) + sum.ln();
        self.beam.clear();
        self.beam.extend(self.candidates.iter().map(|&c| (c, self.logits[c as usize])));
        best(&mut self.beam, b, by_score);
        for (_, value) in &mut self.beam {
            *value = (self.index.gain + (f64::from(*value) - log_sum) as f32).min(0.0);
        }
    }

    /// Leaves the clusters in `candidates` whose logits are at most `margin` below the b-th best.
    fn near_best(&mut self, b: usize, margin: f32) {
        // A floor that only rises: most logits pass by with one comparison.
        let full = 2 * b + 64;
        let (mut floor, logits, candidates) = (f32::NEG_INFINITY, &self.logits, &mut self.candidates);
        let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]);
        candidates.clear();
        let mut limit = full;
        for (c, &logit) in logits.iter().enumerate() {
            // NaN cannot be: weights and embeddings are representable.
            if logit < floor {
                continue;
            }
            candidates.push(c as u32);
            if candidates.len() >= limit {
                let (_, kth, _) = candidates.select_nth_unstable_by(b - 1, by_logit);
                floor = logits[*kth as usize] - margin;
                candidates.retain(|&c| logits[c as usize] >= floor);
                limit = full.max(2 * candidates.len());
            }
        }
        if candidates.len() > b {
            let (_, kth, _) = candidates.select_nth_unstable_by(b - 1, by_logit);
            floor = logits[*kth as usize] - margin;
            candidates.retain(|&c| logits[c as usize] >= floor);
        }
        candidates.sort_unstable();
    }

    /// Follows the paths of the clusters in `beam`.
    fn answer(&mut self, x: &[f32]) -> Result<&[(u32, f32)]> {
        self.follow();
        self.query.set_with_one(x, self.labels)?;
        self.bounds.clear();
        let k = self.reach.top_k;
        let mut floor = f32::NEG_INFINITY;
        for start in (0..self.reach.shortlist).step_by(BLOCK) {
            let end = (start + BLOCK).min(self.reach.shortlist);
            self.merge.more(&self.lists, end, &mut self.paths);
            if self.paths.get(start).is_none_or(|path| path.value < floor) {
                break;
            }
            self.score(start, floor);
            if k > 0 && self.bounds.len() > k {
                let by_low = |a: &Bounds, b: &Bounds| b.low.total_cmp(&a.low);
                let (_, kth, _) = self.bounds.select_nth_unstable_by(k - 1, by_low);
                floor = kth.low;
                self.bounds.retain(|label| label.high >= floor);
            }
        }
        self.rank();
        Ok(&self.found)
    }

    /// Prepares to follow the paths, from the best on.
    fn follow(&mut self) {
        let index = self.index;
        self.lists.clear();
        self.lists.extend(self.beam.iter().map(|&(cluster, log)| {
            let (ids, values) = index.edges.of(cluster as usize);
            let len = ids.len().min(self.reach.edges);
            Paths { ids: &ids[..len], values: &values[..len], log }
        }));
        self.merge.start(&self.lists, self.reach.shortlist, &mut self.paths);
    }

    /// Bounds the log p of the labels of the paths from `start` on, where it can reach `floor`.
    fn score(&mut self, start: usize, floor: f32) {
        let paths = &self.paths[start..];
        self.candidates.clear();
        self.candidates.extend(paths.iter().map(|path| path.label));
        let (scores, errors) = (&mut self.scores, &mut self.errors);
        self.labels.coarse_of(&mut self.query, &self.candidates, scores, errors);
        let scored = paths.iter().zip(&*scores).zip(&*errors);
        self.bounds.extend(scored.filter_map(|((&Found { label, value: path, .. }, &z), &error)| {
            // log sigmoid(z) <= min(0, z): for most labels neither exponential nor logarithm is needed.
            if path + (z + error).min(0.0) < floor {
                return None;
            }
            let low = path + log_sigmoid(z - error);
            let high = if error > 0.0 { path + log_sigmoid(z + error) } else { low };
            Some(Bounds { label, path, low, high })
        }));
    }

    /// Leaves the best labels in `found`, by exact scores.
    fn rank(&mut self) {
        self.candidates.clear();
        self.candidates.extend(self.bounds.iter().map(|label| label.label));
        self.labels.exact_of(&self.query, &self.candidates, &mut self.scores);
        self.found.clear();
        let ranked = self.bounds.iter().zip(&self.scores);
        self.found.extend(ranked.map(|(label, &z)| (label.label, label.path + log_sigmoid(z))));
        best(&mut self.found, self.reach.top_k, by_score);
        for (_, score) in &mut self.found {
            *score = score.exp();
        }
    }
}

/// Keeps the first `k` in order.
fn best<T>(values: &mut Vec<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) {
    if k == 0 {
        values.clear();
    } else if values.len() > k {
        values.select_nth_unstable_by(k - 1, &order);
        values.truncate(k);
    }
    values.sort_unstable_by(order);
}

/// ln (1 / (1 + e^-z)), without overflow.
pub(super) fn log_sigmoid(z: f32) -> f32 {
    z.min(0.0) - (-z.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xmc_nn::{Device, Tensor};

    use super::*;
    use crate::methods::elias::search_all;

    /// A graph of `clusters` to `labels` with up to 7 edges each, and queries.
    struct World {
        index: LearnedIndex,
        labels: LabelEmbeddings,
        x: Tensor,
        alpha: f32,
    }

    const DIM: usize = 9;

    fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            scale * ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn world(seed: u64, clusters: usize, labels: usize, dtype: Dtype) -> World {
        let alpha = 2.5;
        let (mut starts, mut ids, mut values) = (vec![0], Vec::new(), Vec::new());
        let draws = numbers(seed + 1, clusters * 8, 1.0);
        for draws in draws.chunks_exact(8) {
            let mut list: Vec<(u32, f32)> = draws[1..]
                .iter()
                .take(((draws[0] + 1.0) * 4.0) as usize)
                // Some values are equal, and some are clamped to 0.
                .map(|v| {
                    (((v + 1.0) * 0.5 * labels as f32) as u32 % labels as u32, (4.0 * v).round().min(0.0))
                })
                .collect();
            list.sort_by_key(|edge| edge.0);
            list.dedup_by_key(|edge| edge.0);
            ids.extend(list.iter().map(|edge| edge.0));
            values.extend(list.iter().map(|edge| edge.1));
            starts.push(ids.len());
        }
        let edges = Edges::new(labels, &starts, &ids, &values).unwrap();
        let matrix = |seed, rows: usize| {
            LabelEmbeddings::from_values(DIM + 1, &numbers(seed, rows * (DIM + 1), 2.0), dtype).unwrap()
        };
        World {
            index: LearnedIndex::new(matrix(seed + 2, clusters), edges, alpha).unwrap(),
            labels: matrix(seed + 3, labels),
            x: Tensor::from_host(70, DIM, numbers(seed + 4, 70 * DIM, 1.5), Device::Cpu).unwrap(),
            alpha,
        }
    }

    /// The answer of the formula, in f64, over all paths of the best clusters: label, best path, p.
    fn brute(world: &World, x: &[f32], reach: Reach) -> Vec<(u32, f64, f64)> {
        let score = |rows: &LabelEmbeddings, i: usize| -> f64 {
            let row = rows.row(i);
            x.iter().chain([&1.0]).zip(row.iter()).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let clusters = world.index.clusters();
        let logits: Vec<f64> = (0..clusters.rows()).map(|c| score(clusters, c)).collect();
        let sum: f64 = logits.iter().map(|v| v.exp()).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let mut paths = vec![f64::NEG_INFINITY; world.labels.rows()];
        for &c in order.iter().take(reach.beam) {
            let log = (f64::from(world.alpha) * logits[c].exp() / sum).min(1.0).ln();
            let (ids, values) = world.index.edges().of(c);
            for (&id, &value) in ids.iter().zip(values).take(reach.edges) {
                paths[id as usize] = paths[id as usize].max(log + f64::from(value));
            }
        }
        let mut all: Vec<(u32, f64, f64)> = (0..paths.len())
            .filter(|&l| paths[l] > f64::NEG_INFINITY)
            .map(|l| (l as u32, paths[l], (paths[l] - (-score(&world.labels, l)).exp().ln_1p()).exp()))
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(reach.shortlist);
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        all
    }

    fn near(found: &[(u32, f32)], expected: &[(u32, f64, f64)], k: usize) {
        assert_eq!(found.len(), k.min(expected.len()));
        assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
        for ((id, p), want) in found.iter().zip(expected) {
            // Equal ones may change places.
            assert!((f64::from(*p) - want.2).abs() <= 5e-3 * want.2 + 1e-9, "{p} {}", want.2);
            let own = expected.iter().find(|label| label.0 == *id).unwrap().2;
            assert!((f64::from(*p) - own).abs() <= 5e-3 * own + 1e-9, "{p} {own}");
        }
    }

    const ALL: Reach = Reach { beam: usize::MAX, edges: usize::MAX, shortlist: usize::MAX, top_k: 5 };

    proptest! {
        #[test]
        fn a_search_without_limits_is_brute_force_over_all_paths(
            seed in 0..1000u64, clusters in 1..40usize, labels in 1..60usize, top_k in 1..12usize,
        ) {
            for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
                let world = world(seed, clusters, labels, dtype);
                let reach = Reach { top_k, ..ALL };
                let mut searcher = Searcher::new(&world.index, &world.labels, reach);
                for x in world.x.host().chunks_exact(DIM).take(4) {
                    near(searcher.search(x).unwrap(), &brute(&world, x, reach), top_k);
                }
            }
        }

        #[test]
        fn limits_leave_out_what_they_say(
            seed in 0..1000u64, beam in 1..6usize, edges in 1..5usize,
        ) {
            let world = world(seed, 30, 50, Dtype::Int8);
            let reach = Reach { beam, edges, ..ALL };
            let mut searcher = Searcher::new(&world.index, &world.labels, reach);
            for x in world.x.host().chunks_exact(DIM).take(4) {
                near(searcher.search(x).unwrap(), &brute(&world, x, reach), 5);
            }
        }
    }

    #[test]
    fn many_texts_find_what_each_finds_alone() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            let world = world(5, 700, 900, dtype);
            let reach = Reach { beam: 20, ..ALL };
            let all = search_all(&world.index, &world.labels, reach, &world.x).unwrap();
            let mut searcher = Searcher::new(&world.index, &world.labels, reach);
            for (i, x) in world.x.host().chunks_exact(DIM).enumerate() {
                let alone = searcher.search(x).unwrap();
                assert_eq!(alone.len(), all.row(i).len());
                for (a, b) in alone.iter().zip(all.row(i)) {
                    assert!((a.1 - b.1).abs() <= 5e-3 * a.1, "{dtype} {a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_shortlist_holds_the_best_paths() {
        let world = world(9, 40, 80, Dtype::F32);
        let x = &world.x.host()[..DIM];
        for shortlist in [1, 3, 10] {
            let reach = Reach { shortlist, top_k: 100, ..ALL };
            let mut searcher = Searcher::new(&world.index, &world.labels, reach);
            let found = searcher.search(x).unwrap();
            let every = brute(&world, x, ALL);
            assert_eq!(found.len(), shortlist);
            let path = |id: u32| every.iter().find(|label| label.0 == id).unwrap().1;
            let worst = found.iter().map(|label| path(label.0)).fold(f64::INFINITY, f64::min);
            let better = every.iter().filter(|label| label.1 > worst + 1e-5).count();
            assert!(better < shortlist, "{better} better paths than the worst of {shortlist}");
        }
    }

    #[test]
    fn parts_of_two_models_are_refused() {
        let (a, b) = (world(1, 5, 9, Dtype::F32), world(1, 6, 9, Dtype::F32));
        let message = LearnedIndex::new(a.index.clusters().clone(), b.index.edges().clone(), 1.0);
        assert!(message.unwrap_err().to_string().contains("5 clusters, but edges of 6"));
        let mut searcher = Searcher::new(&a.index, &a.labels, ALL);
        assert!(searcher.search(&[0.0; 3]).unwrap_err().to_string().contains("the model expects 9"));
    }
}
