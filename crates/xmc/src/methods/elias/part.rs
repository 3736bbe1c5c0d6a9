//! Loss and gradients of rows that meet labels on known paths.
//!
//! Backward through log s_c = min(0, ln alpha + logit_c - lse), with g_c the sum of d loss / d log s over the paths through
//! cluster c, or 0 where the score of the cluster is held at 1:
//!
//! ```text
//! d loss / d logit_c = g_c - softmax(logits)_c sum_c' g_c'
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use xmc_nn::Tensor;
use xmc_nn::ops::exp::exp_lane;
use xmc_nn::table::Pairs;

use super::edge_slopes::EdgeSlopes;
use super::index::{Index, Part, PartGradients, Scale};
use super::path_loss::{self, path_losses, shortlist_loss};
use super::paths::Paths;
use crate::error::Result;

/// Rows of a task.
const ROWS: usize = 8;

/// Paths of a walk over labels that pass at a time.
const BLOCK: usize = 64;

/// Rows of a step, with what they meet.
pub(super) struct Scored<'a> {
    pub(super) index: &'a Index,
    pub(super) paths: &'a Paths,
    pub(super) scale: Scale,
}

/// Floats that several threads write, each to places of its own.
struct Shared(Vec<AtomicU32>);

/// What the rows of a task add up.
#[derive(Default)]
struct Sums {
    classification: f64,
    shortlist: f64,
    edges: EdgeSlopes,
}

impl Scored<'_> {
    /// Everything, given cluster `logits [b, C]`.
    pub(super) fn part(&self, x: &Tensor, logits: Vec<f32>) -> Result<Part> {
        let paths = self.paths;
        let pairs = Pairs { indptr: &paths.indptr, ids: &paths.labels };
        let n = paths.labels.len();
        let mut dx = Tensor::zeros(x.rows(), x.cols(), x.device());
        let mut label_slopes = vec![0.0; n];
        let (slopes, losses) = (Shared::new(n), Shared::new(n));
        self.index.labels.pass(x.host(), &pairs, &mut label_slopes, dx.host_mut(), &|first, z| {
            self.few(first, z, &slopes, &losses);
        })?;
        let (mut slopes, losses) = (slopes.into_values(), losses.into_values());
        let mut cluster_slopes = logits;
        let sums = self.rows(&mut slopes, &losses, &mut cluster_slopes);
        self.index.clusters.backward(&cluster_slopes, dx.host_mut());

        let mut all = Sums::default();
        for sums in &sums {
            all.classification += sums.classification;
            all.shortlist += sums.shortlist;
            all.edges.append(&sums.edges);
        }
        Ok(Part {
            loss: all.classification + f64::from(self.scale.lambda) * all.shortlist,
            classification: all.classification,
            shortlist: all.shortlist,
            dx,
            gradients: PartGradients {
                cluster_slopes,
                edge_slopes: all.edges,
                indptr: paths.indptr.clone(),
                labels: paths.labels.clone(),
                label_slopes,
            },
        })
    }

    /// Slopes of the margins `z` of paths from `first` on, in their place; slopes of scores and losses.
    fn few(&self, first: usize, z: &mut [f32], slopes: &Shared, losses: &Shared) {
        let factor = 1.0 / (self.scale.rows_of_step as f64 * self.scale.shortlist_count as f64);
        for (n, z) in z.chunks_mut(BLOCK).enumerate() {
            let first = first + n * BLOCK;
            let range = first..first + z.len();
            let (mut slope, mut loss) = ([0f32; BLOCK], [0f32; BLOCK]);
            let (slope, loss) = (&mut slope[..z.len()], &mut loss[..z.len()]);
            let (log_score, target) = (&self.paths.log_scores[range.clone()], &self.paths.targets[range]);
            path_losses(z, factor as f32, path_loss::Paths { log_score, target, slope, loss });
            slopes.set(first, slope);
            losses.set(first, loss);
        }
    }

    /// Adds the shortlist loss to the `slopes` of scores, and turns `logits [b, C]` into their slopes.
    fn rows(&self, slopes: &mut [f32], losses: &[f32], logits: &mut [f32]) -> Vec<Sums> {
        let (indptr, b) = (&self.paths.indptr, self.paths.rows());
        let clusters = self.index.graph.clusters();
        let mut rest = slopes;
        let mut tasks = Vec::with_capacity(b.div_ceil(ROWS));
        for (first, logits) in (0..b).step_by(ROWS).zip(logits.chunks_mut(ROWS * clusters)) {
            let (slopes, later) = rest.split_at_mut(indptr[(first + ROWS).min(b)] - indptr[first]);
            tasks.push((first, slopes, logits));
            rest = later;
        }
        let tasks = tasks.into_par_iter().with_max_len(1);
        tasks
            .map(|(first, mut slopes, logits)| {
                let mut sums = Sums::default();
                for (row, logits) in (first..).zip(logits.chunks_exact_mut(clusters)) {
                    let (own, later) = slopes.split_at_mut(indptr[row + 1] - indptr[row]);
                    self.row(row, own, losses, logits, &mut sums);
                    slopes = later;
                }
                sums
            })
            .collect()
    }

    fn row(&self, row: usize, slopes: &mut [f32], losses: &[f32], logits: &mut [f32], sums: &mut Sums) {
        let paths = self.paths;
        let range = paths.indptr[row]..paths.indptr[row + 1];
        sums.classification += losses[range.clone()].iter().map(|&loss| f64::from(loss)).sum::<f64>();
        let factor = 1.0 / (self.scale.rows_of_step as f64 * self.scale.positives_count as f64);
        let own = slopes.iter_mut().zip(&paths.targets[range.clone()]).zip(&paths.log_scores[range.clone()]);
        for ((slope, _), &log_score) in own.filter(|((_, target), _)| **target > 0.0) {
            let [loss, own] = shortlist_loss(log_score, factor as f32);
            sums.shortlist += f64::from(loss);
            *slope += self.scale.lambda * own;
        }
        let chosen = paths.chosen(row);
        let mut of_slot = vec![0f32; chosen.len()];
        for (&slot, slope) in paths.slots[range].iter().zip(slopes.iter()) {
            of_slot[slot as usize] += slope;
        }
        for (sum, _) in of_slot.iter_mut().zip(chosen).filter(|(_, chosen)| chosen.raw > 0.0) {
            *sum = 0.0;
        }
        softmax_times(logits, paths.normalisers[row], -of_slot.iter().sum::<f32>());
        for (sum, chosen) in of_slot.iter().zip(chosen) {
            logits[chosen.cluster as usize] += sum;
        }
        if self.index.graph.logits().is_some() {
            sums.edges.push_row(paths, row, slopes);
        }
    }
}

xmc_nn::simd! {
    /// s = factor e^(s - shift).
    fn softmax_times(s: &mut [f32], shift: f32, factor: f32) {
        for v in s {
            *v = factor * exp_lane::<FUSED>(*v - shift);
        }
    }
}

impl Shared {
    fn new(n: usize) -> Self {
        Shared(std::iter::repeat_with(|| AtomicU32::new(0)).take(n).collect())
    }

    fn set(&self, first: usize, values: &[f32]) {
        for (place, value) in self.0[first..].iter().zip(values) {
            place.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    fn into_values(self) -> Vec<f32> {
        self.0.into_iter().map(|place| f32::from_bits(place.into_inner())).collect()
    }
}
