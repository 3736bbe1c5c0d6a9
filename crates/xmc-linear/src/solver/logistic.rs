//! Dual coordinate descent for the logistic loss. (liblinear, `L2R_LR_DUAL`; Yu, Huang and Lin 2011, algorithm 5)
//!
//! Two variables per row with a + a' = c. A row's sub-problem, in the larger step of the two signs s:
//!   g'(z) = q (z - a) + s y m + ln(z / (c - z)) = 0,   solved by safeguarded Newton steps.

use super::lanes::{Dual, LANES, Lanes, Verdict};
use super::{Child, SolverParams};
use crate::prefetch::prefetch;

/// Newton steps for one row at most.
const MAX_NEWTON: usize = 100;
/// Where a step would leave (0, c), z shrinks by this factor instead.
const SAFEGUARD: f64 = 0.1;
/// Precision of the sub-problems: at the start, and at the finest.
const FIRST_PRECISION: f64 = 1e-2;
const LAST_PRECISION: f64 = 1e-8;

/// State of all lanes.
pub(super) struct Logistic {
    /// Both dual variables of a row.
    alpha: Vec<[[f64; 2]; LANES]>,
    cost: Vec<Lanes>,
    positive: Vec<u16>,
    precision: [f64; LANES],
    /// Newton steps, visits and the largest gradient of this pass.
    steps: [usize; LANES],
    visits: [usize; LANES],
    largest: [f64; LANES],
    cost_positive: f32,
    cost_negative: f32,
    epsilon: f64,
}

/// Where the dual variables start: strictly inside (0, c).
fn start(cost: f32) -> [f64; 2] {
    let cost = f64::from(cost);
    let first = (0.001 * cost).min(1e-8);
    [first, cost - first]
}

impl Dual for Logistic {
    const WARM: bool = true;

    fn new(rows: usize, params: &SolverParams) -> Self {
        Logistic {
            alpha: vec![[start(1.0); LANES]; rows],
            cost: vec![[1.0; LANES]; rows],
            positive: vec![0; rows],
            precision: [FIRST_PRECISION; LANES],
            steps: [0; LANES],
            visits: [0; LANES],
            largest: [0.0; LANES],
            cost_positive: params.cost_positive,
            cost_negative: params.cost_negative,
            epsilon: f64::from(params.epsilon),
        }
    }

    fn load(&mut self, lane: usize, child: &Child) {
        for i in 0..self.alpha.len() {
            self.cost[i][lane] = self.cost_negative;
            self.alpha[i][lane] = start(self.cost_negative);
            self.positive[i] &= !(1 << lane);
        }
        for (at, &i) in child.positives.iter().enumerate() {
            let cost = (self.cost_positive * child.relevance.get(at).copied().unwrap_or(1.0)).max(1e-10);
            self.cost[i as usize][lane] = cost;
            self.alpha[i as usize][lane] = start(cost);
            self.positive[i as usize] |= 1 << lane;
        }
        self.precision[lane] = FIRST_PRECISION;
        (self.steps[lane], self.visits[lane], self.largest[lane]) = (0, 0, 0.0);
    }

    fn initial_step(&self, i: usize, lane: usize) -> f32 {
        let a = self.alpha[i][lane][0] as f32;
        if self.positive[i] >> lane & 1 != 0 { a } else { -a }
    }

    fn visit(&mut self, i: usize, margins: &Lanes, q: f32, active: u16) -> (Lanes, u16) {
        let mut step = [0.0; LANES];
        let q = f64::from(q);
        for l in 0..LANES {
            if active >> l & 1 == 0 {
                continue;
            }
            let y = if self.positive[i] >> l & 1 != 0 { 1.0 } else { -1.0 };
            let b = y * f64::from(margins[l]);
            let cost = f64::from(self.cost[i][l]);
            let pair = &mut self.alpha[i][l];
            // The variable whose optimum lies in the lower half of (0, c) is the well-conditioned one.
            let (which, sign) = if 0.5 * q * (pair[1] - pair[0]) + b < 0.0 { (1, -1.0) } else { (0, 1.0) };
            let old = pair[which];
            let mut z = if cost - old < 0.5 * cost { SAFEGUARD * old } else { old };
            let gradient = |z: f64| q * (z - old) + sign * b + (z / (cost - z)).ln();
            let mut g = gradient(z);
            self.largest[l] = self.largest[l].max(g.abs());
            self.visits[l] += 1;
            let mut moved = false;
            for _ in 0..MAX_NEWTON {
                if g.abs() < self.precision[l] {
                    break;
                }
                let newton = z - g / (q + cost / (cost - z) / z);
                z = if newton <= 0.0 { z * SAFEGUARD } else { newton };
                g = gradient(z);
                self.steps[l] += 1;
                moved = true;
            }
            if moved && z > 0.0 && z < cost {
                pair[which] = z;
                pair[1 - which] = cost - z;
                step[l] = (sign * (z - old) * y) as f32;
            }
        }
        (step, active)
    }

    fn prefetch(&self, i: usize) {
        prefetch(&self.alpha, i);
    }

    fn end_pass(&mut self, lane: usize) -> Verdict {
        let (largest, steps, visits) = (self.largest[lane], self.steps[lane], self.visits[lane]);
        (self.largest[lane], self.steps[lane], self.visits[lane]) = (0.0, 0, 0);
        if largest < self.epsilon {
            return Verdict::Done;
        }
        if steps <= visits / 10 {
            self.precision[lane] = (self.precision[lane] * 0.1).max(LAST_PRECISION.min(self.epsilon));
        }
        Verdict::Continue
    }
}
