//! Best node first: the exact best labels of the whole tree. (spec: XR-Linear, 14)

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use xmc_data::{Error, Result};

use super::{Query, SearchOptions, Searcher};

/// An inner node whose children have not been scored yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    score: f32,
    level: u32,
    node: u32,
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        // Among equals the deeper first: it reaches labels, and with them a floor, sooner.
        let by_place = || self.level.cmp(&other.level).then(other.node.cmp(&self.node));
        self.score.total_cmp(&other.score).then_with(by_place)
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

impl Searcher<'_> {
    /// The best labels of the whole tree, as a beam of unlimited width would find them.
    ///
    /// Needs scores that never rise from parent to child, so every post-processor but `noop`.
    pub fn exact(&mut self, query: Query, options: &SearchOptions) -> Result<&[(u32, f32)]> {
        let tree = &self.model.tree;
        let depth = tree.depth();
        if !(0..depth).all(|t| self.is_bounded(t, options)) {
            let found: Vec<String> =
                (0..depth).map(|t| self.post_processor(t, options).to_string()).collect();
            let expected = "a sigmoid or hinge at every level, or their logarithms, for exact search (otherwise a \
                            child may score above its parent)";
            return Err(Error::config("post_processor", found.join(", "), expected));
        }
        let keep = self.model.levels.last().map_or(1, |l| l.keep);
        self.best.reset(options.top_k.unwrap_or(keep));
        let mut open = std::mem::take(&mut self.open);
        open.clear();
        open.push(Open { score: self.root(options), level: 0, node: 0 });
        let mut heap = BinaryHeap::from(open);
        while let Some(Open { score, level, node }) = heap.pop() {
            if score < self.best.floor() {
                break;
            }
            let t = level as usize;
            let post_processor = self.post_processor(t, options);
            let children = tree.children(t, node as usize);
            let margins = self.product.margins(self.model.view(t), node as usize, query);
            if t + 1 == depth {
                let labels = tree.labels();
                self.best.offer(margins, score, post_processor, |at| labels[children.start + at]);
                continue;
            }
            let floor = self.best.floor();
            for (child, &margin) in children.zip(margins) {
                let score = post_processor.combine(score, post_processor.transform(margin));
                if score >= floor {
                    heap.push(Open { score, level: level + 1, node: child as u32 });
                }
            }
        }
        self.open = heap.into_vec();
        Ok(self.best.ranked())
    }
}
