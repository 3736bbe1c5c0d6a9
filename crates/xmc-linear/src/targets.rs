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

/// Positives of every level, index 0 (the root) to D (the leaves, in leaf order); `value` maps each entry of `y`.
/// Entries that are zero in `y` are no positives; labels outside the tree are left out.
pub fn levels(y: &Csr, tree: &Tree, value: impl Fn(f32) -> f32) -> Result<Vec<Csr>> {
    let mut position = vec![u32::MAX; tree.num_labels()];
    for (at, &l) in tree.labels().iter().enumerate() {
        position[l as usize] = at as u32;
    }
    let mut leaves = CsrBuilder::new();
    for row in y.iter() {
        let positives = row.iter().filter(|&(l, v)| v != 0.0 && position[l as usize] != u32::MAX);
        leaves.push(positives.map(|(l, v)| (position[l as usize], value(v))));
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
