//! How does a linear ranker learn one node? Dual coordinate descent, many labels at a time. (spec: XR-Linear, 5.4)
//!
//! For every child of a parent, over the parent's rows:
//!   min 1/2 (|w|^2 + b^2) + sum_i c_i loss(y_i (w.x_i + beta b)),   y_i = +1 or -1
//! with the squared hinge, the hinge or the logistic loss, as liblinear does, but sixteen labels side by side:
//! the weights stand as `[feature][lane]`, so one walk over a row's features serves sixteen dot products with
//! vector loads where the scalar solver has gathers. Each lane keeps its own stopping test and shrinking; a lane
//! that has converged takes the next label at once.
//!
//! A pass over m active rows with z features each moves about 3 * 64 m z bytes (read, read, write) for sixteen
//! labels, mostly in the second-level cache. Lanes never mix, and there is no fused multiply-add, so every
//! processor computes the same bits.

mod hinge;
mod lanes;
mod logistic;

use serde::{Deserialize, Serialize};

use self::hinge::Hinge;
pub use self::lanes::LANES;
use self::logistic::Logistic;
use crate::subproblem::SubProblem;

/// What a ranker minimises on its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// max(0, 1 - y m)^2, the default (liblinear's L2-loss SVC, dual).
    SquaredHinge,
    /// max(0, 1 - y m) (L1-loss SVC, dual).
    Hinge,
    /// ln(1 + e^(-y m)) (logistic regression, dual).
    Logistic,
}

/// How one node is trained.
#[derive(Clone, Copy, Debug)]
pub struct SolverParams {
    /// The loss.
    pub loss: Loss,
    /// Cost of a row that has the label, multiplied by its relevance.
    pub cost_positive: f32,
    /// Cost of a row that does not.
    pub cost_negative: f32,
    /// beta: value of the constant feature; 0 for none.
    pub bias: f32,
    /// A label is done when its projected gradients differ by no more than this.
    pub epsilon: f32,
    /// Most passes over the rows for one label.
    pub max_iterations: u32,
    /// Weights below this size are dropped.
    pub threshold: f32,
    /// At most this many weights are kept for one label; 0 for all.
    pub max_nonzeros: usize,
}

/// One child to be trained on its parent's rows.
#[derive(Clone, Debug, Default)]
pub struct Child {
    /// Rows that have it, as positions in the sub-problem, rising.
    pub positives: Vec<u32>,
    /// Relevance of each of them; empty if all are 1.
    pub relevance: Vec<f32>,
}

/// What was learned for one child.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// (local feature, weight) in rising feature order; dense features follow the sparse ones.
    pub weights: Vec<(u32, f32)>,
    /// Weight of the constant feature.
    pub bias: f32,
}

/// Trains all children of a parent; `seed` decides the order of the rows.
pub fn solve(sub: &SubProblem, children: &[Child], params: &SolverParams, seed: u64) -> Vec<Column> {
    match params.loss {
        Loss::SquaredHinge => lanes::solve::<Hinge<true>>(sub, children, params, seed),
        Loss::Hinge => lanes::solve::<Hinge<false>>(sub, children, params, seed),
        Loss::Logistic => lanes::solve::<Logistic>(sub, children, params, seed),
    }
}

#[cfg(test)]
mod tests;
