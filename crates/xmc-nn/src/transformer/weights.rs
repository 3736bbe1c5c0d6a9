//! Weights laid out for products: once per optimiser step, used by every chunk.

use rayon::prelude::*;

use super::places::{Affine, LayerPlaces};
use crate::ops::matmul::{Precision, Rhs, View};

/// The four matrices of a layer as right operands.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    pub(crate) qkv: Rhs,
    pub(crate) out: Rhs,
    pub(crate) up: Rhs,
    pub(crate) down: Rhs,
}

/// Which product they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// y = x W^T
    Forward,
    /// dx = dy W
    Backward,
}

impl LayerWeights {
    /// Of all layers, without content.
    pub(crate) fn new(layers: usize, precision: Precision) -> Vec<Self> {
        let empty = || Rhs::new(precision);
        (0..layers).map(|_| LayerWeights { qkv: empty(), out: empty(), up: empty(), down: empty() }).collect()
    }

    /// Lays out the weights of all layers, in parallel.
    pub(crate) fn fill(layers: &mut [Self], places: &[LayerPlaces], direction: Direction, params: &[f32]) {
        let tasks: Vec<(&mut Rhs, &Affine)> = layers
            .iter_mut()
            .zip(places)
            .flat_map(|(layer, at)| {
                [
                    (&mut layer.up, &at.up),
                    (&mut layer.down, &at.down),
                    (&mut layer.qkv, &at.qkv),
                    (&mut layer.out, &at.out),
                ]
            })
            .collect();
        tasks.into_par_iter().with_max_len(1).for_each(|(rhs, at)| {
            let weight = &params[at.weight.clone()];
            let outer = at.bias.len();
            let view = View::new(weight, outer, weight.len() / outer);
            rhs.fill(if direction == Direction::Forward { view.t() } else { view });
        });
    }
}
