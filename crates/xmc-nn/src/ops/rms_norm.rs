//! Normalisation by the root mean square: y = x r weight with r = 1 / sqrt(mean of x^2 + eps) over each row
//! (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
//!
//! With g = dy weight: dx = r (g - x r^2 mean(g x)). Weights are frozen and get no gradient.

use super::reduce::dot_lanes;
use super::simd::{LANES, fma, total};

crate::simd! {
    /// Normalises the rows of `x [rows, cols]`, cols = `weight.len()`.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
        let cols = weight.len().max(1);
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            let inverse = inverse_rms::<FUSED>(x, eps);
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * w;
            }
        }
    }

    /// Adds to `dx [rows, cols]` what `dy`, the gradient behind the norm of `x`, makes of it.
    pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
        let cols = weight.len().max(1);
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
        for ((x, dy), dx) in rows {
            let inverse = inverse_rms::<FUSED>(x, eps);
            let along = inverse * inverse * weighted_dot::<FUSED>(x, weight, dy) / cols as f32;
            for (((dx, &x), &w), &dy) in dx.iter_mut().zip(x).zip(weight).zip(dy) {
                *dx = fma::<FUSED>(fma::<FUSED>(-x, along, dy * w), inverse, *dx);
            }
        }
    }
}

#[inline(always)]
fn inverse_rms<const FUSED: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot_lanes::<FUSED, f32>(x, x) / x.len() as f32 + eps).sqrt()
}

/// Sum of dy weight x.
#[inline(always)]
fn weighted_dot<const FUSED: bool>(x: &[f32], weight: &[f32], dy: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (w_blocks, w_rest) = weight.as_chunks::<LANES>();
    let (d_blocks, d_rest) = dy.as_chunks::<LANES>();
    for ((x, w), d) in x_blocks.iter().zip(w_blocks).zip(d_blocks) {
        for lane in 0..LANES {
            sums[lane] = fma::<FUSED>(d[lane] * w[lane], x[lane], sums[lane]);
        }
    }
    let mut rest = 0.0;
    for ((&x, &w), &d) in x_rest.iter().zip(w_rest).zip(d_rest) {
        rest = fma::<FUSED>(d * w, x, rest);
    }
    total::<FUSED>(&sums) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPS: f32 = 1e-5;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 25.0 - 2.0).collect()
    }

    fn twin(x: &[f64], weight: &[f32]) -> Vec<f64> {
        let row = |x: &[f64]| {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            let inverse = 1.0 / (mean + f64::from(EPS)).sqrt();
            x.iter().zip(weight).map(|(v, &w)| v * inverse * f64::from(w)).collect::<Vec<_>>()
        };
        x.chunks(weight.len()).flat_map(row).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&v| f64::from(v)).collect()
    }

    #[test]
    fn rows_are_those_of_f64() {
        for cols in [1, 7, 32, 45, 576] {
            let (x, weight) = (values(cols * 3, 1), values(cols, 2));
            let mut y = vec![f32::NAN; x.len()];
            rms_norm(&x, &weight, EPS, &mut y);
            let want = twin(&wide(&x), &weight);
            assert!(y.iter().zip(&want).all(|(&a, b)| (f64::from(a) - b).abs() < 3e-6), "{cols}");
        }
    }

    #[test]
    fn backward_adds_the_slope_of_forward() {
        let (cols, rows) = (45, 2);
        let (x, weight, outer) = (values(cols * rows, 1), values(cols, 2), values(cols * rows, 4));
        let mut dx = vec![3.0; x.len()];
        rms_norm_backward(&x, &weight, EPS, &outer, &mut dx);
        for i in 0..x.len() {
            let at = |step: f64| {
                let mut moved = wide(&x);
                moved[i] += step;
                twin(&moved, &weight).iter().zip(&outer).map(|(y, &o)| y * f64::from(o)).sum::<f64>()
            };
            let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
            assert!((f64::from(dx[i]) - 3.0 - slope).abs() < 2e-5, "{i}: {} {slope}", dx[i]);
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero_and_has_finite_slopes() {
        let (mut y, mut dx) = (vec![1.0; 8], vec![0.0; 8]);
        rms_norm(&[0.0; 8], &[1.0; 8], EPS, &mut y);
        assert_eq!(y, [0.0; 8]);
        rms_norm_backward(&[0.0; 8], &[1.0; 8], EPS, &[1.0; 8], &mut dx);
        assert!(dx.iter().all(|v| v.is_finite()));
    }
}
