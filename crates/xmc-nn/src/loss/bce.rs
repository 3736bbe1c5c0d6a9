//! Binary cross-entropy: is each label right or not, one by one?
//!
//! d loss / d s_ij = (sigmoid(s_ij) - t_ij) / (B l), t_ij what a kept positive counts and 0 for all else, needs nothing
//! but s_ij, so that one pass is enough.

use super::rows::softplus_sum_and_sigmoids;
use super::{Partial, Problem};

/// The loss and its gradients.
pub(super) fn run(problem: &Problem<'_>, places: (&mut [f32], &mut [f32])) -> Partial {
    let factor = 1.0 / (problem.step_rows as f64 * problem.stream.l() as f64);
    let target = |positive| problem.targets.weight(positive);
    let gradients = problem.stream.gradients(
        places,
        || 0.0,
        |loss, row, first, scores| {
            for (_, column, positive) in problem.positives_in(row, first, scores.len()) {
                *loss -= if positive.kept { target(positive) * scores[column] as f64 } else { 0.0 };
            }
            *loss += softplus_sum_and_sigmoids(scores, factor as f32) as f64;
            for (_, column, positive) in problem.positives_in(row, first, scores.len()) {
                scores[column] -= if positive.kept { (target(positive) * factor) as f32 } else { 0.0 };
            }
        },
        |left, right| left + right,
    );
    Partial { loss: gradients.folded * factor, dx: gradients.dx, passes: 1, saturated: 0 }
}
