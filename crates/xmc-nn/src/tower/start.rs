//! Which values do fresh parameters get? Those that the published code would draw.
//!
//! Matrices of the transformer and its pooler are normal with deviation 0.02, norms begin as 1 and 0, biases as 0. The projection is
//! uniform in +-1 / sqrt(h), weight and bias, as PyTorch's `Linear`.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rayon::prelude::*;

use crate::params::{Layout, Param};

/// Deviation of the transformer's matrices.
const DEVIATION: f32 = 0.02;

/// Values that share a generator.
const BLOCK: usize = 1 << 16;

/// Draws all parameters of `layout` for which `wanted` is true.
pub(crate) fn draw(
    layout: &Layout,
    seed: u64,
    hidden: usize,
    values: &mut [f32],
    wanted: impl Fn(&str) -> bool,
) {
    for (i, param) in layout.params().iter().enumerate().filter(|(_, param)| wanted(&param.name)) {
        values[param.range.clone()].par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
            let place = (i as u128) << 64 | (block as u128) << 96 | u128::from(seed);
            fill(param, hidden, values, Pcg64Mcg::seed_from_u64(fold(place)));
        });
    }
}

fn fill(param: &Param, hidden: usize, values: &mut [f32], mut random: Pcg64Mcg) {
    if param.name.starts_with("bottleneck.") {
        let bound = 1.0 / (hidden as f32).sqrt();
        values.fill_with(|| (random.random::<f32>() * 2.0 - 1.0) * bound);
    } else if param.shape.len() > 1 {
        values.fill_with(|| normal(&mut random) * DEVIATION);
    } else {
        values.fill(if param.name.ends_with("orm.weight") { 1.0 } else { 0.0 });
    }
}

/// A seed of 64 bits from a place of 128.
fn fold(place: u128) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&place.to_le_bytes())
}

/// A standard normal number, by Box and Muller.
fn normal(random: &mut Pcg64Mcg) -> f32 {
    let (u, v): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
