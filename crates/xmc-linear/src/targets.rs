//! What is positive at each level of the tree, and how much does it count? (spec: XR-Linear, 5.1 and 5.3)
//!
//! Y_D = Y in the order of the leaves, Y_{t-1} = Y_t C_t: a node counts the positive labels below it. The same sums
//! over relevances give R_t.

use serde::{Deserialize, Serialize};
use xmc_data::{Csr, CsrBuilder, Result};

use crate::tree::Tree;

/// How the relevances of one row are scaled at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelevanceNorm {
    /// As they are.
    None,
    /// Divided by their sum.
    L1,
    /// Divided by their Euclidean norm.
    L2,
    /// Divided by the largest.
    Max,
}

impl RelevanceNorm {
    /// Scales every row of `relevance`.
    pub fn apply(self, relevance: &mut Csr) {
        let indptr = relevance.indptr().to_vec();
        let values = relevance.values_mut();
        for w in indptr.windows(2) {
            let row = &mut values[w[0] as usize..w[1] as usize];
            let size = match self {
                RelevanceNorm::None => return,
                RelevanceNorm::L1 => row.iter().sum(),
                RelevanceNorm::L2 => row.iter().map(|v| v * v).sum::<f32>().sqrt(),
                RelevanceNorm::Max => row.iter().fold(0f32, |a, &v| a.max(v)),
            };
            if size > 0.0 {
                for v in row {
                    *v /= size;
                }
            }
        }
    }
}

/// Positives of every level, index 0 (the root) to D (the leaves, in leaf order). Each counts what `values` holds for
/// its entry of `y`, or 1. Entries that are zero in `y` are no positives; labels outside the tree are left out.
///
/// The pattern depends on `y` alone: a positive whose value is 0 stays a positive.
pub fn levels(y: &Csr, tree: &Tree, values: Option<&[f32]>) -> Result<Vec<Csr>> {
    let mut position = vec![u32::MAX; tree.num_labels()];
    for (at, &l) in tree.labels().iter().enumerate() {
        position[l as usize] = at as u32;
    }
    let mut leaves = CsrBuilder::new();
    for (i, row) in y.iter().enumerate() {
        let first = y.indptr()[i] as usize;
        let entries =
            row.iter().enumerate().filter(|&(_, (l, v))| v != 0.0 && position[l as usize] != u32::MAX);
        leaves.push(entries.map(|(at, (l, _))| {
            let value = values.and_then(|v| v.get(first + at)).copied().unwrap_or(1.0);
            (position[l as usize], value)
        }));
    }
    let mut levels = vec![leaves.finish(tree.labels().len())?];
    for t in (1..=tree.depth()).rev() {
        let parents = tree.parents(t);
        let mut above = CsrBuilder::new();
        if let Some(below) = levels.last() {
            for row in below.iter() {
                above.push(row.iter().map(|(c, v)| (parents[c as usize], v)));
            }
        }
        levels.push(above.finish(tree.width(t - 1))?);
    }
    levels.reverse();
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_positive_of_value_zero_stays_a_positive_at_every_level() {
        let tree = Tree::new(vec![vec![0, 2], vec![0, 1, 3]], vec![2, 0, 1], 4).unwrap();
        let y = Csr::new(2, 4, vec![0, 3, 5], vec![0, 1, 3, 1, 2], vec![1.0, 1.0, 1.0, 0.0, 1.0]).unwrap();
        let values = [0.0, 0.5, 9.0, 9.0, 2.0];
        let (counts, sums) = (levels(&y, &tree, None).unwrap(), levels(&y, &tree, Some(&values)).unwrap());
        // Label 3 is in no leaf, label 1 of the second row is an explicit zero.
        assert_eq!(counts[2].row(0).iter().collect::<Vec<_>>(), [(1, 1.0), (2, 1.0)]);
        assert_eq!(counts[1].row(0).iter().collect::<Vec<_>>(), [(1, 2.0)]);
        assert_eq!(counts[1].row(1).iter().collect::<Vec<_>>(), [(0, 1.0)]);
        assert_eq!(sums[2].row(0).iter().collect::<Vec<_>>(), [(1, 0.0), (2, 0.5)]);
        assert_eq!(sums[1].row(0).iter().collect::<Vec<_>>(), [(1, 0.5)]);
        assert_eq!(sums[1].row(1).iter().collect::<Vec<_>>(), [(0, 2.0)]);
        for (c, s) in counts.iter().zip(&sums) {
            assert_eq!((c.indptr(), c.indices()), (s.indptr(), s.indices()));
        }
    }

    #[test]
    fn norms_scale_each_row() {
        let scaled = |norm: RelevanceNorm| {
            let mut r = Csr::new(2, 2, vec![0, 2, 2], vec![0, 1], vec![3.0, 4.0]).unwrap();
            norm.apply(&mut r);
            r.values().to_vec()
        };
        assert_eq!(scaled(RelevanceNorm::None), [3.0, 4.0]);
        assert_eq!(scaled(RelevanceNorm::L1), [3.0 / 7.0, 4.0 / 7.0]);
        assert_eq!(scaled(RelevanceNorm::L2), [0.6, 0.8]);
        assert_eq!(scaled(RelevanceNorm::Max), [0.75, 1.0]);
    }
}
