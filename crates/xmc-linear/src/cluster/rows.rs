//! The rows of one group of labels.
//!
//! A large group is a list of rows of the whole matrix. A small one has its own copy: features are renumbered so that
//! centroids are short arrays that stay in the cache, and a feature that only one row of the group has is dropped.
//! Such a feature meets nothing but itself, so all that k-means needs of it is its square: `own`.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use xmc_data::{Csr, Dense, Row};

use crate::features::Features;

/// Rows a parallel task works on.
const ROWS_PER_TASK: usize = 1024;
/// Work below this many entries is not divided.
pub(super) const PARALLEL_ENTRIES: usize = 1 << 16;
/// A dropped feature.
const DROPPED: u32 = u32::MAX;

/// The rows of a group, in rising order of label ids.
pub(super) struct Rows<'a> {
    ids: Vec<u32>,
    sparse: Sparse<'a>,
    dense: Option<&'a Dense>,
}

enum Sparse<'a> {
    /// Rows `ids` of the matrix.
    View(&'a Csr),
    Compact(Compact),
}

/// A copy without the features that only one row has.
struct Compact {
    /// Row offsets, `[m + 1]`.
    ends: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
    /// Sum of squares of the dropped features of each row.
    own: Vec<f32>,
    num_features: usize,
}

impl<'a> Rows<'a> {
    /// All rows of `z`.
    pub(super) fn all(z: &'a Features) -> Self {
        Rows { ids: (0..z.rows() as u32).collect(), sparse: Sparse::View(z.sparse()), dense: z.dense() }
    }

    /// The same rows as a compact copy.
    pub(super) fn select_all(&self) -> Self {
        self.compact(&(0..self.len() as u32).collect::<Vec<_>>())
    }

    /// The rows at `positions`, still as a view if this is one.
    pub(super) fn view(&self, positions: &[u32]) -> Self {
        match self.sparse {
            Sparse::View(matrix) => Rows {
                ids: positions.iter().map(|&p| self.ids[p as usize]).collect(),
                sparse: Sparse::View(matrix),
                dense: self.dense,
            },
            Sparse::Compact(_) => self.compact(positions),
        }
    }

    /// The rows at `positions` with renumbered features.
    pub(super) fn compact(&self, positions: &[u32]) -> Self {
        // How many of the rows have each feature; then its new number.
        let mut number = vec![0u32; self.num_features()];
        for &p in positions {
            for &f in self.row(p as usize).indices {
                number[f as usize] += 1;
            }
        }
        let (mut num_features, mut kept) = (0, 0);
        for count in &mut number {
            let shared = *count > 1;
            kept += if shared { *count as usize } else { 0 };
            *count = if shared { num_features } else { DROPPED };
            num_features += u32::from(shared);
        }
        let ids = positions.iter().map(|&p| self.ids[p as usize]).collect();
        let sparse = Sparse::Compact(self.renumbered(positions, &number, num_features as usize, kept));
        Rows { ids, sparse, dense: self.dense }
    }

    fn renumbered(&self, positions: &[u32], number: &[u32], num_features: usize, kept: usize) -> Compact {
        // One entry more than kept: a dropped entry is written too, and overwritten by the next.
        let (mut indices, mut values) = (vec![0u32; kept + 1], vec![0f32; kept + 1]);
        let mut ends = Vec::with_capacity(positions.len() + 1);
        let mut own = Vec::with_capacity(positions.len());
        let mut at = 0;
        ends.push(0);
        for &p in positions {
            let mut dropped = self.own(p as usize);
            for (f, v) in self.row(p as usize).iter() {
                let new = number[f as usize];
                indices[at] = new;
                values[at] = v;
                at += usize::from(new != DROPPED);
                dropped += if new == DROPPED { v * v } else { 0.0 };
            }
            ends.push(at);
            own.push(dropped);
        }
        indices.truncate(kept);
        values.truncate(kept);
        Compact { ends, indices, values, own, num_features }
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
            Sparse::Compact(compact) => compact.num_features,
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
            Sparse::Compact(c) => {
                let range = c.ends[p]..c.ends[p + 1];
                Row { indices: &c.indices[range.clone()], values: &c.values[range] }
            }
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
            Sparse::Compact(compact) => compact.own[p],
        }
    }

    /// Number of stored sparse entries.
    pub(super) fn entries(&self) -> usize {
        match &self.sparse {
            Sparse::View(matrix) => self.ids.iter().map(|&id| matrix.row(id as usize).len()).sum(),
            Sparse::Compact(compact) => compact.indices.len(),
        }
    }

    /// Number of stored sparse entries of the rows at `positions`.
    pub(super) fn entries_of(&self, positions: &[u32]) -> usize {
        positions.iter().map(|&p| self.row(p as usize).len()).sum()
    }

    /// `<sparse, z_i> + <dense, z_i>` for every row, without its own features.
    pub(super) fn products(&self, sparse: &[f32], dense: &[f32], out: &mut [f32]) {
        let fill = |start: usize, out: &mut [f32]| {
            for (i, slot) in out.iter_mut().enumerate() {
                let row = self.row(start + i);
                *slot = gather(row.indices, row.values, sparse) + dot(self.dense_row(start + i), dense);
            }
        };
        if self.entries() + self.len() * self.dense_cols() < PARALLEL_ENTRIES {
            return fill(0, out);
        }
        out.par_chunks_mut(ROWS_PER_TASK).enumerate().for_each(|(task, out)| fill(task * ROWS_PER_TASK, out));
    }
}

/// Sum of `values[j] * dense[indices[j]]` in four running sums.
fn gather(indices: &[u32], values: &[f32], dense: &[f32]) -> f32 {
    let mut sums = [0f32; 4];
    let (ids, values) = (indices.chunks_exact(4), values.chunks_exact(4));
    let tail = ids.remainder().iter().zip(values.remainder());
    let rest: f32 = tail.map(|(&f, &v)| v * dense[f as usize]).sum();
    for (ids, values) in ids.zip(values) {
        for lane in 0..4 {
            sums[lane] += values[lane] * dense[ids[lane] as usize];
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + rest
}

/// `<a, b>` in sixteen running sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
