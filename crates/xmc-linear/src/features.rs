//! What a row (or a label) looks like: sparse features, and a dense block beside them.
//!
//! The two parts are one feature space: ids `0..sparse.cols()` are sparse, the dense columns follow. XR-Transformer
//! ranks on `[tf-idf | embedding]`; keeping the embedding dense halves its bytes and lets products vectorise.

use std::sync::Arc;

use xmc_data::{Csr, Dense, Error, Result};

/// Sparse features `[n, d_sparse]` with an optional dense block `[n, d_dense]` to their right. The sparse ones are shared:
/// a clone, or the same rows with another dense block, does not copy them.
#[derive(Clone, Debug)]
pub struct Features {
    sparse: Arc<Csr>,
    dense: Option<Dense>,
}

impl Features {
    /// Puts the two parts side by side.
    pub fn new(sparse: impl Into<Arc<Csr>>, dense: Option<Dense>) -> Result<Self> {
        let sparse = sparse.into();
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

    /// The same sparse part with `dense` beside it, in place of what stands there.
    pub fn beside(&self, dense: Dense) -> Result<Self> {
        Features::new(Arc::clone(&self.sparse), Some(dense))
    }

    /// The dense part.
    pub fn dense(&self) -> Option<&Dense> {
        self.dense.as_ref()
    }

    /// The two parts themselves.
    pub fn into_parts(self) -> (Csr, Option<Dense>) {
        (Arc::unwrap_or_clone(self.sparse), self.dense)
    }

    /// Dense part of row `i`; empty without one.
    pub fn dense_row(&self, i: usize) -> &[f32] {
        self.dense.as_ref().map_or(&[], |d| d.row(i))
    }
}

impl From<Csr> for Features {
    fn from(sparse: Csr) -> Self {
        Features { sparse: Arc::new(sparse), dense: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_dense_block_stands_beside_the_same_sparse_rows() {
        let x = Features::from(Csr::empty(2, 3));
        let both = x.beside(Dense::new(2, 1, vec![0.5, 2.0]).unwrap()).unwrap();
        assert!(std::ptr::eq(x.sparse(), both.sparse()));
        assert_eq!((both.cols(), both.dense_row(1)), (4, &[2.0][..]));
        assert!(x.beside(Dense::new(1, 1, vec![0.5]).unwrap()).is_err());
    }
}
