//! Is the streamed loss the loss, and its gradient the slope of it? Against the formulas over a dense matrix in f64,
//! differentiated numerically.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use xmc_nn::loss::{Criterion, Draw, K, LossOptions, LossOutput, Targets, loss, loss_into};
use xmc_nn::{Device, Precision, Tensor};

/// A small problem; embeddings and offsets are multiples of 1/64, so that f32 holds them exactly.
#[derive(Clone, Debug)]
struct Problem {
    b: usize,
    l: usize,
    d: usize,
    x: Vec<f64>,
    y: Vec<f64>,
    offset: Option<Vec<f64>>,
    targets: Targets,
    weighted: bool,
    criterion: Criterion,
    tau: f64,
}

fn lse(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        largest
    } else {
        largest + values.map(|v| (v - largest).exp()).sum::<f64>().ln()
    }
}

fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

/// t with sum of sigmoid(alpha (s + t)) = k, by bisection. What labels above 1/2 lack to 1 is summed apart from k, as
/// else t is unknown where every sigmoid is 0 or 1.
fn threshold(scores: &[f64], k: f64, alpha: f64) -> f64 {
    let (mut low, mut high) = (-1e3, 1e3);
    for _ in 0..200 {
        let t = f64::midpoint(low, high);
        let (mut ones, mut rest) = (0.0, 0.0);
        for z in scores.iter().map(|s| alpha * (s + t)) {
            let tail = 1.0 / (1.0 + z.abs().exp());
            ones += if z >= 0.0 { 1.0 } else { 0.0 };
            rest += if z >= 0.0 { -tail } else { tail };
        }
        if (ones - k) + rest < 0.0 { low = t } else { high = t }
    }
    f64::midpoint(low, high)
}

impl Problem {
    fn scores(&self, row: usize) -> Vec<f64> {
        let score = |j: usize| -> f64 {
            let (x, y) = (&self.x[row * self.d..][..self.d], &self.y[j * self.d..][..self.d]);
            x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / self.tau
                + self.offset.as_ref().map_or(0.0, |o| o[j])
        };
        (0..self.l).map(score).collect()
    }

    /// Straight from the definitions of [`Criterion`].
    fn loss(&self) -> f64 {
        let rows: Vec<usize> = (0..self.b).filter(|&i| !self.targets.row(i).is_empty()).collect();
        let total: f64 = rows.iter().map(|&i| self.row_loss(i)).sum();
        total / rows.len().max(1) as f64
    }

    fn row_loss(&self, row: usize) -> f64 {
        let (s, positives) = (self.scores(row), self.targets.row(row));
        let kept: Vec<(f64, f64)> = positives
            .iter()
            .filter(|p| p.kept)
            .map(|p| (s[p.label as usize], if self.weighted { p.relevance as f64 } else { 1.0 }))
            .collect();
        let n = kept.len() as f64;
        let is = |j: usize, kept: bool| positives.iter().any(|p| p.label as usize == j && p.kept == kept);
        match self.criterion {
            Criterion::Softmax => kept.iter().map(|&(p, w)| w * (lse(s.iter().copied()) - p)).sum(),
            Criterion::DecoupledSoftmax => {
                let m = lse((0..self.l).filter(|&j| !is(j, true) && !is(j, false)).map(|j| s[j]));
                kept.iter().map(|&(p, w)| w * softplus(m - p) / n).sum()
            }
            Criterion::Bce => {
                let all: f64 = s.iter().map(|&s| softplus(s)).sum();
                (all - kept.iter().map(|&(p, w)| w * p).sum::<f64>()) / self.l as f64
            }
            Criterion::SoftTopK { k, alpha } => {
                let k = match k {
                    K::Fixed(k) => k as f64,
                    K::Positives => positives.iter().map(|p| p.relevance as f64).sum::<f64>().ceil(),
                };
                let allowed: Vec<f64> = (0..self.l).filter(|&j| !is(j, false)).map(|j| s[j]).collect();
                if k >= allowed.len() as f64 {
                    return 0.0;
                }
                let t = threshold(&allowed, k, alpha as f64);
                kept.iter().map(|&(p, w)| w * softplus(-(alpha as f64) * (p + t)) / n).sum()
            }
        }
    }

    /// Central differences of the loss along every value that `value` reaches.
    fn slopes(&self, n: usize, value: impl Fn(&mut Problem, usize) -> &mut f64) -> Vec<f64> {
        let step = 1e-5;
        let moved = |i: usize, by: f64| {
            let mut problem = self.clone();
            *value(&mut problem, i) += by;
            problem.loss()
        };
        (0..n).map(|i| (moved(i, step) - moved(i, -step)) / (2.0 * step)).collect()
    }

    fn streamed(&self, block: usize) -> LossOutput {
        let tensor = |rows, values: &[f64]| {
            let values = values.iter().map(|&v| v as f32).collect();
            Tensor::from_host(rows, self.d, values, Device::Cpu).unwrap()
        };
        let offset = self.offset.as_ref().map(|o| o.iter().map(|&v| v as f32).collect::<Vec<_>>());
        let options = LossOptions { block, ..LossOptions::new(self.criterion, self.tau as f32) };
        loss(&tensor(self.b, &self.x), &tensor(self.l, &self.y), offset.as_deref(), &self.targets, &options)
            .unwrap()
    }
}

fn sixty_fourths(n: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((-128_i32..=128).prop_map(|v| v as f64 / 64.0), n)
}

fn criteria() -> impl Strategy<Value = Criterion> {
    let k = prop_oneof![Just(K::Fixed(1)), Just(K::Fixed(2)), Just(K::Positives)];
    prop_oneof![
        2 => Just(Criterion::DecoupledSoftmax),
        1 => Just(Criterion::Softmax),
        1 => Just(Criterion::Bce),
        3 => (k, prop_oneof![Just(0.5_f32), Just(1.0), Just(2.0)]).prop_map(|(k, alpha)| Criterion::SoftTopK { k, alpha }),
    ]
}

prop_compose! {
    fn problems()(b in 1_usize..4, l in 3_usize..10, d in 1_usize..4)(
        x in sixty_fourths(b * d),
        y in sixty_fourths(l * d),
        offset in prop::option::of(sixty_fourths(l)),
        positives in prop::collection::vec(prop::collection::vec((0..l as u32, 1_u8..=8), 0..5), b),
        weighted in any::<bool>(),
        sampled in prop::option::of((1_usize..3, any::<u64>())),
        criterion in criteria(),
        tau in prop_oneof![Just(0.25), Just(1.0)],
        (b, l, d) in Just((b, l, d)),
    ) -> Problem {
        let graded = |row: Vec<(u32, u8)>| row.into_iter().map(|(label, w)| (label, w as f32 / 8.0));
        let mut targets = Targets::from_rows(positives.into_iter().map(graded), weighted);
        if let Some((n, seed)) = sampled {
            targets.sample(n, Draw::ByRelevance, seed, 0, &(0..b as u32).collect::<Vec<_>>()).unwrap();
        }
        Problem { b, l, d, x, y, offset, targets, weighted, criterion, tau }
    }
}

fn close(got: &[f32], want: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    for (i, (&a, &b)) in got.iter().zip(want).enumerate() {
        prop_assert!((a as f64 - b).abs() <= 2e-5 * b.abs().max(1.0), "at {}: {}, expected {}", i, a, b);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streamed_is_dense_for_any_block(problem in problems(), block in 1_usize..12) {
        let result = problem.streamed(block);
        let want = problem.loss();
        prop_assert!((result.loss - want).abs() <= 1e-5 * want.max(1.0), "{}, expected {}", result.loss, want);
        close(result.dx.host(), &problem.slopes(problem.x.len(), |p, i| &mut p.x[i]))?;
        close(result.dy.host(), &problem.slopes(problem.y.len(), |p, i| &mut p.y[i]))?;
        if problem.offset.is_some() {
            let slopes = problem.slopes(problem.l, |p, i| &mut p.offset.as_mut().unwrap()[i]);
            close(&result.doffset.unwrap(), &slopes)?;
        }
        let empty = (0..problem.b).filter(|&i| problem.targets.row(i).is_empty()).count();
        prop_assert_eq!((result.skipped, result.rows), (empty, problem.b - empty));
        prop_assert!(result.passes <= 20, "{} passes", result.passes);
    }
}

/// Pseudo-random values in [-1, 1).
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

/// More rows than a tile, more labels than a leaf.
fn large(criterion: Criterion, precision: Precision) -> LossOutput {
    let (b, l, d) = (300, 1500, 24);
    let tensor = |rows, seed| Tensor::from_host(rows, d, noise(rows * d, seed), Device::Cpu).unwrap();
    let rows = (0..b).map(|i| (0..i % 4).map(move |p| ((i * 7 + p * 311) as u32 % l as u32, 1.0)));
    let mut targets = Targets::from_rows(rows, false);
    targets.sample(2, Draw::ByRelevance, 1, 2, &(0..b as u32).collect::<Vec<_>>()).unwrap();
    let options = LossOptions { block: 16, precision, ..LossOptions::new(criterion, 0.2) };
    loss(&tensor(b, 1), &tensor(l, 2), Some(&noise(l, 3)), &targets, &options).unwrap()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let soft_top_5 = Criterion::SoftTopK { k: K::Fixed(5), alpha: 2.0 };
    for criterion in [Criterion::DecoupledSoftmax, Criterion::Softmax, Criterion::Bce, soft_top_5] {
        for precision in [Precision::F32, Precision::Bf16] {
            let with = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| large(criterion, precision))
            };
            let one = with(1);
            assert_eq!(one.skipped, 75);
            assert!(one.loss.is_finite() && one.dx.host().iter().chain(one.dy.host()).all(|v| v.is_finite()));
            for threads in [2, 3] {
                assert!(with(threads) == one, "{criterion:?}, {precision:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn used_memory_leaves_no_trace() {
    let (x, y) =
        (Tensor::zeros(1, 2, Device::Cpu), Tensor::from_host(5, 2, noise(10, 4), Device::Cpu).unwrap());
    for positives in [vec![], vec![(1, 1.0)]] {
        let targets = Targets::from_rows([positives], false);
        let options = LossOptions { block: 2, ..LossOptions::new(Criterion::DecoupledSoftmax, 1.0) };
        let fresh = loss(&x, &y, None, &targets, &options).unwrap();
        for used in [
            Tensor::from_host(5, 2, vec![f32::NAN; 10], Device::Cpu).unwrap(),
            Tensor::zeros(1, 1, Device::Cpu),
        ] {
            assert_eq!(loss_into(&x, &y, None, &targets, &options, used).unwrap(), fresh);
        }
    }
}

#[test]
fn rounded_factors_change_the_loss_little() {
    for criterion in [Criterion::DecoupledSoftmax, Criterion::SoftTopK { k: K::Positives, alpha: 1.0 }] {
        let (exact, rounded) = (large(criterion, Precision::F32), large(criterion, Precision::Bf16));
        assert!((rounded.loss / exact.loss - 1.0).abs() < 2e-3, "{} {}", rounded.loss, exact.loss);
        let pairs = || exact.dy.host().iter().zip(rounded.dy.host()).map(|(&a, &b)| (a as f64, b as f64));
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        let norms = pairs().fold((0.0, 0.0), |n, (a, b)| (n.0 + a * a, n.1 + b * b));
        assert!(dot / (norms.0 * norms.1).sqrt() > 0.999, "{dot} {norms:?}");
    }
}

fn row_loss(criterion: Criterion, scores: &[f32], positives: &[u32]) -> LossOutput {
    let x = Tensor::from_host(1, 1, vec![1.0], Device::Cpu).unwrap();
    let y = Tensor::from_host(scores.len(), 1, scores.to_vec(), Device::Cpu).unwrap();
    let targets = Targets::from_rows([positives.iter().map(|&label| (label, 1.0))], false);
    loss(&x, &y, None, &targets, &LossOptions::new(criterion, 1.0)).unwrap()
}

#[test]
fn extreme_rows_stay_finite() {
    let soft = |k| Criterion::SoftTopK { k, alpha: 2.0 };
    let criteria = [
        Criterion::DecoupledSoftmax,
        Criterion::Softmax,
        Criterion::Bce,
        soft(K::Fixed(2)),
        soft(K::Positives),
    ];
    let rows: [(&[f32], &[u32]); 6] = [
        (&[1.0, 2.0, 3.0], &[0, 1, 2]),
        (&[500.0, -500.0, 300.0, -700.0], &[1, 3]),
        (&[-500.0, 900.0, -300.0, 900.0], &[1, 3]),
        (&[-2000.0, -2000.0, -2000.0, -2001.0], &[0]),
        (&[0.0, 0.0, 0.0, 0.0, 0.0], &[0, 4]),
        (&[88.0, -88.0, 0.0, 1e-30], &[2]),
    ];
    for criterion in criteria {
        for (scores, positives) in rows {
            let result = row_loss(criterion, scores, positives);
            let values = || result.dx.host().iter().chain(result.dy.host());
            assert!(
                result.loss.is_finite() && result.loss >= 0.0,
                "{criterion:?} {scores:?}: {}",
                result.loss
            );
            assert!(values().all(|v| v.is_finite()), "{criterion:?} {scores:?}");
            assert!(result.passes < 20, "{criterion:?} {scores:?}: {} passes", result.passes);
        }
    }
}

/// Where every sigmoid is 0 or 1 to the last bit, a positive below the top still pulls with its whole weight.
#[test]
fn a_steep_sigmoid_leaves_no_hole_in_the_gradient() {
    for alpha in [2.0, 8.0, 64.0] {
        let criterion = Criterion::SoftTopK { k: K::Fixed(2), alpha };
        let result = row_loss(criterion, &[500.0, -500.0, 300.0, -700.0], &[1]);
        let dy = result.dy.host();
        assert!(dy.iter().all(|v| v.is_finite()), "alpha {alpha}: {dy:?}");
        assert_eq!(dy[1], -alpha);
    }
}

/// The k-th and the next label are nearly equal and far below the first: on the way there the sum of sigmoids is flat.
#[test]
fn a_plateau_before_the_threshold_is_crossed_in_few_passes() {
    let criterion = |k| Criterion::SoftTopK { k: K::Fixed(k), alpha: 2.0 };
    let low = [-15.584, 20.292, -12.532, -12.538].as_slice();
    let high = [15.584, -20.292, 12.532, 12.538].as_slice();
    for (scores, k) in [(low, 2), (high, 2), (low, 1), (high, 3)] {
        let result = row_loss(criterion(k), scores, &[0, 1]);
        assert!(result.passes <= 12, "{scores:?} {k}: {} passes", result.passes);
    }
}

/// A score of -100 stood for "excluded" in the original; here real scores may be far below.
#[test]
fn excluded_labels_do_not_compete_at_any_scale() {
    let result = row_loss(Criterion::DecoupledSoftmax, &[-300.0, -300.0, -200.0], &[0, 2]);
    let want = 0.5 * (2_f64.ln() + (-100_f64).exp().ln_1p());
    assert!((result.loss - want).abs() < 1e-6, "{}", result.loss);
}

#[test]
fn a_text_with_no_more_than_k_labels_is_counted() {
    for (k, scores, positives) in [
        (K::Positives, &[1.0, 2.0][..], &[0, 1][..]),
        (K::Fixed(2), &[1.0, 2.0], &[0]),
        (K::Fixed(5), &[1.0], &[0]),
    ] {
        let result = row_loss(Criterion::SoftTopK { k, alpha: 2.0 }, scores, positives);
        assert_eq!((result.loss, result.saturated, result.rows), (0.0, 1, 1));
        assert!(result.dx.host().iter().chain(result.dy.host()).all(|&v| v == 0.0));
    }
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let tensor = |rows, cols| Tensor::zeros(rows, cols, Device::Cpu);
    let targets = Targets::from_rows([[(3, 1.0)]], false);
    let options = LossOptions::new(Criterion::DecoupledSoftmax, 0.05);
    let message = |x: &Tensor, y: &Tensor, offset: Option<&[f32]>, options: &LossOptions| {
        loss(x, y, offset, &targets, options).unwrap_err().to_string()
    };
    let (x, y) = (tensor(1, 2), tensor(4, 2));
    assert_eq!(
        message(&tensor(1, 3), &y, None, &options),
        "texts [1, 3] on cpu against labels [4, 2] on cpu"
    );
    assert_eq!(message(&x, &y, Some(&[0.0]), &options), "1 offsets for 4 labels");
    assert_eq!(message(&x, &tensor(3, 2), None, &options), "row 0 has label 3, but there are 3 labels");
    assert_eq!(message(&tensor(2, 2), &y, None, &options), "targets of 1 rows for 2 embeddings");
    for tau in [0.0, -1.0, f32::NAN] {
        assert!(message(&x, &y, None, &LossOptions { tau, ..options }).starts_with("tau "));
    }
    let criterion = Criterion::SoftTopK { k: K::Fixed(0), alpha: 2.0 };
    let text = message(&x, &y, None, &LossOptions { criterion, ..options });
    assert_eq!(text, "soft top-k with k = 0: k must be at least 1");
}
