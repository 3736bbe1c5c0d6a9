//! How does a decoder know where a token stands? Queries and keys are turned by angles that grow with the position, so
//! that their product depends on the distance alone (Su et al., "RoFormer", 2021):
//!
//!   (a, b) becomes (a cos - b sin, b cos + a sin),   angle = position frequency[i]
//!
//! a and b are numbers i and i + d/2 of a head, or 2i and 2i + 1: [`RopeLayout`] says which, and both stay where they
//! are. The slope of a turn is the turn back.

use std::sync::{Arc, PoisonError, RwLock};

use super::config::{Config, RopeLayout};

/// Frequencies of a decoder, and the turns that were needed so far.
#[derive(Debug)]
pub(crate) struct Rope {
    layout: RopeLayout,
    frequencies: Vec<f32>,
    turns: RwLock<Arc<Turns>>,
}

/// Cosines and sines of the first positions.
#[derive(Debug)]
pub(crate) struct Turns {
    layout: RopeLayout,
    /// Numbers of half a head.
    half: usize,
    /// `[positions, 2, half]`: cosines, then sines.
    table: Vec<f32>,
}

impl Rope {
    pub(crate) fn new(config: &Config) -> Self {
        let (layout, frequencies) = (config.rope, config.rope_frequencies());
        let turns = RwLock::new(Arc::new(Turns { layout, half: frequencies.len(), table: Vec::new() }));
        Rope { layout, frequencies, turns }
    }

    /// Turns of at least so many positions. Angles are computed in f64.
    pub(crate) fn turns(&self, positions: usize) -> Arc<Turns> {
        let found = self.turns.read().unwrap_or_else(PoisonError::into_inner).clone();
        if found.positions() >= positions {
            return found;
        }
        let half = self.frequencies.len();
        let mut table = Vec::with_capacity(positions.next_power_of_two() * 2 * half);
        for position in 0..positions.next_power_of_two() {
            let angles = self.frequencies.iter().map(|&f| f64::from(f) * position as f64);
            table.extend(angles.clone().map(|angle| angle.cos() as f32));
            table.extend(angles.map(|angle| angle.sin() as f32));
        }
        let turns = Arc::new(Turns { layout: self.layout, half, table });
        *self.turns.write().unwrap_or_else(PoisonError::into_inner) = turns.clone();
        turns
    }
}

impl Turns {
    fn positions(&self) -> usize {
        self.table.len() / (2 * self.half).max(1)
    }

    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        self.table[position * 2 * self.half..][..2 * self.half].split_at(self.half)
    }

    /// Turns all heads of `row [heads, 2 half]`, which stands at `position`, and multiplies them with `scale`.
    pub(crate) fn turn(&self, position: usize, scale: f32, row: &mut [f32]) {
        let (cos, sin) = self.at(position);
        match self.layout {
            RopeLayout::Halves => turn_halves(cos, sin, [scale, scale], row),
            RopeLayout::Pairs => turn_pairs(cos, sin, [scale, scale], row),
        }
    }

    /// The gradient of [`Turns::turn`]: turns back, and multiplies with `scale`.
    pub(crate) fn turn_back(&self, position: usize, scale: f32, row: &mut [f32]) {
        let (cos, sin) = self.at(position);
        match self.layout {
            RopeLayout::Halves => turn_halves(cos, sin, [scale, -scale], row),
            RopeLayout::Pairs => turn_pairs(cos, sin, [scale, -scale], row),
        }
    }
}

crate::simd! {
    fn turn_halves(cos: &[f32], sin: &[f32], scales: [f32; 2], row: &mut [f32]) {
        for head in row.chunks_exact_mut(2 * cos.len().max(1)) {
            let (a, b) = head.split_at_mut(cos.len());
            for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                let (cos, sin) = (cos * scales[0], sin * scales[1]);
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }

    fn turn_pairs(cos: &[f32], sin: &[f32], scales: [f32; 2], row: &mut [f32]) {
        for head in row.chunks_exact_mut(2 * cos.len().max(1)) {
            for (([a, b], &cos), &sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let (cos, sin) = (cos * scales[0], sin * scales[1]);
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::*;

    #[test]
    fn products_depend_on_distance_and_turning_back_undoes() {
        for layout in [RopeLayout::Halves, RopeLayout::Pairs] {
            let config = Config { rope: layout, ..tiny() };
            let d = config.head_dim;
            let rope = Rope::new(&config);
            let q: Vec<f32> = (0..2 * d).map(|i| (i as f32 * 0.7).sin()).collect();
            let k: Vec<f32> = (0..2 * d).map(|i| (i as f32 * 1.3).cos()).collect();
            let product = |i: usize, j: usize| {
                let turns = rope.turns(i.max(j) + 1);
                let (mut q, mut k) = (q.clone(), k.clone());
                turns.turn(i, 0.5, &mut q);
                turns.turn(j, 1.0, &mut k);
                q[..d].iter().zip(&k).map(|(a, b)| a * b).sum::<f32>()
            };
            assert!((product(3, 1) - product(9, 7)).abs() < 1e-5);
            assert!((product(3, 1) - product(3, 2)).abs() > 1e-3);
            let mut row = q.clone();
            let turns = rope.turns(6);
            turns.turn(5, 2.0, &mut row);
            assert!(row.iter().zip(&q).any(|(a, b)| (a - b).abs() > 0.1));
            turns.turn_back(5, 0.5, &mut row);
            assert!(row.iter().zip(&q).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn layouts_are_permutations_of_each_other() {
        let d = tiny().head_dim;
        let halves = Rope::new(&Config { rope: RopeLayout::Halves, ..tiny() }).turns(8);
        let pairs = Rope::new(&Config { rope: RopeLayout::Pairs, ..tiny() }).turns(8);
        let mut x: Vec<f32> = (0..d).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut y: Vec<f32> = (0..d).map(|i| x[i / 2 + i % 2 * (d / 2)]).collect();
        halves.turn(7, 1.0, &mut x);
        pairs.turn(7, 1.0, &mut y);
        assert!((0..d).all(|i| y[i] == x[i / 2 + i % 2 * (d / 2)]));
    }
}
