//! Which rows and features does one parent's training see? A compact copy of its own. (spec: XR-Linear, 9 rows 4-6)
//!
//! A parent deep in the tree has a few hundred rows with a few thousand features out of millions. Renumbering both
//! gives weights that fit the second-level cache and no scan over features that do not occur. Local feature ids run
//! by falling frequency, so the hot weights are neighbours.
//!
//! Dense rows stay where they are: each is a run of memory already, and a copy for the root would be as large as the whole
//! block.

use crate::features::Features;
use crate::prefetch::prefetch;

/// Cache lines of a dense row that are asked for in advance.
const DENSE_LINES: usize = 24;

/// Rows of one parent, renumbered.
#[derive(Debug)]
pub struct SubProblem<'a> {
    /// `[rows + 1]`
    indptr: Vec<usize>,
    /// Local feature ids, each below `global.len()`; the solver's kernels rely on it.
    features: Vec<u32>,
    values: Vec<f32>,
    /// Local to global feature id, sparse features only.
    global: Vec<u32>,
    x: &'a Features,
    /// Rows of `x`.
    rows: &'a [u32],
    /// Squared norms of the rows.
    norms2: Vec<f32>,
    /// Rows that train every child; those behind are positives of single children only.
    matched: usize,
}

/// What `SubProblem::new` needs once per thread: numbers per feature, all zero between uses.
#[derive(Debug)]
pub struct Renumbering {
    /// Count of a feature, then its local id + 1.
    counts: Vec<u32>,
}

impl Renumbering {
    /// For matrices with `cols` sparse features.
    pub fn new(cols: usize) -> Self {
        Renumbering { counts: vec![0; cols] }
    }
}

impl<'a> SubProblem<'a> {
    /// Copies the sparse part of `rows` of `x`; the first `matched` of them train every child.
    pub fn new(x: &'a Features, rows: &'a [u32], matched: usize, renumbering: &mut Renumbering) -> Self {
        let counts = &mut renumbering.counts;
        let mut global = Vec::new();
        let mut nnz = 0;
        for &r in rows {
            let row = x.sparse().row(r as usize);
            nnz += row.len();
            for &f in row.indices {
                let count = &mut counts[f as usize];
                if *count == 0 {
                    global.push(f);
                }
                *count += 1;
            }
        }
        global.sort_unstable_by_key(|&f| (u32::MAX - counts[f as usize], f));
        for (local, &f) in global.iter().enumerate() {
            counts[f as usize] = local as u32 + 1;
        }
        let mut indptr = Vec::with_capacity(rows.len() + 1);
        indptr.push(0);
        let (mut features, mut values) = (Vec::with_capacity(nnz), Vec::with_capacity(nnz));
        let mut norms2 = Vec::with_capacity(rows.len());
        for &r in rows {
            let (row, block) = (x.sparse().row(r as usize), x.dense_row(r as usize));
            features.extend(row.indices.iter().map(|&f| counts[f as usize] - 1));
            values.extend_from_slice(row.values);
            indptr.push(features.len());
            norms2.push(row.values.iter().chain(block).map(|v| v * v).sum());
        }
        for &f in &global {
            counts[f as usize] = 0;
        }
        SubProblem { indptr, features, values, global, x, rows, norms2, matched }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.norms2.len()
    }

    /// How many rows, from the first, train every child.
    pub fn matched(&self) -> usize {
        self.matched
    }

    /// Local features, sparse and dense.
    pub fn features(&self) -> usize {
        self.global.len() + self.x.dense_cols()
    }

    /// Local sparse features; the dense ones have the ids behind them.
    pub fn sparse_features(&self) -> usize {
        self.global.len()
    }

    /// Global id of a local sparse feature.
    pub fn global(&self) -> &[u32] {
        &self.global
    }

    /// Local features and values of row `i`.
    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let range = self.indptr[i]..self.indptr[i + 1];
        (&self.features[range.clone()], &self.values[range])
    }

    /// Asks for row `i` before it is needed; a row of tf-idf has some forty entries, which are three cache lines. Of a
    /// dense row the beginning is enough: the processor sees where it goes on.
    #[inline(always)]
    pub(crate) fn prefetch(&self, i: usize) {
        for line in 0..3 {
            prefetch(&self.features, self.indptr[i] + line * 16);
            prefetch(&self.values, self.indptr[i] + line * 16);
        }
        let dense = self.dense_row(i);
        for line in 0..DENSE_LINES {
            prefetch(dense, line * 16);
        }
    }

    /// Dense block of row `i`.
    #[inline(always)]
    pub(crate) fn dense_row(&self, i: usize) -> &[f32] {
        self.x.dense_row(self.rows[i] as usize)
    }

    /// |x_i|^2.
    #[inline(always)]
    pub(crate) fn norm2(&self, i: usize) -> f32 {
        self.norms2[i]
    }

    /// Bytes that training this parent takes at its peak, from its rows and entries: the copy of the sparse part, sixteen
    /// lanes of dual variables per row and of weights per feature.
    pub fn bytes(rows: u64, nnz: u64, features: u64, dense_cols: u64) -> u64 {
        rows * (16 + 136) + 8 * nnz + features * 68 + 64 * dense_cols
    }
}
