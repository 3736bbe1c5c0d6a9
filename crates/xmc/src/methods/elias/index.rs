//! How does the index find labels, and how does it learn to? (spec: ELIAS, 2 and 3)
//!
//! ```text
//! log p_l = log s_c + log s_cl + log sigmoid(w_l . x + b_l)        on the best path to label l
//! loss    = L_c + lambda L_s
//! L_c     = sum of BCE(p, t) over the labels that rows meet / (rows of the step * K)
//! L_s     = sum of -(log s_c + log s_cl) over the rows' own labels that are reached / (rows of the step * P)
//! ```
//!
//! A row meets the labels with the K best paths and its own ones that are reached; teacher forcing reaches all that have
//! an edge. [`Index::part`] makes loss and gradients of some rows of a step and changes nothing; [`Index::apply`] moves
//! clusters, edges and classifiers by all parts of the step. Nothing is ever as long as rows × labels, and of the
//! classifiers only those met are touched.
//!
//! Cost of a step of B rows: three products of 2 B C d operations for the clusters, B K log b for the merge, 6 B K d for
//! the classifiers, and a pass over the edges of the clusters that were met. Gradients wait in 4 B C + 20 B K bytes.
//!
//! Differences from the original program: labels that two clusters of a row lead to count once in stage 1 too; own
//! labels behind the K best are scored; parents are never lost; logarithms instead of products of probabilities.
//!
//! ```
//! use xmc::methods::elias::{Graph, Index, IndexConfig, IndexOptions, Rates};
//! use xmc::nn::{Device, Tensor};
//! use xmc::data::Csr;
//! // Four labels in two clusters; two rows, each with one label.
//! let graph = Graph::fixed(&[0, 0, 1, 1], 2)?;
//! let mut index = Index::new(graph, 2, &IndexConfig::default(), &IndexOptions::default())?;
//! let x = Tensor::from_host(2, 2, vec![1.0, 0.0, 0.0, 1.0], Device::Cpu)?;
//! let y = Csr::new(2, 4, vec![0, 1, 2], vec![1, 2], vec![1.0, 1.0])?;
//! for _ in 0..100 {
//!     let part = index.part(&x, &y, index.scale(2, 1, 0.05))?;
//!     index.apply(x.host(), &[part.gradients], Rates { clusters: 0.1, labels: 0.1 }, 0)?;
//! }
//! let top = index.predict(&x, 1, None, None)?;
//! assert_eq!((top.row(0)[0].0, top.row(1)[0].0), (1, 2));
//! # Ok::<(), xmc::Error>(())
//! ```

use std::path::PathBuf;

use xmc_data::{Csr, TopK};
use xmc_nn::optim::{AdamWConfig, RowAdamW};
use xmc_nn::table::{LabelTable, Pairs, Place, TableConfig};
use xmc_nn::{Precision, Tensor};

use super::beam;
use super::cluster_head::ClusterHead;
use super::config::IndexConfig;
use super::edge_slopes::{self, EdgeSlopes};
use super::graph::Graph;
use super::part::Scored;
use super::path_loss::probabilities;
use super::paths::{Paths, Search};
use crate::encoder::best_precision;
use crate::error::{Error, Result};
use crate::methods::checkpoints::named;

/// How an index lies in memory and moves.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// The classifiers.
    pub table: TableConfig,
    /// The optimiser of clusters and edges.
    pub adam: AdamWConfig,
    /// A folder for classifiers that do not fit into memory.
    pub working_folder: Option<PathBuf>,
    /// Operands of the products with clusters.
    pub precision: Precision,
    /// Seed of first weights.
    pub seed: u64,
}

impl Default for IndexOptions {
    fn default() -> Self {
        IndexOptions {
            table: TableConfig::default(),
            adam: AdamWConfig::default(),
            working_folder: None,
            precision: best_precision(),
            seed: 0,
        }
    }
}

/// Clusters, their edges to labels, and a classifier for every label.
#[derive(Debug)]
pub struct Index {
    pub(super) clusters: ClusterHead,
    pub(super) graph: Graph,
    pub(super) labels: LabelTable,
    /// None in a fixed graph.
    edges: Option<RowAdamW>,
    /// Where teacher forcing leads, `[L]`.
    parents: Vec<u32>,
    ln_alpha: f32,
    beam: usize,
    shortlist: usize,
}

/// What losses are divided by.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Rows of the whole step, B.
    pub rows_of_step: usize,
    /// Labels that a row is compared with, K.
    pub shortlist_count: usize,
    /// The most labels that a row of the step has, P.
    pub positives_count: usize,
    /// Weight of the shortlist loss.
    pub lambda: f32,
}

/// Learning rates of a step.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of the clusters.
    pub clusters: f32,
    /// Of classifiers and edges.
    pub labels: f32,
}

/// Loss and gradients of some rows of a step.
#[derive(Clone, Debug)]
pub struct Part {
    /// L_c + lambda L_s.
    pub loss: f64,
    /// L_c.
    pub classification: f64,
    /// L_s.
    pub shortlist: f64,
    /// d loss / d x `[b, d]`.
    pub dx: Tensor,
    /// For [`Index::apply`].
    pub gradients: PartGradients,
}

/// Gradients of clusters, edges and classifiers, as slopes with respect to logits, scores and margins.
#[derive(Clone, Debug)]
pub struct PartGradients {
    /// `[b, C]`
    pub(super) cluster_slopes: Vec<f32>,
    pub(super) edge_slopes: EdgeSlopes,
    /// `[b + 1]`
    pub(super) indptr: Vec<usize>,
    pub(super) labels: Vec<u32>,
    pub(super) label_slopes: Vec<f32>,
}

/// Labels that a search scores, and their paths.
#[derive(Clone, Debug)]
pub struct Shortlist {
    /// Labels of row i are `indptr[i]..indptr[i + 1]` of the others, `[b + 1]`.
    pub indptr: Vec<usize>,
    /// Rising within a row.
    pub labels: Vec<u32>,
    /// log s_c + log s_cl of the best path.
    pub log_scores: Vec<f32>,
}

impl Index {
    /// An index for embeddings of `dim` columns. Clusters begin at random, classifiers at 0.
    pub fn new(graph: Graph, dim: usize, config: &IndexConfig, options: &IndexOptions) -> Result<Self> {
        if dim == 0 || graph.clusters() == 0 || graph.labels() == 0 {
            let (clusters, labels) = (graph.clusters(), graph.labels());
            return Err(Error::Mismatch(format!(
                "an index of {clusters} clusters and {labels} labels for embeddings of {dim} columns"
            )));
        }
        let place = options.working_folder.as_deref().map_or(Place::Memory, Place::File);
        let labels = LabelTable::new(graph.labels(), dim, options.table, place)?;
        let clusters = ClusterHead::new(graph.clusters(), dim, options.adam, options.precision, options.seed);
        let edges = match graph.logits() {
            Some(_) => Some(RowAdamW::ragged(graph.indptr().to_vec(), options.adam)?),
            None => None,
        };
        let parents = graph.parents();
        let (ln_alpha, beam, shortlist) = (config.alpha.ln(), config.beam, config.shortlist);
        Ok(Index { clusters, graph, labels, edges, parents, ln_alpha, beam, shortlist })
    }

    /// The edges.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Weights of the clusters `[C, d + 1]`, the bias last.
    pub fn clusters(&self) -> &[f32] {
        self.clusters.weights()
    }

    /// Replaces the weights of the clusters `[C, d + 1]`.
    pub fn set_clusters(&mut self, weights: &[f32]) -> Result<()> {
        self.clusters.set_weights(weights)
    }

    /// The classifiers.
    pub fn labels(&self) -> &LabelTable {
        &self.labels
    }

    /// The classifiers, to be given first weights.
    pub fn labels_mut(&mut self) -> &mut LabelTable {
        &mut self.labels
    }

    /// What losses of a step of `rows` rows are divided by, none of which has more than `most` labels.
    ///
    /// K is what can be met at most: `shortlist`, or all labels of as many clusters as training goes to.
    pub fn scale(&self, rows: usize, most: usize, lambda: f32) -> Scale {
        let longest = self.graph.indptr().windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        let reached = longest.saturating_mul(self.beam + beam::MORE);
        let shortlist_count = self.shortlist.min(reached).max(1);
        Scale { rows_of_step: rows.max(1), shortlist_count, positives_count: most.max(1), lambda }
    }

    /// Lets teacher forcing follow the edges as they are now; for the beginning of an epoch.
    pub fn renew_parents(&mut self) {
        self.parents = self.graph.parents();
    }

    /// Loss and gradients of rows with embeddings `x [b, d]` and labels `y [b, L]`. Targets are the values of `y`, at
    /// most 1. Losses and gradients of the parts of a step add up.
    pub fn part(&self, x: &Tensor, y: &Csr, scale: Scale) -> Result<Part> {
        self.check(x.host(), x.cols(), x.rows())?;
        if (y.rows(), y.cols()) != (x.rows(), self.graph.labels()) {
            let (rows, cols, labels) = (y.rows(), y.cols(), self.graph.labels());
            return Err(Error::Mismatch(format!(
                "labels [{rows}, {cols}] of embeddings [{}, {}] for an index of {labels} labels",
                x.rows(),
                x.cols()
            )));
        }
        let logits = self.clusters.logits(x.host());
        let paths = self.search(None, None).paths(&logits, Some((y, &self.parents)));
        self.scored(x, logits, &paths, scale)
    }

    /// Loss and gradients of rows that meet the labels of `paths`.
    pub(super) fn scored(&self, x: &Tensor, logits: Vec<f32>, paths: &Paths, scale: Scale) -> Result<Part> {
        Scored { index: self, paths, scale }.part(x, logits)
    }

    /// Moves everything by the gradients of the parts of a step, whose embeddings were `x [B, d]`, the rows of the first
    /// part first. `seed` is that of rounding by chance.
    pub fn apply(&mut self, x: &[f32], parts: &[PartGradients], rates: Rates, seed: u64) -> Result<()> {
        let dim = self.labels.dim();
        self.check(x, dim, parts.iter().map(PartGradients::rows).sum())?;
        let mut rest = x;
        let mut with_x = Vec::with_capacity(parts.len());
        for part in parts {
            let (x, later) = rest.split_at(part.rows() * dim);
            with_x.push((part.cluster_slopes.as_slice(), x));
            rest = later;
        }
        self.clusters.step(&with_x, rates.clusters)?;
        if let (Some(optimizer), true) = (&mut self.edges, self.graph.logits().is_some()) {
            let slopes = parts.iter().map(|part| &part.edge_slopes);
            let (touched, mut grads) = edge_slopes::gradients(&self.graph, slopes);
            if let Some(logits) = self.graph.logits_mut() {
                optimizer.step(logits, &touched, &mut grads, rates.labels, 1.0)?;
            }
            self.graph.refresh(&touched);
        }
        let (mut indptr, mut labels, mut slopes) = (vec![0], Vec::new(), Vec::new());
        for part in parts {
            indptr.extend(part.indptr[1..].iter().map(|at| labels.len() + at));
            labels.extend_from_slice(&part.labels);
            slopes.extend_from_slice(&part.label_slopes);
        }
        let pairs = Pairs { indptr: &indptr, ids: &labels };
        Ok(self.labels.step(x, &pairs, &slopes, rates.labels, seed)?)
    }

    /// The `beam` best clusters of each row (as trained with if unset), with their scores s_c.
    pub fn best_clusters(&self, x: &Tensor, beam: Option<usize>) -> Result<TopK> {
        self.check(x.host(), x.cols(), x.rows())?;
        let mut top = TopK::new();
        self.clusters.best(x.host(), self.ln_alpha, beam.unwrap_or(self.beam), &mut top);
        Ok(top)
    }

    /// The labels that a search scores: the best `shortlist` paths of the `beam` best clusters; as trained with if unset.
    pub fn shortlist(&self, x: &Tensor, shortlist: Option<usize>, beam: Option<usize>) -> Result<Shortlist> {
        self.check(x.host(), x.cols(), x.rows())?;
        let logits = self.clusters.logits(x.host());
        let paths = self.search(shortlist, beam).paths(&logits, None);
        Ok(Shortlist { indptr: paths.indptr, labels: paths.labels, log_scores: paths.log_scores })
    }

    /// The best `k` labels of each row by p.
    pub fn predict(
        &self,
        x: &Tensor,
        k: usize,
        shortlist: Option<usize>,
        beam: Option<usize>,
    ) -> Result<TopK> {
        let met = self.shortlist(x, shortlist, beam)?;
        let mut scores = vec![0.0; met.labels.len()];
        self.labels.margins(x.host(), &Pairs { indptr: &met.indptr, ids: &met.labels }, &mut scores)?;
        probabilities(&mut scores, &met.log_scores);
        let mut top = TopK::new();
        for ends in met.indptr.windows(2) {
            let range = ends[0]..ends[1];
            let row = met.labels[range.clone()].iter().copied().zip(scores[range].iter().copied());
            let mut row: Vec<(u32, f32)> = row.collect();
            row.sort_unstable_by(xmc_data::topk::by_score);
            row.truncate(k);
            top.push_ranked(&row);
        }
        Ok(top)
    }

    /// Lets edges and classifiers catch up with the decay that they owe.
    pub fn settle(&mut self) -> Result<()> {
        self.labels.settle();
        if let (Some(optimizer), Some(logits)) = (&mut self.edges, self.graph.logits_mut()) {
            optimizer.settle(logits)?;
            self.graph.refresh_all();
        }
        Ok(())
    }

    /// Everything that later steps depend on, by name.
    pub fn state(&self) -> Vec<(String, &[f32])> {
        let mut state = vec![
            ("clusters".to_owned(), self.clusters.weights()),
            ("parents".to_owned(), bytemuck::cast_slice(&self.parents)),
        ];
        state.extend(named("clusters.adamw", self.clusters.optimizer().state()));
        if let (Some(optimizer), Some(logits)) = (&self.edges, self.graph.logits()) {
            state.push(("edges".to_owned(), logits));
            state.extend(named("edges.adamw", optimizer.state()));
        }
        state.extend(named("labels", self.labels.state()));
        state
    }

    /// Puts back what [`Index::state`] of an index of this shape gave: `take` hands out the runs by name. After an error,
    /// the index must not be used.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        let missing = |name: &str| Error::Mismatch(format!("the stored `{name}` does not fit this index"));
        self.clusters.set_weights(&take("clusters").unwrap_or_default())?;
        self.clusters.optimizer_mut().restore(|name| take(&format!("clusters.adamw.{name}")))?;
        let parents = take("parents").filter(|run| run.len() == self.parents.len());
        let parents: Vec<u32> =
            parents.ok_or_else(|| missing("parents"))?.iter().map(|v| v.to_bits()).collect();
        if parents.iter().any(|&c| c != super::graph::PAD && c as usize >= self.graph.clusters()) {
            return Err(missing("parents"));
        }
        self.parents = parents;
        if let (Some(optimizer), Some(logits)) = (&mut self.edges, self.graph.logits_mut()) {
            let stored = take("edges").filter(|run| run.len() == logits.len());
            logits.copy_from_slice(&stored.ok_or_else(|| missing("edges"))?);
            optimizer.restore(|name| take(&format!("edges.adamw.{name}")))?;
            self.graph.refresh_all();
        }
        Ok(self.labels.restore(|name| take(&format!("labels.{name}")))?)
    }

    fn search(&self, shortlist: Option<usize>, beam: Option<usize>) -> Search<'_> {
        Search {
            graph: &self.graph,
            ln_alpha: self.ln_alpha,
            beam: beam.unwrap_or(self.beam),
            shortlist: shortlist.unwrap_or(self.shortlist),
        }
    }

    fn check(&self, x: &[f32], cols: usize, rows: usize) -> Result<()> {
        let dim = self.labels.dim();
        if cols != dim || x.len() != rows * dim {
            let found = x.len();
            return Err(Error::Mismatch(format!(
                "{found} numbers of embeddings of {cols} columns; expected [{rows}, {dim}]"
            )));
        }
        Ok(())
    }
}

impl PartGradients {
    /// Number of rows b.
    pub fn rows(&self) -> usize {
        self.indptr.len() - 1
    }
}

#[cfg(test)]
mod tests;
