//! The running sum of the rows on one side of a group.
//!
//! Sparse features are summed as integers in units of a fixed power of two. Integer addition has no rounding and no
//! order, so rows can be added and taken away any number of times, by any number of threads, with the same bits. A copy in
//! f32 is kept for multiplying. Dense features are summed in f64, over fixed blocks of rows and in their order.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

use super::rows::{PARALLEL_ENTRIES, Rows};

/// Rows whose dense parts are added up before they join the sum.
const DENSE_BLOCK: usize = 512;

/// A sum of rows of one group.
pub(super) struct Sums {
    /// Sparse features, in units.
    exact: Vec<i64>,
    sparse: Vec<f32>,
    exact_dense: Vec<f64>,
    dense: Vec<f32>,
    /// Units per 1.0, a power of two.
    scale: f32,
}

impl Sums {
    /// Nothing yet; `scale` as from [`scale_for`].
    pub(super) fn new(rows: &Rows<'_>, scale: f32) -> Self {
        Sums {
            exact: vec![0; rows.num_features()],
            sparse: vec![0.0; rows.num_features()],
            exact_dense: vec![0.0; rows.dense_cols()],
            dense: vec![0.0; rows.dense_cols()],
            scale,
        }
    }

    /// The sum of the sparse parts.
    pub(super) fn sparse(&self) -> &[f32] {
        &self.sparse
    }

    /// The sum of the dense parts.
    pub(super) fn dense(&self) -> &[f32] {
        &self.dense
    }

    /// Adds (`sign` 1) or takes away (-1) the rows at the given positions, each with its sign.
    pub(super) fn apply(&mut self, rows: &Rows<'_>, moves: &[(u32, i64)]) {
        let entries: usize = moves.iter().map(|&(p, _)| rows.row(p as usize).len()).sum();
        let threads = rayon::current_num_threads();
        if entries < PARALLEL_ENTRIES || threads == 1 {
            add(&mut self.exact, rows, moves, self.scale);
        } else {
            let parts: Vec<Vec<i64>> = moves
                .par_chunks(moves.len().div_ceil(threads))
                .map(|moves| {
                    let mut part = vec![0; self.exact.len()];
                    add(&mut part, rows, moves, self.scale);
                    part
                })
                .collect();
            self.exact.par_iter_mut().enumerate().for_each(|(f, sum)| {
                *sum += parts.iter().map(|part| part[f]).sum::<i64>();
            });
        }
        self.refresh(rows, moves, entries);
        self.apply_dense(rows, moves);
    }

    /// Brings the f32 copy up to date: the features of the moved rows, or all if that is less work.
    fn refresh(&mut self, rows: &Rows<'_>, moves: &[(u32, i64)], entries: usize) {
        let unit = 1.0 / self.scale;
        if entries > self.exact.len() {
            for (copy, &sum) in self.sparse.iter_mut().zip(&self.exact) {
                *copy = sum as f32 * unit;
            }
            return;
        }
        for &(p, _) in moves {
            for &f in rows.row(p as usize).indices {
                self.sparse[f as usize] = self.exact[f as usize] as f32 * unit;
            }
        }
    }

    fn apply_dense(&mut self, rows: &Rows<'_>, moves: &[(u32, i64)]) {
        if self.dense.is_empty() {
            return;
        }
        let block_sum = |moves: &[(u32, i64)]| {
            let mut sum = vec![0f64; self.dense.len()];
            for &(p, sign) in moves {
                for (total, &v) in sum.iter_mut().zip(rows.dense_row(p as usize)) {
                    *total += sign as f64 * f64::from(v);
                }
            }
            sum
        };
        let blocks: Vec<Vec<f64>> = moves.par_chunks(DENSE_BLOCK).map(block_sum).collect();
        for block in blocks {
            for (total, v) in self.exact_dense.iter_mut().zip(block) {
                *total += v;
            }
        }
        for (copy, &sum) in self.dense.iter_mut().zip(&self.exact_dense) {
            *copy = sum as f32;
        }
    }
}

fn add(sums: &mut [i64], rows: &Rows<'_>, moves: &[(u32, i64)], scale: f32) {
    for &(p, sign) in moves {
        for (f, v) in rows.row(p as usize).iter() {
            sums[f as usize] += sign * (v * scale) as i64;
        }
    }
}

/// The finest unit in which the sum of `num_rows` values of at most `largest` cannot overflow.
pub(super) fn scale_for(largest: f32, num_rows: usize) -> f32 {
    let bits = 62 - i64::from(num_rows.max(1).ilog2()) - 1;
    let exponent = if largest > 0.0 { i64::from(largest.log2().ceil() as i32) } else { 0 };
    2f32.powi((bits - exponent).clamp(-120, 120) as i32)
}
