//! A dense matrix in row-major order: embeddings.

use crate::buffer::Buffer;
use crate::error::{Error, Result};

/// `[rows, cols]` f32, row after row.
#[derive(Clone, Debug)]
pub struct Dense {
    rows: usize,
    cols: usize,
    values: Buffer<f32>,
}

impl Dense {
    /// Takes `rows * cols` finite values.
    pub fn new(rows: usize, cols: usize, values: impl Into<Buffer<f32>>) -> Result<Self> {
        let values = values.into();
        if rows.checked_mul(cols) != Some(values.len()) {
            return Err(Error::Shape(format!(
                "{} values do not fill a {rows} x {cols} matrix",
                values.len()
            )));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::Shape(format!(
                "row {}: value {} is not a finite number",
                at / cols,
                values[at]
            )));
        }
        Ok(Dense { rows, cols, values })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`, `[cols]`.
    ///
    /// # Panics
    /// If `i >= rows()`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.cols..(i + 1) * self.cols]
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}
