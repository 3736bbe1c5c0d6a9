//! Which labels point most in the direction of a vector? Lengths take no part, and neither do biases.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::topk::by_score;

use super::LabelEmbeddings;

/// Labels that one task compares with a vector.
const LABELS_PER_TASK: usize = 4096;

impl LabelEmbeddings {
    /// The `k` labels whose vectors point most in the direction of `x`, with the cosines, best first. Values of a label
    /// behind those that `x` has, a bias for example, take no part.
    pub fn nearest(&self, x: &[f32], k: usize) -> Vec<(u32, f32)> {
        let l = self.rows();
        let tasks = (0..l).step_by(LABELS_PER_TASK).collect::<Vec<_>>().into_par_iter();
        let parts: Vec<Vec<(u32, f32)>> = tasks
            .map(|start| {
                let labels = start..l.min(start + LABELS_PER_TASK);
                let mut part: Vec<_> = labels.map(|i| (i as u32, cosine(x, &self.row(i)))).collect();
                part.sort_unstable_by(by_score);
                part.truncate(k);
                part
            })
            .collect();
        let mut found = parts.concat();
        found.sort_unstable_by(by_score);
        found.truncate(k);
        found
    }
}

/// x . y / (|x| |y|), over the values that both have; 0 for a vector without direction.
fn cosine(x: &[f32], y: &[f32]) -> f32 {
    let sums = x.iter().zip(y).fold([0.0; 3], |[xy, xx, yy], (&x, &y)| {
        let (x, y) = (f64::from(x), f64::from(y));
        [xy + x * y, xx + x * x, yy + y * y]
    });
    let length = (sums[1] * sums[2]).sqrt();
    if length > 0.0 { (sums[0] / length) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Dtype;

    #[test]
    fn neither_lengths_nor_biases_decide_and_ties_go_to_the_lower_label() {
        // Two values and a bias.
        let rows = [9.0, 9.0, -100.0, 0.1, 0.0, 100.0, 0.0, 0.0, 7.0, 3.0, 3.0, 0.0, -5.0, 0.0, 0.0];
        let labels = LabelEmbeddings::from_values(3, &rows, Dtype::F32).unwrap();
        let found = labels.nearest(&[2.0, 0.0], 9);
        let half = 0.5f32.sqrt();
        let expected = [(1, 1.0), (0, half), (3, half), (2, 0.0), (4, -1.0)];
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6, "{found:?}, {expected:?}");
        }
        assert_eq!(labels.nearest(&[2.0, 0.0], 2), found[..2]);
        assert!(labels.nearest(&[0.0, 0.0], 9).iter().all(|&(_, cosine)| cosine == 0.0));
    }
}
