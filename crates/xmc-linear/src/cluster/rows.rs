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
use crate::features::Features;

/// Groups of at most this many entries (half a gigabyte) get a compact copy of their rows.
const COMPACT_ENTRIES: usize = 1 << 26;
/// Groups of at most this part of all entries do in any case.
const COMPACT_SHARE: usize = 8;
/// Rows a parallel task works on.
const ROWS_PER_TASK: usize = 1024;
/// Work below this many entries is not divided.
pub(super) const PARALLEL_ENTRIES: usize = 1 << 16;

/// The rows of a group, in rising order of label ids.
pub(super) struct Rows<'a> {
    ids: Vec<u32>,
    sparse: Sparse<'a>,
    dense: Option<&'a Dense>,
    /// A view of at most this many entries is copied.
    most_compact: usize,
}

enum Sparse<'a> {
    /// Rows `ids` of the matrix.
    View(&'a Csr),
    Compact(Compact),
}

impl<'a> Rows<'a> {
    /// All rows of `z`, as a view.
    pub(super) fn all(z: &'a Features) -> Self {
        Rows {
            ids: (0..z.rows() as u32).collect(),
            sparse: Sparse::View(z.sparse()),
            dense: z.dense(),
            most_compact: (z.sparse().nnz() / COMPACT_SHARE).max(COMPACT_ENTRIES),
        }
    }

    /// The rows at `positions`; if features were renumbered, also their numbers here.
    pub(super) fn select(&self, positions: &[u32]) -> (Self, Option<Vec<u32>>) {
        let ids = positions.iter().map(|&p| self.ids[p as usize]).collect();
        let (dense, most_compact) = (self.dense, self.most_compact);
        let row = |p: u32| self.row(p as usize);
        let (compact, kept) = match &self.sparse {
            Sparse::View(matrix) => {
                if positions.iter().map(|&p| row(p).len()).sum::<usize>() > most_compact {
                    return (Rows { ids, sparse: Sparse::View(matrix), dense, most_compact }, None);
                }
                Compact::new(positions, row, |_| 0.0, matrix.cols(), true)
            }
            // Numbered by frequency once, which stays about right in smaller groups.
            Sparse::Compact(c) => {
                Compact::new(positions, row, |p| c.own(p as usize), c.num_features(), false)
            }
        };
        (Rows { ids, sparse: Sparse::Compact(compact), dense, most_compact }, Some(kept))
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

    /// Number of sparse features.
    pub(super) fn num_features(&self) -> usize {
        match &self.sparse {
            Sparse::View(matrix) => matrix.cols(),
            Sparse::Compact(compact) => compact.num_features(),
        }
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
