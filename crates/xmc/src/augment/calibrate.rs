//! Which threshold suits these data?
//!
//! Known pairs say it. A share of them, drawn by seed, plays the missing ones: at each threshold, how many of them are
//! suggested, and how much else that is not known. Hidden pairs stand for all known ones, so what is suggested of them counts
//! `1 / share` times:
//!
//! ```text
//! recall(tau)    = hidden pairs suggested / hidden pairs that are suggested at any threshold
//! precision(tau) = H / (H + pairs suggested that are not known),   H = hidden pairs suggested / share
//! ```
//!
//! Caps, the filter of mutual neighbours and the guard of test rows take no part: they choose among what a threshold lets
//! through. The threshold with the largest F1 is taken, of equal ones the higher. Precision is a lower bound, since a pair that is not
//! known may be right; so the threshold errs on the high side. One pass over the neighbours.

use serde::{Deserialize, Serialize};
use xmc_data::Csr;

use super::mapping::Mapping;
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// Steps of the threshold from 0.5 (a cosine of 0) to 1.
const STEPS: usize = 50;

/// What a threshold would do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Least sigma of a pair.
    pub tau: f32,
    /// Hidden pairs that are suggested.
    pub found: usize,
    /// Suggested pairs that are not known.
    pub unknown: usize,
    /// Share of the hidden pairs near any synthetic text.
    pub recall: f64,
    /// Share of known ones among what is suggested.
    pub precision: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// Thresholds compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The best of them.
    pub tau: f32,
    /// Pairs that were hidden.
    pub hidden: usize,
    /// Those of them that some synthetic text has among its neighbours.
    pub reachable: usize,
    /// All thresholds, rising.
    pub thresholds: Vec<Threshold>,
}

/// Compares thresholds on a `share` of the pairs of `y [n, L]`, with the first `k` neighbours.
///
/// # Errors
/// If `y` does not fit, the share has no meaning, or no hidden pair is near any synthetic text.
pub fn calibrate(mapping: &Mapping<'_>, y: &Csr, k: usize, share: f64, seed: u64) -> Result<Calibration> {
    if !(share > 0.0 && share <= 1.0) {
        return Err(xmc_data::Error::config("share", share, "more than 0, at most 1").into());
    }
    let known = mapping.by_source(y)?;
    let (mut found, mut unknown) = ([0usize; STEPS + 1], [0usize; STEPS + 1]);
    let (mut hidden, mut near) = (0, Vec::new());
    for i in 0..known.rows() {
        let had = known.row(i);
        let mut draws = Draws::new(seed, Purpose::Hidden, i as u64);
        let is_hidden: Vec<bool> = had.iter().map(|_| f64::from(draws.unit()) < share).collect();
        hidden += is_hidden.iter().filter(|&&hidden| hidden).count();
        mapping.near(i, k, 0.5, &mut near);
        for &(target, sigma) in &near {
            let bin = step(sigma);
            match had.indices.binary_search(&target) {
                Ok(at) => found[bin] += usize::from(is_hidden[at]),
                Err(_) => unknown[bin] += 1,
            }
        }
    }
    let reachable: usize = found.iter().sum();
    if reachable == 0 {
        return Err(Error::Mismatch(format!(
            "none of {hidden} hidden pairs is near a synthetic text: no threshold can be told from another; \
             give tau, or generate texts that are nearer to the data"
        )));
    }
    let (mut so_far, mut others) = (0, 0);
    let mut thresholds: Vec<Threshold> = (0..=STEPS)
        .rev()
        .map(|bin| {
            so_far += found[bin];
            others += unknown[bin];
            let stands_for = so_far as f64 / share;
            let all = stands_for + others as f64;
            let precision = if all > 0.0 { stands_for / all } else { 0.0 };
            let recall = so_far as f64 / reachable as f64;
            let f1 = if so_far > 0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
            Threshold { tau: tau(bin), found: so_far, unknown: others, recall, precision, f1 }
        })
        .collect();
    let best = thresholds.iter().fold(None, |best: Option<&Threshold>, next| match best {
        Some(best) if best.f1 >= next.f1 => Some(best),
        _ => Some(next),
    });
    let tau = best.map_or(1.0, |best| best.tau);
    thresholds.reverse();
    Ok(Calibration { tau, hidden, reachable, thresholds })
}

/// Threshold of a step.
fn tau(step: usize) -> f32 {
    (STEPS + step) as f32 / (2 * STEPS) as f32
}

/// The last step whose threshold a sigma reaches.
fn step(sigma: f32) -> usize {
    let near = (((sigma - 0.5) * (2 * STEPS) as f32).round().max(0.0) as usize).min(STEPS);
    if tau(near) <= sigma { near } else { near.saturating_sub(1) }
}
