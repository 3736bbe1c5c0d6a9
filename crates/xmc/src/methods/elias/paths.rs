//! Which labels does a row meet, and on which path? (spec: ELIAS, 3.1 and 3.2)
//!
//! A row goes to a few clusters and from them to the K labels with the best paths. In training, each of its own labels
//! that any of these clusters leads to is there too, with its best path, even behind the K best: it is what the row
//! has to learn. Rows are looked at in parallel, a few in a task; what comes out does not depend on the others.

use rayon::prelude::*;
use xmc_data::Csr;
use xmc_data::csr::Row;

use super::beam::{self, Chosen};
use super::graph::{EdgeList, Graph, PAD};
use super::merge::{Found, Merge};

/// Rows of a task.
const ROWS: usize = 8;

/// The paths of a few rows, and where they come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    /// Paths of row i are `indptr[i]..indptr[i + 1]` of the others, `[b + 1]`.
    pub(super) indptr: Vec<usize>,
    /// Rising within a row.
    pub(super) labels: Vec<u32>,
    /// Which of the row's clusters leads to the label.
    pub(super) slots: Vec<u32>,
    /// Its edge, as a place among those of the cluster.
    pub(super) edges: Vec<u32>,
    /// log s_c + log s_cl
    pub(super) log_scores: Vec<f32>,
    /// What the label should get; above 0 for those of the row.
    pub(super) targets: Vec<f32>,
    /// Clusters of row i are `chosen_indptr[i]..chosen_indptr[i + 1]` of `chosen`, `[b + 1]`.
    pub(super) chosen_indptr: Vec<usize>,
    /// Best first within a row.
    pub(super) chosen: Vec<Chosen>,
    /// lse of the logits of each row, `[b]`.
    pub(super) normalisers: Vec<f32>,
}

/// How paths are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    pub(super) graph: &'a Graph,
    pub(super) ln_alpha: f32,
    pub(super) beam: usize,
    pub(super) shortlist: usize,
}

/// What one thread needs besides.
#[derive(Default)]
struct Scratch {
    merge: Merge,
    found: Vec<Found>,
    order: Vec<u64>,
    parents: Vec<u32>,
}

impl Search<'_> {
    /// Paths of rows with cluster `logits [b, C]`; in training with the rows' labels `y [b, L]` and the parents of all
    /// labels.
    pub(super) fn paths(&self, logits: &[f32], training: Option<(&Csr, &[u32])>) -> Paths {
        let clusters = self.graph.clusters().max(1);
        let parts = logits.par_chunks(ROWS * clusters).enumerate().with_max_len(1);
        let parts: Vec<Paths> = parts
            .map_init(Scratch::default, |scratch, (task, logits)| {
                let mut paths = Paths::new();
                for (i, logits) in (task * ROWS..).zip(logits.chunks_exact(clusters)) {
                    let own = training.map(|(y, parents)| (y.row(i), parents));
                    self.row(logits, own, scratch, &mut paths);
                }
                paths
            })
            .collect();
        let mut all = Paths::new();
        for part in &parts {
            all.append(part);
        }
        all
    }

    fn row(
        &self,
        logits: &[f32],
        training: Option<(Row<'_>, &[u32])>,
        scratch: &mut Scratch,
        paths: &mut Paths,
    ) {
        let normaliser = beam::normaliser(logits);
        let shift = self.ln_alpha - normaliser;
        let chosen = match training {
            Some((own, parents)) => {
                scratch.parents.clear();
                scratch.parents.extend(positives(own).map(|(label, _)| parents[label as usize]));
                scratch.parents.retain(|&parent| parent != PAD);
                scratch.parents.sort_unstable();
                scratch.parents.dedup();
                beam::forced(logits, shift, self.beam, &scratch.parents)
            }
            None => beam::best(logits, shift, self.beam),
        };
        let lists: Vec<EdgeList<'_>> =
            chosen.iter().map(|c| self.graph.list(c.cluster, c.log_score())).collect();
        let own = training.map(|(own, _)| own);
        self.expand(&lists, own, scratch, paths);
        paths.normalisers.push(normaliser);
        paths.chosen.extend(chosen);
        paths.chosen_indptr.push(paths.chosen.len());
    }

    /// The best labels of `lists`, and those of the row itself.
    fn expand(&self, lists: &[EdgeList<'_>], own: Option<Row<'_>>, scratch: &mut Scratch, paths: &mut Paths) {
        let Scratch { merge, found, order, .. } = scratch;
        merge.best(lists, self.shortlist, found);
        for found in found.iter_mut() {
            found.at = lists[found.list as usize].edge(found.at);
        }
        for (label, _) in own.into_iter().flat_map(positives).filter(|(label, _)| !merge.has(*label)) {
            found.extend(best_path(lists, label));
        }
        order.clear();
        order.extend((0u64..).zip(found.iter()).map(|(i, found)| u64::from(found.label) << 32 | i));
        order.sort_unstable();
        let mut own = own.into_iter().flat_map(positives).peekable();
        for key in order.iter() {
            let found = found[*key as u32 as usize];
            while own.next_if(|(label, _)| *label < found.label).is_some() {}
            let target = own.peek().filter(|(label, _)| *label == found.label).map_or(0.0, |own| own.1);
            paths.push(found, target);
        }
        paths.indptr.push(paths.labels.len());
    }
}

/// Labels of a row and what they should get, more than 0 and at most 1.
fn positives(own: Row<'_>) -> impl Iterator<Item = (u32, f32)> {
    own.iter().filter(|(_, value)| *value > 0.0).map(|(label, value)| (label, value.min(1.0)))
}

/// The best of the paths to one label, `at` being its edge; the first of equals.
fn best_path(lists: &[EdgeList<'_>], label: u32) -> Option<Found> {
    let mut best: Option<Found> = None;
    for (list, edges) in (0..).zip(lists) {
        if let Some((at, value)) = edges.find(label)
            && best.is_none_or(|best| value > best.value)
        {
            best = Some(Found { label, value, list, at });
        }
    }
    best
}

impl Paths {
    /// Those of no rows.
    pub(super) fn new() -> Self {
        Paths { indptr: vec![0], chosen_indptr: vec![0], ..Paths::default() }
    }

    /// Adds a path to the row that is not closed yet.
    fn push(&mut self, found: Found, target: f32) {
        self.labels.push(found.label);
        self.slots.push(found.list);
        self.edges.push(found.at);
        self.log_scores.push(found.value);
        self.targets.push(target);
    }

    /// Puts the rows of `other` below these.
    fn append(&mut self, other: &Paths) {
        let (paths, chosen) = (self.labels.len(), self.chosen.len());
        self.indptr.extend(other.indptr[1..].iter().map(|at| paths + at));
        self.chosen_indptr.extend(other.chosen_indptr[1..].iter().map(|at| chosen + at));
        self.labels.extend_from_slice(&other.labels);
        self.slots.extend_from_slice(&other.slots);
        self.edges.extend_from_slice(&other.edges);
        self.log_scores.extend_from_slice(&other.log_scores);
        self.targets.extend_from_slice(&other.targets);
        self.chosen.extend_from_slice(&other.chosen);
        self.normalisers.extend_from_slice(&other.normalisers);
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.normalisers.len()
    }

    /// Clusters of a row.
    pub(super) fn chosen(&self, row: usize) -> &[Chosen] {
        &self.chosen[self.chosen_indptr[row]..self.chosen_indptr[row + 1]]
    }
}
