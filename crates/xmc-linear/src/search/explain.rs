//! Why does a label score as it does for a row?
//!
//! A score is made on the way from the root to the label's leaf: at every node a margin, which the post-processor turns
//! into a score and joins with that of the parent. A margin is a sum, so it can be told apart without loss:
//!
//!   margin = bias + sum over dense features of w x + sum over sparse features of w x
//!
//! The dense features (an embedding) have no meaning one by one; they are one share. The sparse ones are words.

use super::{Query, SearchOptions, Searcher};

/// The way from the root to one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// From the child of the root down to the label.
    pub steps: Vec<Step>,
}

/// One node on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Level of the node: 1 below the root, the depth of the tree at the label.
    pub level: usize,
    /// The node, by its place in its level; at the last level the position of the label's leaf.
    pub node: u32,
    /// The product of row and node: bias + dense + the sum of `terms`, but for rounding.
    pub margin: f32,
    /// Score of the way so far.
    pub score: f32,
    /// Share of the constant feature.
    pub bias: f32,
    /// Share of the dense block.
    pub dense: f32,
    /// (feature, share) of the sparse features that change the margin, the largest change first.
    pub terms: Vec<(u32, f32)>,
}

impl Searcher<'_> {
    /// What the score of `label` is made of, whether or not a beam would reach it; `None` if the tree does not hold it.
    ///
    /// Costs one product for each feature and level: for a person who reads, not for millions of rows.
    pub fn explain(&mut self, query: Query, label: u32, options: &SearchOptions) -> Option<Explanation> {
        let mut node = self.leaf(label)?;
        let tree = &self.model.tree;
        let mut way = Vec::with_capacity(tree.depth());
        for t in (0..tree.depth()).rev() {
            let parent = tree.offsets(t).partition_point(|&start| start as usize <= node) - 1;
            way.push((t, parent, node));
            node = parent;
        }
        let mut score = self.root(options);
        let mut steps = Vec::with_capacity(way.len());
        for (t, parent, node) in way.into_iter().rev() {
            let (view, post_processor) = (self.model.view(t), self.post_processor(t, options));
            let child = node - tree.children(t, parent).start;
            let margin = self.product.margins(view, parent, query)[child];
            score = post_processor.combine(score, post_processor.transform(margin));
            let (bias, dense, mut terms) = self.product.shares(view, parent, child, query);
            terms.retain(|&(_, share)| share != 0.0);
            terms.sort_unstable_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            steps.push(Step { level: t + 1, node: node as u32, margin, score, bias, dense, terms });
        }
        Some(Explanation { steps })
    }
}
