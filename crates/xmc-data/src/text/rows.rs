//! Rows that parallel tasks make on their own, put together to one matrix.

use crate::csr::Csr;

/// Some consecutive rows, each with rising columns.
#[derive(Default)]
pub(super) struct Rows {
    /// Where each row ends in `indices` and `values`.
    pub(super) ends: Vec<usize>,
    pub(super) indices: Vec<u32>,
    pub(super) values: Vec<f32>,
}

impl Rows {
    /// Appends a row.
    pub(super) fn push(&mut self, row: impl Iterator<Item = (u32, f32)>) {
        for (column, value) in row {
            self.indices.push(column);
            self.values.push(value);
        }
        self.ends.push(self.indices.len());
    }

    /// All rows of all parts in order, as a matrix with `cols` columns; each part is freed once it is copied.
    pub(super) fn join(parts: Vec<Rows>, cols: usize) -> Csr {
        let rows: usize = parts.iter().map(|p| p.ends.len()).sum();
        let stored: usize = parts.iter().map(|p| p.indices.len()).sum();
        let mut indptr = Vec::with_capacity(rows + 1);
        indptr.push(0);
        let (mut indices, mut values) = (Vec::with_capacity(stored), Vec::with_capacity(stored));
        for part in parts {
            let before = indices.len();
            indptr.extend(part.ends.iter().map(|end| (before + end) as u64));
            indices.extend_from_slice(&part.indices);
            values.extend_from_slice(&part.values);
        }
        Csr::from_checked(rows, cols, indptr, indices, values)
    }
}
