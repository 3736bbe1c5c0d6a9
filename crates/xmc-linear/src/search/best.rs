//! The best n candidates so far, and the score below which none can enter.

use xmc_data::topk::by_score;

use crate::post_processor::PostProcessor;

/// One step of a beam, with margins from anywhere: the best `k` (from 1) children of `parents`, best first, ties to the
/// lower node.
///
/// `parents` holds nodes and their scores, `offsets` the children of every node. `margins` appends those of all children
/// of a parent, in order; it is not asked for parents whose children cannot be among the best.
///
/// ```
/// use xmc_linear::{PostProcessor, search::expand};
/// let mut best = Vec::new();
/// let margins = |parent: usize, out: &mut Vec<f32>| out.extend([[0.0, 5.0], [4.0, 2.0]][parent]);
/// expand(&[(1, 2.0), (0, 1.0)], &[0, 2, 4], PostProcessor::Noop, 3, margins, &mut best);
/// assert_eq!(best, [(1, 5.0), (2, 4.0), (3, 2.0)]);
/// ```
pub fn expand(
    parents: &[(u32, f32)],
    offsets: &[u32],
    post_processor: PostProcessor,
    k: usize,
    mut margins: impl FnMut(usize, &mut Vec<f32>),
    out: &mut Vec<(u32, f32)>,
) {
    let mut best = Best { candidates: std::mem::take(out), ..Best::default() };
    best.reset(k);
    let mut of_parent = Vec::new();
    for &(parent, score) in parents {
        if best.excludes_children(score, post_processor) {
            continue;
        }
        let Some(&start) = offsets.get(parent as usize) else { continue };
        of_parent.clear();
        margins(parent as usize, &mut of_parent);
        best.offer(&of_parent, score, post_processor, |at| start + at as u32);
    }
    best.ranked();
    *out = best.candidates;
}

/// Keeps candidates until there are too many, then only the best n.
#[derive(Debug, Default)]
pub(super) struct Best {
    n: usize,
    candidates: Vec<(u32, f32)>,
    /// Score of the n-th best so far; candidates below it are lost. Minus infinity until there are n.
    floor: f32,
    margins: Vec<f32>,
}

impl Best {
    /// Forgets all and asks for `n` candidates from now on.
    pub(super) fn reset(&mut self, n: usize) {
        self.n = n.max(1);
        self.candidates.clear();
        self.floor = f32::NEG_INFINITY;
    }

    /// The score that a candidate must reach.
    pub(super) fn floor(&self) -> f32 {
        self.floor
    }

    /// Offers all children of a parent, by their margins; `id` names a child by its place in the chunk.
    pub(super) fn offer(
        &mut self,
        margins: &[f32],
        parent: f32,
        post_processor: PostProcessor,
        id: impl Fn(usize) -> u32,
    ) {
        let score = |margin: f32| post_processor.combine(parent, post_processor.transform(margin));
        if margins.len() > self.n && post_processor.rises_with_margin(parent) {
            // The n-th best of these alone already is a floor; finding it is cheaper than scoring them all.
            self.margins.clear();
            self.margins.extend_from_slice(margins);
            let (_, nth, _) = self.margins.select_nth_unstable_by(self.n - 1, |a, b| b.total_cmp(a));
            let nth = score(*nth);
            self.floor = if nth > self.floor { nth } else { self.floor };
        }
        let least = post_processor.least_margin(parent, self.floor);
        for (at, &margin) in margins.iter().enumerate() {
            if margin >= least {
                let score = score(margin);
                if score >= self.floor {
                    self.candidates.push((id(at), score));
                }
            }
        }
        if self.candidates.len() > self.n {
            let (_, nth, _) = self.candidates.select_nth_unstable_by(self.n - 1, by_score);
            self.floor = nth.1;
            self.candidates.truncate(self.n);
        } else if self.candidates.len() == self.n {
            let least = self.candidates.iter().map(|c| c.1).fold(f32::INFINITY, f32::min);
            self.floor = if least > self.floor { least } else { self.floor };
        }
    }

    /// Whether no child of a parent with this score can enter: none scores above its parent, and that is too low.
    pub(super) fn excludes_children(&self, parent: f32, post_processor: PostProcessor) -> bool {
        parent < self.floor
            && post_processor.is_bounded_by_parent()
            && post_processor.rises_with_margin(parent)
    }

    /// The best, in order.
    pub(super) fn ranked(&mut self) -> &[(u32, f32)] {
        self.candidates.sort_unstable_by(by_score);
        &self.candidates
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_step_equals_scoring_and_sorting_all_children(
            scores in proptest::collection::vec(0.01f32..1.0, 4),
            margins in proptest::collection::vec(-20i32..20, 15),
            k in 1usize..18,
            which in 0..5usize,
        ) {
            let name = ["l3-hinge", "sigmoid", "log-sigmoid", "log-l2-hinge", "noop"][which];
            let p: PostProcessor = name.parse().unwrap();
            let offsets = [0u32, 4, 4, 10, 15];
            // Ties are frequent: margins are multiples of a quarter, and parents come in no order.
            let margins: Vec<f32> = margins.iter().map(|&m| m as f32 / 4.0).collect();
            let root = |s: f32| if p.root() == 0.0 { s.ln() } else { s };
            let parents = [(3, root(scores[0])), (0, root(scores[1])), (1, root(scores[2])), (2, root(scores[0]))];
            let children = |parent: usize| offsets[parent] as usize..offsets[parent + 1] as usize;
            let mut all: Vec<(u32, f32)> = Vec::new();
            for (parent, score) in parents {
                all.extend(children(parent as usize).map(|c| (c as u32, p.combine(score, p.transform(margins[c])))));
            }
            all.sort_by(by_score);
            all.truncate(k);
            let mut best = vec![(9, 9.0)];
            let of = |parent: usize, out: &mut Vec<f32>| out.extend_from_slice(&margins[children(parent)]);
            expand(&parents, &offsets, p, k, of, &mut best);
            prop_assert_eq!(best, all);
        }
    }
}
