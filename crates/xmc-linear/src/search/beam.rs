//! Level by level, keeping the best nodes of each. (spec: XR-Linear, 6.2)

use super::{Query, SearchOptions, Searcher};

impl Searcher<'_> {
    /// The best labels that a beam search reaches, best first; ties go to the lower label.
    pub fn beam(&mut self, query: Query, options: &SearchOptions) -> &[(u32, f32)] {
        let depth = self.model.tree.depth();
        self.descend(query, depth, options);
        self.best.ranked()
    }

    /// The nodes that a beam search with the model's own settings keeps at level `t`, from 1.
    pub(crate) fn nodes(&mut self, query: Query, t: usize) -> &[(u32, f32)] {
        self.descend(query, t, &SearchOptions::default());
        self.best.ranked()
    }

    /// Leaves the candidates of level `end` in `best`.
    fn descend(&mut self, query: Query, end: usize, options: &SearchOptions) {
        self.nodes.clear();
        self.nodes.push((0, self.root(options)));
        for t in 0..end {
            let last = t + 1 == self.model.tree.depth();
            let wanted = if last { options.top_k } else { options.beam_size };
            self.best.reset(wanted.unwrap_or(self.model.levels[t].keep));
            self.expand(query, t, options);
            if t + 1 < end {
                self.nodes.clear();
                self.nodes.extend_from_slice(self.best.ranked());
            }
        }
    }

    /// Offers the children of all `nodes` of level `t`.
    fn expand(&mut self, query: Query, t: usize, options: &SearchOptions) {
        let tree = &self.model.tree;
        let post_processor = self.post_processor(t, options);
        let labels = (t + 1 == tree.depth()).then(|| tree.labels());
        for &(node, score) in &self.nodes {
            if self.best.excludes_children(score, post_processor) {
                continue;
            }
            let children = tree.children(t, node as usize);
            let margins = self.product.margins(self.model.view(t), node as usize, query);
            self.best.offer(margins, score, post_processor, |at| match labels {
                Some(labels) => labels[children.start + at],
                None => (children.start + at) as u32,
            });
        }
    }
}
