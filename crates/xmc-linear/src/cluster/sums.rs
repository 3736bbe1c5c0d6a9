//! The running sum of the rows on one side of a group.
//!
//! Sparse features are summed as integers in units of a fixed power of two. Integer addition has no rounding and no
//! order, so rows can be added and taken away any number of times, by any number of threads, with the same bits. A copy in
//! f32 is kept for multiplying. Dense features are summed in f64, over fixed blocks of rows and in their order.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rayon::slice::ParallelSlice;
use xmc_data::Csr;

use super::rows::{PARALLEL_ENTRIES, Rows};

/// Rows whose dense parts are added up before they join the sum.
const DENSE_BLOCK: usize = 512;

/// The power of two that is the integer 1.
#[derive(Clone, Copy)]
pub(super) struct Units {
    per_one: f32,
}

impl Units {
    /// The finest unit in which the sum of `num_rows` values of at most `largest` cannot overflow.
    pub(super) fn new(largest: f32, num_rows: usize) -> Self {
        let bits = 61 - num_rows.max(1).ilog2().cast_signed();
        let exponent = if largest > 0.0 { largest.log2().ceil() as i32 } else { 0 };
        Units { per_one: 2f32.powi((bits - exponent).clamp(-120, 120)) }
    }

    /// A value as an integer.
    pub(super) fn of(self, value: f32) -> i64 {
        (value * self.per_one) as i64
    }

    /// Sum of all rows, by feature.
    pub(super) fn sum(self, rows: &Csr) -> Vec<i64> {
        let mut sum = vec![0; rows.cols()];
        for (&f, &v) in rows.indices().iter().zip(rows.values()) {
            sum[f as usize] += self.of(v);
        }
        sum
    }

    fn value(self, sum: i64) -> f32 {
        sum as f32 / self.per_one
    }
}

/// A sum of rows of one group.
pub(super) struct Sums {
    /// Sparse features, in units.
    exact: Vec<i64>,
    sparse: Vec<f32>,
    exact_dense: Vec<f64>,
    dense: Vec<f32>,
    units: Units,
}

impl Sums {
    /// The sum of all rows, whose sparse part is `total`.
    pub(super) fn of_all(rows: &Rows<'_>, total: &[i64], units: Units) -> Self {
        let mut sums = Sums {
            exact: total.to_vec(),
            sparse: total.iter().map(|&sum| units.value(sum)).collect(),
            exact_dense: vec![0.0; rows.dense_cols()],
            dense: vec![0.0; rows.dense_cols()],
            units,
        };
        sums.apply_dense(rows, &(0..rows.len() as u32).map(|p| (p, 1)).collect::<Vec<_>>());
        sums
    }

    /// The sum of the sparse parts in units.
    pub(super) fn into_exact(self) -> Vec<i64> {
        self.exact
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
            add(&mut self.exact, rows, moves, self.units);
        } else {
            let parts: Vec<Vec<i64>> = moves
                .par_chunks(moves.len().div_ceil(threads))
                .map(|moves| {
                    let mut part = vec![0; self.exact.len()];
                    add(&mut part, rows, moves, self.units);
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
        if entries > self.exact.len() {
            for (copy, &sum) in self.sparse.iter_mut().zip(&self.exact) {
                *copy = self.units.value(sum);
            }
            return;
        }
        for &(p, _) in moves {
            for &f in rows.row(p as usize).indices {
                self.sparse[f as usize] = self.units.value(self.exact[f as usize]);
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

fn add(sums: &mut [i64], rows: &Rows<'_>, moves: &[(u32, i64)], units: Units) {
    for &(p, sign) in moves {
        for (f, v) in rows.row(p as usize).iter() {
            sums[f as usize] += sign * units.of(v);
        }
    }
}
