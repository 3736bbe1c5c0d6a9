//! Which sources does a teacher see? As many rare as frequent ones: sources are put into strata by how often the matrix
//! has them, each twice as wide as the one before,
//!
//!   stratum = bits of the frequency      0 | 1 | 2, 3 | 4 … 7 | 8 … 15 | …
//!
//! and strata give evenly, until the sample is full or they are empty. A uniform sample of a matrix with a long tail would
//! hardly see its head, and one by pairs would see nothing else.

use crate::random::{Draws, Purpose};
use crate::sampling::order::Order;

/// `count` of the sources with these frequencies, rising; all if there are no more. A function of `seed`.
pub fn draw(frequencies: &[u64], count: usize, seed: u64) -> Vec<u32> {
    let mut sources: Vec<u32> = (0..frequencies.len() as u32).collect();
    Draws::new(seed, Purpose::Within, 0).shuffle(&mut sources);
    let strata: Vec<u32> =
        sources.iter().map(|&source| u64::BITS - frequencies[source as usize].leading_zeros()).collect();
    let mut drawn = Order::fill(&sources, &strata, seed, 0).labels;
    drawn.truncate(count);
    drawn.sort_unstable();
    drawn
}
