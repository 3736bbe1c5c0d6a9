//! Softmax over rows, its derivative, and log-sum-exp piece by piece.
//!
//! p[j] = exp(s[j] - m) / sum of exp(s[j'] - m) with m the largest of the row; ds[j] = p[j] (dp[j] - sum of p[j'] dp[j']).

use super::exp::exp_lane;
use super::reduce::{dot_lanes, max_lanes, sum_lanes};

crate::simd! {
    /// Every row of `s [rows, cols]` becomes its softmax. A row of nothing but -infinity becomes 0.
    pub fn softmax_rows(s: &mut [f32], cols: usize) {
        for row in s.chunks_exact_mut(cols.max(1)) {
            softmax_row::<FUSED>(row);
        }
    }

    /// The same where row i sees its first `visible + i` columns; the others become 0.
    pub fn softmax_rows_causal(s: &mut [f32], cols: usize, visible: usize) {
        for (i, row) in s.chunks_exact_mut(cols.max(1)).enumerate() {
            let (seen, hidden) = row.split_at_mut(cols.min(visible + i));
            softmax_row::<FUSED>(seen);
            hidden.fill(0.0);
        }
    }

    /// `dp [rows, cols]` becomes ds, given the softmax p.
    pub fn softmax_rows_backward(p: &[f32], dp: &mut [f32], cols: usize) {
        for (p, dp) in p.chunks_exact(cols.max(1)).zip(dp.chunks_exact_mut(cols.max(1))) {
            let mean = dot_lanes::<FUSED, f32>(p, dp);
            for (dp, &p) in dp.iter_mut().zip(p) {
                *dp = p * (*dp - mean);
            }
        }
    }

    /// Adds a piece of a row to its running (largest m, sum of exp(s[j] - m)); begin with (-infinity, 0).
    /// The logarithm of the sum of all exponentials is then m + ln(sum).
    pub fn log_sum_exp(row: &[f32], running: (f32, f64)) -> (f32, f64) {
        let largest = max_lanes::<FUSED>(row);
        let largest = if largest > running.0 { largest } else { running.0 };
        if largest == f32::NEG_INFINITY {
            // Nothing but -infinity so far, or NaN, which must not get lost.
            return (largest, running.1 + row.iter().filter(|v| v.is_nan()).map(|&v| v as f64).sum::<f64>());
        }
        let mut sums = [0f32; super::simd::LANES];
        let (blocks, rest) = row.as_chunks::<{ super::simd::LANES }>();
        for block in blocks {
            for lane in 0..super::simd::LANES {
                sums[lane] += exp_lane::<FUSED>(block[lane] - largest);
            }
        }
        for (lane, &v) in rest.iter().enumerate() {
            sums[lane] += exp_lane::<FUSED>(v - largest);
        }
        let before = if running.1 == 0.0 { 0.0 } else { running.1 * ((running.0 - largest) as f64).exp() };
        (largest, before + super::simd::total::<FUSED>(&sums) as f64)
    }
}

#[inline(always)]
fn softmax_row<const FUSED: bool>(row: &mut [f32]) {
    let largest = max_lanes::<FUSED>(row);
    let shift = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    for v in row.iter_mut() {
        *v = exp_lane::<FUSED>(*v - shift);
    }
    let sum = sum_lanes::<FUSED>(row);
    let factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
    for v in row.iter_mut() {
        *v *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 10.0 - 5.0).collect()
    }

    fn twin(s: &[f32]) -> Vec<f64> {
        let largest = s.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v as f64));
        let powers: Vec<f64> = s.iter().map(|&v| (v as f64 - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|v| v / sum).collect()
    }

    #[test]
    fn rows_are_those_of_f64() {
        for cols in [1, 5, 31, 32, 77, 128] {
            let mut s = row(cols * 3, cols);
            let want: Vec<f64> = s.chunks(cols).flat_map(twin).collect();
            softmax_rows(&mut s, cols);
            assert!(s.iter().zip(&want).all(|(&a, b)| (a as f64 - b).abs() < 3e-7));
        }
        let mut masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
        softmax_rows(&mut masked, 2);
        assert_eq!(masked, [0.0, 1.0, 0.0, 0.0]);
        softmax_rows(&mut [], 0);
    }

    #[test]
    fn causal_rows_are_softmax_of_what_they_see() {
        let (rows, cols) = (4, 7);
        let mut s = row(rows * cols, 3);
        let before = s.clone();
        softmax_rows_causal(&mut s, cols, 3);
        for (i, (found, scores)) in s.chunks(cols).zip(before.chunks(cols)).enumerate() {
            let mut seen = scores[..3 + i].to_vec();
            softmax_rows(&mut seen, 3 + i);
            assert_eq!(found[..3 + i], seen);
            assert!(found[3 + i..].iter().all(|&p| p == 0.0));
        }
        softmax_rows_causal(&mut s[..cols], cols, 0);
        assert_eq!(s[..cols], [0.0; 7]);
    }

    #[test]
    fn backward_is_the_slope_of_forward() {
        let cols = 37;
        let (s, weights) = (row(cols, 1), row(cols, 5));
        let loss = |s: &[f32]| twin(s).iter().zip(&weights).map(|(p, &w)| p * w as f64).sum::<f64>();
        let mut p = s.clone();
        softmax_rows(&mut p, cols);
        let mut ds = weights.clone();
        softmax_rows_backward(&p, &mut ds, cols);
        for j in 0..cols {
            let (mut above, mut below) = (s.clone(), s.clone());
            above[j] += 1.0 / 64.0;
            below[j] -= 1.0 / 64.0;
            let slope = (loss(&above) - loss(&below)) * 32.0;
            assert!((ds[j] as f64 - slope).abs() < 1e-4, "{j}: {} and {slope}", ds[j]);
        }
    }

    #[test]
    fn pieces_sum_to_the_whole() {
        let s = row(1000, 3);
        let mut running = (f32::NEG_INFINITY, 0.0);
        for piece in s.chunks(77) {
            running = log_sum_exp(piece, running);
        }
        let want = s.iter().map(|&v| (v as f64).exp()).sum::<f64>().ln();
        assert!((running.0 as f64 + running.1.ln() - want).abs() < 1e-6);
        let nothing = log_sum_exp(&[f32::NEG_INFINITY; 3], (f32::NEG_INFINITY, 0.0));
        assert_eq!(nothing, (f32::NEG_INFINITY, 0.0));
        assert_eq!(log_sum_exp(&[2.0], nothing), (2.0, 1.0));
        assert!(log_sum_exp(&[f32::NAN, 1.0], nothing).1.is_nan());
        assert!(log_sum_exp(&[f32::NAN], nothing).1.is_nan());
    }
}
