//! How much of what is relevant can no method find, if what it depends on was never seen?
//!
//! Knowledge comes in items of masses p_1 >= p_2 >= …, and a pair needs one of them. After n observed pairs under an
//! exposure B the share of relevant pairs that cannot be recovered from the data is, with probability 1 - delta, at least
//!
//! ```text
//! max over m of (F_m / B) exp(-B p_m n)  -  ln(2 K / delta)^1.5 / (2 sqrt(2 n))        F_m = sum of p_j from m on
//! ```
//!
//! Source: Prakash et al. 2025, the theorem of section 3 (the definition of F_m is the one that fits its proof). Weights by
//! propensity and labels imputed by a model of the same data cannot fill the hole: they only see observed pairs.

use crate::error::Result;

/// What is subtracted for chance: n pairs, K items, at a risk of `delta`.
///
/// ```
/// use xmc::augment::theory::deviation;
/// assert!((deviation(1e6, 1e5, 0.05) - 0.020955).abs() < 1e-6);
/// ```
pub fn deviation(pairs: f64, items: f64, delta: f64) -> f64 {
    (2.0 * items / delta).ln().max(0.0).powf(1.5) / (2.0 * (2.0 * pairs).sqrt())
}

/// Least share of the relevant pairs that cannot be recovered; 0 if the bound says nothing.
///
/// # Errors
/// If a mass is not above 0, or exposure, pairs or delta have no meaning.
pub fn irrecoverable(masses: &[f64], exposure: f64, pairs: f64, delta: f64) -> Result<f64> {
    let refuse =
        |key: &str, value: f64, expected: &str| Err(xmc_data::Error::config(key, value, expected).into());
    if let Some(&mass) = masses.iter().find(|&&mass| !(mass > 0.0 && mass.is_finite())) {
        return refuse("masses", mass, "numbers above 0");
    }
    if !(exposure > 0.0 && exposure.is_finite()) {
        return refuse("exposure", exposure, "a number above 0");
    }
    if !(pairs >= 1.0 && pairs.is_finite()) {
        return refuse("pairs", pairs, "1 or more");
    }
    if !(delta > 0.0 && delta < 1.0) {
        return refuse("delta", delta, "a number between 0 and 1");
    }
    let total: f64 = masses.iter().sum();
    let mut sorted: Vec<f64> = masses.iter().map(|mass| mass / total).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    // From the smallest mass up, so that the tail is a running sum.
    let (mut tail, mut best) = (0.0, 0.0f64);
    for &mass in &sorted {
        tail += mass;
        best = best.max(tail / exposure * (-exposure * mass * pairs).exp());
    }
    Ok((best - deviation(pairs, sorted.len() as f64, delta)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_largest_tail_that_stays_unseen() {
        // One item that everything shows, and many that almost nothing does.
        let masses =
            |rare: usize| std::iter::once(0.9).chain(vec![0.1 / rare as f64; rare]).collect::<Vec<f64>>();
        assert_eq!(irrecoverable(&masses(1000), 1.0, 1e6, 0.05).unwrap(), 0.0);
        let expected = 0.1 * (-1.0f64).exp() - deviation(1e6, 100_001.0, 0.05);
        assert!((irrecoverable(&masses(100_000), 1.0, 1e6, 0.05).unwrap() - expected).abs() < 1e-4);
        assert!(expected > 0.015);
    }

    #[test]
    fn numbers_without_a_meaning_are_refused_by_name() {
        for (masses, exposure, pairs, delta, key) in [
            (vec![0.5, -0.1], 1.0, 10.0, 0.1, "masses"),
            (vec![0.5], 0.0, 10.0, 0.1, "exposure"),
            (vec![0.5], 1.0, f64::NAN, 0.1, "pairs"),
            (vec![0.5], 1.0, 10.0, 1.0, "delta"),
        ] {
            let message = irrecoverable(&masses, exposure, pairs, delta).unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
        }
    }
}
