//! On which sides of random planes does a label lie?
//!
//! bit_j(l) = \[ g_j · (v_l - mean) > 0 \], g_j ~ N(0, I); two labels at the angle a agree in a bit with probability
//! 1 - a / pi (Charikar 2002, "Similarity estimation techniques from rounding algorithms"). Component c of g_j is a
//! function of seed, j and c, so that bits do not depend on which others are computed, nor on the order of labels.
//! What v_l - mean is scaled to does not change a sign, so it is not scaled. Costs O(entries * 32) per word.

use rayon::prelude::*;

use super::features::LabelFeatures;
use crate::random::{Draws, Purpose};

/// Bits of a word.
pub(super) const WORD: usize = 32;

/// Labels of a task.
const TASK: usize = 1024;

/// Bits `32 * word .. 32 * word + 32` of every label, the first in the lowest place.
pub(super) fn signatures(features: &LabelFeatures, mean: &[f64], seed: u64, word: usize) -> Vec<u32> {
    let directions = directions(&features.columns_in_use(), seed, word);
    let mut origin = [0f64; WORD];
    for (&mean, direction) in mean.iter().zip(&directions).filter(|&(&mean, _)| mean != 0.0) {
        for (sum, &g) in origin.iter_mut().zip(direction) {
            *sum += mean * f64::from(g);
        }
    }
    let origin = origin.map(|sum| -sum as f32);
    let mut signatures = vec![0u32; features.rows()];
    signatures.par_chunks_mut(TASK).enumerate().for_each(|(task, signatures)| {
        for (i, signature) in signatures.iter_mut().enumerate() {
            let mut sums = origin;
            features.each(task * TASK + i, |c, v| {
                for (sum, &g) in sums.iter_mut().zip(&directions[c]) {
                    *sum += v * g;
                }
            });
            *signature = sums.iter().rev().fold(0, |bits, &sum| bits << 1 | u32::from(sum > 0.0));
        }
    });
    signatures
}

/// Components of 32 directions `[d, 32]`, drawn for the columns that any label has.
fn directions(in_use: &[bool], seed: u64, word: usize) -> Vec<[f32; WORD]> {
    let column = |c: usize| {
        if !in_use[c] {
            return [0.0; WORD];
        }
        let mut draws = Draws::new(seed, Purpose::Directions, (word as u64) << 40 | c as u64);
        std::array::from_fn(|_| draws.normal())
    };
    (0..in_use.len()).into_par_iter().with_min_len(TASK).map(column).collect()
}
