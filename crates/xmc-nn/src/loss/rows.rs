//! What is done to the scores of one row in one block? Loops that vectorise, over a few hundred scores in the
//! first-level cache.

use crate::ops::exp::exp_lane;
use crate::ops::simd::{LANES, Sums, fma, polynomial, total};

/// atanh(z) / z - 1 over z^2 for |z| <= 1 / 3, in powers of z^2: 1/3, 1/5, 1/7, …
const ATANH: [f32; 7] = [1.0 / 3.0, 0.2, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0, 1.0 / 15.0];

/// ln(1 + e) for e in [0, 1], as 2 atanh(e / (2 + e)): exact also where 1 + e would round to 1.
#[inline(always)]
fn ln_1p_lane<const FUSED: bool>(e: f32) -> f32 {
    let z = e / (2.0 + e);
    let z2 = z * z;
    let twice = z + z;
    fma::<FUSED>(twice * z2, polynomial::<FUSED, 7>(z2, &ATANH), twice)
}

/// e = e^-|z| and q = 1 / (1 + e): the sigmoid of |z| is q, that of -|z| is e q.
#[inline(always)]
fn sigmoid_parts<const FUSED: bool>(z: f32) -> [f32; 2] {
    let e = exp_lane::<FUSED>(-z.abs());
    [e, 1.0 / (1.0 + e)]
}

/// With p the sigmoid of z: 1(z >= 0); 1 - p where z >= 0; p elsewhere; p (1 - p); p (1 - p) (1 - 2 p). In three parts
/// p keeps all its digits near 1 as well as near 0.
#[inline(always)]
fn sigmoid_terms<const FUSED: bool>(z: f32) -> [f32; 5] {
    let [e, q] = sigmoid_parts::<FUSED>(z);
    let (tail, slope) = (e * q, e * q * q);
    let bend = slope * (1.0 - e) * q;
    if z >= 0.0 { [1.0, tail, 0.0, slope, -bend] } else { [0.0, 0.0, tail, slope, bend] }
}

#[inline(always)]
pub(super) fn softplus_and_sigmoid<const FUSED: bool>(s: f32) -> [f32; 2] {
    let [e, q] = sigmoid_parts::<FUSED>(s);
    let rest = ln_1p_lane::<FUSED>(e);
    if s >= 0.0 { [s + rest, q] } else { [rest, e * q] }
}

crate::simd! {
    /// s = factor e^(s - shift).
    pub(super) fn exponentials(s: &mut [f32], shift: f32, factor: f32) {
        for v in s {
            *v = factor * exp_lane::<FUSED>(*v - shift);
        }
    }

    /// Smallest and largest.
    pub(super) fn extremes(s: &[f32]) -> [f32; 2] {
        let (mut low, mut high): (Sums, Sums) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (blocks, rest) = s.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                low[lane] = if block[lane] < low[lane] { block[lane] } else { low[lane] };
                high[lane] = if block[lane] > high[lane] { block[lane] } else { high[lane] };
            }
        }
        let smaller = low.iter().chain(rest).fold(f32::INFINITY, |a, &b| a.min(b));
        [smaller, high.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b))]
    }

    /// Over z = alpha s + shift with sigmoid p, sums of: 1(z >= 0); 1 - p where z >= 0; p elsewhere; p (1 - p);
    /// p (1 - p) (1 - 2 p).
    pub(super) fn sigmoid_sums(s: &[f32], alpha: f32, shift: f32) -> [f32; 5] {
        let mut sums = [[0f32; LANES]; 5];
        let (blocks, rest) = s.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                let terms = sigmoid_terms::<FUSED>(fma::<FUSED>(alpha, block[lane], shift));
                for i in 0..5 {
                    sums[i][lane] += terms[i];
                }
            }
        }
        for (lane, &v) in rest.iter().enumerate() {
            let terms = sigmoid_terms::<FUSED>(fma::<FUSED>(alpha, v, shift));
            for i in 0..5 {
                sums[i][lane] += terms[i];
            }
        }
        std::array::from_fn(|i| total::<FUSED>(&sums[i]))
    }

    /// s = factor p (1 - p), with p = sigmoid(alpha s + shift).
    pub(super) fn sigmoid_slopes(s: &mut [f32], alpha: f32, shift: f32, factor: f32) {
        for v in s {
            let [e, q] = sigmoid_parts::<FUSED>(fma::<FUSED>(alpha, *v, shift));
            *v = factor * (e * q * q);
        }
    }

    /// s = factor sigmoid(s); returns the sum of softplus(s) = max(s, 0) + ln(1 + e^-|s|).
    pub(super) fn softplus_sum_and_sigmoids(s: &mut [f32], factor: f32) -> f32 {
        let mut sums = [0f32; LANES];
        let (blocks, rest) = s.as_chunks_mut::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                let [softplus, sigmoid] = softplus_and_sigmoid::<FUSED>(block[lane]);
                sums[lane] += softplus;
                block[lane] = factor * sigmoid;
            }
        }
        for (lane, s) in rest.iter_mut().enumerate() {
            let [softplus, sigmoid] = softplus_and_sigmoid::<FUSED>(*s);
            sums[lane] += softplus;
            *s = factor * sigmoid;
        }
        total::<FUSED>(&sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores() -> Vec<f32> {
        (0..77).map(|i| ((i * 37) % 101) as f32 / 2.5 - 20.0).chain([f32::NEG_INFINITY]).collect()
    }

    fn sigmoid(z: f64) -> f64 {
        1.0 / (1.0 + (-z).exp())
    }

    #[test]
    fn sums_of_sigmoids_are_those_of_f64() {
        let (alpha, shift) = (0.7, 3.0);
        let got = sigmoid_sums(&scores(), alpha, shift);
        let mut want = [0.0; 5];
        for &s in &scores() {
            let p = sigmoid(alpha as f64 * s as f64 + shift as f64);
            let (slope, bend) = (p * (1.0 - p), p * (1.0 - p) * (1.0 - 2.0 * p));
            let terms = if p >= 0.5 { [1.0, 1.0 - p, 0.0, slope, bend] } else { [0.0, 0.0, p, slope, bend] };
            want.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
        assert!(got.iter().zip(want).all(|(&a, b)| (a as f64 - b).abs() < 1e-5), "{got:?} {want:?}");
        let mut slopes = scores();
        sigmoid_slopes(&mut slopes, alpha, shift, 2.0);
        assert!((slopes.iter().sum::<f32>() - 2.0 * got[3]).abs() < 1e-5);
        assert_eq!(slopes[77], 0.0);
    }

    #[test]
    fn softplus_is_exact_far_out() {
        for s in [-80.0_f32, -20.0, -1.0, -1e-3, 0.0, 0.5, 3.0, 50.0] {
            let mut row = [s];
            let sum = softplus_sum_and_sigmoids(&mut row, 1.0) as f64;
            let want = (s as f64).exp().ln_1p();
            assert!((sum / want - 1.0).abs() < 3e-6, "{s}: {sum} {want}");
            assert!((row[0] as f64 / sigmoid(s as f64) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn extremes_look_at_every_lane() {
        for n in 1..70 {
            let s: Vec<f32> = (0..n).map(|i| ((i * 29) % 71) as f32).collect();
            let want = s.iter().fold([f32::MAX, f32::MIN], |m, &v| [m[0].min(v), m[1].max(v)]);
            assert_eq!(extremes(&s), want);
        }
    }
}
