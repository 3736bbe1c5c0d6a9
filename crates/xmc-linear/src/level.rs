//! How is one level of a tree trained and asked alone? (spec: XR-Transformer, 7.4 and 7.5)
//!
//! XR-Transformer learns its encoder level by level. Between two levels, linear rankers on the embeddings of the level
//! above give the next head its first weights, and rankers on sparse features and embeddings may choose the shortlist.
//! Both are one level of XR-Linear: the same sub-problems, solver and storage as in [`crate::ranker`], without a tree.

use std::sync::atomic::{AtomicU64, Ordering};

use xmc_data::{Csr, CsrBuilder, Error, Result};

use crate::features::Features;
use crate::negatives::Matching;
use crate::ranker::{
    LevelParams, LevelTask, PerLevel, RankerConfig, check_relevance, packing, train_levels, train_parents,
};
use crate::search::{MarginScratch, Query};
use crate::solver::Loss;
use crate::store::{Level, LevelView, Precision, Values, widen};

/// What a level learns from.
#[derive(Clone, Copy, Debug)]
pub struct LevelInput<'a> {
    /// `[n, d]`
    pub x: &'a Features,
    /// `[n, children]`, in the order of nodes: what is not zero is a positive.
    pub targets: &'a Csr,
    /// `[n, parents]`: a row trains the children of every parent that it has an entry for, whatever its value;
    /// positives train their own node in any case. `None`: there is one parent, and all rows train its children.
    pub matching: Option<&'a Csr>,
    /// Costs of the positives, with the pattern of `targets`; `None` for 1.
    pub relevance: Option<&'a Csr>,
    /// `[parents + 1]`: the children of each parent.
    pub offsets: &'a [u32],
}

/// How a level is trained. Defaults are those of [`RankerConfig`], with weights as trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelConfig {
    /// Loss of a node's ranker.
    pub loss: Loss,
    /// Cost of a row that has the node.
    pub cost_positive: f32,
    /// Cost of a row that does not.
    pub cost_negative: f32,
    /// Value of the constant feature; 0 for none.
    pub bias: f32,
    /// Precision at which a node counts as solved.
    pub epsilon: f32,
    /// Most passes over a node's rows.
    pub max_iterations: u32,
    /// Weights smaller than this are dropped.
    pub threshold: f32,
    /// Most weights kept for one node; 0 keeps all.
    pub max_nonzeros: usize,
    /// Number format of the weights.
    pub precision: Precision,
}

impl Default for LevelConfig {
    fn default() -> Self {
        LevelConfig {
            loss: Loss::SquaredHinge,
            cost_positive: 1.0,
            cost_negative: 1.0,
            bias: 1.0,
            epsilon: 0.1,
            max_iterations: 100,
            threshold: 0.1,
            max_nonzeros: 0,
            precision: Precision::F32,
        }
    }
}

impl LevelConfig {
    /// The same for a whole tree: one set of checks, one path to the solver.
    fn ranker(&self) -> RankerConfig {
        RankerConfig {
            loss: self.loss,
            cost_positive: PerLevel::All(self.cost_positive),
            cost_negative: PerLevel::All(self.cost_negative),
            bias: self.bias,
            epsilon: self.epsilon,
            max_iterations: self.max_iterations,
            threshold: PerLevel::All(self.threshold),
            max_nonzeros: PerLevel::All(self.max_nonzeros),
            weights: self.precision,
            ..RankerConfig::default()
        }
    }
}

impl LevelInput<'_> {
    fn check(&self) -> Result<()> {
        let wrong = |problem: String| Err(Error::Shape(problem));
        let (n, children) = (self.x.rows(), self.targets.cols());
        let ends = (self.offsets.first(), self.offsets.last().map(|&end| end as usize));
        if ends != (Some(&0), Some(children)) || !self.offsets.is_sorted() {
            return wrong(format!(
                "offsets: expected to rise from 0 to {children}, the columns of the targets"
            ));
        }
        let parents = self.offsets.len() - 1;
        if self.targets.rows() != n {
            return wrong(format!("targets: {} rows, expected {n}", self.targets.rows()));
        }
        match self.matching {
            None if parents != 1 => return wrong(format!("matching: expected one for {parents} parents")),
            Some(m) if (m.rows(), m.cols()) != (n, parents) => {
                let (rows, cols) = (m.rows(), m.cols());
                return wrong(format!(
                    "matching: {rows} rows and {cols} parents, expected {n} and {parents}"
                ));
            }
            _ => {}
        }
        self.relevance.map_or(Ok(()), |r| check_relevance(r, self.targets))
    }

    /// Checked settings of this level.
    fn params(&self, ranker: &RankerConfig) -> Result<LevelParams> {
        ranker.check()?;
        self.check()?;
        ranker.level(0, 1)
    }

    fn task<'t>(&'t self, params: &'t LevelParams) -> Result<LevelTask<'t>> {
        let (targets, relevance) = self.positives()?;
        Ok(LevelTask {
            params,
            matching: match self.matching {
                None => Matching::All(self.x.rows() as u32),
                Some(rows) => Matching::Rows(rows.transpose()),
            },
            targets,
            relevance,
            offsets: self.offsets,
            packing: packing(self.offsets, self.x.sparse().cols())?,
        })
    }

    /// Targets and relevance by node, without the targets that are zero.
    fn positives(&self) -> Result<(Csr, Option<Csr>)> {
        if self.targets.values().iter().all(|&v| v != 0.0) {
            return Ok((self.targets.transpose(), self.relevance.map(Csr::transpose)));
        }
        let positives = |values: &Csr| {
            let mut kept = CsrBuilder::new();
            for (target, row) in self.targets.iter().zip(values.iter()) {
                kept.push(target.iter().zip(row.iter()).filter(|(t, _)| t.1 != 0.0).map(|(_, entry)| entry));
            }
            Ok(kept.finish(values.cols())?.transpose())
        };
        Ok((positives(self.targets)?, self.relevance.map(positives).transpose()?))
    }
}

/// Adds up how many of `total` children are done.
fn counted(total: usize, progress: &(dyn Fn(u64, u64) + Sync)) -> impl Fn(usize) + Sync {
    let done = AtomicU64::new(0);
    move |n: usize| progress(done.fetch_add(n as u64, Ordering::Relaxed) + n as u64, total as u64)
}

/// Trains every node on its own, against the rows that match it (`input.matching [n, nodes]`) and its positives, for asking
/// a few nodes at a time, wherever they stand. `input.offsets` must give each parent one child.
///
/// Returns the weights `[nodes, d_sparse + d_dense + 1]`; the last column is what the constant feature adds.
/// `progress(done, total)` counts nodes.
pub fn node_weights(
    input: &LevelInput,
    config: &LevelConfig,
    seed: u64,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Csr> {
    if input.offsets.windows(2).any(|w| w[1] - w[0] != 1) {
        return Err(Error::Shape("offsets: expected one child for each parent".to_owned()));
    }
    let ranker = config.ranker();
    let params = input.params(&ranker)?;
    let task = input.task(&params)?;
    let count = counted(input.targets.cols(), progress);
    let nodes = train_parents(input.x, &[task], seed, 0, &|_, weights| weights, &count);
    let first_dense = input.x.sparse().cols() as u32;
    let mut weights = CsrBuilder::new();
    for node in nodes.into_iter().flatten() {
        let constant = node.bias.iter().map(|weight| config.bias * weight);
        let dense = (first_dense..).zip(node.dense.iter().copied().chain(constant));
        let sparse = node.entries.iter().map(|&(feature, _, weight)| (feature, weight));
        weights.push(sparse.chain(dense.filter(|&(_, weight)| weight != 0.0)));
    }
    weights.finish(input.x.cols() + 1)
}

/// The rankers of one level.
#[derive(Clone, Debug)]
pub struct LevelModel {
    level: Level,
    offsets: Vec<u32>,
    dense_features: usize,
    bias: f32,
}

impl LevelModel {
    /// Trains the children of every parent against one another. `progress(done, total)` counts children.
    pub fn train(
        input: &LevelInput,
        config: &LevelConfig,
        seed: u64,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<LevelModel> {
        let ranker = config.ranker();
        let params = input.params(&ranker)?;
        let task = input.task(&params)?;
        let count = counted(input.targets.cols(), progress);
        let mut levels = train_levels(input.x, &[task], config.precision, seed, 0, &count);
        let level = levels.pop().ok_or_else(|| Error::Shape("a level without parents".to_owned()))?;
        Ok(LevelModel {
            level,
            offsets: input.offsets.to_vec(),
            dense_features: input.x.dense_cols(),
            bias: config.bias,
        })
    }

    /// `[parents + 1]`: the children of each parent.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Margins of the children of `parent`, in order; empty if there is no such parent.
    pub fn margins<'s>(&self, scratch: &'s mut MarginScratch, query: Query, parent: usize) -> &'s [f32] {
        scratch.margins(self.view(), parent, query)
    }

    /// `[children, d_dense + 1]`: for every node its weights of the dense features, then what the constant feature
    /// adds. A row without sparse features has the margin w . x + that.
    pub fn dense_weights(&self) -> Vec<f32> {
        let width = self.dense_features + 1;
        let mut weights = vec![0.0; self.level.bias.len() * width];
        let stored = |at: usize| match &self.level.dense {
            Values::F32(w) => w.get(at).copied().unwrap_or(0.0),
            Values::F16(w) => w.get(at).map_or(0.0, |&bits| widen(bits)),
            Values::U8(..) => 0.0,
        };
        for parent in 0..self.offsets.len() - 1 {
            let children = self.view().children(parent);
            // A chunk has them by feature: [d_dense, children].
            let chunk = children.start * self.dense_features;
            for (c, child) in children.clone().enumerate() {
                let row = &mut weights[child * width..(child + 1) * width];
                for (f, w) in row[..self.dense_features].iter_mut().enumerate() {
                    *w = stored(chunk + f * children.len() + c);
                }
                row[self.dense_features] = self.bias * self.level.bias[child];
            }
        }
        weights
    }

    fn view(&self) -> LevelView<'_> {
        LevelView {
            level: &self.level,
            offsets: &self.offsets,
            dense_features: self.dense_features,
            bias: self.bias,
        }
    }
}

#[cfg(test)]
mod tests;
