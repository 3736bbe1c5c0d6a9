//! The exponential function in lanes, and the hyperbolic tangent.
//!
//! e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2. e^r is a polynomial of degree 6, fitted at Chebyshev
//! nodes. Relative error below 2e-7; results below 2^-125 are 0, NaN stays NaN.

use super::simd::{fma, polynomial};

/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
const QUOTIENT: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_463, 0.008_363_198, 0.001_393_367_7];

/// Adding it rounds a small number to an integer, which then lies in the lowest bits (1.5 * 2^23).
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts: the first has few bits, so that n times it is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// Where the result is 0 below and infinite above.
const RANGE: [f32; 2] = [-87.4, 89.0];

/// e^x of one lane.
#[inline(always)]
pub fn exp_lane<const FUSED: bool>(x: f32) -> f32 {
    // Comparisons, not min and max: those would lose NaN.
    let x = if x < RANGE[0] { RANGE[0] } else { x };
    let x = if x > RANGE[1] { RANGE[1] } else { x };
    let shifted = fma::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FUSED>(n, -LN2[1], fma::<FUSED>(n, -LN2[0], x));
    let power = fma::<FUSED>(polynomial::<FUSED, 5>(r, &QUOTIENT), r * r, r) + 1.0;
    // 2^(n - 1), times two: n = 128 must not overflow too early.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(126);
    (power * f32::from_bits(exponent << 23)) * 2.0
}

/// e^x - 1 of one lane; keeps its digits where x is small.
#[inline(always)]
pub fn exp_m1_lane<const FUSED: bool>(x: f32) -> f32 {
    let near = fma::<FUSED>(polynomial::<FUSED, 5>(x, &QUOTIENT), x * x, x);
    if x.abs() < std::f32::consts::LN_2 / 2.0 { near } else { exp_lane::<FUSED>(x) - 1.0 }
}

crate::simd! {
    /// x = e^x.
    pub fn exp(x: &mut [f32]) {
        for v in x {
            *v = exp_lane::<FUSED>(*v);
        }
    }

    /// x = tanh x = (1 - e) / (1 + e) with e = e^-2|x|, and the sign of x; off by less than 2e-7.
    pub fn tanh(x: &mut [f32]) {
        for v in x {
            let e = exp_lane::<FUSED>(-2.0 * v.abs());
            *v = ((1.0 - e) / (1.0 + e)).copysign(*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_one_it_keeps_its_digits_near_zero() {
        for fused in [false, true] {
            for i in -4000..4000 {
                let x = (i as f32 / 1000.0).powi(3);
                let found = if fused { exp_m1_lane::<true>(x) } else { exp_m1_lane::<false>(x) };
                let want = f64::from(x).exp_m1();
                assert!((f64::from(found) - want).abs() <= 4e-7 * want.abs(), "{x}: {found} {want}");
            }
            assert!(exp_m1_lane::<true>(f32::NAN).is_nan());
        }
    }

    #[test]
    fn the_error_is_two_units_at_most() {
        for fused in [false, true] {
            let mut worst = 0f64;
            for i in -860_000..887_000 {
                let x = i as f32 * 1e-4;
                let got = if fused { exp_lane::<true>(x) } else { exp_lane::<false>(x) };
                worst = worst.max((got as f64 / (x as f64).exp() - 1.0).abs());
            }
            assert!(worst <= 2e-7, "{worst}");
        }
    }

    #[test]
    fn tanh_is_that_of_f64() {
        let wanted: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 1e-4).collect();
        let mut found = wanted.clone();
        tanh(&mut found);
        let error = |(&x, &t): (&f32, &f32)| (f64::from(x).tanh() - f64::from(t)).abs();
        let worst = wanted.iter().zip(&found).map(error).fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst}");
        let mut ends = [f32::NEG_INFINITY, -0.0, f32::INFINITY, f32::NAN];
        tanh(&mut ends);
        assert_eq!(ends[..3], [-1.0, 0.0, 1.0]);
        assert!(ends[3].is_nan());
    }

    #[test]
    fn the_ends_are_zero_infinity_and_nan() {
        let mut x = [f32::NEG_INFINITY, -1e30, -90.0, 0.0, 88.73, 1e30, f32::INFINITY, f32::NAN];
        exp(&mut x);
        assert_eq!(&x[..7], &[0.0, 0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY]);
        assert!(x[7].is_nan());
        assert!(exp_lane::<true>(88.7).is_finite());
    }
}
