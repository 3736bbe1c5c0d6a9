//! What a row (or a label) looks like: sparse features, and a dense block beside them.
//!
//! The two parts are one feature space: ids `0..sparse.cols()` are sparse, the dense columns follow. XR-Transformer
//! ranks on `[tf-idf | embedding]`; keeping the embedding dense halves its bytes and lets products vectorise.

use xmc_data::{Csr, Dense, Error, Result};

/// Sparse features `[n, d_sparse]` with an optional dense block `[n, d_dense]` to their right.
#[derive(Clone, Debug)]
pub struct Features {
    sparse: Csr,
    dense: Option<Dense>,
}

impl Features {
    /// Puts the two parts side by side.
    pub fn new(sparse: Csr, dense: Option<Dense>) -> Result<Self> {
        if let Some(dense) = &dense
            && dense.rows() != sparse.rows()
        {
            let (a, b) = (sparse.rows(), dense.rows());
            return Err(Error::Shape(format!("{a} rows of sparse features beside {b} rows of dense ones")));
        }
        Ok(Features { sparse, dense })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.sparse.rows()
    }

    /// Number of features of both parts.
    pub fn cols(&self) -> usize {
        self.sparse.cols() + self.dense_cols()
    }

    /// Number of dense features, 0 without a dense part.
    pub fn dense_cols(&self) -> usize {
        self.dense.as_ref().map_or(0, Dense::cols)
    }

    /// The sparse part.
    pub fn sparse(&self) -> &Csr {
        &self.sparse
    }

    /// The dense part.
    pub fn dense(&self) -> Option<&Dense> {
        self.dense.as_ref()
    }

    /// The two parts themselves.
    pub fn into_parts(self) -> (Csr, Option<Dense>) {
        (self.sparse, self.dense)
    }

    /// Dense part of row `i`; empty without one.
    pub fn dense_row(&self, i: usize) -> &[f32] {
        self.dense.as_ref().map_or(&[], |d| d.row(i))
    }
}

impl From<Csr> for Features {
    fn from(sparse: Csr) -> Self {
        Features { sparse, dense: None }
    }
}
