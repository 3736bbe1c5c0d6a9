//! The Gaussian error linear unit, gelu(x) = x Phi(x), and its derivative Phi(x) + x phi(x).
//!
//! Phi is the normal distribution, phi its density. With a = |x| and the tail Phi(-a) = exp(-a^2 / 2) R(a):
//! gelu(x) = max(x, 0) - a Phi(-a), so nothing cancels. R falls slowly and is a polynomial of degree 11 on [0, 5.5];
//! beyond that the exponential alone makes the tail vanish. Absolute error below 3e-7 (gelu) and 5e-7 (derivative).

use super::exp::exp_lane;
use super::simd::{fma, polynomial};

/// R(a) as a polynomial in s = a / 2.75 - 1.
const RATIO: [f32; 12] = [
    0.130_725_82,
    -0.108_482_3,
    0.084_009_99,
    -0.061_726_287,
    0.043_475_933,
    -0.026_099_797,
    0.016_241_308,
    -0.018_388_031,
    0.007_602_84,
    0.005_680_475,
    0.003_108_557,
    -0.005_819_377_5,
];

/// 1 / sqrt(2 pi).
const DENSITY: f32 = 0.398_942_3;

/// (a, exp(-a^2 / 2), R(a)) for a = |x|.
#[inline(always)]
fn tail<const FUSED: bool>(x: f32) -> (f32, f32, f32) {
    let a = x.abs();
    let near = if a > 5.5 { 5.5 } else { a };
    let ratio = polynomial::<FUSED, 12>(fma::<FUSED>(near, 1.0 / 2.75, -1.0), &RATIO);
    (a, exp_lane::<FUSED>(a * a * -0.5), ratio)
}

crate::simd! {
    /// y = gelu(x).
    pub fn gelu(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            // Beyond 15 the tail is 0; the limit keeps infinity times 0 away.
            let (a, power, ratio) = tail::<FUSED>(x);
            let a = if a > 15.0 { 15.0 } else { a };
            let positive = if x < 0.0 { 0.0 } else { x };
            *y = fma::<FUSED>(-a * ratio, power, positive);
        }
    }

    /// dy becomes dx = dy gelu'(x).
    pub fn gelu_backward(x: &[f32], dy: &mut [f32]) {
        for (dy, &x) in dy.iter_mut().zip(x) {
            let (a, power, ratio) = tail::<FUSED>(x);
            let a = if a > 15.0 { 15.0 } else { a };
            let lower = fma::<FUSED>(-a, DENSITY, ratio) * power;
            *dy *= if x < 0.0 { lower } else { 1.0 - lower };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its series or, far out, its continued fraction; both in f64.
    fn normal(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let upper = if z < 2.5 {
            let (mut term, mut sum) = (z, z);
            for i in 1..80 {
                term *= -z * z / i as f64;
                sum += term / (2 * i + 1) as f64;
            }
            1.0 - sum / std::f64::consts::PI.sqrt() * 2.0
        } else {
            let mut fraction = z;
            for i in (1..200).rev() {
                fraction = z + i as f64 / 2.0 / fraction;
            }
            (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()
        };
        if x < 0.0 { upper / 2.0 } else { 1.0 - upper / 2.0 }
    }

    #[test]
    fn values_and_derivatives_are_those_of_the_formula() {
        let x: Vec<f32> = (-90_000..=90_000).map(|i| i as f32 * 1e-4).collect();
        let mut y = vec![0.0; x.len()];
        gelu(&x, &mut y);
        let mut dx = vec![1.0; x.len()];
        gelu_backward(&x, &mut dx);
        for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
            let x = x as f64;
            let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
            assert!((y as f64 - x * normal(x)).abs() <= 5e-7, "gelu({x}) = {y}");
            assert!((dx as f64 - normal(x) - x * density).abs() <= 5e-7, "gelu'({x}) = {dx}");
        }
    }

    #[test]
    fn the_ends_are_lines_and_nan_stays() {
        let x = [f32::NEG_INFINITY, -100.0, -0.0, 100.0, f32::INFINITY, f32::NAN];
        let mut y = [9.0; 6];
        gelu(&x, &mut y);
        assert_eq!(&y[..5], &[0.0, 0.0, 0.0, 100.0, f32::INFINITY]);
        let mut dx = [2.0; 6];
        gelu_backward(&x, &mut dx);
        assert!((dx[2] - 1.0).abs() < 1e-6);
        dx[2] = 1.0;
        assert_eq!(&dx[..5], &[0.0, 0.0, 1.0, 2.0, 2.0]);
        assert!(y[5].is_nan() && dx[5].is_nan());
    }
}
