//! Dual coordinate descent for the hinge and the squared hinge. (spec: XR-Linear, 5.4; liblinear, algorithm 3)
//!
//! Dual variable a_i of row i in [0, U_i], gradient G = y_i m_i - 1 + D_i a_i, step a_i <- clip(a_i - G / Q_i), with
//! squared hinge: D = 1 / (2 c), U = infinity; hinge: D = 0, U = c; Q_i = |x_i|^2 + beta^2 + D_i.

use super::lanes::{Dual, LANES, Lanes, Verdict};
use super::{Child, SolverParams};
use crate::prefetch::prefetch;

/// Projected gradients closer to zero than this move nothing.
const STILL: f32 = 1e-12;
/// A relevance of zero still needs a finite D.
const LEAST_COST: f32 = 1e-10;

/// State of all lanes; `SQUARED` chooses the loss.
pub(super) struct Hinge<const SQUARED: bool> {
    alpha: Vec<Lanes>,
    /// D (squared hinge) or U (hinge) of every row.
    limit: Vec<Lanes>,
    /// Bit l: the row is a positive of lane l.
    positive: Vec<u16>,
    /// Projected gradients of the pass before: beyond these a bound variable is left alone.
    max_old: Lanes,
    min_old: Lanes,
    max_new: Lanes,
    min_new: Lanes,
    /// Lanes that have shrunk rows away.
    shrunk: u16,
    cost_positive: f32,
    cost_negative: f32,
    epsilon: f32,
}

impl<const SQUARED: bool> Hinge<SQUARED> {
    fn limit_of(cost: f32) -> f32 {
        let cost = cost.max(LEAST_COST);
        if SQUARED { 0.5 / cost } else { cost }
    }
}

impl<const SQUARED: bool> Dual for Hinge<SQUARED> {
    const WARM: bool = false;

    fn new(rows: usize, params: &SolverParams) -> Self {
        Hinge {
            alpha: vec![[0.0; LANES]; rows],
            limit: vec![[Self::limit_of(params.cost_negative); LANES]; rows],
            positive: vec![0; rows],
            max_old: [f32::INFINITY; LANES],
            min_old: [f32::NEG_INFINITY; LANES],
            max_new: [f32::NEG_INFINITY; LANES],
            min_new: [f32::INFINITY; LANES],
            shrunk: 0,
            cost_positive: params.cost_positive,
            cost_negative: params.cost_negative,
            epsilon: params.epsilon,
        }
    }

    fn load(&mut self, lane: usize, child: &Child) {
        let negative = Self::limit_of(self.cost_negative);
        for i in 0..self.alpha.len() {
            self.alpha[i][lane] = 0.0;
            self.limit[i][lane] = negative;
            self.positive[i] &= !(1 << lane);
        }
        for (at, &i) in child.positives.iter().enumerate() {
            let relevance = child.relevance.get(at).copied().unwrap_or(1.0);
            self.limit[i as usize][lane] = Self::limit_of(self.cost_positive * relevance);
            self.positive[i as usize] |= 1 << lane;
        }
        self.max_old[lane] = f32::INFINITY;
        self.min_old[lane] = f32::NEG_INFINITY;
        self.max_new[lane] = f32::NEG_INFINITY;
        self.min_new[lane] = f32::INFINITY;
        self.shrunk &= !(1 << lane);
    }

    fn initial_step(&self, _i: usize, _lane: usize) -> f32 {
        0.0
    }

    #[inline(always)]
    fn visit(&mut self, i: usize, margins: &Lanes, q: f32, active: u16) -> (Lanes, u16) {
        let (alpha, limit, positive) = (&mut self.alpha[i], &self.limit[i], u32::from(self.positive[i]));
        let mut step = [0.0; LANES];
        let mut stay = 0u32;
        for l in 0..LANES {
            let y = if positive >> l & 1 != 0 { 1.0 } else { -1.0 };
            let (d, upper) = if SQUARED { (limit[l], f32::INFINITY) } else { (0.0, limit[l]) };
            let a = alpha[l];
            let gradient = y * margins[l] - 1.0 + d * a;
            let (low, high) = (a <= 0.0, a >= upper);
            let below = if gradient < 0.0 { gradient } else { 0.0 };
            let above = if gradient > 0.0 { gradient } else { 0.0 };
            let projected = if low {
                below
            } else if high {
                above
            } else {
                gradient
            };
            let shrink = (low & (gradient > self.max_old[l])) | (high & (gradient < self.min_old[l]));
            let on = (u32::from(active) >> l & 1 != 0) & !shrink;
            let (most, least) = (self.max_new[l], self.min_new[l]);
            self.max_new[l] = if on & (projected > most) { projected } else { most };
            self.min_new[l] = if on & (projected < least) { projected } else { least };
            let target = a - gradient / (q + d);
            let target = if target > 0.0 { target } else { 0.0 };
            let target = if target < upper { target } else { upper };
            let target = if on & (projected.abs() > STILL) { target } else { a };
            alpha[l] = target;
            step[l] = (target - a) * y;
            stay |= u32::from(on) << l;
        }
        self.shrunk |= active & !(stay as u16);
        (step, stay as u16)
    }

    #[inline(always)]
    fn prefetch(&self, i: usize) {
        prefetch(&self.alpha, i);
        prefetch(&self.limit, i);
    }

    fn end_pass(&mut self, lane: usize) -> Verdict {
        let (most, least) = (self.max_new[lane], self.min_new[lane]);
        self.max_new[lane] = f32::NEG_INFINITY;
        self.min_new[lane] = f32::INFINITY;
        if most - least <= self.epsilon {
            if self.shrunk & (1 << lane) == 0 {
                return Verdict::Done;
            }
            self.shrunk &= !(1 << lane);
            self.max_old[lane] = f32::INFINITY;
            self.min_old[lane] = f32::NEG_INFINITY;
            return Verdict::Unshrink;
        }
        self.max_old[lane] = if most <= 0.0 { f32::INFINITY } else { most };
        self.min_old[lane] = if least >= 0.0 { f32::NEG_INFINITY } else { least };
        Verdict::Continue
    }
}
