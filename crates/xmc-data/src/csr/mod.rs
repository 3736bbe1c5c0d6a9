//! The one sparse matrix: compressed rows, `u32` column ids, `f32` values.
//!
//! Invariants, checked where data enters: `indptr` starts at 0 and never falls, ids within a row rise strictly and
//! are below `cols`, values are finite. Rows may be empty; explicit zeros are allowed.
//!
//! ```
//! use xmc_data::Csr;
//! let m = Csr::new(2, 3, vec![0, 2, 2], vec![0, 2], vec![1.0, 4.0]).unwrap();
//! assert_eq!(m.row(0).iter().collect::<Vec<_>>(), [(0, 1.0), (2, 4.0)]);
//! assert!(m.row(1).is_empty());
//! assert_eq!(m.transpose().row(2).iter().collect::<Vec<_>>(), [(0, 4.0)]);
//! ```

mod builder;
mod file;
mod ops;

pub use builder::CsrBuilder;

use crate::buffer::Buffer;
use crate::error::{Error, Result};

/// A sparse matrix `[rows, cols]`; see the [module](self) for its invariants.
#[derive(Clone, Debug)]
pub struct Csr {
    rows: usize,
    cols: usize,
    indptr: Buffer<u64>,
    indices: Buffer<u32>,
    values: Buffer<f32>,
}

/// One row: column ids in rising order and their values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// Column ids, strictly rising.
    pub indices: &'a [u32],
    /// Values, one for each id.
    pub values: &'a [f32],
}

impl<'a> Row<'a> {
    /// Number of stored entries.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// True if nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// `(column, value)` in rising column order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, f32)> + use<'a> {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    /// Value at a column, 0 where nothing is stored.
    pub fn get(&self, column: u32) -> f32 {
        self.indices.binary_search(&column).map_or(0.0, |at| self.values[at])
    }

    /// Euclidean norm, accumulated in f64.
    pub fn norm(&self) -> f32 {
        self.values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32
    }
}

impl Csr {
    /// Takes the three arrays after checking every invariant.
    pub fn new(
        rows: usize,
        cols: usize,
        indptr: impl Into<Buffer<u64>>,
        indices: impl Into<Buffer<u32>>,
        values: impl Into<Buffer<f32>>,
    ) -> Result<Self> {
        let m = Csr { rows, cols, indptr: indptr.into(), indices: indices.into(), values: values.into() };
        m.check()?;
        Ok(m)
    }

    /// Takes arrays that the caller built to satisfy the invariants; checked in debug builds only.
    pub(crate) fn from_checked(
        rows: usize,
        cols: usize,
        indptr: Vec<u64>,
        indices: Vec<u32>,
        values: Vec<f32>,
    ) -> Self {
        let m = Csr { rows, cols, indptr: indptr.into(), indices: indices.into(), values: values.into() };
        debug_assert!(m.check().is_ok());
        m
    }

    /// A matrix without entries.
    pub fn empty(rows: usize, cols: usize) -> Self {
        Csr::from_checked(rows, cols, vec![0; rows + 1], Vec::new(), Vec::new())
    }

    fn check(&self) -> Result<()> {
        let shape = |problem: String| Err(Error::Shape(problem));
        if self.cols > u32::MAX as usize {
            return shape(format!("{} columns: at most {} are supported", self.cols, u32::MAX));
        }
        // The number of rows may come from a damaged file: adding one to it must not overflow.
        if self.indptr.len().checked_sub(1) != Some(self.rows) || self.indptr.first() != Some(&0) {
            let numbers = self.rows.saturating_add(1);
            return shape(format!("row offsets must be {numbers} numbers that start at 0"));
        }
        let stored = self.indptr.last().copied().unwrap_or(0);
        if stored != self.indices.len() as u64 || self.indices.len() != self.values.len() {
            let (i, v) = (self.indices.len(), self.values.len());
            return shape(format!(
                "row offsets end at {stored}, but there are {i} column ids and {v} values"
            ));
        }
        if let Some(i) = self.indptr.windows(2).position(|w| w[0] > w[1]) {
            return shape(format!("row {i}: its offset {} is past that of the next row", self.indptr[i]));
        }
        for i in 0..self.rows {
            let row = self.row(i);
            if let Some(&[a, b]) = row.indices.array_windows().find(|[a, b]| a >= b) {
                return shape(format!("row {i}: column {b} follows {a}; ids must rise strictly"));
            }
            if row.indices.last().is_some_and(|&c| c as usize >= self.cols) {
                let last = row.indices[row.len() - 1];
                return shape(format!("row {i}: column {last} is outside the {} columns", self.cols));
            }
            if let Some(v) = row.values.iter().find(|v| !v.is_finite()) {
                return shape(format!("row {i}: value {v} is not a finite number"));
            }
        }
        Ok(())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of stored entries.
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// Row offsets, `[rows + 1]`.
    pub fn indptr(&self) -> &[u64] {
        &self.indptr
    }

    /// Column ids of all rows, `[nnz]`.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// Values of all rows, `[nnz]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Values of all rows for changing in place; a mapped matrix is copied first.
    pub fn values_mut(&mut self) -> &mut [f32] {
        if let Buffer::Mapped(_) = self.values {
            self.values = Buffer::Owned(self.values.to_vec());
        }
        match &mut self.values {
            Buffer::Owned(values) => values,
            Buffer::Mapped(_) => &mut [],
        }
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i >= rows()`.
    pub fn row(&self, i: usize) -> Row<'_> {
        let range = self.indptr[i] as usize..self.indptr[i + 1] as usize;
        Row { indices: &self.indices[range.clone()], values: &self.values[range] }
    }

    /// All rows, top to bottom.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.rows).map(|i| self.row(i))
    }

    /// Bytes of the three arrays.
    pub fn bytes(&self) -> u64 {
        8 * self.indptr.len() as u64 + 8 * self.nnz() as u64
    }
}

impl PartialEq for Csr {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, self.cols) == (other.rows, other.cols)
            && self.indptr[..] == other.indptr[..]
            && self.indices[..] == other.indices[..]
            && self.values[..] == other.values[..]
    }
}
