//! Soft top-k: is a positive among the k best labels?
//!
//! With z_ij = alpha (s_ij + t_i) and p = sigmoid(z), the threshold t_i of a row solves sum over j of p_ij = k_i.
//! The loss is -a_ip log p_ip at kept positives, a_ip = w_ip / (n_i B). As t_i depends on every score,
//!
//! ```text
//! d loss / d s_ij = u_ij - U_i v_ij / V_i       v = alpha p (1 - p), V = sum of v,
//!                                               u_ip = -a_ip alpha (1 - p_ip), U = sum of u
//! ```
//!
//! **The solver.** Each look at A(t) = sum of p is a pass over all labels, so few passes are wanted. One pass gives the
//! smallest and largest score, which bracket t: logit(k / n) / alpha lies between t + smallest and t + largest, n being
//! the number of labels that are not dropped. It also gives the log-sum-exp of alpha s, hence the start t = (ln k - lse) / alpha, which
//! is right as long as all p are small. From there h(t) = ln A - ln k is nearly a straight line, and Halley's step
//!
//! ```text
//! h' = alpha B / A,  h'' = alpha^2 (C / A - (B / A)^2)       B = sum of p (1 - p), C = sum of p (1 - p) (1 - 2 p)
//! delta = -2 h h' / (2 h'^2 - h h'')
//! ```
//!
//! triples the number of right digits. Where no p is between 0 and 1, A is flat and h says nothing; there the tails of
//! p are exponentials, and their logarithms say how far it is: with k labels at 1, to where both tails are equal; with
//! fewer, to where the tail of the others makes up what is missing, and with more, the same for what is too much.
//! Steps that leave the bracket are replaced by halving it. A row is done once alpha |delta| <= 1e-3: what is left is of
//! the order of its cube, 1e-9, and V is carried over to the new t by C.

use super::rows::{extremes, sigmoid_slopes, sigmoid_sums};
use super::{Found, Partial, Problem, sigmoid, softplus};
use crate::ops::reduce::scale;
use crate::ops::softmax::log_sum_exp;

/// A row whose step is smaller is done after it.
const LAST_STEP: f64 = 1e-3;

/// Tails of p below this, in sum, are exponentials to a few percent.
const GAP: f64 = 0.1;

/// Enough to halve any bracket of floats to nothing.
const MAX_PASSES: usize = 80;

/// The search for the threshold of one row; `shift`, `low` and `high` are values of alpha t.
#[derive(Clone, Copy, Debug)]
struct Search {
    k: f64,
    shift: f64,
    low: f64,
    high: f64,
    /// Sum of p (1 - p) at `shift`.
    slope: f64,
    done: bool,
}

/// Labels with p >= 1/2; what they lack to 1; p of the others; B; C.
type Sums = [f64; 5];

/// What the first pass learns of a row, in units of alpha s.
#[derive(Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
    running: (f32, f64),
}

/// How the scores of a row become gradients.
#[derive(Clone, Copy)]
struct Row {
    shift: f32,
    factor: f32,
}

/// The loss and its gradients; `k` of each row.
pub(super) fn run(problem: &Problem<'_>, k: &[f64], alpha: f32, places: (&mut [f32], &mut [f32])) -> Partial {
    let (mut at_positives, mut searches) = first_pass(problem, k, alpha);
    let mut passes = 1;
    while passes < MAX_PASSES && searches.iter().any(|search| !search.done) {
        let sums = sums_at(problem, &searches, alpha);
        searches.iter_mut().zip(&sums).for_each(|(search, sums)| search.step(*sums));
        passes += 1;
    }
    let mut loss = 0.0;
    let rows: Vec<Row> = searches
        .iter()
        .enumerate()
        .map(|(row, search)| {
            let (value, row) = finish_row(problem, row, search, alpha as f64, &mut at_positives);
            loss += value;
            row
        })
        .collect();
    let gradients = problem.stream.gradients(
        places,
        || (),
        |(), row, first, scores| {
            sigmoid_slopes(scores, alpha, rows[row].shift, rows[row].factor);
            for (entry, column, _) in problem.positives_in(row, first, scores.len()) {
                scores[column] = at_positives[entry];
            }
        },
        |(), ()| (),
    );
    let saturated = searches.iter().filter(|search| search.shift == f64::INFINITY).count();
    Partial { loss, dx: gradients.dx, passes: passes + 1, saturated }
}

/// Scores of positives, and a bracket and a start for every row.
fn first_pass(problem: &Problem<'_>, k: &[f64], alpha: f32) -> (Vec<f32>, Vec<Search>) {
    let nothing = Range { low: f32::INFINITY, high: f32::NEG_INFINITY, running: (f32::NEG_INFINITY, 0.0) };
    let (ranges, scores) = problem.stream.reduce(
        || (vec![nothing; problem.b()], Found::new()),
        |(ranges, found), row, first, scores| {
            for (entry, column, _) in problem.positives_in(row, first, scores.len()) {
                found.push((entry, scores[column]));
            }
            scale(scores, alpha);
            let [low, high] = extremes(scores);
            exclude_dropped(problem, row, first, scores);
            let range = &mut ranges[row];
            (range.low, range.high) = (range.low.min(low), range.high.max(high));
            range.running = log_sum_exp(scores, range.running);
        },
        |(mut left, mut found), (right, more)| {
            for (a, b) in left.iter_mut().zip(&right) {
                (a.low, a.high) = (a.low.min(b.low), a.high.max(b.high));
                a.running = super::softmax::joined(a.running, b.running);
            }
            found.extend(more);
            (left, found)
        },
    );
    let searches = ranges.iter().enumerate().map(|(row, range)| {
        let dropped = problem.positives(row).iter().filter(|positive| !positive.kept).count();
        Search::new(k[row], problem.stream.l() - dropped, *range)
    });
    (problem.in_order(scores), searches.collect())
}

/// [`Sums`] of every row at its present threshold.
fn sums_at(problem: &Problem<'_>, searches: &[Search], alpha: f32) -> Vec<Sums> {
    problem.stream.reduce(
        || vec![[0.0; 5]; problem.b()],
        |sums, row, first, scores| {
            if searches[row].done {
                return;
            }
            exclude_dropped(problem, row, first, scores);
            let block = sigmoid_sums(scores, alpha, searches[row].shift as f32);
            for (sum, value) in sums[row].iter_mut().zip(block) {
                *sum += value as f64;
            }
        },
        |mut left, right| {
            for (a, b) in left.iter_mut().flatten().zip(right.iter().flatten()) {
                *a += b;
            }
            left
        },
    )
}

fn exclude_dropped(problem: &Problem<'_>, row: usize, first: usize, scores: &mut [f32]) {
    for (_, column, positive) in problem.positives_in(row, first, scores.len()) {
        if !positive.kept {
            scores[column] = f32::NEG_INFINITY;
        }
    }
}

impl Search {
    /// `n` labels are allowed. With no more than k of them every p is 1: the threshold is infinite, the loss 0.
    fn new(k: f64, n: usize, range: Range) -> Self {
        if k >= n as f64 {
            let infinite = f64::INFINITY;
            return Search { k, shift: infinite, low: infinite, high: infinite, slope: 0.0, done: true };
        }
        let logit = (k / (n as f64 - k)).ln();
        let (low, high) = (logit - range.high as f64, logit - range.low as f64);
        let start = k.ln() - (range.running.0 as f64 + range.running.1.ln());
        Search { k, shift: start.clamp(low, high.max(low)), low, high, slope: 0.0, done: false }
    }

    /// Moves on, given the sums at `shift`.
    fn step(&mut self, [ones, lacking, others, b, c]: Sums) {
        if self.done {
            return;
        }
        // A - k first: near saturation it is much smaller than A.
        let beyond = (ones - self.k) + (others - lacking);
        if beyond < 0.0 {
            self.low = self.shift;
        } else {
            self.high = self.shift;
        }
        let a = self.k + beyond;
        let (h, h1) = ((beyond / self.k).ln_1p(), b / a);
        let h2 = c / a - h1 * h1;
        let mut delta = -2.0 * h * h1 / (2.0 * h1 * h1 - h * h2);
        if lacking + others < GAP {
            let across = if ones == self.k {
                0.5 * (lacking.ln() - others.ln())
            } else if ones < self.k {
                ((self.k - ones) / others).ln()
            } else {
                (lacking / (ones - self.k)).ln()
            };
            if across.abs() > GAP {
                delta = across;
            }
        }
        self.slope = b;
        let inside = delta.is_finite() && (self.low..=self.high).contains(&(self.shift + delta));
        if inside && delta.abs() <= LAST_STEP {
            self.shift += delta;
            self.slope += c * delta;
            self.done = true;
        } else if inside {
            self.shift += delta;
        } else if (ones == self.k && b == 0.0) || self.high - self.low <= f64::EPSILON * self.shift.abs() {
            self.done = true;
        } else {
            self.shift = f64::midpoint(self.low, self.high);
        }
    }
}

/// Turns scores of a row's positives into their gradients; returns the row's loss.
fn finish_row(
    problem: &Problem<'_>,
    row: usize,
    search: &Search,
    alpha: f64,
    at_positives: &mut [f32],
) -> (f64, Row) {
    let (entries, divisor) = (problem.entries(row), problem.divisor(row));
    if search.shift == f64::INFINITY {
        at_positives[entries].fill(0.0);
        return (0.0, Row { shift: 0.0, factor: 0.0 });
    }
    let positives = problem.positives(row);
    let (mut loss, mut u_sum) = (0.0, 0.0);
    for (positive, &score) in positives.iter().zip(&at_positives[entries.clone()]) {
        if positive.kept {
            let z = alpha * score as f64 + search.shift;
            let share = problem.targets.weight(positive) / divisor;
            loss += share * softplus(-z);
            u_sum -= share * alpha * sigmoid(-z);
        }
    }
    // alpha cancels in v / V. Where every p is 0 or 1 both underflow, and u alone is left.
    let flat = search.slope < f32::MIN_POSITIVE as f64 || u_sum.abs() >= search.slope * f32::MAX as f64;
    let factor = if flat { 0.0 } else { -u_sum / search.slope };
    for (positive, value) in positives.iter().zip(&mut at_positives[entries]) {
        let z = alpha * *value as f64 + search.shift;
        let u = -problem.targets.weight(positive) / divisor * alpha * sigmoid(-z);
        *value = if positive.kept { (u + factor * sigmoid(z) * sigmoid(-z)) as f32 } else { 0.0 };
    }
    (loss, Row { shift: search.shift as f32, factor: factor as f32 })
}
