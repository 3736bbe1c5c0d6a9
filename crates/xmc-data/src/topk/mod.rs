//! Predictions: for every row its best labels with scores; [`ensemble`] merges those of several models.

pub mod ensemble;

use std::cmp::Ordering;

use crate::csr::Csr;
use crate::error::Result;
use crate::labels::LabelId;

/// Order of predictions everywhere: higher score first, then lower id; NaN last.
pub fn by_score(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    let (x, y) = (
        if a.1.is_nan() { f32::NEG_INFINITY } else { a.1 },
        if b.1.is_nan() { f32::NEG_INFINITY } else { b.1 },
    );
    y.total_cmp(&x).then(a.0.cmp(&b.0))
}

/// Rows of `(label, score)`, best first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopK {
    /// `[n + 1]`
    indptr: Vec<u64>,
    entries: Vec<(u32, f32)>,
}

impl TopK {
    /// No rows yet.
    pub fn new() -> Self {
        TopK { indptr: vec![0], entries: Vec::new() }
    }

    /// Appends a row that is in the order its producer ranked it.
    pub fn push_ranked(&mut self, row: &[(u32, f32)]) {
        if self.indptr.is_empty() {
            self.indptr.push(0);
        }
        self.entries.extend_from_slice(row);
        self.indptr.push(self.entries.len() as u64);
    }

    /// Sorts and appends a row.
    pub fn push(&mut self, row: &mut [(u32, f32)]) {
        row.sort_unstable_by(by_score);
        self.push_ranked(row);
    }

    /// Appends the rows of `other` below these.
    pub fn append(&mut self, other: &TopK) {
        for i in 0..other.rows() {
            self.push_ranked(other.row(i));
        }
    }

    /// Number of rows n.
    pub fn rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// Number of predictions of the longest row.
    pub fn longest(&self) -> usize {
        self.indptr.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0) as usize
    }

    /// Predictions of row `i`, best first.
    ///
    /// # Panics
    /// If `i >= rows()`.
    pub fn row(&self, i: usize) -> &[(u32, f32)] {
        &self.entries[self.indptr[i] as usize..self.indptr[i + 1] as usize]
    }

    /// Row `i` with typed ids.
    pub fn labels(&self, i: usize) -> impl Iterator<Item = (LabelId, f32)> + '_ {
        self.row(i).iter().map(|&(l, s)| (LabelId(l), s))
    }

    /// The scores as a sparse matrix `[n, num_labels]`; the order within a row is that of the ids.
    pub fn to_csr(&self, num_labels: usize) -> Result<Csr> {
        let mut indices = Vec::with_capacity(self.entries.len());
        let mut values = Vec::with_capacity(self.entries.len());
        let mut row = Vec::new();
        for i in 0..self.rows() {
            row.clear();
            row.extend_from_slice(self.row(i));
            row.sort_unstable_by_key(|&(l, _)| l);
            indices.extend(row.iter().map(|&(l, _)| l));
            values.extend(row.iter().map(|&(_, s)| s));
        }
        Csr::new(self.rows(), num_labels, self.indptr.clone(), indices, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_label_and_nan_goes_last() {
        let mut top = TopK::new();
        top.push(&mut [(3, f32::NAN), (7, 0.5), (2, 0.5), (9, 0.8)]);
        let ids: Vec<u32> = top.row(0).iter().map(|e| e.0).collect();
        assert_eq!(ids, [9, 2, 7, 3]);
    }

    #[test]
    fn a_matrix_holds_the_same_scores_by_id() {
        let mut top = TopK::new();
        top.push(&mut [(3, 0.25), (1, 0.5)]);
        top.push(&mut []);
        let expected = Csr::new(2, 4, vec![0, 2, 2], vec![1, 3], vec![0.5, 0.25]).unwrap();
        assert_eq!(top.to_csr(4).unwrap(), expected);
    }
}
