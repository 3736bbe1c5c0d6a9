//! How are a tree and its rankers laid out, in memory and on disk? (MSCM, arXiv 2106.02697; spec: XR-Linear, 6.3)
//!
//! The weights of the children of one parent are a *chunk*, stored by feature: for every feature that any child
//! uses, the children (`cols`) and their weights (`values`). Search walks a query's features through a chunk and adds
//! whole rows into one accumulator per child.
//!
//! A chunk finds a feature's row through buckets of 2^shift consecutive feature ids. A bucket knows its first row and
//! first entry; each of its few rows is one word: the low bits of the feature id and the number of entries. The column
//! ids of a row are a list, or one bit for every child where that is shorter.
//!
//! ```text
//! feature ─ >> shift ─► bucket {row, entry, column} ─ scan words {low, len} ─► columns[column..], values[entry..]
//! ```
//!
//! Most chunks are `Narrow`: at most 255 children and buckets of 2^8 ids at most, which makes 2 bytes per row and 1
//! per column id; `Wide` doubles both. With f16 values a weight costs 3 to 4 bytes where CSC takes 8.
//!
//! On disk ([`TreeModel::save`], [`TreeModel::open`]) the same arrays stand one after the other in one file and are
//! used from the map as they are: opening costs the header and a checksum.

mod chunk;
mod codebook;
mod file;
mod level;

use std::ops::Range;

pub use self::chunk::{Chunk, ChunkWeights, LevelBuilder};
#[cfg(test)]
pub(crate) use self::level::narrow;
pub(crate) use self::level::{BLOCK, Bucket, Values, Word, Words, widen};
pub use self::level::{Level, Packing, Precision};
use crate::tree::Tree;
use xmc_data::topk::by_score;

/// One level as search reads it: its weights, and whose children they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LevelView<'a> {
    pub(crate) level: &'a Level,
    /// `[parents + 1]`
    pub(crate) offsets: &'a [u32],
    pub(crate) dense_features: usize,
    /// Value of the constant feature.
    pub(crate) bias: f32,
}

impl LevelView<'_> {
    /// Children of `parent`, as nodes of the level below; none of a parent that does not exist.
    #[inline]
    pub(crate) fn children(&self, parent: usize) -> Range<usize> {
        match self.offsets.get(parent..parent + 2) {
            Some(&[start, end]) => start as usize..end as usize,
            _ => 0..0,
        }
    }
}

/// A tree with a ranker at every level.
#[derive(Clone, Debug)]
pub struct TreeModel {
    pub(crate) tree: Tree,
    pub(crate) levels: Vec<Level>,
    /// Sparse features; dense features follow them.
    pub(crate) sparse_features: usize,
    pub(crate) dense_features: usize,
    /// Value of the constant feature.
    pub(crate) bias: f32,
}

impl TreeModel {
    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Weights of every level, from the root down.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Sparse and dense features that a row may have.
    pub fn features(&self) -> (usize, usize) {
        (self.sparse_features, self.dense_features)
    }

    /// The labels below node `node` of level `t` (0 is the root) that are likeliest before anything is known of a row:
    /// by the bias of their rankers, at most `count`, likeliest first, ties to the lower label.
    pub fn example_labels(&self, t: usize, node: usize, count: usize) -> Vec<u32> {
        if t > self.tree.depth() || node >= self.tree.width(t) {
            return Vec::new();
        }
        let leaves = self.tree.leaves(t, node);
        let bias = self.levels.last().and_then(|level| level.bias.get(leaves.clone())).unwrap_or(&[]);
        let labels = self.tree.labels()[leaves].iter().copied();
        let mut likeliest: Vec<(u32, f32)> = labels.zip(bias.iter().copied()).collect();
        likeliest.sort_unstable_by(by_score);
        likeliest.truncate(count);
        likeliest.into_iter().map(|(label, _)| label).collect()
    }

    /// Level `t` with what a search needs beside its weights.
    #[inline]
    pub(crate) fn view(&self, t: usize) -> LevelView<'_> {
        LevelView {
            level: &self.levels[t],
            offsets: self.tree.offsets(t),
            dense_features: self.dense_features,
            bias: self.bias,
        }
    }
}
