//! What does a step minimise, and how does it see all labels?
//!
//! Every criterion compares texts x `[b, d]` with labels y `[l, d]` through the scores s_ij = x_i · y_j / tau + o_j,
//! where o is an offset per label: the bias of a classifier, or -ln q of labels sampled with probability q. P_i are
//! the positives of text i, S_i those that this step keeps ([`Targets::sample`]), n_i = |S_i|, w_ip is 1 or the
//! relevance of p. Texts without positives contribute nothing and are not counted in B.
//!
//! Scores are made in blocks of labels, used and forgotten (`stream`); no memory but y and its gradient
//! grows with l. A label that is excluded is left out of maximum and sum; it is not merely scored low.
//!
//! ```
//! use xmc_nn::loss::{Criterion, LossOptions, Targets, loss};
//! use xmc_nn::{Device, Tensor};
//! // One text, three labels with scores [ln 2, 0, 0]; the first is right.
//! let x = Tensor::from_host(1, 1, vec![1.0], Device::Cpu)?;
//! let y = Tensor::from_host(3, 1, vec![2f32.ln(), 0.0, 0.0], Device::Cpu)?;
//! let targets = Targets::from_rows([[(0, 1.0)]], false);
//! let options = LossOptions::new(Criterion::DecoupledSoftmax, 1.0);
//! let result = loss(&x, &y, None, &targets, &options)?;
//! // p = 2 / (2 + 1 + 1), loss = -ln p
//! assert!((result.loss - 2f64.ln()).abs() < 1e-6);
//! # Ok::<(), xmc_nn::Error>(())
//! ```

pub mod active;
mod bce;
mod rows;
mod soft_topk;
mod softmax;
mod stream;
mod targets;

use std::ops::Range;

pub use active::{Active, ActiveCriterion, ActiveOutput, active_loss};
pub use targets::{Draw, Target, Targets};

use crate::error::{Error, Result};
use crate::ops::matmul::Precision;
use crate::tensor::Tensor;
use stream::Stream;

/// Which labels compete with a positive, and for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Criterion {
    /// Each positive against all negatives, the other positives aside: the default for training on all labels.
    ///
    /// * Optimises: -1/B sum_i 1/n_i sum_{p in S_i} w_ip ln [ e^s_ip / (e^s_ip + sum_{j not in P_i} e^s_ij) ].
    /// * Reference: Gupta et al., "Dual-encoders for Extreme Multi-label Classification", ICLR 2024, DecoupledSoftmax.
    /// * Requirements: at least one negative; without any, the loss of a text is 0.
    /// * Relations: with one positive per text it is [`Softmax`](Self::Softmax). That one makes positives of a text
    ///   share a probability of 1 and so punishes the easy ones; here each may come near to 1.
    /// * Cost: 2 passes, 4 products of 2 b l d operations, 2 b l exponentials.
    DecoupledSoftmax,
    /// Each positive against all labels, other positives too (InfoNCE).
    ///
    /// * Optimises: -1/B sum_i sum_{p in S_i} w_ip ln [ e^s_ip / sum_j e^s_ij ]; positives are summed, not averaged.
    /// * Reference: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018.
    /// * Requirements: none. Dropped positives stay in the denominator.
    /// * Relations: sampling one positive a step makes it multi-class; see [`DecoupledSoftmax`](Self::DecoupledSoftmax).
    /// * Cost: as of that one.
    Softmax,
    /// Each positive among the k best labels: optimises what P@k or R@k measure.
    ///
    /// * Optimises: -1/B sum_i 1/n_i sum_{p in S_i} w_ip ln sigmoid(alpha (s_ip + t_i)), t_i such that
    ///   sum_{j not dropped} sigmoid(alpha (s_ij + t_i)) = k.
    /// * Reference: as of [`DecoupledSoftmax`](Self::DecoupledSoftmax), SoftTop-k.
    /// * Requirements: k > 0. A text with k labels or fewer to choose from has loss 0 and counts as `saturated`.
    /// * Relations: a small k wins P@k, a large one recall; [`K::Positives`] adapts it to each text. A step should
    ///   keep at most k positives: sample k where a text has more (spec §3.1).
    /// * Cost: 1 pass to begin, 2 to 6 to find t, 1 for gradients ([`LossOutput::passes`]; bisection takes 32);
    ///   a pass is 1 product of 2 b l d operations and b l exponentials, that of the gradients is 3 products.
    SoftTopK {
        /// How many labels may be on top.
        k: K,
        /// Slope of the sigmoid, above 0; 2 in the paper's experiments.
        alpha: f32,
    },
    /// Each label by itself, right or not.
    ///
    /// * Optimises: [ sum_ij softplus(s_ij) - sum_i sum_{p in S_i} w_ip s_ip ] / (B l): w_ip, up to 1, is the
    ///   probability that p is right.
    /// * Reference: the baseline of the same paper, where it fails to train a dual encoder: negatives outnumber
    ///   positives by so much that every score falls.
    /// * Requirements: a head with a bias (`offset`), if anything. Dropped positives count as wrong.
    /// * Cost: 1 pass, 3 products, b l exponentials.
    Bce,
}

/// The k of [`Criterion::SoftTopK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum K {
    /// The same for every text.
    Fixed(usize),
    /// As many as the text has positives: its sum of relevances, rounded up.
    Positives,
}

/// How a loss is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossOptions {
    /// What is minimised.
    pub criterion: Criterion,
    /// Temperature that divides x · y, above 0; 0.05 for normalised embeddings, 1 for others.
    pub tau: f32,
    /// Precision of the products.
    pub precision: Precision,
    /// Labels in a block. Changes rounding and speed, nothing else.
    pub block: usize,
    /// `None`: the mean is over the texts with positives. `Some(B)`: these texts are a part of a step of B, and all of
    /// them count, with positives or without; for [`Criterion::Bce`], which alone has something to say of the latter.
    pub step_rows: Option<usize>,
}

impl LossOptions {
    /// f32 products and blocks that fit the second-level cache.
    pub fn new(criterion: Criterion, tau: f32) -> Self {
        LossOptions { criterion, tau, precision: Precision::F32, block: 256, step_rows: None }
    }
}

/// A loss and its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct LossOutput {
    /// Mean over the texts with positives; not finite where embeddings are not.
    pub loss: f64,
    /// d loss / d x `[b, d]`, 0 for texts without positives.
    pub dx: Tensor,
    /// d loss / d y `[l, d]`.
    pub dy: Tensor,
    /// d loss / d offset `[l]`, if there is an offset.
    pub doffset: Option<Vec<f32>>,
    /// Texts that took part: those with positives, or all of them.
    pub rows: usize,
    /// Texts without positives.
    pub skipped: usize,
    /// Texts with no more than k labels to choose from, for soft top-k.
    pub saturated: usize,
    /// How often all scores were made.
    pub passes: usize,
}

/// Loss and gradients of texts `x [b, d]` against labels `y [l, d]`, with an `offset [l]` added to scores.
pub fn loss(
    x: &Tensor,
    y: &Tensor,
    offset: Option<&[f32]>,
    targets: &Targets,
    options: &LossOptions,
) -> Result<LossOutput> {
    loss_into(x, y, offset, targets, options, Tensor::zeros(y.rows(), y.cols(), y.device()))
}

/// The same as [`loss`], with memory for dY that is used again: `dy` of the step before, whatever it holds. Fresh
/// memory for very many labels is handed out page by page, which takes a fair part of a step.
pub fn loss_into(
    x: &Tensor,
    y: &Tensor,
    offset: Option<&[f32]>,
    targets: &Targets,
    options: &LossOptions,
    mut dy: Tensor,
) -> Result<LossOutput> {
    check(x, y, offset, targets, options)?;
    let (b, d, l) = (x.rows(), x.cols(), y.rows());
    if (dy.rows(), dy.cols(), dy.device()) != (l, d, y.device()) {
        dy = Tensor::zeros(l, d, y.device());
    }
    let takes_part = |row: &usize| options.step_rows.is_some() || targets.row(*row).iter().any(|p| p.kept);
    let rows: Vec<usize> = (0..b).filter(takes_part).collect();
    let layout = (options.block.min(l), options.precision);
    let stream = Stream::new((x.host(), &rows), y.host(), offset, d, options.tau, layout);
    let mut problem = Problem::new(stream, targets, &rows);
    problem.step_rows = options.step_rows.unwrap_or(rows.len());
    let mut doffset = offset.map(|offset| vec![0.0; offset.len()]);
    let mut dx = Tensor::zeros(b, d, x.device());
    let mut output = Partial { loss: 0.0, dx: Vec::new(), passes: 0, saturated: 0 };
    if rows.is_empty() {
        dy.host_mut().fill(0.0);
    } else {
        output = problem.run(options.criterion, (dy.host_mut(), doffset.as_deref_mut().unwrap_or_default()));
    }
    for (&row, values) in rows.iter().zip(output.dx.chunks_exact(d)) {
        dx.host_mut()[row * d..(row + 1) * d].copy_from_slice(values);
    }
    let Partial { loss, passes, saturated, .. } = output;
    Ok(LossOutput { loss, dx, dy, doffset, rows: rows.len(), skipped: b - rows.len(), saturated, passes })
}

fn check(
    x: &Tensor,
    y: &Tensor,
    offset: Option<&[f32]>,
    targets: &Targets,
    options: &LossOptions,
) -> Result<()> {
    let wrong = |problem: String| Err(Error::Shape(problem));
    let (d, l) = (y.cols(), y.rows());
    if x.cols() != d || x.device() != y.device() {
        return wrong(format!(
            "texts [{}, {}] on {} against labels [{l}, {d}] on {}",
            x.rows(),
            x.cols(),
            x.device(),
            y.device()
        ));
    }
    if l == 0 || d == 0 {
        return wrong(format!(
            "labels [{l}, {d}]: a loss needs at least one label of at least one dimension"
        ));
    }
    if offset.is_some_and(|offset| offset.len() != l) {
        return wrong(format!("{} offsets for {l} labels", offset.map_or(0, <[f32]>::len)));
    }
    if !(options.tau > 0.0 && options.tau.is_finite()) || options.block == 0 {
        return wrong(format!(
            "tau {} and blocks of {} labels: both must be above 0",
            options.tau, options.block
        ));
    }
    if options.step_rows.is_some_and(|rows| rows < x.rows() || options.criterion != Criterion::Bce) {
        return wrong(format!(
            "{} texts as a part of a step: only of a larger one, and only for BCE",
            x.rows()
        ));
    }
    if let Criterion::SoftTopK { k, alpha } = options.criterion {
        if let K::Fixed(k) = k
            && k == 0
        {
            return wrong("soft top-k with k = 0: k must be at least 1".to_owned());
        }
        if !(alpha > 0.0 && alpha.is_finite()) {
            return wrong(format!("soft top-k with alpha = {alpha}: it must be above 0"));
        }
    }
    targets.check(x.rows(), l)
}

/// Scores of positives by the place of the positive, in the order in which they were met.
type Found = Vec<(usize, f32)>;

/// What a criterion gives; `dx [B, d]`.
struct Partial {
    loss: f64,
    dx: Vec<f32>,
    passes: usize,
    saturated: usize,
}

/// The texts with positives, numbered from 0 to B, and all scores.
struct Problem<'a> {
    stream: Stream<'a>,
    targets: &'a Targets,
    rows: &'a [usize],
    /// Positives of row i are numbered from `indptr[i]` to `indptr[i + 1]`.
    indptr: Vec<usize>,
    /// What the mean of binary cross-entropies divides by.
    step_rows: usize,
}

impl<'a> Problem<'a> {
    fn new(stream: Stream<'a>, targets: &'a Targets, rows: &'a [usize]) -> Self {
        let mut indptr = vec![0];
        for &row in rows {
            indptr.push(indptr[indptr.len() - 1] + targets.row(row).len());
        }
        Problem { stream, targets, rows, indptr, step_rows: rows.len() }
    }

    fn run(&self, criterion: Criterion, places: (&mut [f32], &mut [f32])) -> Partial {
        match criterion {
            Criterion::DecoupledSoftmax => softmax::run(self, false, places),
            Criterion::Softmax => softmax::run(self, true, places),
            Criterion::SoftTopK { k, alpha } => soft_topk::run(self, &self.k(k), alpha, places),
            Criterion::Bce => bce::run(self, places),
        }
    }

    fn b(&self) -> usize {
        self.rows.len()
    }

    fn k(&self, k: K) -> Vec<f64> {
        let relevance = |row| self.positives(row).iter().map(|p| p.relevance as f64).sum::<f64>();
        let k = |row| match k {
            K::Fixed(k) => k as f64,
            K::Positives => relevance(row).ceil(),
        };
        (0..self.b()).map(k).collect()
    }

    fn positives(&self, row: usize) -> &'a [Target] {
        self.targets.row(self.rows[row])
    }

    fn entries(&self, row: usize) -> Range<usize> {
        self.indptr[row]..self.indptr[row + 1]
    }

    /// What weights of positives are divided by: n_i B. It counts, so ask once for a row.
    fn divisor(&self, row: usize) -> f64 {
        let kept = self.positives(row).iter().filter(|p| p.kept).count();
        kept as f64 * self.b() as f64
    }

    /// Positives among labels `first..first + n`, as (number of the positive, column, positive).
    fn positives_in(
        &self,
        row: usize,
        first: usize,
        n: usize,
    ) -> impl Iterator<Item = (usize, usize, &'a Target)> {
        let positives = self.positives(row);
        let start = positives.partition_point(|p| (p.label as usize) < first);
        let entry = self.indptr[row] + start;
        let inside = positives[start..].iter().take_while(move |p| (p.label as usize) < first + n);
        inside.enumerate().map(move |(i, p)| (entry + i, p.label as usize - first, p))
    }

    /// Scores by the number of their positive.
    fn in_order(&self, found: Found) -> Vec<f32> {
        let mut scores = vec![0.0; self.indptr[self.b()]];
        for (entry, score) in found {
            scores[entry] = score;
        }
        scores
    }
}

/// 1 / (1 + e^-z).
fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// ln(1 + e^z).
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}
