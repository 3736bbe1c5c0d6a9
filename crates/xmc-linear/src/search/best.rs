//! The best n candidates so far, and the score below which none can enter.

use xmc_data::topk::by_score;

use crate::post_processor::PostProcessor;

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

    /// The best, in order.
    pub(super) fn ranked(&mut self) -> &[(u32, f32)] {
        self.candidates.sort_unstable_by(by_score);
        &self.candidates
    }
}
