//! Scores of given labels, without pruning. (spec: XR-Linear, 6.4)

use super::{Query, SearchOptions, Searcher};

/// In no leaf.
const NOWHERE: u32 = u32::MAX;

impl Searcher<'_> {
    /// Scores of `labels`, in their order; minus infinity for labels that the tree does not hold.
    pub fn score_labels(
        &mut self,
        query: Query,
        labels: &[u32],
        options: &SearchOptions,
        scores: &mut Vec<f32>,
    ) {
        self.find_paths(labels);
        let tree = &self.model.tree;
        let root = self.root(options);
        self.paths[0].clear();
        self.paths[0].push((0, root));
        for t in 0..tree.depth() {
            let post_processor = options.post_processor.unwrap_or(self.model.levels[t].post_processor);
            let (above, below) = self.paths.split_at_mut(t + 1);
            let mut wanted = below[0].iter_mut().peekable();
            for &(node, parent) in &above[t] {
                let children = tree.children(t, node as usize);
                let margins = self.product.margins(self.model.view(t), node as usize, query);
                while let Some((child, score)) = wanted.next_if(|(c, _)| (*c as usize) < children.end) {
                    let margin = margins[*child as usize - children.start];
                    *score = post_processor.combine(parent, post_processor.transform(margin));
                }
            }
        }
        let leaves = &self.paths[tree.depth()];
        scores.clear();
        scores.extend(labels.iter().map(|&l| {
            let leaf = self.leaves.get(l as usize).copied().unwrap_or(NOWHERE);
            leaves.binary_search_by_key(&leaf, |&(at, _)| at).map_or(f32::NEG_INFINITY, |at| leaves[at].1)
        }));
    }

    /// Fills `leaves`, once.
    fn find_leaves(&mut self) {
        let tree = &self.model.tree;
        if self.leaves.is_empty() {
            self.leaves.resize(tree.num_labels(), NOWHERE);
            for (at, &l) in tree.labels().iter().enumerate() {
                self.leaves[l as usize] = at as u32;
            }
        }
    }

    /// Leaf position of a label, if the tree holds it.
    pub(super) fn leaf(&mut self, label: u32) -> Option<usize> {
        self.find_leaves();
        self.leaves.get(label as usize).filter(|&&at| at != NOWHERE).map(|&at| at as usize)
    }

    /// Fills `paths` with the nodes above the given labels, each once, in order.
    fn find_paths(&mut self, labels: &[u32]) {
        let tree = &self.model.tree;
        let depth = tree.depth();
        self.find_leaves();
        self.paths.resize_with(depth + 1, Vec::new);
        let leaves = &mut self.paths[depth];
        leaves.clear();
        let known = labels.iter().filter_map(|&l| self.leaves.get(l as usize)).filter(|&&at| at != NOWHERE);
        leaves.extend(known.map(|&at| (at, 0.0)));
        leaves.sort_unstable_by_key(|&(at, _)| at);
        leaves.dedup_by_key(|&mut (at, _)| at);
        for t in (1..depth).rev() {
            let (above, below) = self.paths.split_at_mut(t + 1);
            let offsets = tree.offsets(t);
            above[t].clear();
            for &(child, _) in &below[0] {
                let parent = offsets.partition_point(|&start| start <= child) as u32 - 1;
                if above[t].last().map(|&(p, _)| p) != Some(parent) {
                    above[t].push((parent, 0.0));
                }
            }
        }
    }
}
