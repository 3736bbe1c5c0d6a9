//! What does a step minimise where each text is compared with a few labels of its own?
//!
//! With the active labels of text i, A_i of them, and s_ia = 1 for its positives, -1 for the others:
//!
//! ```text
//! z_ia = w_a · x_i + bias_a
//! loss = 1/B sum_i 1/A_i sum_a c_ia f(s_ia z_ia)
//! ```
//!
//! B is the number of texts of the whole step, c_ia the count of a positive if `weighted` and 1 otherwise. Texts without
//! active labels contribute nothing. Every text is divided by its own A_i: in the original program (Zhang et al., "Fast
//! Multi-Resolution Transformer Fine-tuning for Extreme Multi-label Text Classification", NeurIPS 2021) one text
//! with very many active labels makes the gradients of all others small.
//!
//! Cost: 6 A h operations for each text, A active labels of h columns: margins, gradient of x, gradient of weights. A few texts
//! go through the labels together, so that weights which they share come from memory once (see [`table`](crate::table));
//! margins whose gradient is 0 (those that a hinge finds right) cost a third. Memory beside what is returned: 24 bytes for
//! each active label of each text.
//!
//! ```
//! use xmc_nn::loss::{Active, ActiveCriterion, active_loss};
//! use xmc_nn::{Device, Tensor};
//! // One text, three labels of one weight and a bias; labels 0 (right) and 2 (wrong) are active.
//! let x = Tensor::from_host(1, 1, vec![2.0], Device::Cpu)?;
//! let weights = [0.25, 0.0, 9.0, 9.0, -0.5, 0.5];
//! let active = Active { indptr: &[0, 2], ids: &[0, 2], targets: &[1.0, 0.0] };
//! let result = active_loss(&x, &weights, &active, ActiveCriterion::SquaredHinge, false, 1)?;
//! // margins 0.5 and -0.5: (1 - 0.5)^2 / 2 twice
//! assert_eq!(result.loss, 0.25);
//! assert_eq!(result.touched, [0, 2]);
//! assert_eq!(result.dw, [-1.0, -0.5, 1.0, 0.5]);
//! # Ok::<(), xmc_nn::Error>(())
//! ```

use rayon::prelude::*;

use super::rows::softplus_and_sigmoid;
use crate::error::{Error, Result};
use crate::ops::simd::fma;
use crate::table::{Columns, Pairs, Rows, Stretch, add_up};
use crate::tensor::Tensor;

/// Which labels are active for which text, and which of them are right.
#[derive(Clone, Copy, Debug)]
pub struct Active<'a> {
    /// Active labels of text i are `indptr[i]..indptr[i + 1]` of the others, `[b + 1]`.
    pub indptr: &'a [usize],
    /// Labels, rising within a text.
    pub ids: &'a [u32],
    /// 0 for a negative; above 0 for a positive, which counts as often if the loss is weighted.
    pub targets: &'a [f32],
}

/// What a margin should be. z is the margin of a positive, its negative for a negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActiveCriterion {
    /// max(0, 1 - z)^2
    #[default]
    SquaredHinge,
    /// max(0, 1 - z)
    Hinge,
    /// ln(1 + e^-z)
    CrossEntropy,
}

/// A loss and its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveOutput {
    /// The part of these texts in the loss of the step; not finite where embeddings or weights are not.
    pub loss: f64,
    /// d loss / d x `[b, h]`.
    pub dx: Tensor,
    /// Labels that are active for any text, rising.
    pub touched: Vec<u32>,
    /// d loss / d weights of the touched labels, `[touched, h + 1]`, the bias last.
    pub dw: Vec<f32>,
}

/// Loss and gradients of texts `x [b, h]` against the labels active for them, with `weights [l, h + 1]`, the bias
/// last. `rows_of_step` is B: more than b where a step comes in several parts, whose losses and gradients then add up.
pub fn active_loss(
    x: &Tensor,
    weights: &[f32],
    active: &Active<'_>,
    criterion: ActiveCriterion,
    weighted: bool,
    rows_of_step: usize,
) -> Result<ActiveOutput> {
    active.check(x, weights, rows_of_step)?;
    let h = x.cols();
    let l = weights.len() / (h + 1);
    let pairs = active.pairs();
    let rows = Rows {
        weights,
        stride: h + 1,
        dim: h,
        biases: weights.get(h..).unwrap_or_default(),
        bias_stride: h + 1,
    };
    let mut dx = Tensor::zeros(x.rows(), h, x.device());
    let mut slopes = vec![0.0; active.ids.len()];
    let losses = rows.walk(x.host(), &pairs, &mut slopes, dx.host_mut(), |text, first, z| {
        let labels = active.indptr[text + 1] - active.indptr[text];
        let factor = 1.0 / (labels as f64 * rows_of_step as f64);
        let targets = &active.targets[first..first + z.len()];
        let loss = match criterion {
            ActiveCriterion::SquaredHinge => squared_hinge(z, targets, weighted, factor as f32),
            ActiveCriterion::Hinge => hinge(z, targets, weighted, factor as f32),
            ActiveCriterion::CrossEntropy => cross_entropy(z, targets, weighted, factor as f32),
        };
        factor * f64::from(loss)
    });
    let columns = Columns::new(&pairs, &slopes, l);
    let stretches: Vec<Stretch> = (0..columns.len()).into_par_iter().map(|i| columns.stretch(i)).collect();
    let dw = gradient(&stretches, x.host(), h);
    let touched = stretches.into_iter().flat_map(|stretch| stretch.touched).collect();
    Ok(ActiveOutput { loss: losses.iter().sum(), dx, touched, dw })
}

/// `dw [touched, h + 1]` from `x [b, h]`.
fn gradient(stretches: &[Stretch], x: &[f32], h: usize) -> Vec<f32> {
    let mut dw = vec![0.0; stretches.iter().map(|stretch| stretch.touched.len() * (h + 1)).sum()];
    let mut tasks = Vec::with_capacity(stretches.len());
    let mut rest = dw.as_mut_slice();
    for stretch in stretches {
        let own;
        (own, rest) = rest.split_at_mut(stretch.touched.len() * (h + 1));
        tasks.push((stretch, own));
    }
    tasks.into_par_iter().for_each(|(stretch, dw)| {
        for (dw, (_, texts, slopes)) in dw.chunks_exact_mut(h + 1).zip(stretch.labels()) {
            dw[h] = add_up(x, texts, slopes, &mut dw[..h]);
        }
    });
    dw
}

impl Active<'_> {
    fn pairs(&self) -> Pairs<'_> {
        Pairs { indptr: self.indptr, ids: self.ids }
    }

    fn check(&self, x: &Tensor, weights: &[f32], rows_of_step: usize) -> Result<()> {
        let wrong = |problem: String| Err(Error::Shape(problem));
        let (b, h, n) = (x.rows(), x.cols(), self.ids.len());
        if h == 0 || !weights.len().is_multiple_of(h + 1) {
            let found = weights.len();
            return wrong(format!("{found} weights against texts [{b}, {h}]; expected [labels, {h} + 1]"));
        }
        if rows_of_step < b.max(1) {
            return wrong(format!("a step of {rows_of_step} texts with {b} of them in one part"));
        }
        if self.targets.len() != n {
            return wrong(format!("{n} active labels with {} targets", self.targets.len()));
        }
        self.pairs().check(b, weights.len() / (h + 1))?;
        match self.targets.iter().find(|target| !(target.is_finite() && **target >= 0.0)) {
            Some(target) => wrong(format!("target {target} of an active label; expected 0 or more")),
            None => Ok(()),
        }
    }
}

/// s and c of a target.
#[inline(always)]
fn sign_and_count(target: f32, weighted: bool) -> [f32; 2] {
    let sign = if target > 0.0 { 1.0 } else { -1.0 };
    [sign, if weighted && target > 0.0 { target } else { 1.0 }]
}

/// max(0, v), but NaN stays NaN.
#[inline(always)]
fn positive_part(v: f32) -> f32 {
    if v <= 0.0 { 0.0 } else { v }
}

// Each takes margins z, makes them slopes (factor times the derivative of c f(s z) by z), and returns the sum of c f(s z).
crate::simd! {
    fn squared_hinge(z: &mut [f32], targets: &[f32], weighted: bool, factor: f32) -> f32 {
        let mut sum = 0.0;
        for (z, &target) in z.iter_mut().zip(targets) {
            let [sign, count] = sign_and_count(target, weighted);
            let missing = positive_part(fma::<FUSED>(-sign, *z, 1.0));
            sum += count * missing * missing;
            *z = -2.0 * factor * sign * count * missing;
        }
        sum
    }

    fn hinge(z: &mut [f32], targets: &[f32], weighted: bool, factor: f32) -> f32 {
        let mut sum = 0.0;
        for (z, &target) in z.iter_mut().zip(targets) {
            let [sign, count] = sign_and_count(target, weighted);
            let missing = positive_part(fma::<FUSED>(-sign, *z, 1.0));
            sum += count * missing;
            *z = if missing == 0.0 { 0.0 } else { -factor * sign * count };
        }
        sum
    }

    fn cross_entropy(z: &mut [f32], targets: &[f32], weighted: bool, factor: f32) -> f32 {
        let mut sum = 0.0;
        for (z, &target) in z.iter_mut().zip(targets) {
            let [sign, count] = sign_and_count(target, weighted);
            let [softplus, sigmoid] = softplus_and_sigmoid::<FUSED>(-sign * *z);
            sum += count * softplus;
            *z = -factor * sign * count * sigmoid;
        }
        sum
    }
}
