//! Which labels does a cluster lead to, and how strongly? (spec: ELIAS, 2.1 and 2.5)
//!
//! Cluster c has kappa_c edges to labels, each with a logit a. The score of an edge is
//!
//! ```text
//! s_cl = min(1, beta softmax(a_c)_l)        log s_cl = min(0, ln beta + a_cl - lse(a_c))
//! ```
//!
//! or 1 in a fixed graph, where every label hangs on one cluster. The edges of a cluster are stored by rising label, so
//! that one of them is found by bisection; `order` walks them by falling logit, for merging. An edge to [`PAD`] takes its
//! part of the softmax and leads nowhere: graphs of the original program have such edges.

use rayon::prelude::*;
use xmc_data::Csr;
use xmc_nn::ops::softmax::log_sum_exp;

pub use super::merge::PAD;
use super::merge::Sorted;
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// Clusters of a task.
const TASK: usize = 16;

/// Edges from C clusters to L labels.
#[derive(Clone, Debug)]
pub struct Graph {
    labels: usize,
    /// `[C + 1]`
    indptr: Vec<usize>,
    /// Labels of the edges, rising within a cluster.
    ids: Vec<u32>,
    learned: Option<Learned>,
}

/// What edges that learn have besides.
#[derive(Clone, Debug)]
struct Learned {
    ln_beta: f32,
    logits: Vec<f32>,
    /// Places of the edges of a cluster within it, by falling logit.
    order: Vec<u32>,
    /// lse(a_c), `[C]`.
    normalisers: Vec<f32>,
}

/// The edges of a cluster by falling log s_cl, each plus `base`.
#[derive(Clone, Copy, Debug)]
pub(super) struct EdgeList<'a> {
    ids: &'a [u32],
    sorted: Option<(&'a [f32], &'a [u32])>,
    /// ln beta - lse(a_c)
    shift: f32,
    base: f32,
}

/// The least value of an edge that counts.
const LEAST: f32 = 1e-6;

impl Graph {
    /// A graph of `clusters` clusters in which label l hangs on `of_label[l]` alone, or on none if that is [`PAD`].
    pub fn fixed(of_label: &[u32], clusters: usize) -> Result<Self> {
        let mut indptr = vec![0; clusters + 1];
        for (label, &cluster) in of_label.iter().enumerate().filter(|(_, cluster)| **cluster != PAD) {
            let Some(count) = indptr.get_mut(cluster as usize + 1) else {
                return Err(Error::Mismatch(format!(
                    "label {label} is in cluster {cluster}; expected less than {clusters}"
                )));
            };
            *count += 1;
        }
        for c in 0..clusters {
            indptr[c + 1] += indptr[c];
        }
        let mut next = indptr.clone();
        let mut ids = vec![0; indptr[clusters]];
        for (label, &cluster) in (0..).zip(of_label).filter(|(_, cluster)| **cluster != PAD) {
            ids[next[cluster as usize]] = label;
            next[cluster as usize] += 1;
        }
        Ok(Graph { labels: of_label.len(), indptr, ids, learned: None })
    }

    /// The edges of `edges [C, L]`, whose values do not count; first logits are uniform in [0, 1).
    pub fn learned(edges: &Csr, beta: f32, seed: u64) -> Result<Self> {
        let indptr: Vec<usize> = edges.indptr().iter().map(|&at| at as usize).collect();
        let clusters: Vec<usize> = (0..edges.rows()).collect();
        let logits = clusters.par_iter().flat_map_iter(|&c| {
            let mut draws = Draws::new(seed, Purpose::Edges, c as u64);
            (indptr[c]..indptr[c + 1]).map(move |_| draws.unit())
        });
        let logits = logits.collect();
        Graph::from_parts(edges.cols(), indptr, edges.indices().to_vec(), Some((logits, beta)))
    }

    /// The edges of `edges [C, L]`, whose first logits are the logarithms of their values: the first score of an edge is
    /// min(1, beta value / sum of the values of its cluster).
    pub fn weighted(edges: &Csr, beta: f32) -> Result<Self> {
        // Some edges are kept so that a label has one, however rarely it was met there.
        let logits = edges.values().iter().map(|value| value.max(LEAST).ln()).collect();
        let indptr = edges.indptr().iter().map(|&at| at as usize).collect();
        Graph::from_parts(edges.cols(), indptr, edges.indices().to_vec(), Some((logits, beta)))
    }

    /// A graph from what [`Graph::indptr`], [`Graph::ids`] and [`Graph::logits`] gave; logits with their beta, or none if
    /// it is fixed.
    pub fn from_parts(
        labels: usize,
        indptr: Vec<usize>,
        ids: Vec<u32>,
        logits: Option<(Vec<f32>, f32)>,
    ) -> Result<Self> {
        let wrong = |problem: String| Err(Error::Mismatch(format!("edges of clusters: {problem}")));
        let edges = ids.len();
        if indptr.first() != Some(&0) || !indptr.is_sorted() || indptr.last() != Some(&edges) {
            return wrong(format!("offsets must rise from 0 to {edges}"));
        }
        for (c, ends) in indptr.windows(2).enumerate() {
            let ids = &ids[ends[0]..ends[1]];
            let leading = ids.partition_point(|&label| label != PAD);
            let rising = ids[..leading].is_sorted_by(|a, b| a < b);
            let pads = ids[leading..].iter().all(|&label| label == PAD);
            if !rising || !pads || ids[..leading].last().is_some_and(|&label| label as usize >= labels) {
                return wrong(format!("labels of cluster {c} must rise and lie below {labels}"));
            }
        }
        let mut graph = Graph { labels, indptr, ids, learned: None };
        if let Some((logits, beta)) = logits {
            if logits.len() != edges || !(beta > 0.0 && beta.is_finite()) {
                let found = logits.len();
                return wrong(format!("{found} logits with beta {beta} for {edges} edges"));
            }
            let (order, normalisers) = (vec![0; edges], vec![0.0; graph.clusters()]);
            graph.learned = Some(Learned { ln_beta: beta.ln(), logits, order, normalisers });
            let places = |c: usize| 0..(graph.indptr[c + 1] - graph.indptr[c]) as u32;
            let order = (0..graph.clusters()).flat_map(places).collect();
            if let Some(learned) = &mut graph.learned {
                learned.order = order;
            }
            graph.refresh_all();
        }
        Ok(graph)
    }

    /// Number of clusters C.
    pub fn clusters(&self) -> usize {
        self.indptr.len() - 1
    }

    /// Number of labels L.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// Where the edges of each cluster begin, and the last ones end, `[C + 1]`.
    pub fn indptr(&self) -> &[usize] {
        &self.indptr
    }

    /// The labels of all edges; those of a cluster rise, and end with [`PAD`] if there are such.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The labels of the edges of a cluster.
    pub fn edges(&self, cluster: u32) -> &[u32] {
        let c = cluster as usize;
        &self.ids[self.indptr[c]..self.indptr[c + 1]]
    }

    /// The logits of all edges, in the order of [`Graph::ids`]; none if the graph is fixed.
    pub fn logits(&self) -> Option<&[f32]> {
        self.learned.as_ref().map(|learned| learned.logits.as_slice())
    }

    /// The same, to be changed; call [`Graph::refresh`] then.
    pub(super) fn logits_mut(&mut self) -> Option<&mut [f32]> {
        self.learned.as_mut().map(|learned| learned.logits.as_mut_slice())
    }

    /// Sorts the edges of clusters `touched` (rising) and sums their exponentials again.
    pub(super) fn refresh(&mut self, touched: &[u32]) {
        let Some(learned) = &mut self.learned else { return };
        let (indptr, logits) = (&self.indptr, &learned.logits);
        let mut tasks = Vec::with_capacity(touched.len());
        let (mut order, mut normalisers) = (learned.order.as_mut_slice(), learned.normalisers.as_mut_slice());
        let (mut edges_done, mut clusters_done) = (0, 0);
        for &cluster in touched {
            let c = cluster as usize;
            let (order_c, normaliser);
            (order_c, order) = order[indptr[c] - edges_done..].split_at_mut(indptr[c + 1] - indptr[c]);
            (normaliser, normalisers) = normalisers[c - clusters_done..].split_at_mut(1);
            tasks.push((&logits[indptr[c]..indptr[c + 1]], order_c, normaliser));
            (edges_done, clusters_done) = (indptr[c + 1], c + 1);
        }
        tasks.par_chunks_mut(TASK).for_each_init(Vec::new, |keys, tasks| {
            for (logits, order, normaliser) in tasks {
                sort(logits, order, keys);
                let (largest, sum) = log_sum_exp(logits, (f32::NEG_INFINITY, 0.0));
                normaliser[0] = largest + sum.ln() as f32;
            }
        });
    }

    /// The same for all clusters.
    pub(super) fn refresh_all(&mut self) {
        self.refresh(&(0..self.clusters() as u32).collect::<Vec<_>>());
    }

    /// ln beta + a_cl - lse(a_c) of edge `at` of a cluster: above 0, the score is held at 1. 0 in a fixed graph.
    pub(super) fn raw(&self, cluster: u32, at: usize) -> f32 {
        match &self.learned {
            Some(learned) => learned.shift(cluster) + learned.logits[self.indptr[cluster as usize] + at],
            None => 0.0,
        }
    }

    /// log s_cl of all edges of a cluster, in the order of [`Graph::edges`].
    pub fn log_values(&self, cluster: u32, out: &mut Vec<f32>) {
        out.clear();
        out.extend((0..self.edges(cluster).len()).map(|at| clamped(self.raw(cluster, at))));
    }

    /// Places of the edges of a cluster in [`Graph::edges`], by falling score; equal logits by rising label.
    pub fn order(&self, cluster: u32) -> Vec<u32> {
        let c = cluster as usize;
        match &self.learned {
            Some(learned) => learned.order[self.indptr[c]..self.indptr[c + 1]].to_vec(),
            None => (0..(self.indptr[c + 1] - self.indptr[c]) as u32).collect(),
        }
    }

    /// The edges of a cluster for merging, all values plus `base`.
    pub(super) fn list(&self, cluster: u32, base: f32) -> EdgeList<'_> {
        let range = self.indptr[cluster as usize]..self.indptr[cluster as usize + 1];
        let ids = &self.ids[range.clone()];
        match &self.learned {
            Some(learned) => {
                let sorted = Some((&learned.logits[range.clone()], &learned.order[range]));
                EdgeList { ids, sorted, shift: learned.shift(cluster), base }
            }
            None => EdgeList { ids, sorted: None, shift: 0.0, base },
        }
    }

    /// softmax(a_c) of a cluster into `out`, and nothing of a fixed graph.
    pub(super) fn softmax(&self, cluster: u32, out: &mut Vec<f32>) {
        out.clear();
        if let Some(learned) = &self.learned {
            let c = cluster as usize;
            let normaliser = learned.normalisers[c];
            let logits = &learned.logits[self.indptr[c]..self.indptr[c + 1]];
            out.extend(logits.iter().map(|a| a - normaliser));
            xmc_nn::ops::exp::exp(out);
        }
    }

    /// The parent of every label, the cluster with the best edge to it (the first of equals), `[L]`; [`PAD`] for a label
    /// without edges.
    pub fn parents(&self) -> Vec<u32> {
        let mut parents = vec![PAD; self.labels];
        let mut best = vec![f32::NEG_INFINITY; self.labels];
        for cluster in 0..self.clusters() as u32 {
            let edges = self.edges(cluster).iter().enumerate();
            for (at, &label) in edges.filter(|(_, label)| **label != PAD) {
                let value = clamped(self.raw(cluster, at));
                if value > best[label as usize] {
                    (best[label as usize], parents[label as usize]) = (value, cluster);
                }
            }
        }
        parents
    }
}

impl Learned {
    fn shift(&self, cluster: u32) -> f32 {
        self.ln_beta - self.normalisers[cluster as usize]
    }
}

/// min(0, raw) of the logarithm of a score; NaN stays.
pub(super) fn clamped(raw: f32) -> f32 {
    if raw > 0.0 { 0.0 } else { raw }
}

/// Sorts places by falling logit, equal ones by place.
fn sort(logits: &[f32], order: &mut [u32], keys: &mut Vec<u64>) {
    keys.clear();
    keys.extend(order.iter().map(|&at| {
        let bits = logits[at as usize].to_bits();
        // Larger floats get smaller keys.
        let key = if bits >> 31 == 1 { bits } else { !bits & (u32::MAX >> 1) };
        u64::from(key) << 32 | u64::from(at)
    }));
    keys.sort_unstable();
    for (at, key) in order.iter_mut().zip(keys.iter()) {
        *at = *key as u32;
    }
}

impl EdgeList<'_> {
    /// The place in [`Graph::edges`] of the entry at `at`.
    pub(super) fn edge(&self, at: u32) -> u32 {
        self.sorted.map_or(at, |(_, order)| order[at as usize])
    }

    /// The place in [`Graph::edges`] of the edge to `label`, and its value.
    pub(super) fn find(&self, label: u32) -> Option<(u32, f32)> {
        let at = self.ids.binary_search(&label).ok()?;
        Some((at as u32, self.value(at)))
    }

    fn value(&self, at: usize) -> f32 {
        match self.sorted {
            Some((logits, _)) => self.base + clamped(self.shift + logits[at]),
            None => self.base,
        }
    }
}

impl Sorted for EdgeList<'_> {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn get(&self, at: usize) -> (u32, f32) {
        let at = self.edge(at as u32) as usize;
        (self.ids[at], self.value(at))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    struct Golden {
        #[serde(rename = "A_param")]
        logits: Vec<Vec<f32>>,
        #[serde(rename = "A_inds")]
        ids: Vec<Vec<u32>>,
        beta: f32,
        edge_values: Vec<Vec<f32>>,
        parent: Vec<u32>,
        num_labels: u32,
    }

    fn golden() -> (Golden, Graph) {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/elias_edges.json")).unwrap();
        let width = golden.ids[0].len();
        let indptr = (0..=golden.ids.len()).map(|c| c * width).collect();
        let ids = golden.ids.iter().flatten().map(|&l| if l == golden.num_labels { PAD } else { l });
        let ids = ids.collect();
        let logits = golden.logits.concat();
        let graph =
            Graph::from_parts(golden.num_labels as usize, indptr, ids, Some((logits, golden.beta))).unwrap();
        (golden, graph)
    }

    #[test]
    fn first_scores_of_weighted_edges_are_shares_of_their_cluster() {
        let edges = Csr::new(2, 3, vec![0, 3, 4], vec![0, 1, 2, 1], vec![0.5, 1.5, 0.0, 2.0]).unwrap();
        let graph = Graph::weighted(&edges, 1.2).unwrap();
        let mut values = Vec::new();
        graph.log_values(0, &mut values);
        for (value, want) in values.iter().zip([1.2 * 0.25, 1.2 * 0.75, 1.2 * 5e-7]) {
            assert!((value.exp() / want - 1.0).abs() < 1e-4, "{values:?}");
        }
        graph.log_values(1, &mut values);
        assert_eq!(values, [0.0]);
    }

    #[test]
    fn values_and_parents_are_those_of_the_golden_file() {
        let (golden, graph) = golden();
        let mut values = Vec::new();
        for (c, want) in (0..).zip(&golden.edge_values) {
            graph.log_values(c, &mut values);
            for (value, want) in values.iter().zip(want) {
                assert!((value.exp() - want).abs() < 1e-6, "{value} {want}");
            }
        }
        for (label, (&found, &want)) in graph.parents().iter().zip(&golden.parent).enumerate() {
            // The original gives labels without edges to cluster 0.
            let reached = graph.ids().contains(&(label as u32));
            assert_eq!(found, if reached { want } else { PAD }, "label {label}");
        }
    }

    #[test]
    fn lists_fall_and_hold_every_edge_also_after_a_step() {
        let (_, mut graph) = golden();
        graph.logits_mut().unwrap().iter_mut().enumerate().for_each(|(i, a)| *a += (i as f32 * 1.7).sin());
        graph.refresh(&[0, 2, 3]);
        for cluster in [0, 2, 3] {
            let list = graph.list(cluster, -0.5);
            let entries: Vec<(u32, f32)> = (0..list.len()).map(|at| list.get(at)).collect();
            assert!(entries.is_sorted_by(|a, b| a.1 >= b.1), "{entries:?}");
            let mut places: Vec<u32> = (0..5).map(|at| list.edge(at)).collect();
            for (at, &(label, value)) in entries.iter().enumerate().filter(|(_, entry)| entry.0 != PAD) {
                assert_eq!(list.find(label), Some((places[at], value)));
            }
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2, 3, 4]);
            let mut p = Vec::new();
            graph.softmax(cluster, &mut p);
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_fixed_graph_has_every_label_in_its_cluster() {
        let of_label = [2, 0, PAD, 2, 1, 0];
        let graph = Graph::fixed(&of_label, 4).unwrap();
        assert_eq!((0..4).map(|c| graph.edges(c)).collect::<Vec<_>>(), [&[1, 5][..], &[4], &[0, 3], &[]]);
        assert_eq!((graph.parents(), graph.logits()), (of_label.to_vec(), None));
        let message = Graph::fixed(&[0, 4], 4).unwrap_err().to_string();
        assert_eq!(message, "label 1 is in cluster 4; expected less than 4");
    }

    #[test]
    fn first_logits_are_uniform_and_depend_on_the_seed() {
        let rows = 200;
        let indices: Vec<u32> = (0..rows).flat_map(|_| 0..50).collect();
        let indptr: Vec<u64> = (0..=rows).map(|c| c * 50).collect();
        let values = vec![1.0; indices.len()];
        let edges = Csr::new(rows as usize, 50, indptr, indices, values).unwrap();
        let graph = |seed| Graph::learned(&edges, 3.0, seed).unwrap();
        let logits = graph(1).logits().unwrap().to_vec();
        assert_eq!(logits, graph(1).logits().unwrap());
        assert_ne!(logits, graph(2).logits().unwrap());
        assert!(logits.iter().all(|a| (0.0..1.0).contains(a)));
        let mean = logits.iter().sum::<f32>() / logits.len() as f32;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn edges_that_do_not_fit_are_refused() {
        let parts = |indptr: &[usize], ids: &[u32], logits| {
            Graph::from_parts(9, indptr.to_vec(), ids.to_vec(), logits).map(|_| ()).unwrap_err().to_string()
        };
        assert!(parts(&[0, 3], &[1, 2], None).contains("offsets must rise from 0 to 2"));
        for ids in [[2, 1], [1, 1], [1, 9], [PAD, 1]] {
            assert!(parts(&[0, 2], &ids, None).contains("labels of cluster 0 must rise and lie below 9"));
        }
        assert!(parts(&[0, 2], &[1, 2], Some((vec![0.0], 1.0))).contains("1 logits with beta 1 for 2 edges"));
    }
}
