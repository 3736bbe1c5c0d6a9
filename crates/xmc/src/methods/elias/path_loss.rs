//! How wrong is the score of a path, and how should it change? (spec: ELIAS, 3.3)
//!
//! ```text
//! log p = log s + log sigmoid(z)      s the score of the path, z the margin of its label, t in [0, 1] the target
//! loss  = -t log p - (1 - t) log(1 - p)
//! d loss / d log s = -t + (1 - t) p / (1 - p)
//! d loss / d z     = (1 - sigmoid(z)) d loss / d log s
//! ```
//!
//! All of it is finite in f32: 1 - p is the sum of the positive parts 1 - sigmoid(z) and sigmoid(z) (1 - s), so nothing
//! cancels as s and sigmoid go to 1; log p is a sum of logarithms, so nothing vanishes as they go to 0. A wrong label
//! whose score is almost 1 would have a slope without bound: it stops at 10^12, as in the original program.

use xmc_nn::ops::exp::{exp_lane, exp_m1_lane};

/// 1 - p does not count as less than this in a slope.
const LEAST: f32 = 1e-12;

/// Margins above this are as good as infinite; e^-80 is still a normal number.
const FAR: f32 = 80.0;

/// Paths that pass at a time.
const BLOCK: usize = 64;

/// Of paths that follow each other: log s, targets, and where losses and slopes go.
pub(super) struct Paths<'a> {
    pub(super) log_score: &'a [f32],
    pub(super) target: &'a [f32],
    /// d loss / d log s
    pub(super) slope: &'a mut [f32],
    pub(super) loss: &'a mut [f32],
}

/// Loss -log s of a path to a right label, and d loss / d log s, times `factor`.
pub(super) fn shortlist_loss(log_score: f32, factor: f32) -> [f32; 2] {
    [-log_score * factor, -factor]
}

/// p of each path, in the place of z.
pub(super) fn probabilities(z: &mut [f32], log_score: &[f32]) {
    for (z, &log_score) in z.iter_mut().zip(log_score) {
        let e = (-z.abs()).exp();
        let log_sigmoid = if *z > 0.0 { -e.ln_1p() } else { *z - e.ln_1p() };
        *z = (log_score + log_sigmoid).exp();
    }
}

/// Losses and slopes times `factor`; slopes of margins take the place of the margins `z`.
pub(super) fn path_losses(z: &mut [f32], factor: f32, paths: Paths<'_>) {
    let Paths { log_score, target, slope, loss } = paths;
    let mut likely = [0f32; BLOCK];
    let blocks = z.chunks_mut(BLOCK).zip(log_score.chunks(BLOCK)).zip(target.chunks(BLOCK));
    for (((z, log_score), target), (slope, loss)) in
        blocks.zip(slope.chunks_mut(BLOCK).zip(loss.chunks_mut(BLOCK)))
    {
        for (((loss, &z), &log_score), &t) in loss.iter_mut().zip(&*z).zip(log_score).zip(target) {
            *loss = if t > 0.0 { t * ((-z.abs()).exp().ln_1p() - z.min(0.0) - log_score) } else { 0.0 };
        }
        slopes(z, log_score, target, factor, slope, &mut likely);
        for ((loss, &p), &t) in loss.iter_mut().zip(&likely).zip(target) {
            // p where it is below 1/2, else -(1 - p): the logarithm of 1 - p keeps its digits at both ends.
            let log_rest = if p < 0.0 { (-p).ln() } else { (-p).ln_1p() };
            *loss = factor * (*loss - (1.0 - t) * log_rest);
        }
    }
}

xmc_nn::simd! {
    /// The slopes, and p of each path, less 1 if it is 1/2 or more.
    fn slopes(z: &mut [f32], log_score: &[f32], target: &[f32], factor: f32, slope: &mut [f32], likely: &mut [f32]) {
        let given = log_score.iter().zip(target);
        for (((z, (&log_score, &t)), slope), likely) in z.iter_mut().zip(given).zip(slope).zip(likely) {
            // Comparisons, not min: that would lose NaN.
            let near = if *z > FAR { FAR } else { *z };
            let e = exp_lane::<FUSED>(-near.abs());
            let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
            let (sigmoid, rest) = if near >= 0.0 { (large, small) } else { (small, large) };
            let (score, missing) = (exp_lane::<FUSED>(log_score), -exp_m1_lane::<FUSED>(log_score));
            let (p, not_p) = (score * sigmoid, rest + sigmoid * missing);
            let least = if not_p < LEAST { LEAST } else { not_p };
            *slope = factor * ((1.0 - t) * (p / least) - t);
            *z = factor * ((1.0 - t) * (p * (rest / not_p)) - t * rest);
            *likely = if p < 0.5 { p } else { -not_p };
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// [loss, d z, d log s] of one path.
    fn one(z: f32, log_score: f32, t: f32, factor: f32) -> [f32; 3] {
        let (mut z, mut slope, mut loss) = ([z], [0.0], [0.0]);
        let paths = Paths { log_score: &[log_score], target: &[t], slope: &mut slope, loss: &mut loss };
        path_losses(&mut z, factor, paths);
        [loss[0], z[0], slope[0]]
    }

    /// The same in f64, from the definition; 1 - p in parts, as f64 too would round it away.
    fn twin(z: f64, log_score: f64, t: f64) -> [f64; 3] {
        let (sigmoid, rest) = (1.0 / (1.0 + (-z).exp()), 1.0 / (1.0 + z.exp()));
        let p = log_score.exp() * sigmoid;
        let not_p = rest - sigmoid * log_score.exp_m1();
        let log_p = log_score - (-z).max(0.0) - (-z.abs()).exp().ln_1p();
        let log_not_p = if p < 0.5 { (-p).ln_1p() } else { not_p.ln() };
        let slope = -t + (1.0 - t) * p / not_p;
        [-t * log_p - (1.0 - t) * log_not_p, slope * rest, slope]
    }

    #[test]
    fn losses_and_slopes_are_those_of_f64() {
        for i in 0..4000 {
            let z = (i * 37 % 401) as f32 / 16.0 - 12.5;
            let log_score = -[0.0, 1e-6, 1e-3, 0.2, 0.5, 3.0, 30.0][i % 7];
            let t = [0.0, 1.0, 0.3][i % 3];
            let want = twin(f64::from(z), f64::from(log_score), f64::from(t));
            for (found, want) in one(z, log_score, t, 0.5).iter().zip(want) {
                let want = 0.5 * want;
                let close = (f64::from(*found) - want).abs() <= 3e-6 * want.abs() + 1e-10;
                assert!(close, "z {z}, log s {log_score}, t {t}: {found} {want}");
            }
        }
    }

    #[test]
    fn nothing_is_infinite_at_the_ends_and_nan_is_not_hidden() {
        for z in [-1e30f32, -200.0, -88.0, 0.0, 50.0, 88.0, 200.0, 1e30] {
            for log_score in [0.0, -1e-7, -1.0, -90.0, -500.0] {
                for t in [0.0, 1.0] {
                    let found = one(z, log_score, t, 1.0);
                    assert!(found.iter().all(|v| v.is_finite()), "z {z}, log s {log_score}: {found:?}");
                    assert!(found[1].abs() <= 1.0, "{found:?}");
                }
            }
        }
        // A wrong label that is certain is pushed down as hard as a sigmoid alone would.
        assert_eq!(one(200.0, 0.0, 0.0, 1.0)[1], 1.0);
        // A right label without hope is pulled up.
        assert_eq!(one(-200.0, -500.0, 1.0, 1.0)[1..], [-1.0, -1.0]);
        assert!(one(f32::NAN, -1.0, 0.0, 1.0).iter().all(|v| v.is_nan()));
        assert!(one(0.0, f32::NAN, 0.0, 1.0).iter().all(|v| v.is_nan()));
    }

    #[derive(Deserialize)]
    struct Golden {
        topk_vals: Vec<Vec<f32>>,
        topk_inds: Vec<Vec<u32>>,
        shortlist_vals: Vec<Vec<f32>>,
        shortlist_inds: Vec<Vec<u32>>,
        y_inds: Vec<Vec<u32>>,
        num_labels: u32,
        loss_lambda: f32,
        loss: f32,
        loss_classification: f32,
        loss_shortlist: f32,
        d_topk_vals: Vec<Vec<f32>>,
        d_shortlist_vals: Vec<Vec<f32>>,
    }

    #[test]
    fn both_losses_and_their_slopes_are_those_of_the_golden_file() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/elias_loss.json")).unwrap();
        let (mut classification, mut shortlist) = (0.0, 0.0);
        for (i, y) in golden.y_inds.iter().enumerate() {
            let right = |label: &u32| y.contains(label) && *label < golden.num_labels;
            for (j, label) in golden.topk_inds[i].iter().enumerate().filter(|(_, l)| **l < golden.num_labels)
            {
                // Margins so high that p is the score of the path.
                let (p, t) = (golden.topk_vals[i][j], f32::from(u8::from(right(label))));
                let [loss, _, slope] = one(FAR, p.ln(), t, 1.0 / 8.0);
                classification += loss;
                // d / d p = d / d log p / p
                assert!((slope / p - golden.d_topk_vals[i][j]).abs() < 1e-5, "{slope} {p}");
            }
            for (j, label) in golden.shortlist_inds[i].iter().enumerate().filter(|(_, l)| right(l)) {
                let (p, want) = (golden.shortlist_vals[i][j], golden.d_shortlist_vals[i][j]);
                let [loss, slope] = shortlist_loss(p.ln(), 1.0 / 4.0);
                shortlist += loss;
                assert!((golden.loss_lambda * slope / p - want).abs() < 1e-6, "{label}");
            }
        }
        let loss = classification + golden.loss_lambda * shortlist;
        for (found, want) in [
            (classification, golden.loss_classification),
            (shortlist, golden.loss_shortlist),
            (loss, golden.loss),
        ] {
            assert!((found - want).abs() < 1e-5, "{found} {want}");
        }
    }

    #[test]
    fn probabilities_are_products() {
        let mut z = [0.0, 3.0, -40.0, 90.0];
        probabilities(&mut z, &[0.0, -1.0, -2.0, -0.5]);
        let want = [0.5, (-1f32).exp() / (1.0 + (-3f32).exp()), (-42f32).exp(), (-0.5f32).exp()];
        for (p, want) in z.iter().zip(want) {
            assert!((p - want).abs() <= 2e-6 * want, "{p} {want}");
        }
    }
}
