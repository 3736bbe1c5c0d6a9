//! How are the rankers of a whole tree trained? (spec: XR-Linear, 5)
//!
//! For every level t, every parent p: the rows that match p (see [`crate::negatives`]) train p's children against one
//! another. Under teacher forcing no level needs another, so the parents of all such levels stand in one queue, the
//! most work first; a level that samples negatives from the model itself waits for the levels above it.

mod config;
mod queue;

use std::sync::atomic::{AtomicUsize, Ordering};

use xmc_data::{Csr, Error, Result};

pub(crate) use self::config::LevelParams;
pub use self::config::{PerLevel, RankerConfig, RelevanceMode};
pub(crate) use self::queue::{LevelTask, train_levels, train_parents};
use crate::features::Features;
use crate::negatives;
use crate::store::{Packing, TreeModel};
use crate::targets;
use crate::tree::Tree;

/// What training reads.
#[derive(Clone, Copy, Debug)]
pub struct TrainInput<'a> {
    /// `[n, d]`
    pub x: &'a Features,
    /// `[n, L]`: positives are its non-zero entries.
    pub y: &'a Csr,
    /// `[n, L]` with the pattern of `y`: costs of the positives.
    pub relevance: Option<&'a Csr>,
    /// `[n, L]`: labels that are to be negatives of a row, for [`NegativeSampling`] with user-supplied ones.
    pub negatives: Option<&'a Csr>,
}

impl TrainInput<'_> {
    fn check(&self, tree: &Tree) -> Result<()> {
        let (n, l) = (self.x.rows(), tree.num_labels());
        for (what, m) in
            [("labels", Some(self.y)), ("relevance", self.relevance), ("negatives", self.negatives)]
        {
            let Some(m) = m else { continue };
            if (m.rows(), m.cols()) != (n, l) {
                let (rows, cols) = (m.rows(), m.cols());
                let problem = format!("{what}: {rows} rows and {cols} labels, expected {n} and {l}");
                return Err(Error::Shape(problem));
            }
        }
        self.relevance.map_or(Ok(()), |r| check_relevance(r, self.y))
    }
}

/// Refuses relevances that stand elsewhere than the positives, or below 0.
pub fn check_relevance(relevance: &Csr, positives: &Csr) -> Result<()> {
    if relevance.indptr() != positives.indptr() || relevance.indices() != positives.indices() {
        return Err(Error::Shape("relevance: its entries must be those of the labels".to_owned()));
    }
    match relevance.values().iter().find(|v| **v < 0.0) {
        Some(v) => Err(Error::Shape(format!("relevance: found {v}, expected numbers from 0"))),
        None => Ok(()),
    }
}

/// Trains the rankers of every level of `tree`. `progress(done, total)` counts children.
pub fn train(
    input: TrainInput,
    tree: Tree,
    config: &RankerConfig,
    seed: u64,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<TreeModel> {
    config.check()?;
    input.check(&tree)?;
    let depth = tree.depth();
    let params = (0..depth).map(|t| config.level(t, depth)).collect::<Result<Vec<_>>>()?;
    let targets = targets::levels(input.y, &tree, None)?;
    let relevance = relevance(&input, &tree, config)?;
    let total: u64 = (1..=depth).map(|t| tree.width(t) as u64).sum();
    let done = AtomicUsize::new(0);
    let mut model = TreeModel {
        tree,
        levels: Vec::with_capacity(depth),
        sparse_features: input.x.sparse().cols(),
        dense_features: input.x.dense_cols(),
        bias: config.bias,
    };
    let mut t = 0;
    while t < depth {
        // Levels up to the next one that asks the model for its negatives are independent of one another.
        let end = (t + 1..depth).find(|&u| params[u].negatives.uses_model()).unwrap_or(depth);
        let batch = (t..end)
            .map(|u| {
                Ok(LevelTask {
                    params: &params[u],
                    matching: negatives::matching(params[u].negatives, u, &input, &targets, &model)?,
                    targets: targets[u + 1].transpose(),
                    relevance: relevance.as_ref().and_then(|r| r[u + 1].as_ref().map(Csr::transpose)),
                    offsets: model.tree.offsets(u),
                    packing: packing(model.tree.offsets(u), model.sparse_features)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let levels = train_levels(input.x, &batch, config.weights, seed, t, &|n| {
            progress(done.fetch_add(n, Ordering::Relaxed) as u64 + n as u64, total);
        });
        model.levels.extend(levels);
        t = end;
    }
    Ok(model)
}

/// How the chunks of a level are packed; an error if a parent has too many children.
pub(crate) fn packing(offsets: &[u32], sparse_features: usize) -> Result<Packing> {
    let widest = offsets.windows(2).map(|w| (w[1] - w[0]) as usize).max().unwrap_or(0);
    let packing = Packing::for_level(widest, sparse_features);
    if widest > packing.most_children() {
        let most = packing.most_children();
        let problem = format!("a node of the tree has {widest} children, at most {most} are supported");
        return Err(Error::Shape(format!("{problem}: choose a smaller max_leaf_size or branching")));
    }
    Ok(packing)
}

/// R for every level from 0 to D, `None` where positives cost the same.
fn relevance(input: &TrainInput, tree: &Tree, config: &RankerConfig) -> Result<Option<Vec<Option<Csr>>>> {
    if config.relevance == RelevanceMode::Disable {
        return Ok(None);
    }
    // Without given relevances every positive counts 1.
    let levels = targets::levels(input.y, tree, input.relevance.map(Csr::values))?;
    let leaves = levels.len() - 1;
    let level = |(t, mut r): (usize, Csr)| {
        config.relevance_norm.apply(&mut r);
        (t == leaves || config.relevance == RelevanceMode::Induce).then_some(r)
    };
    Ok(Some(levels.into_iter().enumerate().map(level).collect()))
}
