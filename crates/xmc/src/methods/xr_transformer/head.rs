//! What does the head of a level begin with? (spec: XR-Transformer, 7.4)
//!
//! ```text
//! none, and the first level   w ~ N(0, 0.02^2), b = 0
//! inherit                     the row of the parent
//! linear                      rankers on the embeddings of the level above, costs 100, nothing dropped
//! weighted-linear             the same; a positive costs 100 times the labels below it
//! ```
//!
//! A head is one row `[w, b]` for each node, `[L_t, h + 1]`. The rankers see the embeddings as the encoder makes them, not
//! normalised, and the rows that the level will train with, so the first steps do not have to find again what the encoder
//! knows already.

use xmc_data::Csr;
use xmc_linear::Features;
use xmc_linear::level::{LevelConfig, LevelInput, LevelModel};

use super::config::Bootstrap;
use super::training::LevelTask;
use crate::error::{Error, Result};
use crate::random::{Draws, Purpose};

/// Deviation of weights that begin with nothing.
const DEVIATION: f32 = 0.02;

/// Cost of every row of the rankers, as in the original program: little regularisation.
const COST: f32 = 100.0;

/// Passes over the rows of a ranker at most. The original goes on to 100, which at such costs takes as long as the steps
/// of the level; first weights from 20 end as well (docs/log.md).
const PASSES: u32 = 20;

/// First weights `[L_t, h + 1]` of the head of a level, for embeddings of `dim` columns.
pub(super) fn first_weights(task: &LevelTask<'_>, dim: usize) -> Result<Vec<f32>> {
    let nodes = task.level.nodes;
    match (task.above, task.task.config.training.bootstrap) {
        (None, _) | (_, Bootstrap::None) => Ok(random(nodes, dim, task.level.seed)),
        (Some(above), Bootstrap::Inherit) => inherited(&above.head(dim)?, dim + 1, task.nodes.offsets),
        (Some(above), kind) => {
            let embeddings = above.embeddings()?;
            if (embeddings.rows(), embeddings.cols()) != (task.nodes.targets.rows(), dim) {
                let (rows, cols) = (embeddings.rows(), embeddings.cols());
                return Err(Error::Mismatch(format!(
                    "embeddings [{rows}, {cols}] of the level above do not fit"
                )));
            }
            let x = Features::new(Csr::empty(embeddings.rows(), 0), Some(embeddings))?;
            ranked(task, &x, kind == Bootstrap::WeightedLinear)
        }
    }
}

fn random(nodes: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::new(seed, Purpose::Head, 0);
    (0..nodes * (dim + 1))
        .map(|i| if i % (dim + 1) == dim { 0.0 } else { DEVIATION * draws.normal() })
        .collect()
}

/// Every child takes the row of its parent.
fn inherited(parents: &[f32], cols: usize, offsets: &[u32]) -> Result<Vec<f32>> {
    if parents.len() != cols * (offsets.len() - 1) {
        return Err(Error::Mismatch(format!("{} weights of the level above do not fit", parents.len())));
    }
    let rows = parents.chunks_exact(cols).zip(offsets.windows(2));
    Ok(rows.flat_map(|(row, w)| (w[0]..w[1]).flat_map(move |_| row)).copied().collect())
}

/// Rankers on `x`, embeddings alone.
fn ranked(task: &LevelTask<'_>, x: &Features, weighted: bool) -> Result<Vec<f32>> {
    let input = LevelInput {
        x,
        targets: task.nodes.targets,
        matching: task.nodes.matching,
        relevance: weighted.then_some(task.nodes.targets),
        offsets: task.nodes.offsets,
    };
    let config = LevelConfig {
        cost_positive: COST,
        cost_negative: COST,
        threshold: 0.0,
        max_iterations: PASSES,
        ..LevelConfig::default()
    };
    let events = task.task.events;
    events.status("first weights of the head");
    let progress = |done, total| events.progress(done, total);
    Ok(LevelModel::train(&input, &config, task.level.seed, &progress)?.dense_weights())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_inherits_the_row_of_its_parent() {
        let parents = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let children = inherited(&parents, 2, &[0, 2, 2, 5]).unwrap();
        assert_eq!(children, [1.0, 2.0, 1.0, 2.0, 5.0, 6.0, 5.0, 6.0, 5.0, 6.0]);
        assert!(inherited(&parents, 3, &[0, 2, 2, 5]).is_err());
    }

    #[test]
    fn random_weights_are_small_and_differ_by_seed_and_biases_are_zero() {
        let weights = random(50, 8, 1);
        assert!(weights.chunks(9).all(|row| row[8] == 0.0 && row[..8].iter().all(|w| *w != 0.0)));
        let deviation = (weights.iter().map(|w| w * w).sum::<f32>() / 400.0).sqrt();
        assert!((deviation - 0.02).abs() < 0.003, "{deviation}");
        assert_ne!(weights, random(50, 8, 2));
    }
}
