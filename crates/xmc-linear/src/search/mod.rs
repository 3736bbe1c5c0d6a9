//! Which labels score best for a row? (spec: XR-Linear, 6 and 14)
//!
//! Three ways down the tree, all on the same product of a row with a chunk:
//! * [`Searcher::beam`]: level by level, keeping the best nodes of each;
//! * [`Searcher::exact`]: best node first; stops when no open node can hold a label among the best k;
//! * [`Searcher::score_labels`]: only the labels asked for.
//!
//! [`Searcher::explain`] says what a label's score is made of.
//!
//! Where a child cannot score above its parent, a chunk whose parent is below the k-th best candidate so far is not
//! even multiplied, in the beam too: its result stays the same, its cost falls by several times.
//!
//! A searcher keeps its buffers: after the first queries, none allocates.

mod beam;
mod best;
mod dense;
mod exact;
mod explain;
mod given;
mod product;

use xmc_data::Row;

use self::best::Best;
pub use self::best::expand;
use self::exact::Open;
pub use self::explain::{Explanation, Step};
pub use self::product::MarginScratch;
use crate::features::Features;
use crate::post_processor::PostProcessor;
use crate::store::TreeModel;

/// A row to be labelled.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Sparse features; ids that the model does not know are ignored.
    pub sparse: Row<'a>,
    /// Dense features, as many as the model has.
    pub dense: &'a [f32],
}

impl<'a> Query<'a> {
    /// Row `i` of `x`.
    pub fn of(x: &'a Features, i: usize) -> Self {
        Query { sparse: x.sparse().row(i), dense: x.dense_row(i) }
    }
}

impl<'a> From<Row<'a>> for Query<'a> {
    fn from(sparse: Row<'a>) -> Self {
        Query { sparse, dense: &[] }
    }
}

/// How to search; the model's own settings hold where nothing is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchOptions {
    /// Nodes kept at inner levels.
    pub beam_size: Option<usize>,
    /// Labels returned.
    pub top_k: Option<usize>,
    /// From margins to scores, at every level.
    pub post_processor: Option<PostProcessor>,
}

/// Searches one model; one searcher per thread.
#[derive(Debug)]
pub struct Searcher<'m> {
    model: &'m TreeModel,
    product: MarginScratch,
    best: Best,
    /// Nodes of the level at hand, best first.
    nodes: Vec<(u32, f32)>,
    open: Vec<Open>,
    /// Leaf position of every label, made when first needed.
    leaves: Vec<u32>,
    /// Nodes that lead to given labels, per level.
    paths: Vec<Vec<(u32, f32)>>,
}

impl<'m> Searcher<'m> {
    /// A searcher with empty buffers.
    pub fn new(model: &'m TreeModel) -> Self {
        Searcher {
            model,
            product: MarginScratch::default(),
            best: Best::default(),
            nodes: Vec::new(),
            open: Vec::new(),
            leaves: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Score of the root, by the post-processor of the first level.
    fn root(&self, options: &SearchOptions) -> f32 {
        self.post_processor(0, options).root()
    }

    /// Whether no child of level `t` scores above its parent. A product only shrinks what is not negative, so it needs
    /// products all the way down from the root.
    fn is_bounded(&self, t: usize, options: &SearchOptions) -> bool {
        let at = |t| self.post_processor(t, options);
        at(t).is_bounded_by_parent() && (!at(t).is_product() || (0..t).all(|above| at(above).is_product()))
    }

    fn post_processor(&self, t: usize, options: &SearchOptions) -> PostProcessor {
        options.post_processor.unwrap_or(self.model.levels[t].post_processor)
    }
}

#[cfg(test)]
mod tests;
