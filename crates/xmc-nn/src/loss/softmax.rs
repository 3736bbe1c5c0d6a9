//! Softmax and decoupled softmax: how likely is a positive beside which other labels?
//!
//! Both need one number of a row before gradients can flow, the log-sum-exp m_i of its denominator: over all labels
//! (softmax), over the negatives alone (decoupled). Then every score's gradient is c_i e^(s_ij - m_i), except at the
//! few positives:
//!
//! ```text
//! softmax     c_i = W_i / B, W_i = sum of w_ip over kept p;   at a kept p: less w_ip / B
//! decoupled   c_i = sum over kept p of a_ip sigmoid(m_i - s_ip), a_ip = w_ip / (n_i B);
//!             at a kept p: -a_ip sigmoid(m_i - s_ip);   at a dropped one: 0
//! ```

use super::rows::exponentials;
use super::{Found, Partial, Problem, sigmoid, softplus};
use crate::ops::softmax::log_sum_exp;

/// Running log-sum-exp of every row, and scores of positives met so far.
struct Seen {
    running: Vec<(f32, f64)>, // [b]
    scores: Found,
}

/// How the scores of a row become gradients.
#[derive(Clone, Copy)]
struct Row {
    shift: f32,
    factor: f32,
}

/// The loss and its gradients; `coupled` leaves the other positives in the denominator.
pub(super) fn run(problem: &Problem<'_>, coupled: bool, places: (&mut [f32], &mut [f32])) -> Partial {
    let seen = problem.stream.reduce(
        || Seen { running: vec![(f32::NEG_INFINITY, 0.0); problem.b()], scores: Found::new() },
        |seen, row, first, scores| {
            for (entry, column, _) in problem.positives_in(row, first, scores.len()) {
                seen.scores.push((entry, scores[column]));
                if !coupled {
                    scores[column] = f32::NEG_INFINITY;
                }
            }
            seen.running[row] = log_sum_exp(scores, seen.running[row]);
        },
        |mut left, right| {
            for (a, b) in left.running.iter_mut().zip(&right.running) {
                *a = joined(*a, *b);
            }
            left.scores.extend(right.scores);
            left
        },
    );
    let mut at_positives = problem.in_order(seen.scores);
    let (mut loss, mut rows) = (0.0, Vec::with_capacity(problem.b()));
    for (row, &(largest, sum)) in seen.running.iter().enumerate() {
        let m = largest as f64 + sum.ln();
        let (value, row) = if coupled {
            coupled_row(problem, row, m, &mut at_positives)
        } else {
            decoupled_row(problem, row, m, &mut at_positives)
        };
        loss += value;
        rows.push(row);
    }
    let gradients = problem.stream.gradients(
        places,
        || (),
        |(), row, first, scores| {
            exponentials(scores, rows[row].shift, rows[row].factor);
            for (entry, column, _) in problem.positives_in(row, first, scores.len()) {
                scores[column] = at_positives[entry];
            }
        },
        |(), ()| (),
    );
    Partial { loss, dx: gradients.dx, passes: 2, saturated: 0 }
}

/// Adds two running log-sum-exps.
pub(super) fn joined(a: (f32, f64), b: (f32, f64)) -> (f32, f64) {
    let largest = if a.0 > b.0 { a.0 } else { b.0 };
    let scaled =
        |part: (f32, f64)| if part.1 == 0.0 { 0.0 } else { part.1 * ((part.0 - largest) as f64).exp() };
    (largest, scaled(a) + scaled(b))
}

/// Turns scores of a row's positives into their gradients; returns the row's loss.
fn coupled_row(problem: &Problem<'_>, row: usize, m: f64, at_positives: &mut [f32]) -> (f64, Row) {
    let (b, positives) = (problem.b() as f64, problem.positives(row));
    let total: f64 = positives.iter().filter(|p| p.kept).map(|p| problem.targets.weight(p)).sum();
    let mut loss = 0.0;
    for (positive, value) in positives.iter().zip(&mut at_positives[problem.entries(row)]) {
        let score = *value as f64;
        let weight = if positive.kept { problem.targets.weight(positive) } else { 0.0 };
        loss += weight * (m - score) / b;
        *value = ((total * (score - m).exp() - weight) / b) as f32;
    }
    (loss, Row { shift: m as f32, factor: (total / b) as f32 })
}

/// Turns scores of a row's positives into their gradients; returns the row's loss.
fn decoupled_row(problem: &Problem<'_>, row: usize, m: f64, at_positives: &mut [f32]) -> (f64, Row) {
    let (positives, divisor) = (problem.positives(row), problem.divisor(row));
    let (mut loss, mut factor) = (0.0, 0.0);
    for (positive, value) in positives.iter().zip(&mut at_positives[problem.entries(row)]) {
        let above = m - *value as f64;
        let weight = if positive.kept { problem.targets.weight(positive) / divisor } else { 0.0 };
        *value = 0.0;
        if weight > 0.0 {
            loss += weight * softplus(above);
            factor += weight * sigmoid(above);
            *value = (-weight * sigmoid(above)) as f32;
        }
    }
    // Without negatives m is -infinity, the loss 0, and no score outside the positives is left to be written.
    let shift = if m == f64::NEG_INFINITY { 0.0 } else { m as f32 };
    (loss, Row { shift, factor: factor as f32 })
}
