//! Building a matrix row by row.

use super::Csr;
use crate::error::{Error, Result};

/// Collects rows; ids may come unsorted and repeated.
#[derive(Debug)]
pub struct CsrBuilder {
    indptr: Vec<u64>,
    indices: Vec<u32>,
    values: Vec<f32>,
    /// One past the largest column seen.
    width: usize,
    scratch: Vec<(u32, f32)>,
}

impl Default for CsrBuilder {
    fn default() -> Self {
        CsrBuilder { indptr: vec![0], indices: Vec::new(), values: Vec::new(), width: 0, scratch: Vec::new() }
    }
}

impl CsrBuilder {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a row; entries of the same column are added up.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        self.scratch.clear();
        self.scratch.extend(row);
        // A stable sort: equal columns are added in the order given, so the sum has one value.
        self.scratch.sort_by_key(|&(c, _)| c);
        let start = self.indices.len();
        for &(c, v) in &self.scratch {
            if self.indices.len() > start && self.indices.last() == Some(&c) {
                if let Some(last) = self.values.last_mut() {
                    *last += v;
                }
            } else {
                self.indices.push(c);
                self.values.push(v);
            }
        }
        self.width = self.width.max(self.indices[start..].last().map_or(0, |&c| c as usize + 1));
        self.indptr.push(self.indices.len() as u64);
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.indptr.len() - 1
    }

    /// One past the largest column id seen so far.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The matrix with `cols` columns; an error if a row went past them or holds a value that is not finite.
    pub fn finish(self, cols: usize) -> Result<Csr> {
        if self.width > cols {
            return Err(Error::Shape(format!("column {} is outside the {cols} columns", self.width - 1)));
        }
        Csr::new(self.rows(), cols, self.indptr, self.indices, self.values)
    }
}
