//! Layer normalisation: y = (x - mean) / std * weight + bias, with mean and std over each row.
//!
//! With h = (x - mean) / std and g = dy weight: dx = (g - mean(g) - h mean(g h)) / std, dweight += dy h, dbias += dy.

use super::reduce::sum_lanes;
use super::simd::{LANES, fma, total};

crate::simd! {
    /// Normalises the rows of `x [rows, cols]`, cols = `weight.len()`; `stats` becomes (mean, 1 / std) of each row.
    pub fn layer_norm(
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        y: &mut [f32],
        stats: &mut Vec<[f32; 2]>,
    ) {
        let cols = weight.len().max(1);
        stats.clear();
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            let mean = sum_lanes::<FUSED>(x) / cols as f32;
            let variance = squares_around::<FUSED>(x, mean) / cols as f32;
            let inverse = 1.0 / (variance + eps).sqrt();
            for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = fma::<FUSED>((x - mean) * inverse, w, b);
            }
            stats.push([mean, inverse]);
        }
    }

    /// `dy [rows, cols]` becomes dx; adds to `dweight [cols]` and `dbias [cols]`.
    pub fn layer_norm_backward(
        x: &[f32],
        weight: &[f32],
        stats: &[[f32; 2]],
        dy: &mut [f32],
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        let cols = weight.len().max(1);
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact_mut(cols)).zip(stats);
        for ((x, dy), &[mean, inverse]) in rows {
            let (sum, sum_h) = means::<FUSED>(x, weight, dy, mean, inverse);
            let (mean_g, mean_gh) = (sum / cols as f32, sum_h / cols as f32);
            let slopes = dweight.iter_mut().zip(dbias.iter_mut());
            for (((dy, &x), &w), (dw, db)) in dy.iter_mut().zip(x).zip(weight).zip(slopes) {
                let h = (x - mean) * inverse;
                *dw = fma::<FUSED>(*dy, h, *dw);
                *db += *dy;
                *dy = fma::<FUSED>(-h, mean_gh, fma::<FUSED>(*dy, w, -mean_g)) * inverse;
            }
        }
    }
}

/// Sum of (x - mean)^2.
#[inline(always)]
fn squares_around<const FUSED: bool>(x: &[f32], mean: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] += (block[lane] - mean) * (block[lane] - mean);
        }
    }
    for (lane, &v) in rest.iter().enumerate() {
        sums[lane] += (v - mean) * (v - mean);
    }
    total::<FUSED>(&sums)
}

/// Sums of g = dy weight and of g h.
#[inline(always)]
fn means<const FUSED: bool>(x: &[f32], weight: &[f32], dy: &[f32], mean: f32, inverse: f32) -> (f32, f32) {
    let (mut sums, mut sums_h) = ([0f32; LANES], [0f32; LANES]);
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (w_blocks, w_rest) = weight.as_chunks::<LANES>();
    let (d_blocks, d_rest) = dy.as_chunks::<LANES>();
    for ((x, w), d) in x_blocks.iter().zip(w_blocks).zip(d_blocks) {
        for lane in 0..LANES {
            let g = d[lane] * w[lane];
            sums[lane] += g;
            sums_h[lane] = fma::<FUSED>(g, (x[lane] - mean) * inverse, sums_h[lane]);
        }
    }
    for (lane, ((&x, &w), &d)) in x_rest.iter().zip(w_rest).zip(d_rest).enumerate() {
        sums[lane] += d * w;
        sums_h[lane] = fma::<FUSED>(d * w, (x - mean) * inverse, sums_h[lane]);
    }
    (total::<FUSED>(&sums), total::<FUSED>(&sums_h))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPS: f32 = 1e-5;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 25.0 - 2.0).collect()
    }

    fn twin(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let cols = weight.len();
        let row = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / cols as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
            let std = (variance + EPS as f64).sqrt();
            (0..cols).map(|j| (x[j] - mean) / std * weight[j] + bias[j]).collect::<Vec<_>>()
        };
        x.chunks(cols).flat_map(row).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&v| v as f64).collect()
    }

    #[test]
    fn rows_are_those_of_f64() {
        for cols in [1, 7, 32, 45, 384] {
            let (x, weight, bias) = (values(cols * 3, 1), values(cols, 2), values(cols, 3));
            let (mut y, mut stats) = (vec![0.0; x.len()], vec![[9.0; 2]]);
            layer_norm(&x, &weight, &bias, EPS, &mut y, &mut stats);
            assert_eq!(stats.len(), 3);
            let want = twin(&wide(&x), &wide(&weight), &wide(&bias));
            assert!(y.iter().zip(&want).all(|(&a, b)| (a as f64 - b).abs() < 3e-6), "{cols}");
        }
    }

    #[test]
    fn backward_is_the_slope_of_forward() {
        let (cols, rows) = (45, 2);
        let (x, weight, bias) = (values(cols * rows, 1), values(cols, 2), values(cols, 3));
        let outer = values(cols * rows, 4);
        let loss = |x: &[f64], w: &[f64], b: &[f64]| {
            twin(x, w, b).iter().zip(&outer).map(|(y, &o)| y * o as f64).sum::<f64>()
        };
        let (mut y, mut stats) = (vec![0.0; x.len()], Vec::new());
        layer_norm(&x, &weight, &bias, EPS, &mut y, &mut stats);
        let (mut dx, mut dw, mut db) = (outer.clone(), vec![1.0; cols], vec![2.0; cols]);
        layer_norm_backward(&x, &weight, &stats, &mut dx, &mut dw, &mut db);

        let inputs = [wide(&x), wide(&weight), wide(&bias)];
        for (which, (got, start)) in [(&dx, 0.0), (&dw, 1.0), (&db, 2.0)].into_iter().enumerate() {
            for i in 0..got.len() {
                let at = |step: f64| {
                    let mut moved = inputs.clone();
                    moved[which][i] += step;
                    loss(&moved[0], &moved[1], &moved[2])
                };
                let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!((got[i] as f64 - start - slope).abs() < 2e-5, "{which} {i}: {} {slope}", got[i]);
            }
        }
    }
}
