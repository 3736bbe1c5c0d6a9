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
//! go through the labels together, so that weights which they share come from memory once; margins whose gradient is 0
//! (those that a hinge finds right) cost a third. Memory beside what is returned: 12 bytes for each active label of each text
//! and 8 for each label.
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
use crate::ops::reduce::{axpy, axpy4, dot, dot4};
use crate::ops::simd::fma;
use crate::tensor::Tensor;

/// Texts of a task: they share the weights that one of them brings into the cache.
const ROWS: usize = 8;

/// Labels that the texts of a task go through together: 24 KB of weights with 384 columns.
const LABELS: usize = 16;

/// Labels of a task of the gradient of weights.
const TOUCHED: usize = 32;

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
    let problem = Problem { x: x.host(), h, weights, active, criterion, weighted, rows_of_step };
    let mut dx = Tensor::zeros(x.rows(), h, x.device());
    let mut slopes = vec![0.0; active.ids.len()];
    let tasks: Vec<_> =
        problem.tasks(&mut slopes).into_iter().zip(dx.host_mut().chunks_mut(ROWS * h)).collect();
    let losses: Vec<f64> = tasks
        .into_par_iter()
        .with_max_len(1)
        .map(|((first, slopes), dx)| problem.rows(first, slopes, dx))
        .collect();
    let columns = Columns::new(active, &slopes, weights.len() / (h + 1));
    let dw = columns.gradient(x.host(), h);
    Ok(ActiveOutput { loss: losses.iter().sum(), dx, touched: columns.touched, dw })
}

impl Active<'_> {
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
        let rising = self.indptr.is_sorted() && self.indptr.first() == Some(&0);
        if self.indptr.len() != b + 1 || !rising || self.indptr[b] != n || self.targets.len() != n {
            return wrong(format!(
                "{n} active labels with {} targets and {} offsets for {b} texts; expected {} offsets rising from 0 to {n}",
                self.targets.len(),
                self.indptr.len(),
                b + 1
            ));
        }
        let l = weights.len() / (h + 1);
        for (i, ends) in self.indptr.windows(2).enumerate() {
            let ids = &self.ids[ends[0]..ends[1]];
            if !ids.is_sorted_by(|a, b| a < b) || ids.last().is_some_and(|&id| id as usize >= l) {
                return wrong(format!("active labels of text {i} must rise and lie below {l}"));
            }
        }
        match self.targets.iter().find(|target| !(target.is_finite() && **target >= 0.0)) {
            Some(target) => wrong(format!("target {target} of an active label; expected 0 or more")),
            None => Ok(()),
        }
    }
}

/// Everything that stays the same during a step.
struct Problem<'a> {
    x: &'a [f32],
    h: usize,
    weights: &'a [f32],
    active: &'a Active<'a>,
    criterion: ActiveCriterion,
    weighted: bool,
    rows_of_step: usize,
}

impl<'a> Problem<'a> {
    /// Slopes of [`ROWS`] texts for each task, and the first of the texts.
    fn tasks<'s>(&self, slopes: &'s mut [f32]) -> Vec<(usize, &'s mut [f32])> {
        let indptr = self.active.indptr;
        let b = indptr.len() - 1;
        let mut rest = slopes;
        let mut tasks = Vec::with_capacity(b.div_ceil(ROWS));
        for first in (0..b).step_by(ROWS) {
            let task;
            (task, rest) = rest.split_at_mut(indptr[(first + ROWS).min(b)] - indptr[first]);
            tasks.push((first, task));
        }
        tasks
    }

    /// Loss, slopes d loss / d z and `dx` of the texts from `first` on, as many as `dx` has rows.
    fn rows(&self, first: usize, slopes: &mut [f32], dx: &mut [f32]) -> f64 {
        let indptr = &self.active.indptr[first..=first + dx.len() / self.h];
        let mut next = indptr.to_vec();
        let mut losses = vec![0.0; dx.len() / self.h];
        // The lowest label that is still to come for any of these texts.
        let lowest = |next: &[usize]| {
            let ids = next
                .iter()
                .zip(&indptr[1..])
                .filter(|(at, end)| at < end)
                .map(|(&at, _)| self.active.ids[at]);
            ids.min()
        };
        while let Some(lowest) = lowest(&next) {
            let end = lowest as usize / LABELS * LABELS + LABELS;
            for (i, dx) in dx.chunks_exact_mut(self.h).enumerate() {
                let ids = &self.active.ids[next[i]..indptr[i + 1]];
                let n = ids.iter().take(LABELS).take_while(|&&id| (id as usize) < end).count();
                if n == 0 {
                    continue;
                }
                let factor = 1.0 / ((indptr[i + 1] - indptr[i]) as f64 * self.rows_of_step as f64);
                let slopes = &mut slopes[next[i] - indptr[0]..][..n];
                losses[i] += factor * self.few(first + i, next[i], factor as f32, slopes, dx);
                next[i] += n;
            }
        }
        losses.iter().sum()
    }

    /// Sum of c f(z) over as many active labels of a text as there are `slopes`, beginning with the one at `at`.
    fn few(&self, row: usize, at: usize, factor: f32, slopes: &mut [f32], dx: &mut [f32]) -> f64 {
        let n = slopes.len();
        let (ids, targets) = (&self.active.ids[at..at + n], &self.active.targets[at..at + n]);
        self.margins(&self.x[row * self.h..][..self.h], ids, slopes);
        let loss = match self.criterion {
            ActiveCriterion::SquaredHinge => squared_hinge(slopes, targets, self.weighted, factor),
            ActiveCriterion::Hinge => hinge(slopes, targets, self.weighted, factor),
            ActiveCriterion::CrossEntropy => cross_entropy(slopes, targets, self.weighted, factor),
        };
        let terms = ids.iter().zip(slopes.iter()).filter(|(_, slope)| **slope != 0.0);
        add_up(terms.map(|(&id, &slope)| (slope, &self.label(id)[..self.h])), dx);
        f64::from(loss)
    }

    /// z of the labels `ids`.
    fn margins(&self, x: &[f32], ids: &[u32], z: &mut [f32]) {
        let (ids, rest) = ids.as_chunks::<4>();
        let (z, z_rest) = z.as_chunks_mut::<4>();
        for (ids, z) in ids.iter().zip(z) {
            let rows = ids.map(|id| self.label(id));
            let sums = dot4(x, &rows.map(|row| &row[..self.h]));
            *z = std::array::from_fn(|k| sums[k] + rows[k][self.h]);
        }
        for (&id, z) in rest.iter().zip(z_rest) {
            let row = self.label(id);
            *z = dot(x, &row[..self.h]) + row[self.h];
        }
    }

    /// Weights and bias of a label.
    fn label(&self, id: u32) -> &'a [f32] {
        &self.weights[id as usize * (self.h + 1)..][..=self.h]
    }
}

/// y += a x for all terms (a, x) in their order, four at a time.
fn add_up<'a>(terms: impl Iterator<Item = (f32, &'a [f32])>, y: &mut [f32]) {
    let mut waiting: ([f32; 4], [&[f32]; 4]) = ([0.0; 4], [&[]; 4]);
    let mut n = 0;
    for (a, x) in terms {
        (waiting.0[n], waiting.1[n]) = (a, x);
        n += 1;
        if n == 4 {
            axpy4(&waiting.0, &waiting.1, y);
            n = 0;
        }
    }
    for (&a, x) in waiting.0.iter().zip(waiting.1).take(n) {
        axpy(a, x, y);
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

/// The texts of each touched label, with slopes that are not 0.
struct Columns {
    /// Rising.
    touched: Vec<u32>,
    /// Texts of the touched label i are `indptr[i]..indptr[i + 1]` of the others.
    indptr: Vec<usize>,
    /// Rising within a label.
    rows: Vec<u32>,
    slopes: Vec<f32>,
}

impl Columns {
    /// Turns rows of active labels into columns, `l` labels in all.
    fn new(active: &Active<'_>, slopes: &[f32], l: usize) -> Self {
        // 0: not active; else 1 + the number of slopes; then the place of the next one.
        let mut places = vec![0usize; l];
        for (&id, &slope) in active.ids.iter().zip(slopes) {
            let count = &mut places[id as usize];
            *count = (*count).max(1) + usize::from(slope != 0.0);
        }
        let touched: Vec<u32> =
            (0..).zip(&places).filter(|(_, count)| **count > 0).map(|(id, _)| id).collect();
        let mut indptr = Vec::with_capacity(touched.len() + 1);
        indptr.push(0);
        for (i, &id) in touched.iter().enumerate() {
            let place = &mut places[id as usize];
            indptr.push(indptr[i] + *place - 1);
            *place = indptr[i];
        }
        let total = indptr[touched.len()];
        let (mut rows, mut found) = (vec![0; total], vec![0.0; total]);
        for (row, ends) in (0..).zip(active.indptr.windows(2)) {
            let range = ends[0]..ends[1];
            let entries = active.ids[range.clone()].iter().zip(&slopes[range]);
            for (&id, &slope) in entries.filter(|(_, slope)| **slope != 0.0) {
                let at = &mut places[id as usize];
                (rows[*at], found[*at]) = (row, slope);
                *at += 1;
            }
        }
        Columns { touched, indptr, rows, slopes: found }
    }

    /// `dw [touched, h + 1]` from `x [b, h]`.
    fn gradient(&self, x: &[f32], h: usize) -> Vec<f32> {
        let mut dw = vec![0.0; self.touched.len() * (h + 1)];
        let tasks = dw.par_chunks_mut(TOUCHED * (h + 1)).enumerate();
        tasks.for_each(|(task, dw)| {
            for (dw, ends) in dw.chunks_exact_mut(h + 1).zip(self.indptr[task * TOUCHED..].windows(2)) {
                let (rows, slopes) = (&self.rows[ends[0]..ends[1]], &self.slopes[ends[0]..ends[1]]);
                let terms =
                    rows.iter().zip(slopes).map(|(&row, &slope)| (slope, &x[row as usize * h..][..h]));
                add_up(terms, &mut dw[..h]);
                dw[h] = slopes.iter().sum();
            }
        });
        dw
    }
}
