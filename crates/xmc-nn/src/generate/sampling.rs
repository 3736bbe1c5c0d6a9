//! Which token comes next? Drawn from the softmax of the logits, or from its largest part.
//!
//! p[i] = exp((s[i] - m) / temperature) / Z over the `top_k` largest logits; of these the fewest whose sum reaches
//! `top_p`. Logits are ordered from the largest, equal ones by id. A draw is a function of (seed, position), so a
//! sequence does not depend on what is generated beside it.
//!
//! The largest k of v logits are found without sorting: the k-th largest of the maxima of blocks is a bound that at
//! least k logits reach, and few more.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::ops::softmax::log_sum_exp;

/// Logits that share a maximum.
const BLOCK: usize = 32;

/// Candidates that `top_p` looks at first; then eight times as many, until they reach it.
const FIRST: usize = 64;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 always takes the largest.
    pub temperature: f32,
    /// So many largest logits can be drawn; 0: all.
    pub top_k: usize,
    /// Of these the fewest whose probabilities reach this sum can be drawn; 1: all.
    pub top_p: f32,
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 };

    /// Refuses numbers without meaning.
    ///
    /// # Errors
    /// If the temperature is negative or not finite, or `top_p` is not in (0, 1].
    pub fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let found = self.temperature;
            return Err(Error::Shape(format!(
                "temperature = {found}: expected 0 (greedy) or a positive number"
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::Shape(format!("top_p = {}: expected more than 0, at most 1", self.top_p)));
        }
        Ok(())
    }
}

/// A token and its logarithm of probability in the whole softmax at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) id: u32,
    pub(crate) log_probability: f64,
}

/// Draws tokens; keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    maxima: Vec<f32>,
    candidates: Vec<(f32, u32)>,
    weights: Vec<f64>,
}

impl Sampler {
    /// The token at `position` of the sequence with `seed`, from `logits [vocab]`.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        how: &Sampling,
        seed: u64,
        position: usize,
    ) -> Result<Drawn> {
        let (largest, sum) = log_sum_exp(logits, (f32::NEG_INFINITY, 0.0));
        let normaliser = f64::from(largest) + sum.ln();
        if !normaliser.is_finite() {
            return Err(Error::Shape(format!(
                "token {position} of a generated text: the logits have the sum of exponentials {sum}, expected finite \
                 numbers; the weights are damaged or too large for the precision"
            )));
        }
        let id = if how.temperature == 0.0 || how.top_k == 1 {
            self.largest(logits, 1);
            self.candidates[0].1
        } else {
            self.choose(logits, how, largest, uniform(seed, position))
        };
        Ok(Drawn { id, log_probability: f64::from(logits[id as usize]) - normaliser })
    }

    /// The token at `chance` of the cumulative distribution.
    fn choose(&mut self, logits: &[f32], how: &Sampling, largest: f32, chance: f64) -> u32 {
        let temperature = f64::from(how.temperature);
        let weight = |logit: f32| (f64::from(logit - largest) / temperature).exp();
        let k = if how.top_k == 0 { logits.len() } else { how.top_k.min(logits.len()) };
        if k == logits.len() && how.top_p == 1.0 {
            self.candidates.clear();
            self.candidates.extend(logits.iter().copied().zip(0..));
            self.weights.clear();
            self.weights.extend(logits.iter().map(|&s| weight(s)));
            return self.walk(self.weights.iter().sum(), chance);
        }
        let all = if k == logits.len() { logits.iter().map(|&s| weight(s)).sum() } else { 0.0 };
        let mut looked = if how.top_p == 1.0 || all == 0.0 { k } else { FIRST.min(k) };
        loop {
            self.largest(logits, looked);
            self.weights.clear();
            self.weights.extend(self.candidates.iter().map(|&(s, _)| weight(s)));
            // Restricted to k the sum is that of the candidates; they are all there then.
            let total: f64 = if k == logits.len() { all } else { self.weights.iter().sum() };
            let mut kept = 0.0;
            let enough = self.weights.iter().position(|w| {
                kept += w;
                kept >= f64::from(how.top_p) * total
            });
            if let Some(last) = enough.filter(|_| how.top_p < 1.0) {
                self.weights.truncate(last + 1);
                return self.walk(kept, chance);
            }
            if looked == k {
                return self.walk(kept, chance);
            }
            looked = (looked * 8).min(k);
        }
    }

    /// The candidate at `chance` of the sum of weights.
    fn walk(&self, total: f64, chance: f64) -> u32 {
        let mut left = chance * total;
        let mut last = 0;
        for (&weight, &(_, id)) in self.weights.iter().zip(&self.candidates) {
            if weight > 0.0 {
                if left < weight {
                    return id;
                }
                left -= weight;
                last = id;
            }
        }
        // Rounding may leave a crumb behind the last one.
        last
    }

    /// Candidates become the `k` largest logits, the largest first, equal ones by id.
    fn largest(&mut self, logits: &[f32], k: usize) {
        self.maxima.resize(logits.len().div_ceil(BLOCK), 0.0);
        maxima(logits, &mut self.maxima);
        self.candidates.clear();
        if k > self.maxima.len() {
            self.candidates.extend(logits.iter().copied().zip(0..));
        } else {
            let mut sorted = std::mem::take(&mut self.maxima);
            let blocks = sorted.clone();
            let (_, &mut bound, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            for (block, _) in blocks.iter().enumerate().filter(|(_, largest)| **largest >= bound) {
                let first = block * BLOCK;
                let ids = first as u32..;
                let values = logits[first..].iter().take(BLOCK).copied();
                self.candidates.extend(values.zip(ids).filter(|(value, _)| *value >= bound));
            }
            self.maxima = sorted;
        }
        if k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, order);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(order);
    }
}

/// From the largest, equal ones by id.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "as sorts call it")]
fn order(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

crate::simd! {
    fn maxima(logits: &[f32], out: &mut [f32]) {
        for (block, out) in logits.chunks(BLOCK).zip(out) {
            let mut largest = f32::NEG_INFINITY;
            for &v in block {
                largest = if v > largest { v } else { largest };
            }
            *out = largest;
        }
    }
}

/// A number in [0, 1) of 53 bits.
fn uniform(seed: u64, position: usize) -> f64 {
    let bits = xxh3_64_with_seed(&(position as u64).to_le_bytes(), seed);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 100.0 - 5.0).collect()
    }

    /// What may be drawn and with which probability: everything sorted.
    fn twin(logits: &[f32], how: &Sampling) -> Vec<(u32, f64)> {
        let mut all: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if how.top_k > 0 {
            all.truncate(how.top_k);
        }
        let weights: Vec<f64> =
            all.iter().map(|(s, _)| (f64::from(s - all[0].0) / f64::from(how.temperature)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let mut out = Vec::new();
        for (weight, (_, id)) in weights.iter().zip(all) {
            out.push((id, *weight));
            kept += weight;
            if how.top_p < 1.0 && kept >= f64::from(how.top_p) * total {
                break;
            }
        }
        out.into_iter().map(|(id, weight)| (id, weight / kept)).collect()
    }

    #[test]
    fn draws_follow_the_restricted_softmax() {
        let s = logits(300);
        for (top_k, top_p) in [(0, 1.0), (7, 1.0), (0, 0.8), (40, 0.5), (5, 0.999)] {
            let how = Sampling { temperature: 0.9, top_k, top_p };
            let want = twin(&s, &how);
            let mut counts = vec![0u32; s.len()];
            let mut sampler = Sampler::default();
            let draws = 100_000;
            for position in 0..draws {
                counts[sampler.draw(&s, &how, 5, position).unwrap().id as usize] += 1;
            }
            let mut outside = 0;
            for &(id, p) in &want {
                let (mean, sigma) = (p * draws as f64, (p * (1.0 - p) * draws as f64).sqrt());
                let off = (f64::from(counts[id as usize]) - mean).abs();
                outside += usize::from(off > 3.0 * sigma + 1.0);
                assert!(off <= 4.5 * sigma + 2.0, "{how:?}: token {id}: {} of {mean}", counts[id as usize]);
                counts[id as usize] = 0;
            }
            assert!(outside <= 1 + want.len() / 100, "{how:?}: {outside} of {} beyond 3 sigma", want.len());
            assert!(counts.iter().all(|&c| c == 0), "{how:?}: drawn from outside");
        }
    }

    #[test]
    fn one_candidate_is_greedy_and_equal_logits_go_to_the_lower_id() {
        let mut s = logits(1000);
        (s[700], s[123], s[400]) = (30.0, 30.0, 30.0);
        let mut sampler = Sampler::default();
        let greedy = sampler.draw(&s, &Sampling::GREEDY, 1, 0).unwrap();
        assert_eq!(greedy.id, 123);
        for position in 0..50 {
            let how = Sampling { temperature: 2.0, top_k: 1, top_p: 1.0 };
            assert_eq!(sampler.draw(&s, &how, 9, position).unwrap(), greedy);
            let tiny = Sampling { temperature: 2.0, top_k: 0, top_p: 1e-6 };
            assert_eq!(sampler.draw(&s, &tiny, 9, position).unwrap(), greedy);
        }
        let sum: f64 = s.iter().map(|&v| f64::from(v).exp()).sum();
        assert!((greedy.log_probability - (30.0 - sum.ln())).abs() < 1e-6);
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_alone() {
        let (s, how) = (logits(500), Sampling { temperature: 1.5, top_k: 0, top_p: 1.0 });
        let ids = |seed: u64| -> Vec<u32> {
            let mut sampler = Sampler::default();
            (0..50).map(|position| sampler.draw(&s, &how, seed, position).unwrap().id).collect()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }

    #[test]
    fn numbers_without_meaning_are_refused() {
        for (temperature, top_p) in
            [(-1.0, 1.0), (f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f32::NAN)]
        {
            assert!(Sampling { temperature, top_k: 0, top_p }.check().is_err(), "{temperature} {top_p}");
        }
        assert!(Sampling { temperature: 0.7, top_k: 40, top_p: 0.95 }.check().is_ok());
        let error =
            Sampler::default().draw(&[1.0, f32::NAN], &Sampling::GREEDY, 0, 3).unwrap_err().to_string();
        assert!(error.contains("token 3") && error.contains("NaN"), "{error}");
        assert!(Sampler::default().draw(&[f32::INFINITY, 1.0], &Sampling::GREEDY, 0, 0).is_err());
        assert!(Sampler::default().draw(&[], &Sampling::GREEDY, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_sort(
            s in proptest::collection::vec((-40i32..40).prop_map(|v| v as f32 / 4.0), 1..400),
            k in 1usize..400,
        ) {
            let k = k.min(s.len());
            let mut sampler = Sampler::default();
            sampler.largest(&s, k);
            let mut all: Vec<(f32, u32)> = s.iter().copied().zip(0..).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            prop_assert_eq!(&sampler.candidates, &all[..k]);
        }
    }
}
