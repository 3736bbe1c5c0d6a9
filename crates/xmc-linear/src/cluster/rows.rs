//! The rows of one group of labels.
//!
//! A huge group is a list of rows of the whole matrix. Any other has its own copy: features are renumbered, the most
//! frequent first, so that centroids are short arrays whose busy part stays in the first-level cache, and a feature
//! that only one row of the group has is dropped. Such a feature meets nothing but itself, so all that k-means needs of
//! it is its square: `own`.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use xmc_data::{Csr, Dense, Row};

use super::compact::Compact;
use super::dot::{dot, gather};
use super::sums::Units;
use crate::features::Features;

/// Rows a parallel task works on.
const ROWS_PER_TASK: usize = 1024;
/// Work below this many entries is not divided.
pub(super) const PARALLEL_ENTRIES: usize = 1 << 16;

/// The rows of a group, in rising order of label ids.
pub(super) struct Rows<'a> {
    ids: Vec<u32>,
    sparse: Sparse<'a>,
    dense: Option<&'a Dense>,
    /// Sum of the sparse parts in [`Units`], by feature.
    total: Vec<i64>,
}

enum Sparse<'a> {
    /// Rows `ids` of the matrix.
    View(&'a Csr),
    Compact(Compact),
}

impl<'a> Rows<'a> {
    /// All rows of `z`, as a compact copy if they have at most `most_compact` entries.
    pub(super) fn all(z: &'a Features, units: Units, most_compact: usize) -> Self {
        let mut total = vec![0; z.sparse().cols()];
        for (&f, &v) in z.sparse().indices().iter().zip(z.sparse().values()) {
            total[f as usize] += units.of(v);
        }
        let positions: Vec<u32> = (0..z.rows() as u32).collect();
        let view = Rows {
            ids: positions.clone(),
            sparse: Sparse::View(z.sparse()),
            dense: z.dense(),
            total: Vec::new(),
        };
        view.select(&positions, total, most_compact)
    }

    /// The rows at `positions`, whose sum is `total`. A view with more than `most_compact` entries stays a view.
    pub(super) fn select(&self, positions: &[u32], total: Vec<i64>, most_compact: usize) -> Self {
        let ids = positions.iter().map(|&p| self.ids[p as usize]).collect();
        let row = |p: u32| self.row(p as usize);
        let (compact, kept) = match &self.sparse {
            Sparse::View(matrix) => {
                if positions.iter().map(|&p| row(p).len()).sum::<usize>() > most_compact {
                    return Rows { ids, sparse: Sparse::View(matrix), dense: self.dense, total };
                }
                Compact::new(positions, row, |_| 0.0, matrix.cols(), true)
            }
            // Numbered by frequency once, which stays about right in smaller groups.
            Sparse::Compact(c) => {
                Compact::new(positions, row, |p| c.own(p as usize), c.num_features(), false)
            }
        };
        let total = kept.iter().map(|&f| total[f as usize]).collect();
        Rows { ids, sparse: Sparse::Compact(compact), dense: self.dense, total }
    }

    /// m, the number of rows.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Labels, rising.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Copies the labels at `positions`.
    pub(super) fn copy_ids(&self, positions: &[u32], into: &mut [u32]) {
        for (slot, &p) in into.iter_mut().zip(positions) {
            *slot = self.ids[p as usize];
        }
    }

    /// Sum of the sparse parts of all rows in [`Units`], by feature.
    pub(super) fn total(&self) -> &[i64] {
        &self.total
    }

    /// Number of dense features.
    pub(super) fn dense_cols(&self) -> usize {
        self.dense.map_or(0, Dense::cols)
    }

    /// Sparse part of the row at position `p`.
    pub(super) fn row(&self, p: usize) -> Row<'_> {
        match &self.sparse {
            Sparse::View(matrix) => matrix.row(self.ids[p] as usize),
            Sparse::Compact(compact) => compact.row(p),
        }
    }

    /// Dense part of the row at position `p`.
    pub(super) fn dense_row(&self, p: usize) -> &[f32] {
        self.dense.map_or(&[], |dense| dense.row(self.ids[p] as usize))
    }

    /// Sum of squares of the features that only the row at position `p` has.
    pub(super) fn own(&self, p: usize) -> f32 {
        match &self.sparse {
            Sparse::View(_) => 0.0,
            Sparse::Compact(compact) => compact.own(p),
        }
    }

    /// `<sparse, z_i> + <dense, z_i>` for every row, without its own features.
    pub(super) fn products(&self, sparse: &[f32], dense: &[f32], out: &mut [f32]) {
        let fill = |start: usize, out: &mut [f32]| {
            match &self.sparse {
                Sparse::View(_) => {
                    for (i, slot) in out.iter_mut().enumerate() {
                        *slot = gather(self.row(start + i), sparse);
                    }
                }
                Sparse::Compact(compact) => compact.products(start, sparse, out),
            }
            if !dense.is_empty() {
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot += dot(self.dense_row(start + i), dense);
                }
            }
        };
        let entries = match &self.sparse {
            Sparse::View(_) => PARALLEL_ENTRIES,
            Sparse::Compact(compact) => compact.entries(),
        };
        if entries + self.len() * dense.len() < PARALLEL_ENTRIES {
            return fill(0, out);
        }
        out.par_chunks_mut(ROWS_PER_TASK).enumerate().for_each(|(task, out)| fill(task * ROWS_PER_TASK, out));
    }
}
